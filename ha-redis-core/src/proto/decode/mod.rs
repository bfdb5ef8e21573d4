//! The incremental RESP2 and RESP3 decoder.
//!
//! The bytes of a connection go in as they arrive, values come out. Each byte is processed once: the state between
//! inputs is a line buffer, a growing string and a stack of open aggregates. A value that nobody waits for, or that
//! exceeds a limit, is skipped to its end and takes no memory.
//!
//! Everything that redis-rs's own parser accepts gives the same [`Value`] here. The decoder accepts more: streamed
//! strings and aggregates, and status and error lines that are not UTF-8, which must not end a shared connection.

mod error;
mod frame;
mod limits;
mod scalar;
mod skip;
#[cfg(test)]
mod tests;
mod token;

use std::fmt;

use redis::Value;

use crate::background_drop::drop_in_background;

pub use self::error::{DecodeError, Incoming, NotResp, Skipped};
pub(crate) use self::frame::push_kind;
use self::frame::{Frame, ValueKind};
use self::limits::MemoryCounter;
pub(crate) use self::limits::memory_of;
pub use self::limits::{Limits, OverLimit};
use self::skip::Skip;
use self::token::{Token, Tokens, whole_scalar};

/// The maximum depth that a limit may allow, since a [`Value`] is dropped, compared and printed recursively.
const MAX_DEPTH: usize = 1_024;

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
pub struct Decoder {
    limits: Limits,
    memory: MemoryCounter,
    tokens: Tokens,
    /// The open aggregates, the innermost last.
    open: Vec<Frame>,
    stage: Stage,
    /// How many parts of values were processed one by one. A scalar that is complete in the input is not counted.
    parts: usize,
}

/// What the next bytes belong to.
enum Stage {
    /// The start of a value.
    Idle,
    /// A value that is built.
    Building(Incoming),
    /// A value that is skipped.
    Skipping(Skipped, Skip),
    /// Nothing: the bytes before are not RESP.
    Failed(NotResp),
}

/// Why a value cannot be built.
enum BuildError {
    NotResp(NotResp),
    /// The value exceeds a limit at this part.
    Over(OverLimit, Token),
}

impl BuildError {
    #[cold]
    fn over(limit: OverLimit, part: Token) -> Self {
        Self::Over(limit, part)
    }
}

impl From<NotResp> for BuildError {
    fn from(error: NotResp) -> Self {
        Self::NotResp(error)
    }
}

impl Default for Decoder {
    fn default() -> Self {
        Self::with_limits(Limits::default())
    }
}

impl Decoder {
    /// Creates a decoder with the default [`Limits`].
    pub fn new() -> Self {
        Self::default()
    }

    /// Creates a decoder that builds no more than `limits` allow.
    pub fn with_limits(limits: Limits) -> Self {
        Self {
            memory: MemoryCounter::new(limits.max_reply_bytes),
            limits,
            tokens: Tokens::default(),
            open: Vec::new(),
            stage: Stage::Idle,
            parts: 0,
        }
    }

    /// Takes the bytes of the next value off the front of `input`, and returns the value when it is complete. Returns
    /// `None` if all of `input` was taken and more is needed.
    ///
    /// # Errors
    /// - [`DecodeError::Skipped`]: the value exceeds a limit. The next call continues after it.
    /// - [`DecodeError::NotResp`]: the bytes are not RESP. Every further call returns the same error and takes
    ///   nothing.
    #[inline]
    pub fn decode(&mut self, input: &mut &[u8]) -> Result<Option<Value>, DecodeError> {
        if self.is_idle() {
            self.begin_answer();
        }
        self.decode_wanted(input, &|_| true)
    }

    /// Like [`Decoder::decode`], for values that answer one request, and so count together from one
    /// [`Decoder::begin_answer`] to the next.
    ///
    /// `wanted` returns true if somebody waits for the next value, or still waits for a partial one; otherwise the
    /// value is skipped. A value that is complete in `input` may be returned all the same.
    #[inline]
    pub(crate) fn decode_wanted(
        &mut self,
        input: &mut &[u8],
        wanted: &dyn Fn(Incoming) -> bool,
    ) -> Result<Option<Value>, DecodeError> {
        if self.is_idle()
            && let Some(value) = whole_scalar(input, &mut self.memory)
        {
            return Ok(Some(value));
        }
        // Handling errors here instead of in `next_value` makes the compiler keep the common values in
        // registers.
        self.next_value(input, wanted).inspect_err(|error| self.on_error(error))
    }

    /// Replaces the limits, between two values.
    pub(crate) fn set_limits(&mut self, limits: Limits) {
        self.memory = MemoryCounter::new(limits.max_reply_bytes);
        self.limits = limits;
    }

    /// Returns how many parts of values were processed since the last call: the cost of decoding, except for copying
    /// strings.
    #[inline]
    pub(crate) fn take_parts(&mut self) -> usize {
        std::mem::take(&mut self.parts)
    }

    /// Returns the type of the incomplete value.
    pub(crate) fn half_read(&self) -> Option<Incoming> {
        match &self.stage {
            Stage::Building(incoming) => Some(*incoming),
            Stage::Skipping(skipped, _) => Some(skipped.incoming),
            Stage::Idle | Stage::Failed(_) => None,
        }
    }

    /// Marks that the following values answer another request.
    #[inline]
    pub(crate) fn begin_answer(&mut self) {
        self.memory.clear();
    }

    /// Returns true if the last byte taken was the last of a value: nothing is incomplete, and nothing has failed.
    #[inline]
    pub fn is_idle(&self) -> bool {
        matches!(self.stage, Stage::Idle)
    }

    // Separate from `decode`, so that the path of common replies stays short.
    #[inline(never)]
    fn next_value(
        &mut self,
        input: &mut &[u8],
        wanted: &dyn Fn(Incoming) -> bool,
    ) -> Result<Option<Value>, DecodeError> {
        if self.is_idle() {
            let Some(first) = input.first() else { return Ok(None) };
            self.stage = Stage::Building(if *first == b'>' { Incoming::Push } else { Incoming::Reply });
        }
        let next = match self.stage {
            Stage::Building(incoming) if !wanted(incoming) => {
                let skipped = Skipped { incoming, over: None };
                self.skip(skipped, None).and_then(|()| self.advance(input))
            }
            _ => self.advance(input),
        };
        if let Ok(Some(_)) = next {
            self.stage = Stage::Idle;
        }
        next
    }

    #[cold]
    fn on_error(&mut self, error: &DecodeError) {
        self.stage = match error {
            DecodeError::Skipped(_) => {
                self.tokens.retain_content();
                Stage::Idle
            }
            DecodeError::NotResp(error) => {
                // The incomplete value will never be complete.
                self.tokens = Tokens::default();
                self.discard_open();
                Stage::Failed(error.clone())
            }
        };
    }

    /// Continues the current value.
    fn advance(&mut self, input: &mut &[u8]) -> Result<Option<Value>, DecodeError> {
        loop {
            self.parts += 1;
            match &mut self.stage {
                Stage::Idle => return Ok(None),
                Stage::Failed(error) => return Err(error.clone().into()),
                Stage::Skipping(skipped, skip) => match self.tokens.next(input, &mut self.memory)? {
                    None => return Ok(None),
                    Some(token) if skip.take(&token)? => return Err((*skipped).into()),
                    Some(_) => {}
                },
                Stage::Building(incoming) => {
                    let incoming = *incoming;
                    match self.build(input) {
                        Ok(built) => return Ok(built),
                        Err(BuildError::NotResp(error)) => return Err(error.into()),
                        Err(BuildError::Over(limit, part)) => {
                            self.skip(Skipped { incoming, over: Some(limit) }, Some(&part))?;
                        }
                    }
                }
            }
        }
    }

    /// Skips the rest of the current value, of which `part` was taken already.
    fn skip(&mut self, skipped: Skipped, part: Option<&Token>) -> Result<(), DecodeError> {
        let mut rest = Skip::rest_of(&self.open);
        let ended = part.map_or(Ok(false), |part| rest.take(part))?;
        self.discard_open();
        self.tokens.discard();
        self.stage = Stage::Skipping(skipped, rest);
        if ended { Err(skipped.into()) } else { Ok(()) }
    }

    /// Frees an incomplete value.
    fn discard_open(&mut self) {
        let open = std::mem::take(&mut self.open);
        if self.memory.is_large() && !open.is_empty() {
            drop_in_background(open);
        }
    }

    /// Processes parts of a value until it is complete.
    fn build(&mut self, input: &mut &[u8]) -> Result<Option<Value>, BuildError> {
        loop {
            if self.tokens.is_idle()
                && let Some(frame) = self.open.last_mut()
            {
                self.parts += frame.add_whole_scalars(input, &mut self.memory);
            }
            self.parts += 1;
            let value = match self.tokens.next(input, &mut self.memory)? {
                None => return Ok(None),
                Some(Token::Value(value)) if self.open.is_empty() => Some(value),
                Some(Token::Value(value)) => self.add(value)?,
                Some(Token::Open(kind, length)) => self.open(kind, length)?,
                Some(Token::Chunk(chunk)) => self.add_chunk(&chunk)?,
                Some(token @ (Token::LastChunk | Token::End)) => self.end(&token)?,
                Some(Token::TooLarge(limit)) => return Err(BuildError::over(limit, Token::TooLarge(limit))),
            };
            if value.is_some() {
                return Ok(value);
            }
        }
    }

    /// Adds `value` to the innermost aggregate. If that is complete now, it becomes a value of the next one; the
    /// outermost is what `decode` returns.
    fn add(&mut self, mut value: Value) -> Result<Option<Value>, BuildError> {
        while let Some(frame) = self.open.last_mut() {
            frame.add(value, &mut self.memory)?;
            match self.open.pop_if(|frame| frame.is_complete()) {
                Some(frame) => value = frame.into_value(),
                None => return Ok(None),
            }
        }
        Ok(Some(value))
    }

    fn open(&mut self, kind: ValueKind, length: Option<u64>) -> Result<Option<Value>, BuildError> {
        if self.open.last().is_some_and(Frame::is_chunks) {
            return Err(not_a_chunk(kind).into());
        }
        let max_depth = self.limits.max_reply_depth.min(MAX_DEPTH);
        if self.open.len() >= max_depth && kind != ValueKind::Chunks {
            return Err(BuildError::over(OverLimit::Depth(max_depth), Token::Open(kind, length)));
        }
        let frame = Frame::new(kind, length, &mut self.memory)?;
        if frame.is_complete() {
            return self.add(frame.into_value());
        }
        self.open.push(frame);
        Ok(None)
    }

    fn add_chunk(&mut self, chunk: &[u8]) -> Result<Option<Value>, BuildError> {
        let frame = self.open.last_mut().ok_or_else(|| NotResp::at("a value", b";"))?;
        frame.add_chunk(chunk)?;
        Ok(None)
    }

    /// Ends a streamed string or aggregate.
    fn end(&mut self, end: &Token) -> Result<Option<Value>, BuildError> {
        match (end, self.open.pop_if(|frame| frame.may_end_with(end))) {
            (_, Some(frame)) => self.add(frame.into_value()),
            (Token::LastChunk, None) => Err(NotResp::at("a value", b";").into()),
            (_, None) => Err(NotResp::at("a value", b".").into()),
        }
    }
}

fn not_a_chunk(found: impl fmt::Debug) -> NotResp {
    NotResp::new("a chunk of a streamed string", format_args!("{found:?}"))
}

impl Drop for Decoder {
    fn drop(&mut self) {
        self.discard_open();
    }
}

impl fmt::Debug for Decoder {
    /// Shows the state of the decoder, and none of the data it has read: that is users' data.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stage = match &self.stage {
            Stage::Idle => "idle",
            Stage::Building(_) => "building",
            Stage::Skipping(..) => "skipping",
            Stage::Failed(_) => "failed",
        };
        f.debug_struct("Decoder")
            .field("limits", &self.limits)
            .field("stage", &stage)
            .field("open", &self.open.len())
            .finish()
    }
}
