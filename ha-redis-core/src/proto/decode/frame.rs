//! Incomplete aggregates.

use redis::{PushKind, Value};

use super::error::NotResp;
use super::limits::MemoryCounter;
use super::token::{Token, whole_scalar};
use super::{BuildError, not_a_chunk};

/// The capacity for elements that is reserved at first, whatever length was announced; then the capacity doubles.
const INITIAL_CAPACITY: usize = 256;

/// The type of an open aggregate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ValueKind {
    Array,
    Set,
    Map,
    Push,
    Attribute,
    /// A string that arrives in chunks.
    Chunks,
}

/// Returns how many values an aggregate of `length` elements or pairs consists of.
pub(super) fn values_of(kind: ValueKind, length: u64) -> u64 {
    match kind {
        ValueKind::Array | ValueKind::Set | ValueKind::Push | ValueKind::Chunks => length,
        ValueKind::Map => length.saturating_mul(2),
        // The value to which the attributes belong comes last.
        ValueKind::Attribute => length.saturating_mul(2).saturating_add(1),
    }
}

/// An aggregate and the number of its missing values.
#[derive(Debug)]
pub(super) struct Frame {
    elements: Elements,
    /// How many values are missing; `None` if an end marker will follow.
    missing: Option<u64>,
}

#[derive(Debug)]
enum Elements {
    Array(Vec<Value>),
    Set(Vec<Value>),
    Map(Pairs),
    Push(Option<PushKind>, Vec<Value>),
    /// The attributes, then the value to which they belong.
    Attribute(Pairs, Value),
    Chunks(Vec<u8>),
}

#[derive(Debug)]
struct Pairs {
    complete: Vec<(Value, Value)>,
    /// A key whose value is missing.
    key: Option<Value>,
}

impl Frame {
    /// Creates an aggregate of `length` elements or pairs, or of any number up to an end marker.
    pub(super) fn new(
        kind: ValueKind,
        length: Option<u64>,
        memory: &mut MemoryCounter,
    ) -> Result<Self, BuildError> {
        let missing = length.map(|length| values_of(kind, length));
        let elements = missing.unwrap_or(0).saturating_mul(size_of::<Value>() as u64);
        if !memory.charge(MemoryCounter::block(usize::try_from(elements).unwrap_or(usize::MAX))) {
            return Err(BuildError::over(memory.over(), Token::Open(kind, length)));
        }
        let reserve = length.unwrap_or(0).min(INITIAL_CAPACITY as u64) as usize;
        let elements = match kind {
            ValueKind::Array => Elements::Array(Vec::with_capacity(reserve)),
            ValueKind::Set => Elements::Set(Vec::with_capacity(reserve)),
            ValueKind::Push => Elements::Push(None, Vec::with_capacity(reserve)),
            ValueKind::Map => Elements::Map(Pairs::with_capacity(reserve)),
            ValueKind::Attribute => Elements::Attribute(Pairs::with_capacity(reserve), Value::Nil),
            ValueKind::Chunks => Elements::Chunks(Vec::new()),
        };
        Ok(Self { elements, missing })
    }

    pub(super) fn kind(&self) -> ValueKind {
        match self.elements {
            Elements::Array(_) => ValueKind::Array,
            Elements::Set(_) => ValueKind::Set,
            Elements::Map(_) => ValueKind::Map,
            Elements::Push(..) => ValueKind::Push,
            Elements::Attribute(..) => ValueKind::Attribute,
            Elements::Chunks(_) => ValueKind::Chunks,
        }
    }

    /// Returns how many values are missing; `None` if an end marker will follow.
    pub(super) fn missing(&self) -> Option<u64> {
        self.missing
    }

    /// Adds the next value.
    #[inline]
    pub(super) fn add(&mut self, value: Value, memory: &mut MemoryCounter) -> Result<(), BuildError> {
        // The elements of other aggregates are counted already. Half of a growing list's capacity may be
        // unused.
        if self.missing.is_none() && !memory.charge(2 * size_of::<Value>()) {
            return Err(BuildError::over(memory.over(), Token::Value(Value::Nil)));
        }
        let missing = self.missing.unwrap_or(u64::MAX);
        match &mut self.elements {
            Elements::Array(values) | Elements::Set(values) | Elements::Push(Some(_), values) => {
                reserve(values, missing);
                values.push(value);
            }
            Elements::Attribute(_, data) if missing == 1 => *data = value,
            Elements::Map(pairs) | Elements::Attribute(pairs, _) => pairs.add(value, missing),
            Elements::Push(kind @ None, _) => *kind = Some(push_kind(value)?),
            Elements::Chunks(_) => {
                return Err(not_a_chunk(value).into());
            }
        }
        if let Some(missing) = &mut self.missing {
            *missing -= 1;
        }
        Ok(())
    }

    /// Adds the scalars that are complete at the front of `input`, except the last missing value. This is `add` in a
    /// tight loop, for the aggregates that grow large. Returns how many were added.
    pub(super) fn add_whole_scalars(&mut self, input: &mut &[u8], memory: &mut MemoryCounter) -> usize {
        let Some(missing) = &mut self.missing else { return 0 };
        let before = *missing;
        match &mut self.elements {
            Elements::Array(values) | Elements::Set(values) => {
                while *missing > 1
                    && let Some(value) = whole_scalar(input, memory)
                {
                    reserve(values, *missing);
                    *missing -= 1;
                    values.push(value);
                }
            }
            Elements::Map(pairs) => {
                while *missing > 1
                    && let Some(value) = whole_scalar(input, memory)
                {
                    pairs.add(value, *missing);
                    *missing -= 1;
                }
            }
            _ => {}
        }
        (before - *missing) as usize
    }

    /// Adds a part of a streamed string.
    pub(super) fn add_chunk(&mut self, chunk: &[u8]) -> Result<(), NotResp> {
        let Elements::Chunks(string) = &mut self.elements else {
            return Err(NotResp::at("a value", b";"));
        };
        string.extend_from_slice(chunk);
        Ok(())
    }

    /// Returns true if this end marker is valid now.
    pub(super) fn may_end_with(&self, end: &Token) -> bool {
        self.missing.is_none()
            && match &self.elements {
                Elements::Map(pairs) => pairs.key.is_none() && matches!(end, Token::End),
                Elements::Chunks(_) => matches!(end, Token::LastChunk),
                _ => matches!(end, Token::End),
            }
    }

    /// Returns true for a string of which only chunks may follow.
    pub(super) fn is_chunks(&self) -> bool {
        matches!(self.elements, Elements::Chunks(_))
    }

    pub(super) fn is_complete(&self) -> bool {
        self.missing == Some(0)
    }

    pub(super) fn into_value(self) -> Value {
        match self.elements {
            Elements::Array(values) => Value::Array(values),
            Elements::Set(values) => Value::Set(values),
            Elements::Map(pairs) => Value::Map(pairs.complete),
            // An empty push has no kind; redis-rs uses this one.
            Elements::Push(kind, data) => {
                Value::Push { kind: kind.unwrap_or_else(|| PushKind::Other(String::new())), data }
            }
            Elements::Attribute(pairs, data) => {
                Value::Attribute { data: Box::new(data), attributes: pairs.complete }
            }
            Elements::Chunks(string) => Value::BulkString(string),
        }
    }
}

impl Pairs {
    fn with_capacity(capacity: usize) -> Self {
        Self { complete: Vec::with_capacity(capacity), key: None }
    }

    /// Adds a key, or the value of the previous key, one of `missing` values.
    fn add(&mut self, value: Value, missing: u64) {
        match self.key.take() {
            None => self.key = Some(value),
            Some(key) => {
                reserve(&mut self.complete, missing.div_ceil(2));
                self.complete.push((key, value));
            }
        }
    }
}

/// Reserves capacity for one of the `missing` elements of a list, and for more as it grows, but never for more than
/// it will have.
#[inline]
fn reserve<T>(list: &mut Vec<T>, missing: u64) {
    if list.len() == list.capacity() {
        grow(list, missing);
    }
}

#[cold]
fn grow<T>(list: &mut Vec<T>, missing: u64) {
    let missing = usize::try_from(missing).unwrap_or(usize::MAX);
    list.reserve_exact(list.len().max(INITIAL_CAPACITY).min(missing));
}

/// Returns the kind of push that `value` names, the first of its elements.
pub(crate) fn push_kind(value: Value) -> Result<PushKind, NotResp> {
    let name = match value {
        Value::SimpleString(name) => name,
        Value::BulkString(name) => String::from_utf8(name)
            .map_err(|error| NotResp::at("the kind of a push in UTF-8", error.as_bytes()))?,
        other => return Err(NotResp::new("the kind of a push", format_args!("{other:?}"))),
    };
    Ok(match name.as_str() {
        "invalidate" => PushKind::Invalidate,
        "message" => PushKind::Message,
        "pmessage" => PushKind::PMessage,
        "smessage" => PushKind::SMessage,
        "subscribe" => PushKind::Subscribe,
        "psubscribe" => PushKind::PSubscribe,
        "ssubscribe" => PushKind::SSubscribe,
        "unsubscribe" => PushKind::Unsubscribe,
        "punsubscribe" => PushKind::PUnsubscribe,
        "sunsubscribe" => PushKind::SUnsubscribe,
        _ => PushKind::Other(name),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn list_capacity_bounded_by_length() {
        let mut list = Vec::new();
        for index in 0..10_000 {
            reserve(&mut list, 10_000 - index);
            assert!(list.capacity() <= INITIAL_CAPACITY.max(2 * list.len()));
            list.push(index);
        }
        assert_eq!(list.capacity(), 10_000);
    }
}
