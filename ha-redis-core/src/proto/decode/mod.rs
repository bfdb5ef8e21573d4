//! The incremental RESP2 and RESP3 decoder.
//!
//! The bytes of a connection go in as they arrive, values come out. Each byte is looked at once: what is half
//! read when the input ends stays inside, in a line buffer, a growing string and a stack of open aggregates.
//!
//! Whatever redis-rs's own parser accepts gives the very same [`Value`] here, and more is understood:
//! streamed strings and aggregates, and status and error lines that are not UTF-8, which must not cost a
//! shared connection its life.

mod error;
mod frame;
#[cfg(test)]
mod tests;
mod token;

use std::fmt;

use redis::Value;

pub use self::error::DecodeError;
pub(crate) use self::frame::push_kind;
use self::frame::{Frame, Kind};
use self::token::{Token, Tokens, whole_scalar};

/// A [`Value`] is dropped, compared and printed recursively, so no limit may allow more nesting than this.
const DEEPEST: usize = 1_024;

/// What a server may send before it counts as broken.
///
/// None of these is reserved in advance: memory grows with the bytes that came, not with a length that was
/// announced.
///
/// ```
/// use ha_redis_core::proto::{Decoder, Limits};
///
/// let mut limits = Limits::default();
/// limits.max_bulk = 1024 * 1024;
/// let mut decoder = Decoder::with_limits(limits);
/// assert!(decoder.decode(&mut &b"$1048577\r\n"[..]).is_err());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// How many aggregates (arrays, maps, sets, pushes, attributes) may stand inside each other; 128 by
    /// default, and never more than 1,024. Redis itself nests a handful; scripts and modules may go deeper.
    pub max_depth: usize,
    /// Bytes in one string; 512 MiB by default, as is Redis's `proto-max-bulk-len`.
    pub max_bulk: usize,
    /// Elements of one aggregate, or pairs of one map; 2³² - 1 by default, the most a Redis collection holds.
    pub max_elements: usize,
    /// Bytes in one line, which carries a status, an error, a number or a length, and in one bulk error; 64 KiB
    /// by default, and never less than 32 for a line.
    pub max_line: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_depth: 128,
            max_bulk: 512 * 1024 * 1024,
            max_elements: u32::MAX as usize,
            max_line: 64 * 1024,
        }
    }
}

/// Turns the bytes of one connection into values.
///
/// ```
/// use ha_redis_core::proto::Decoder;
/// use redis::Value;
///
/// # fn main() -> Result<(), ha_redis_core::proto::DecodeError> {
/// let mut decoder = Decoder::new();
/// assert_eq!(decoder.decode(&mut &b":1\r\n$5\r\nhel"[..3])?, None);
/// let mut input = &b"\n$5\r\nhello\r\n"[..];
/// assert_eq!(decoder.decode(&mut input)?, Some(Value::Int(1)));
/// assert_eq!(decoder.decode(&mut input)?, Some(Value::BulkString(b"hello".to_vec())));
/// assert!(input.is_empty() && decoder.is_idle());
/// # Ok(())
/// # }
/// ```
#[derive(Default)]
pub struct Decoder {
    limits: Limits,
    tokens: Tokens,
    /// The aggregates that are open, the innermost last.
    open: Vec<Frame>,
    failed: Option<DecodeError>,
}

impl Decoder {
    /// A decoder with the default [`Limits`].
    pub fn new() -> Self {
        Self::default()
    }

    /// A decoder that takes no more than `limits` allow.
    pub fn with_limits(limits: Limits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// Takes as many bytes off the front of `input` as belong to the next value, and returns the value when
    /// it is complete. `None` says that all of `input` was taken and more is needed.
    ///
    /// # Errors
    /// The bytes are not RESP, or exceed a limit. Nothing after that can be understood, so the decoder is
    /// done for: every further call returns the same error and takes nothing.
    #[inline]
    pub fn decode(&mut self, input: &mut &[u8]) -> Result<Option<Value>, DecodeError> {
        if self.is_idle()
            && let Some(value) = whole_scalar(input, &self.limits)
        {
            return Ok(Some(value));
        }
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        self.next_value(input).inspect_err(|error| {
            // What is half read will never be a value.
            (self.tokens, self.open) = Default::default();
            self.failed = Some(error.clone());
        })
    }

    /// Whether the last byte taken was the last of a value: nothing is half read, and nothing has failed.
    pub fn is_idle(&self) -> bool {
        self.open.is_empty() && self.tokens.is_idle() && self.failed.is_none()
    }

    // Apart from `decode`, so that its way for the usual reply stays short.
    #[inline(never)]
    fn next_value(&mut self, input: &mut &[u8]) -> Result<Option<Value>, DecodeError> {
        loop {
            if self.tokens.is_idle()
                && let Some(frame) = self.open.last_mut()
            {
                frame.add_whole_scalars(input, &self.limits);
            }
            let value = match self.tokens.next(input, &self.limits)? {
                None => return Ok(None),
                Some(Token::Value(value)) if self.open.is_empty() => Some(value),
                Some(Token::Value(value)) => self.add(value)?,
                Some(Token::Open(kind, length)) => self.open(kind, length)?,
                Some(Token::Chunk(chunk)) => self.add_chunk(&chunk)?,
                Some(Token::End) => self.end()?,
            };
            if value.is_some() {
                return Ok(value);
            }
        }
    }

    /// Adds `value` to the innermost aggregate. When it was the last one missing, the aggregate is itself a
    /// value of the next one; the outermost is what `decode` returns.
    fn add(&mut self, mut value: Value) -> Result<Option<Value>, DecodeError> {
        while let Some(frame) = self.open.last_mut() {
            frame.add(value, &self.limits)?;
            match self.open.pop_if(|frame| frame.is_complete()) {
                Some(frame) => value = frame.into_value(),
                None => return Ok(None),
            }
        }
        Ok(Some(value))
    }

    fn open(&mut self, kind: Kind, length: Option<usize>) -> Result<Option<Value>, DecodeError> {
        let max_depth = self.limits.max_depth.min(DEEPEST);
        if self.open.len() >= max_depth && kind != Kind::Chunks {
            let expected = format!("at most {max_depth} aggregates inside each other");
            return Err(DecodeError::new(expected, format_args!("one more {kind:?}")));
        }
        let frame = Frame::new(kind, length);
        if frame.is_complete() {
            return self.add(frame.into_value());
        }
        self.open.push(frame);
        Ok(None)
    }

    fn add_chunk(&mut self, chunk: &[u8]) -> Result<Option<Value>, DecodeError> {
        let Some(frame) = self.open.last_mut() else {
            return Err(DecodeError::at("a value", b";"));
        };
        frame.add_chunk(chunk, &self.limits)?;
        match self.open.pop_if(|frame| frame.is_complete()) {
            Some(frame) => self.add(frame.into_value()),
            None => Ok(None),
        }
    }

    fn end(&mut self) -> Result<Option<Value>, DecodeError> {
        match self.open.pop_if(|frame| frame.may_end()) {
            Some(frame) => self.add(frame.into_value()),
            None => Err(DecodeError::at("a value", b".")),
        }
    }
}

impl fmt::Debug for Decoder {
    /// Says where the decoder stands, and nothing of what it has read: that is users' data.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decoder")
            .field("limits", &self.limits)
            .field("idle", &self.is_idle())
            .field("open", &self.open.len())
            .field("failed", &self.failed)
            .finish()
    }
}
