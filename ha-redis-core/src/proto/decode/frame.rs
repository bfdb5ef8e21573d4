//! Aggregates that are not complete yet.

use redis::{PushKind, Value};

use super::error::NotResp;
use super::limits::Account;
use super::token::{Token, whole_scalar};
use super::{Stop, not_a_chunk};

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

/// How many values an aggregate of `length` elements or pairs is made of.
pub(super) fn values_of(kind: Kind, length: u64) -> u64 {
    match kind {
        Kind::Array | Kind::Set | Kind::Push | Kind::Chunks => length,
        Kind::Map => length.saturating_mul(2),
        // The value that the attributes belong to comes last.
        Kind::Attribute => length.saturating_mul(2).saturating_add(1),
    }
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
    pub(super) fn new(kind: Kind, length: Option<u64>, account: &mut Account) -> Result<Self, Stop> {
        let missing = length.map(|length| values_of(kind, length));
        let elements = missing.unwrap_or(0).saturating_mul(size_of::<Value>() as u64);
        if !account.charge(Account::block(usize::try_from(elements).unwrap_or(usize::MAX))) {
            return Err(Stop::over(account.over(), Token::Open(kind, length)));
        }
        let reserve = length.unwrap_or(0).min(RESERVED_AHEAD as u64) as usize;
        let elements = match kind {
            Kind::Array => Elements::Array(Vec::with_capacity(reserve)),
            Kind::Set => Elements::Set(Vec::with_capacity(reserve)),
            Kind::Push => Elements::Push(None, Vec::with_capacity(reserve)),
            Kind::Map => Elements::Map(Pairs::with_capacity(reserve)),
            Kind::Attribute => Elements::Attribute(Pairs::with_capacity(reserve), Value::Nil),
            Kind::Chunks => Elements::Chunks(Vec::new()),
        };
        Ok(Self { elements, missing })
    }

    pub(super) fn kind(&self) -> Kind {
        match self.elements {
            Elements::Array(_) => Kind::Array,
            Elements::Set(_) => Kind::Set,
            Elements::Map(_) => Kind::Map,
            Elements::Push(..) => Kind::Push,
            Elements::Attribute(..) => Kind::Attribute,
            Elements::Chunks(_) => Kind::Chunks,
        }
    }

    /// How many values are yet to come; `None` when an end will be marked.
    pub(super) fn missing(&self) -> Option<u64> {
        self.missing
    }

    /// Adds the next value.
    #[inline]
    pub(super) fn add(&mut self, value: Value, account: &mut Account) -> Result<(), Stop> {
        // The others are counted already. Of the room of a list that grows, half may be empty.
        if self.missing.is_none() && !account.charge(2 * size_of::<Value>()) {
            return Err(Stop::over(account.over(), Token::Value(Value::Nil)));
        }
        let missing = self.missing.unwrap_or(u64::MAX);
        match &mut self.elements {
            Elements::Array(values) | Elements::Set(values) | Elements::Push(Some(_), values) => {
                make_room(values, missing);
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

    /// Adds the values that stand whole at the front of `input`, up to the last but one. This is `add` in a
    /// tight loop, for the aggregates that grow large. Returns how many those are.
    pub(super) fn add_whole_scalars(&mut self, input: &mut &[u8], account: &mut Account) -> usize {
        let Some(missing) = &mut self.missing else { return 0 };
        let before = *missing;
        match &mut self.elements {
            Elements::Array(values) | Elements::Set(values) => {
                while *missing > 1
                    && let Some(value) = whole_scalar(input, account)
                {
                    make_room(values, *missing);
                    *missing -= 1;
                    values.push(value);
                }
            }
            Elements::Map(pairs) => {
                while *missing > 1
                    && let Some(value) = whole_scalar(input, account)
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

    /// Whether this mark of an end may come now.
    pub(super) fn may_end_with(&self, end: &Token) -> bool {
        self.missing.is_none()
            && match &self.elements {
                Elements::Map(pairs) => pairs.key.is_none() && matches!(end, Token::End),
                Elements::Chunks(_) => matches!(end, Token::LastChunk),
                _ => matches!(end, Token::End),
            }
    }

    /// Whether it is a string, of which nothing but chunks may come.
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

    /// Adds a key, or the value of the key before, one of `missing` values.
    fn add(&mut self, value: Value, missing: u64) {
        match self.key.take() {
            None => self.key = Some(value),
            Some(key) => {
                make_room(&mut self.complete, missing.div_ceil(2));
                self.complete.push((key, value));
            }
        }
    }
}

/// Makes room for one of the `missing` elements of a list, and for more as it grows, but never for more than it will
/// have.
#[inline]
fn make_room<T>(list: &mut Vec<T>, missing: u64) {
    if list.len() == list.capacity() {
        grow(list, missing);
    }
}

#[cold]
fn grow<T>(list: &mut Vec<T>, missing: u64) {
    let missing = usize::try_from(missing).unwrap_or(usize::MAX);
    list.reserve_exact(list.len().max(RESERVED_AHEAD).min(missing));
}

/// What kind of push `value` names, the first of its elements.
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
    fn a_list_grows_with_what_has_come_and_never_beyond_its_length() {
        let mut list = Vec::new();
        for come in 0..10_000 {
            make_room(&mut list, 10_000 - come);
            assert!(list.capacity() <= RESERVED_AHEAD.max(2 * list.len()));
            list.push(come);
        }
        assert_eq!(list.capacity(), 10_000);
    }
}
