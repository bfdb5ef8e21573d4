//! Aggregates that are not complete yet.

use redis::{PushKind, Value};

use super::Limits;
use super::error::{DecodeError, too_long, too_many_elements};
use super::token::whole_scalar;

/// Room is made for this many elements at first, whatever length was announced; from then on it doubles.
const RESERVED_AHEAD: usize = 256;

/// What an open aggregate will become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Array,
    Set,
    Map,
    Push,
    Attribute,
    /// A string that comes in chunks.
    Chunks,
}

/// An aggregate and what it still lacks.
#[derive(Debug)]
pub(super) struct Frame {
    elements: Elements,
    /// Values that are yet to come; `None` when an end will be marked.
    missing: Option<u64>,
}

#[derive(Debug)]
enum Elements {
    Array(Vec<Value>),
    Set(Vec<Value>),
    Map(Pairs),
    Push(Option<PushKind>, Vec<Value>),
    /// The attributes, then the value they belong to.
    Attribute(Pairs, Value),
    Chunks(Vec<u8>),
}

#[derive(Debug)]
struct Pairs {
    complete: Vec<(Value, Value)>,
    /// A key whose value has not come yet.
    key: Option<Value>,
}

impl Frame {
    /// An aggregate of `length` elements or pairs, or of as many as come before its end is marked.
    pub(super) fn new(kind: Kind, length: Option<usize>) -> Self {
        let reserve = length.unwrap_or(0).min(RESERVED_AHEAD);
        let length = length.map(|length| length as u64);
        let values_of_pairs = length.map(|pairs| pairs.saturating_mul(2));
        let (elements, missing) = match kind {
            Kind::Array => (Elements::Array(Vec::with_capacity(reserve)), length),
            Kind::Set => (Elements::Set(Vec::with_capacity(reserve)), length),
            Kind::Push => (Elements::Push(None, Vec::with_capacity(reserve)), length),
            Kind::Map => (Elements::Map(Pairs::with_capacity(reserve)), values_of_pairs),
            Kind::Attribute => (
                Elements::Attribute(Pairs::with_capacity(reserve), Value::Nil),
                values_of_pairs.map(|values| values.saturating_add(1)),
            ),
            Kind::Chunks => (Elements::Chunks(Vec::new()), None),
        };
        Self { elements, missing }
    }

    /// Adds the next value.
    #[inline]
    pub(super) fn add(&mut self, value: Value, limits: &Limits) -> Result<(), DecodeError> {
        if let Some(missing) = &mut self.missing {
            *missing = missing.saturating_sub(1);
        } else if self.len() >= limits.max_elements {
            return Err(too_many_elements(limits, format_args!("one more than {}", self.len())));
        }
        let last = self.is_complete();
        match &mut self.elements {
            Elements::Array(values) | Elements::Set(values) | Elements::Push(Some(_), values) => {
                values.push(value);
            }
            Elements::Attribute(_, data) if last => *data = value,
            Elements::Map(pairs) | Elements::Attribute(pairs, _) => pairs.add(value),
            Elements::Push(kind @ None, _) => *kind = Some(push_kind(value)?),
            Elements::Chunks(_) => {
                return Err(DecodeError::new("a chunk of a streamed string", format_args!("{value:?}")));
            }
        }
        Ok(())
    }

    /// Adds the values that stand whole at the front of `input`, up to the last but one. This is `add` in a
    /// tight loop, for the aggregates that grow large.
    pub(super) fn add_whole_scalars(&mut self, input: &mut &[u8], limits: &Limits) {
        let Some(missing) = &mut self.missing else { return };
        match &mut self.elements {
            Elements::Array(values) | Elements::Set(values) => {
                while *missing > 1
                    && let Some(value) = whole_scalar(input, limits)
                {
                    *missing -= 1;
                    values.push(value);
                }
            }
            Elements::Map(pairs) => {
                while *missing > 1
                    && let Some(value) = whole_scalar(input, limits)
                {
                    *missing -= 1;
                    pairs.add(value);
                }
            }
            _ => {}
        }
    }

    /// Adds a part of a streamed string; an empty one is the last.
    pub(super) fn add_chunk(&mut self, chunk: &[u8], limits: &Limits) -> Result<(), DecodeError> {
        let Elements::Chunks(string) = &mut self.elements else {
            return Err(DecodeError::at("a value", b";"));
        };
        if chunk.len() > limits.max_bulk.saturating_sub(string.len()) {
            return Err(too_long(limits.max_bulk, format_args!("{} and {} more", string.len(), chunk.len())));
        }
        string.extend_from_slice(chunk);
        if chunk.is_empty() {
            self.missing = Some(0);
        }
        Ok(())
    }

    /// Whether the mark of an end may come now.
    pub(super) fn may_end(&self) -> bool {
        self.missing.is_none()
            && match &self.elements {
                Elements::Map(pairs) => pairs.key.is_none(),
                Elements::Chunks(_) => false,
                _ => true,
            }
    }

    /// Elements or complete pairs that have come.
    fn len(&self) -> usize {
        match &self.elements {
            Elements::Array(values) | Elements::Set(values) | Elements::Push(_, values) => values.len(),
            Elements::Map(pairs) | Elements::Attribute(pairs, _) => pairs.complete.len(),
            Elements::Chunks(string) => string.len(),
        }
    }

    pub(super) fn is_complete(&self) -> bool {
        self.missing == Some(0)
    }

    pub(super) fn into_value(self) -> Value {
        match self.elements {
            Elements::Array(values) => Value::Array(values),
            Elements::Set(values) => Value::Set(values),
            Elements::Map(pairs) => Value::Map(pairs.complete),
            // An empty push has no kind; redis-rs gives it this one.
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

    fn add(&mut self, value: Value) {
        match self.key.take() {
            None => self.key = Some(value),
            Some(key) => self.complete.push((key, value)),
        }
    }
}

/// What kind of push `value` names, the first of its elements.
pub(crate) fn push_kind(value: Value) -> Result<PushKind, DecodeError> {
    let name = match value {
        Value::SimpleString(name) => name,
        Value::BulkString(name) => String::from_utf8(name)
            .map_err(|error| DecodeError::at("the kind of a push in UTF-8", error.as_bytes()))?,
        other => return Err(DecodeError::new("the kind of a push", format_args!("{other:?}"))),
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
    fn a_length_alone_reserves_little() {
        for kind in [Kind::Array, Kind::Set, Kind::Push] {
            let (Elements::Array(values) | Elements::Set(values) | Elements::Push(_, values)) =
                Frame::new(kind, Some(1_000_000_000)).elements
            else {
                panic!("{kind:?}");
            };
            assert!(values.capacity() <= RESERVED_AHEAD);
        }
        for kind in [Kind::Map, Kind::Attribute] {
            let (Elements::Map(pairs) | Elements::Attribute(pairs, _)) =
                Frame::new(kind, Some(usize::MAX)).elements
            else {
                panic!("{kind:?}");
            };
            assert!(pairs.complete.capacity() <= RESERVED_AHEAD);
        }
    }
}
