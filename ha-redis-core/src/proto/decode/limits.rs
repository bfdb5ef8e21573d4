//! The limits of one reply, and the count of the memory that it takes.

use redis::{PushKind, Value, VerbatimFormat};

use super::token::MAX_LINE_BYTES;
use crate::config::RedisConfig;

/// The limits of one reply. A reply that exceeds one is skipped: it takes no memory, and the connection stays usable.
///
/// Nothing is reserved in advance: memory grows with the bytes that arrive, not with an announced length.
///
/// ```
/// use ha_redis_core::proto::{DecodeError, Decoder, Limits};
/// use redis::Value;
///
/// # fn main() -> Result<(), DecodeError> {
/// let mut limits = Limits::default();
/// limits.max_reply_bytes = 1024 * 1024;
/// let mut decoder = Decoder::with_limits(limits);
/// let bytes = [b"$1048577\r\n".to_vec(), vec![b'x'; 1_048_577], b"\r\n:1\r\n".to_vec()].concat();
/// let mut input = &bytes[..];
/// assert!(matches!(decoder.decode(&mut input), Err(DecodeError::Skipped(_))));
/// assert_eq!(decoder.decode(&mut input)?, Some(Value::Int(1)));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// The maximum memory of a reply in bytes, counted by the cost of its values: an element of an array takes 56
    /// bytes, whatever its type, and a string its length and some 32 bytes more. 1 GiB by default, so that the
    /// largest string that Redis sends by default (`proto-max-bulk-len`, 512 MiB) fits twice.
    pub max_reply_bytes: usize,
    /// How deep aggregates (arrays, maps, sets, pushes, attributes) may nest; 128 by default, and never more than
    /// 1,024. Redis itself nests a handful; scripts and modules may go deeper.
    pub max_reply_depth: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_reply_bytes: 1 << 30, max_reply_depth: 128 }
    }
}

impl Limits {
    /// Returns the limits of the settings.
    pub(crate) fn of(config: &RedisConfig) -> Self {
        Self {
            max_reply_bytes: usize::try_from(config.max_reply_bytes()).unwrap_or(usize::MAX),
            max_reply_depth: config.max_reply_depth() as usize,
        }
    }
}

/// The limit that a reply exceeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OverLimit {
    /// [`Limits::max_reply_bytes`] and its value.
    #[error("it takes more memory than `max_reply_bytes` = {0}; raise that, or request less at once")]
    Bytes(usize),
    /// [`Limits::max_reply_depth`] and its value.
    #[error(
        "it nests deeper than `max_reply_depth` = {0}; raise that, up to 1024, or request a flatter reply"
    )]
    Depth(usize),
    /// A status, an error or a big number has more than this many bytes.
    #[error("it contains a status, an error or a number of more than {0} bytes; return it as a string")]
    Line(usize),
}

/// The most that a string or a list takes of a system's allocator in addition to its bytes.
const ALLOCATION: usize = 32;

/// This much memory in the smallest values takes a few milliseconds to free.
const LARGE: usize = 16 << 20;

/// Counts the memory of a reply. The count depends only on what was sent, not on the pieces in which it arrived.
#[derive(Debug, Default)]
pub(super) struct MemoryCounter {
    limit: usize,
    spent: usize,
}

impl MemoryCounter {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, spent: 0 }
    }

    #[inline]
    pub(super) fn clear(&mut self) {
        self.spent = 0;
    }

    /// Returns what a string or a list of `bytes` bytes takes.
    #[inline]
    pub(super) fn block(bytes: usize) -> usize {
        bytes.saturating_add(ALLOCATION)
    }

    /// Counts `bytes` of memory; returns false if they exceed the limit.
    #[inline]
    pub(super) fn charge(&mut self, bytes: usize) -> bool {
        let fits = bytes <= self.limit - self.spent;
        if fits {
            self.spent += bytes;
        }
        fits
    }

    /// Returns true if the counted memory takes long to free.
    pub(super) fn is_large(&self) -> bool {
        self.spent >= LARGE
    }

    pub(super) fn over(&self) -> OverLimit {
        OverLimit::Bytes(self.limit)
    }
}

/// Returns the memory that a value takes in addition to its own size: what is counted for it, or less.
pub(crate) fn memory_of(value: &Value) -> usize {
    match value {
        Value::BulkString(bytes) => MemoryCounter::block(bytes.capacity()),
        Value::SimpleString(text) => MemoryCounter::block(text.capacity()),
        Value::VerbatimString { format, text } => {
            let format = match format {
                VerbatimFormat::Unknown(name) => MemoryCounter::block(name.capacity()),
                _ => 0,
            };
            format + MemoryCounter::block(text.capacity())
        }
        Value::Array(values) | Value::Set(values) => memory_of_list(values, memory_of),
        Value::Map(pairs) => memory_of_list(pairs, memory_of_pair),
        Value::Attribute { data, attributes } => {
            MemoryCounter::block(size_of::<Value>())
                + memory_of(data)
                + memory_of_list(attributes, memory_of_pair)
        }
        Value::Push { kind, data } => {
            let kind = match kind {
                PushKind::Other(name) => MemoryCounter::block(name.capacity()),
                _ => 0,
            };
            kind + memory_of_list(data, memory_of)
        }
        Value::ServerError(error) => {
            MemoryCounter::block(error.code().len())
                + MemoryCounter::block(error.details().map_or(0, str::len))
        }
        // Its type depends on a feature of redis-rs.
        Value::BigNumber(_) => MAX_LINE_BYTES,
        _ => 0,
    }
}

fn memory_of_pair((key, value): &(Value, Value)) -> usize {
    memory_of(key) + memory_of(value)
}

fn memory_of_list<T>(list: &Vec<T>, memory_of: fn(&T) -> usize) -> usize {
    MemoryCounter::block(list.capacity() * size_of::<T>()) + list.iter().map(memory_of).sum::<usize>()
}
