//! Makes one reply of those that several nodes of a cluster gave to the same command.

use std::error::Error as StdError;
use std::fmt;

use redis::{RedisError, Value};

use super::ResponsePolicy;
use crate::address::Address;
use crate::error::{Error, Kind, Outcome};
use crate::peer_text::describe;

/// What a node replied to a command.
#[derive(Clone, Debug)]
pub struct NodeReply {
    node: Address,
    reply: Result<Value, Error>,
}

impl NodeReply {
    /// Creates the reply of a node. An error reply of the server may be in either part of the result.
    pub fn new(node: Address, reply: Result<Value, Error>) -> Self {
        Self { node, reply: reply.and_then(Error::answer) }
    }

    /// Returns the value, or the error with its node.
    pub(crate) fn into_value(self) -> Result<(Address, Value), NodeError> {
        match self.reply {
            Ok(value) => Ok((self.node, value)),
            Err(error) => Err(NodeError { node: self.node, error }),
        }
    }
}

/// The error of one of the nodes that ran a command. The command may have run on the others.
#[derive(Clone, Debug)]
pub struct NodeError {
    node: Address,
    error: Error,
}

impl NodeError {
    /// Creates the error for a reply that does not fit the command.
    pub(crate) fn unexpected(node: Address, reply: &Value, expected: &str) -> Self {
        let message = format!("unexpected reply: {}, not {expected}", describe(reply));
        Self { node, error: Error::new(Kind::Server, message).with_outcome(Outcome::Ran) }
    }

    /// Returns true if the node only said that it runs no script.
    fn is_not_busy(&self) -> bool {
        let cause = self.error.source().and_then(|cause| cause.downcast_ref::<RedisError>());
        cause.is_some_and(|cause| cause.code() == Some("NOTBUSY"))
    }

    /// Returns the node.
    pub fn node(&self) -> &Address {
        &self.node
    }

    /// Returns the node's error.
    pub fn error(&self) -> &Error {
        &self.error
    }

    /// Returns the error with the node in its message.
    pub fn into_error(self) -> Error {
        self.error.during(self.node)
    }
}

impl fmt::Display for NodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.node, self.error)
    }
}

impl StdError for NodeError {}

/// Makes one reply of `replies`, which has at least one.
///
/// Replies to a command that was split by its keys need its parts too, for
/// [`KeyOrder`](ResponsePolicy::KeyOrder): see [`Split::join`](crate::routing::Split::join).
///
/// # Errors
///
/// The first error among the replies, if the policy does not do without that reply; or a reply that does not fit the
/// policy.
pub fn aggregate(policy: ResponsePolicy, replies: Vec<NodeReply>) -> Result<Value, NodeError> {
    match policy {
        ResponsePolicy::OneSucceeded => one_succeeded(replies),
        ResponsePolicy::AnyKey => any_key(replies),
        _ => all_succeeded(policy, replies),
    }
}

fn all_succeeded(policy: ResponsePolicy, replies: Vec<NodeReply>) -> Result<Value, NodeError> {
    let values = replies.into_iter().map(NodeReply::into_value).collect::<Result<Vec<_>, _>>()?;
    match policy {
        ResponsePolicy::LogicalAnd => fold(values, |a, b| i64::from(a != 0 && b != 0)),
        ResponsePolicy::LogicalOr => fold(values, |a, b| i64::from(a != 0 || b != 0)),
        ResponsePolicy::Min => fold(values, i64::min),
        ResponsePolicy::Max => fold(values, i64::max),
        ResponsePolicy::Sum => fold(values, i64::saturating_add),
        ResponsePolicy::PerNode => Ok(per_node(values)),
        ResponsePolicy::Concatenated | ResponsePolicy::KeyOrder => concatenated(values),
        ResponsePolicy::Single
        | ResponsePolicy::AllSucceeded
        | ResponsePolicy::OneSucceeded
        | ResponsePolicy::AnyKey => Ok(values.into_iter().next().map(|(_, value)| value).unwrap_or_default()),
    }
}

/// `SCRIPT KILL` succeeds where the script runs. The other nodes reply that nothing runs, which explains nothing if the
/// one with the script has another reason.
fn one_succeeded(replies: Vec<NodeReply>) -> Result<Value, NodeError> {
    let mut errors = Vec::new();
    for reply in replies {
        match reply.into_value() {
            Ok((_, value)) => return Ok(value),
            Err(error) => errors.push(error),
        }
    }
    let index = errors.iter().position(|error| !error.is_not_busy()).unwrap_or_default();
    if errors.is_empty() { Ok(Value::Nil) } else { Err(errors.swap_remove(index)) }
}

/// A shard without keys replies nil. There is no key only if all shards say so.
fn any_key(replies: Vec<NodeReply>) -> Result<Value, NodeError> {
    let mut first_error = None;
    for reply in replies {
        match reply.into_value() {
            Ok((_, Value::Nil)) => {}
            Ok((_, key)) => return Ok(key),
            Err(error) => first_error = first_error.or(Some(error)),
        }
    }
    first_error.map_or(Ok(Value::Nil), Err)
}

/// Combines numbers, or the numbers at the same place of arrays.
fn fold(values: Vec<(Address, Value)>, combine: fn(i64, i64) -> i64) -> Result<Value, NodeError> {
    let mut folded: Option<Value> = None;
    for (node, value) in values {
        if !is_numeric(&value) {
            return Err(NodeError::unexpected(node, &value, "a number"));
        }
        folded = Some(match (folded, value) {
            (None, first) => first,
            (Some(Value::Int(a)), Value::Int(b)) => Value::Int(combine(a, b)),
            (Some(Value::Array(a)), Value::Array(b)) if a.len() == b.len() => {
                Value::Array(a.iter().zip(&b).map(|(a, b)| Value::Int(combine(int(a), int(b)))).collect())
            }
            (Some(_), other) => {
                return Err(NodeError::unexpected(node, &other, "like the reply of another node"));
            }
        });
    }
    Ok(folded.unwrap_or_default())
}

fn is_numeric(value: &Value) -> bool {
    match value {
        Value::Int(_) => true,
        Value::Array(elements) => elements.iter().all(|element| matches!(element, Value::Int(_))),
        _ => false,
    }
}

/// Returns the number that [`is_numeric`] has found.
fn int(value: &Value) -> i64 {
    if let Value::Int(number) = value { *number } else { 0 }
}

fn per_node(values: Vec<(Address, Value)>) -> Value {
    let name = |node: Address| Value::BulkString(node.to_string().into_bytes());
    Value::Map(values.into_iter().map(|(node, value)| (name(node), value)).collect())
}

fn concatenated(values: Vec<(Address, Value)>) -> Result<Value, NodeError> {
    let mut elements = Vec::new();
    for (node, value) in values {
        match value {
            Value::Array(more) | Value::Set(more) => elements.extend(more),
            other => return Err(NodeError::unexpected(node, &other, "an array")),
        }
    }
    Ok(Value::Array(elements))
}

#[cfg(test)]
mod tests {
    use redis::parse_redis_value;

    use super::ResponsePolicy::*;
    use super::*;

    /// Replies of the nodes 1, 2, …, from RESP.
    fn replies(texts: &[&str]) -> Vec<NodeReply> {
        let values = texts.iter().map(|text| match *text {
            "lost" => Err(Error::new(Kind::Lost, "lost")),
            text => Ok(parse_redis_value(text.replace(' ', "\r\n").as_bytes()).unwrap()),
        });
        values.zip(1..).map(|(value, port)| NodeReply::new(Address::tcp("node", port), value)).collect()
    }

    fn value(policy: ResponsePolicy, texts: &[&str]) -> Value {
        aggregate(policy, replies(texts)).unwrap()
    }

    fn error(policy: ResponsePolicy, texts: &[&str]) -> String {
        let error = aggregate(policy, replies(texts)).unwrap_err();
        assert!(error.clone().into_error().to_string().starts_with(&error.node().to_string()));
        error.to_string()
    }

    fn ints(numbers: &[i64]) -> Value {
        Value::Array(numbers.iter().map(|number| Value::Int(*number)).collect())
    }

    #[test]
    fn numbers_are_combined() {
        for (policy, expected) in [(Sum, 6), (Min, 0), (Max, 5), (LogicalAnd, 0), (LogicalOr, 1)] {
            assert_eq!(value(policy, &[":1 ", ":5 ", ":0 "]), Value::Int(expected), "{policy:?}");
        }
        assert_eq!(value(LogicalAnd, &[":1 ", ":7 "]), Value::Int(1));
        assert_eq!(value(LogicalOr, &[":0 ", ":0 "]), Value::Int(0));
        assert_eq!(value(Sum, &[":9223372036854775807 ", ":1 "]), Value::Int(i64::MAX));
    }

    #[test]
    fn arrays_are_combined_element_by_element() {
        assert_eq!(value(LogicalAnd, &["*3 :1 :1 :0 ", "*3 :1 :0 :1 "]), ints(&[1, 0, 0]));
        assert_eq!(value(Min, &["*2 :1 :4 ", "*2 :0 :7 "]), ints(&[0, 4]));
        assert!(error(Min, &["*2 :1 :4 ", "*1 :0 "]).contains("node:2: unexpected reply"));
        assert!(error(Min, &["*1 :1 ", ":1 "]).contains("node:2"));
    }

    #[test]
    fn replies_that_do_not_fit_are_errors() {
        assert!(error(Sum, &[":1 ", "+OK "]).starts_with("node:2: unexpected reply"));
        assert!(error(Sum, &["*1 $1 x ", "*1 :1 "]).starts_with("node:1: unexpected reply"));
        assert!(error(Concatenated, &["*0 ", ":1 "]).contains("not an array"));
    }

    #[test]
    fn first_error_wins_with_its_node() {
        for policy in [AllSucceeded, Sum, PerNode, Concatenated, KeyOrder] {
            let texts = [":1 ", "-OOM full ", "lost"];
            assert!(error(policy, &texts).starts_with("node:2: "), "{policy:?}");
            assert!(error(policy, &texts).contains("OOM"), "{policy:?}");
        }
        assert_eq!(value(AllSucceeded, &["+OK ", "+OK "]), Value::Okay);
    }

    #[test]
    fn one_success_is_enough() {
        let idle = "-NOTBUSY no scripts ";
        assert_eq!(value(OneSucceeded, &[idle, "lost", "+OK "]), Value::Okay);
        assert!(error(OneSucceeded, &[idle, idle]).starts_with("node:1: "));
        let error = error(OneSucceeded, &[idle, "-UNKILLABLE it wrote ", "lost"]);
        assert!(error.starts_with("node:2: ") && error.contains("UNKILLABLE"), "{error}");
    }

    #[test]
    fn any_key_is_one_of_a_shard_that_has_some() {
        let key = Value::BulkString(b"k".to_vec());
        assert_eq!(value(AnyKey, &["$-1 ", "lost", "$1 k "]), key);
        assert_eq!(value(AnyKey, &["$-1 ", "$-1 "]), Value::Nil);
        assert!(error(AnyKey, &["$-1 ", "lost"]).starts_with("node:2: "));
    }

    #[test]
    fn elements_are_concatenated_and_replies_kept_apart_by_node() {
        assert_eq!(value(Concatenated, &["*2 :1 :2 ", "*0 ", "*1 :3 "]), ints(&[1, 2, 3]));
        assert_eq!(value(Concatenated, &["*1 :1 ", "~1 :3 "]), ints(&[1, 3]));
        let name = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let expected = vec![(name("node:1"), Value::Int(1)), (name("node:2"), Value::Okay)];
        assert_eq!(value(PerNode, &[":1 ", "+OK "]), Value::Map(expected));
    }
}
