//! Merges the replies of several nodes.
//!
//! An error means that the command as a whole has no reply, not that no node ran it. So its outcome is that of the whole:
//! *maybe applied* if any node may have run the command, *ran* if any did. Reads are the exception, since nothing of them
//! remains: the error keeps its own outcome.

use std::error::Error as StdError;
use std::fmt;

use redis::{Cmd, RedisError, ServerError, Value};

use super::{ResponsePolicy, is_read, name, policy};
use crate::address::Address;
use crate::error::{Error, Kind, Outcome, server_errors, with_node};
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

    /// Returns the node.
    pub fn node(&self) -> &Address {
        &self.node
    }

    /// Returns the value or the error.
    pub fn reply(&self) -> Result<&Value, &Error> {
        self.reply.as_ref()
    }

    fn into_value(self) -> Result<(Address, Value), NodeError> {
        match self.reply {
            Ok(value) => Ok((self.node, value)),
            Err(error) => Err(NodeError { node: Some(self.node), error }),
        }
    }
}

/// The error of a command that ran on several nodes, and the node that it came from.
///
/// The outcome of the error is that of the whole command: [`Ran`](Outcome::Ran) if it did its work on another node.
#[derive(Clone, Debug)]
pub struct NodeError {
    node: Option<Address>,
    error: Error,
}

impl NodeError {
    /// Creates the error for a reply that does not fit the command.
    pub(crate) fn unexpected(node: Address, reply: &Value, expected: &str) -> Self {
        let message = format!("unexpected reply: {}, not {expected}", describe(reply));
        Self { node: Some(node), error: Error::new(Kind::Server, message).with_outcome(Outcome::Ran) }
    }

    /// Creates the error for replies that do not belong to the command.
    pub(crate) fn misused(message: impl Into<String>, outcome: Outcome) -> Self {
        Self { node: None, error: Error::new(Kind::Refused, message).with_outcome(outcome) }
    }

    /// Returns true if the node only said that it runs no script.
    fn is_not_busy(&self) -> bool {
        self.server_error().is_some_and(|error| error.code() == "NOTBUSY")
    }

    fn server_error(&self) -> Option<ServerError> {
        let cause = self.error.source()?.downcast_ref::<RedisError>()?;
        server_errors(cause).into_iter().next()
    }

    /// Returns the node, or `None` if the error came from none: there were no replies, or not those of this command.
    pub fn node(&self) -> Option<&Address> {
        self.node.as_ref()
    }

    /// Returns the error, with the outcome of the whole command.
    pub fn error(&self) -> &Error {
        &self.error
    }

    /// Returns the error with the node in its text. An error reply stays a server error with its code.
    pub fn into_error(self) -> RedisError {
        let server_error = self.server_error();
        match (self.node, server_error) {
            (Some(node), Some(error)) => {
                let error = with_node(error, &node, self.error.outcome());
                // Never a value.
                Value::ServerError(error).extract_error().err().unwrap_or_else(|| self.error.into())
            }
            (Some(node), None) => self.error.during(node).into(),
            (None, _) => self.error.into(),
        }
    }
}

impl fmt::Display for NodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.node.iter().try_for_each(|node| write!(f, "{node}: "))?;
        self.error.fmt(f)
    }
}

impl StdError for NodeError {}

/// Merges the replies that nodes gave to `cmd`, according to the command's policy.
///
/// # Errors
///
/// An error among the replies, if the policy does not tolerate it: one that leaves the command in doubt rather than
/// another, and else the first. Its outcome is that of the whole command.
///
/// A reply that does not fit the policy, no replies at all, and replies to a command without a policy, or with
/// [`KeyOrder`](ResponsePolicy::KeyOrder), which only [`Split::join`](crate::routing::Split::join) can merge.
pub fn aggregate(cmd: &Cmd, replies: Vec<NodeReply>) -> Result<Value, NodeError> {
    match policy(cmd).map(|policy| policy.response) {
        Some(response) => merge(response, Replies::new(is_read(cmd), replies)),
        None => {
            let message = format!("{} has no policy for its replies", name(cmd));
            Err(NodeError::misused(message, Outcome::MaybeApplied))
        }
    }
}

/// The replies to one command, by whether they are values.
pub(crate) struct Replies {
    is_read: bool,
    values: Vec<(Address, Value)>,
    errors: Vec<NodeError>,
}

impl Replies {
    pub(crate) fn new(is_read: bool, replies: Vec<NodeReply>) -> Self {
        let mut sorted = Self { is_read, values: Vec::new(), errors: Vec::new() };
        for reply in replies {
            match reply.into_value() {
                Ok(value) => sorted.values.push(value),
                Err(error) => sorted.errors.push(error),
            }
        }
        sorted
    }

    /// Returns the values if no reply is an error.
    pub(crate) fn all(self) -> Result<Vec<(Address, Value)>, NodeError> {
        if self.errors.is_empty() && !self.values.is_empty() { Ok(self.values) } else { Err(self.error()) }
    }

    /// Returns the first value that `is_wanted`, even if other replies are errors.
    fn any(mut self, is_wanted: impl Fn(&Value) -> bool) -> Result<Value, NodeError> {
        match self.values.iter().position(|(_, value)| is_wanted(value)) {
            Some(index) => Ok(self.values.swap_remove(index).1),
            None => self.all().map(|_| Value::Nil),
        }
    }

    /// Returns the error of the whole command.
    fn error(self) -> NodeError {
        let is = |outcome| move |error: &NodeError| error.error.outcome() == outcome;
        let ran = !self.values.is_empty() || self.errors.iter().any(is(Outcome::Ran));
        let in_doubt = !self.is_read && self.errors.iter().any(is(Outcome::MaybeApplied));
        // That nothing runs on a node explains nothing if the node with the script has another reason.
        let rank = |error: &NodeError| match error.error.outcome() {
            Outcome::MaybeApplied if in_doubt => 0,
            _ if !error.is_not_busy() => 1,
            _ => 2,
        };
        match self.errors.into_iter().min_by_key(rank) {
            Some(NodeError { node, error }) if ran && !in_doubt && !self.is_read => {
                NodeError { node, error: error.with_outcome(Outcome::Ran) }
            }
            Some(error) => error,
            None => NodeError::misused("no node has replied", Outcome::NotSent),
        }
    }
}

/// Merges replies; an error for [`ResponsePolicy::KeyOrder`], which needs the keys.
pub(crate) fn merge(response: ResponsePolicy, replies: Replies) -> Result<Value, NodeError> {
    match response {
        // `SCRIPT KILL` succeeds where the script runs.
        ResponsePolicy::OneSucceeded => replies.any(|_| true),
        // A shard without keys replies nil. There is no key only if all shards say so.
        ResponsePolicy::AnyKey => replies.any(|value| *value != Value::Nil),
        ResponsePolicy::LogicalAnd => fold(replies.all()?, |a, b| i64::from(a != 0 && b != 0)),
        ResponsePolicy::LogicalOr => fold(replies.all()?, |a, b| i64::from(a != 0 || b != 0)),
        ResponsePolicy::Min => fold(replies.all()?, i64::min),
        ResponsePolicy::Max => fold(replies.all()?, i64::max),
        ResponsePolicy::Sum => fold(replies.all()?, i64::saturating_add),
        ResponsePolicy::PerNode => Ok(per_node(replies.all()?)),
        ResponsePolicy::Concatenated => concatenated(replies.all()?),
        ResponsePolicy::KeyOrder => {
            Err(NodeError::misused("values have an order only with their keys", Outcome::MaybeApplied))
        }
        ResponsePolicy::Single | ResponsePolicy::AllSucceeded => Ok(replies.all()?.swap_remove(0).1),
    }
}

/// Combines numbers, or the numbers at the same place of arrays.
fn fold(values: Vec<(Address, Value)>, combine: fn(i64, i64) -> i64) -> Result<Value, NodeError> {
    let mut folded: Option<Value> = None;
    for (node, value) in values {
        if !matches!(value, Value::Int(_) | Value::Array(_)) {
            return Err(NodeError::unexpected(node, &value, "a number"));
        }
        folded = Some(match folded {
            None => value,
            Some(sum) => combined(&sum, &value, combine)
                .ok_or_else(|| NodeError::unexpected(node, &value, "like the reply of another node"))?,
        });
    }
    Ok(folded.unwrap_or_default())
}

/// Returns `None` if the values are not of the same form. What is no number must be equal.
fn combined(a: &Value, b: &Value, combine: fn(i64, i64) -> i64) -> Option<Value> {
    match (a, b) {
        (Value::Int(a), Value::Int(b)) => Some(Value::Int(combine(*a, *b))),
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            let elements = a.iter().zip(b).map(|(a, b)| combined(a, b, combine));
            elements.collect::<Option<_>>().map(Value::Array)
        }
        (a, b) => (a == b).then(|| a.clone()),
    }
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

    use super::super::command;
    use super::ResponsePolicy::*;
    use super::*;
    use crate::error::RedisErrorExt;

    /// Replies of the nodes 1, 2, …, from RESP.
    fn replies(texts: &[&str]) -> Vec<NodeReply> {
        let values = texts.iter().map(|text| match *text {
            "lost" => Err(Error::new(Kind::Lost, "lost").with_outcome(Outcome::MaybeApplied)),
            "down" => Err(Error::new(Kind::Connect, "down")),
            text => Ok(parse_redis_value(text.replace(' ', "\r\n").as_bytes()).unwrap()),
        });
        values.zip(1..).map(|(value, port)| NodeReply::new(Address::tcp("node", port), value)).collect()
    }

    fn merged(policy: ResponsePolicy, texts: &[&str]) -> Result<Value, NodeError> {
        merge(policy, Replies::new(false, replies(texts)))
    }

    fn value(policy: ResponsePolicy, texts: &[&str]) -> Value {
        merged(policy, texts).unwrap()
    }

    fn error(policy: ResponsePolicy, texts: &[&str]) -> String {
        let error = merged(policy, texts).unwrap_err();
        let node = error.node().unwrap().to_string();
        assert!(error.clone().into_error().to_string().contains(&node), "{error}");
        error.to_string()
    }

    /// The error of `cmd`: its number of the node, and its outcome.
    fn failure(text: &str, replies_of_nodes: &[&str]) -> (String, Outcome) {
        let error = aggregate(&command(text), replies(replies_of_nodes)).unwrap_err();
        let outcome = error.error().outcome();
        let node = error.node().unwrap().to_string();
        assert_eq!(error.into_error().outcome(), outcome, "{text}");
        (node, outcome)
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
        assert!(error(Sum, &["+OK ", ":1 "]).starts_with("node:1: unexpected reply"));
        assert!(error(Sum, &["*1 $1 x ", "*1 :1 "]).starts_with("node:2: unexpected reply"));
        assert!(error(Sum, &["*2 $1 x :1 ", "*2 $1 y :1 "]).starts_with("node:2: unexpected reply"));
        assert!(error(Concatenated, &["*0 ", ":1 "]).contains("not an array"));
    }

    #[test]
    fn first_error_wins_with_its_node() {
        for policy in [AllSucceeded, Sum, PerNode, Concatenated] {
            let texts = ["*0 ", "-OOM full ", "down"];
            assert!(error(policy, &texts).starts_with("node:2: "), "{policy:?}");
            assert!(error(policy, &texts).contains("OOM"), "{policy:?}");
        }
        assert_eq!(value(AllSucceeded, &["+OK ", "+OK "]), Value::Okay);
    }

    #[test]
    fn outcome_of_writes_is_that_of_all_nodes() {
        use Outcome::*;
        for text in ["FLUSHALL", "CONFIG SET a b", "FUNCTION LOAD code", "DEL a", "MSET a 1", "SCRIPT LOAD s"]
        {
            for (texts, node, outcome) in [
                (["+OK ", "-OOM full "], "node:2", Ran),
                (["-OOM full ", "+OK "], "node:1", Ran),
                (["-OOM full ", "lost"], "node:2", MaybeApplied),
                (["+OK ", "lost"], "node:2", MaybeApplied),
                (["down", "+OK "], "node:1", Ran),
                (["-OOM full ", "-MYERR half way "], "node:1", Ran),
                (["-OOM full ", "-LOADING it "], "node:1", NotApplied),
                (["down", "-OOM full "], "node:1", NotSent),
            ] {
                assert_eq!(failure(text, &texts), (node.to_owned(), outcome), "{text}: {texts:?}");
            }
        }
        let in_doubt = failure("SCRIPT KILL", &["-UNKILLABLE it wrote ", "lost"]);
        assert_eq!(in_doubt, ("node:2".to_owned(), MaybeApplied));
    }

    #[test]
    fn outcome_of_reads_is_that_of_their_error() {
        for (texts, outcome) in [
            ([":1 ", "-LOADING it "], Outcome::NotApplied),
            (["-LOADING it ", "lost"], Outcome::NotApplied),
            (["lost", "-LOADING it "], Outcome::MaybeApplied),
        ] {
            assert_eq!(failure("DBSIZE", &texts).1, outcome, "{texts:?}");
        }
    }

    #[test]
    fn error_replies_keep_their_code() {
        let of = |texts: &[&str]| aggregate(&command("MSET a 1"), replies(texts)).unwrap_err().into_error();
        let error = of(&["+OK ", "-OOM full "]);
        assert_eq!((error.code(), error.outcome()), (Some("OOM"), Outcome::Ran));
        assert!(error.to_string().contains("(from node:2)"), "{error}");
        let error = of(&["down", "+OK "]);
        assert!(error.to_string().contains("node:1: down"), "{error}");
        assert!(error.client_error().is_some_and(Error::is_connection));
    }

    #[test]
    fn replies_that_cannot_be_merged() {
        for (text, texts) in [
            ("FLUSHALL", &[][..]),
            ("KEYS *", &[]),
            ("RANDOMKEY", &[]),
            ("SCRIPT KILL", &[]),
            ("MGET a b", &["*1 :1 ", "*1 :2 "]),
            ("NEWCOMMAND", &["+OK "]),
        ] {
            let error = aggregate(&command(text), replies(texts)).unwrap_err();
            assert!(error.node().is_none(), "{text}: {error}");
        }
    }

    #[test]
    fn one_success_is_enough() {
        let idle = "-NOTBUSY no scripts ";
        assert_eq!(value(OneSucceeded, &[idle, "lost", "+OK "]), Value::Okay);
        assert!(error(OneSucceeded, &[idle, idle]).starts_with("node:1: "));
        let error = error(OneSucceeded, &[idle, "-UNKILLABLE it wrote ", "down"]);
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
    fn subscribers_are_counted_by_channel() {
        let channel = |name: &str| Value::BulkString(name.as_bytes().to_vec());
        let expected = vec![channel("a"), Value::Int(3), channel("b"), Value::Int(0)];
        let counts = ["*4 $1 a :1 $1 b :0 ", "*4 $1 a :2 $1 b :0 "];
        assert_eq!(
            aggregate(&command("PUBSUB NUMSUB a b"), replies(&counts)).unwrap(),
            Value::Array(expected)
        );
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
