//! The incremental RESP2 and RESP3 decoder.
//!
//! The bytes of a connection go in as they arrive, values come out. Each byte is looked at once: what is half
//! read when the input ends stays inside, in a line buffer, a growing string and a stack of open aggregates. A value
//! that nobody wants, or that is over a limit, is read over to its end, and takes no memory.
//!
//! Whatever redis-rs's own parser accepts gives the very same [`Value`] here, and more is understood:
//! streamed strings and aggregates, and status and error lines that are not UTF-8, which must not cost a
//! shared connection its life.

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
use self::frame::{Frame, Kind};
use self::limits::Account;
pub(crate) use self::limits::memory_of;
pub use self::limits::{Limits, OverLimit};
use self::skip::Skip;
use self::token::{Token, Tokens, whole_scalar};

/// A [`Value`] is dropped, compared and printed recursively, so no limit may allow more nesting than this.
const DEEPEST: usize = 1_024;

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
    account: Account,
    tokens: Tokens,
    /// The aggregates that are open, the innermost last.
    open: Vec<Frame>,
    stage: Stage,
    /// How many parts of values were taken one by one. A scalar that stands whole is not counted.
    parts: usize,
}

/// What becomes of the bytes that come next.
enum Stage {
    /// They begin a value.
    Idle,
    /// They are part of a value that is built.
    Building(Incoming),
    /// They are part of one that is read over.
    Skipping(Skipped, Skip),
    /// They cannot be understood.
    Failed(NotResp),
}

/// Why a value cannot be built.
enum Stop {
    NotResp(NotResp),
    /// It is over a limit, and so is this part of it.
    Over(OverLimit, Token),
}

impl Stop {
    #[cold]
    fn over(limit: OverLimit, part: Token) -> Self {
        Self::Over(limit, part)
    }
}

impl From<NotResp> for Stop {
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
    /// A decoder with the default [`Limits`].
    pub fn new() -> Self {
        Self::default()
    }

    /// A decoder that builds no more than `limits` allow.
    pub fn with_limits(limits: Limits) -> Self {
        Self {
            account: Account::new(limits.max_reply_bytes),
            limits,
            tokens: Tokens::default(),
            open: Vec::new(),
            stage: Stage::Idle,
            parts: 0,
        }
    }

    /// Takes as many bytes off the front of `input` as belong to the next value, and returns the value when
    /// it is complete. `None` says that all of `input` was taken and more is needed.
    ///
    /// # Errors
    /// - [`DecodeError::Skipped`]: what came was over a limit. The next call goes on behind it.
    /// - [`DecodeError::NotResp`]: nothing more can be understood, so the decoder is done for: every further call
    ///   returns the same error and takes nothing.
    #[inline]
    pub fn decode(&mut self, input: &mut &[u8]) -> Result<Option<Value>, DecodeError> {
        if self.is_idle() {
            self.begin_answer();
        }
        self.decode_wanted(input, &|_| true)
    }

    /// As [`Decoder::decode`] for values that together answer one request, and so count together, from one
    /// [`Decoder::begin_answer`] to the next.
    ///
    /// `wanted` is asked whether anybody waits for what comes next, or goes on waiting for what is half read; if
    /// not, it is read over. A value that stands whole in `input` may come all the same.
    #[inline]
    pub(crate) fn decode_wanted(
        &mut self,
        input: &mut &[u8],
        wanted: &dyn Fn(Incoming) -> bool,
    ) -> Result<Option<Value>, DecodeError> {
        if self.is_idle()
            && let Some(value) = whole_scalar(input, &mut self.account)
        {
            return Ok(Some(value));
        }
        // Looked at here, and not in `next_value`, it makes the compiler keep the usual value in registers.
        self.next_value(input, wanted).inspect_err(|error| self.on_error(error))
    }

    /// From here on, between two values, these limits hold.
    pub(crate) fn set_limits(&mut self, limits: Limits) {
        self.account = Account::new(limits.max_reply_bytes);
        self.limits = limits;
    }

    /// How many parts of values were taken since this was asked last: what decoding has cost, beside copying strings.
    #[inline]
    pub(crate) fn take_parts(&mut self) -> usize {
        std::mem::take(&mut self.parts)
    }

    /// What has begun and is not complete.
    pub(crate) fn half_read(&self) -> Option<Incoming> {
        match &self.stage {
            Stage::Building(incoming) => Some(*incoming),
            Stage::Skipping(skipped, _) => Some(skipped.incoming),
            Stage::Idle | Stage::Failed(_) => None,
        }
    }

    /// The values to come answer another request than those before.
    #[inline]
    pub(crate) fn begin_answer(&mut self) {
        self.account.clear();
    }

    /// Whether the last byte taken was the last of a value: nothing is half read, and nothing has failed.
    #[inline]
    pub fn is_idle(&self) -> bool {
        matches!(self.stage, Stage::Idle)
    }

    // Apart from `decode`, so that its way for the usual reply stays short.
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
                self.tokens.keep();
                Stage::Idle
            }
            DecodeError::NotResp(error) => {
                // What is half read will never be a value.
                self.tokens = Tokens::default();
                self.discard_open();
                Stage::Failed(error.clone())
            }
        };
    }

    /// Goes on with what is half read, or begun.
    fn advance(&mut self, input: &mut &[u8]) -> Result<Option<Value>, DecodeError> {
        loop {
            self.parts += 1;
            match &mut self.stage {
                Stage::Idle => return Ok(None),
                Stage::Failed(error) => return Err(error.clone().into()),
                Stage::Skipping(skipped, skip) => match self.tokens.next(input, &mut self.account)? {
                    None => return Ok(None),
                    Some(token) if skip.take(&token)? => return Err((*skipped).into()),
                    Some(_) => {}
                },
                Stage::Building(incoming) => {
                    let incoming = *incoming;
                    match self.build(input) {
                        Ok(built) => return Ok(built),
                        Err(Stop::NotResp(error)) => return Err(error.into()),
                        Err(Stop::Over(limit, part)) => {
                            self.skip(Skipped { incoming, over: Some(limit) }, Some(&part))?;
                        }
                    }
                }
            }
        }
    }

    /// Reads over the rest of the value that has begun, of which this part was taken.
    fn skip(&mut self, skipped: Skipped, part: Option<&Token>) -> Result<(), DecodeError> {
        let mut rest = Skip::rest_of(&self.open);
        let ended = part.map_or(Ok(false), |part| rest.take(part))?;
        self.discard_open();
        self.tokens.discard();
        self.stage = Stage::Skipping(skipped, rest);
        if ended { Err(skipped.into()) } else { Ok(()) }
    }

    /// Frees what there is of a value that will not be complete.
    fn discard_open(&mut self) {
        let open = std::mem::take(&mut self.open);
        if self.account.is_large() && !open.is_empty() {
            drop_in_background(open);
        }
    }

    /// Takes parts of a value until it is complete.
    fn build(&mut self, input: &mut &[u8]) -> Result<Option<Value>, Stop> {
        loop {
            if self.tokens.is_idle()
                && let Some(frame) = self.open.last_mut()
            {
                self.parts += frame.add_whole_scalars(input, &mut self.account);
            }
            self.parts += 1;
            let value = match self.tokens.next(input, &mut self.account)? {
                None => return Ok(None),
                Some(Token::Value(value)) if self.open.is_empty() => Some(value),
                Some(Token::Value(value)) => self.add(value)?,
                Some(Token::Open(kind, length)) => self.open(kind, length)?,
                Some(Token::Chunk(chunk)) => self.add_chunk(&chunk)?,
                Some(token @ (Token::LastChunk | Token::End)) => self.end(&token)?,
                Some(Token::TooLarge(limit)) => return Err(Stop::over(limit, Token::TooLarge(limit))),
            };
            if value.is_some() {
                return Ok(value);
            }
        }
    }

    /// Adds `value` to the innermost aggregate. When it was the last one missing, the aggregate is itself a
    /// value of the next one; the outermost is what `decode` returns.
    fn add(&mut self, mut value: Value) -> Result<Option<Value>, Stop> {
        while let Some(frame) = self.open.last_mut() {
            frame.add(value, &mut self.account)?;
            match self.open.pop_if(|frame| frame.is_complete()) {
                Some(frame) => value = frame.into_value(),
                None => return Ok(None),
            }
        }
        Ok(Some(value))
    }

    fn open(&mut self, kind: Kind, length: Option<u64>) -> Result<Option<Value>, Stop> {
        if self.open.last().is_some_and(Frame::is_chunks) {
            return Err(not_a_chunk(kind).into());
        }
        let max_depth = self.limits.max_reply_depth.min(DEEPEST);
        if self.open.len() >= max_depth && kind != Kind::Chunks {
            return Err(Stop::over(OverLimit::Depth(max_depth), Token::Open(kind, length)));
        }
        let frame = Frame::new(kind, length, &mut self.account)?;
        if frame.is_complete() {
            return self.add(frame.into_value());
        }
        self.open.push(frame);
        Ok(None)
    }

    fn add_chunk(&mut self, chunk: &[u8]) -> Result<Option<Value>, Stop> {
        let frame = self.open.last_mut().ok_or_else(|| NotResp::at("a value", b";"))?;
        frame.add_chunk(chunk)?;
        Ok(None)
    }

    /// The end of what was streamed.
    fn end(&mut self, end: &Token) -> Result<Option<Value>, Stop> {
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
    /// Says where the decoder stands, and nothing of what it has read: that is users' data.
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
