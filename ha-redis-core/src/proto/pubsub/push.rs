//! Reads what arrives on a subscriber's connection: pushes in RESP3, arrays in RESP2.

use redis::{Msg, PushInfo, PushKind, ServerError, Value};

use super::{Scope, Verb};
use crate::peer_text::{describe, printable};
use crate::proto::decode::{memory_of, push_kind};

#[derive(Debug)]
pub(super) enum Push {
    /// A message, and how much memory its names and its payload take.
    Message(Msg, usize),
    Confirmed(Verb, Scope, Vec<u8>),
    Pong,
    /// The reply to a login.
    Okay,
    Refused(ServerError),
    /// Not about subscriptions.
    Other,
}

impl Push {
    /// Reads a value. The error quotes a value that is invalid.
    pub(super) fn read(value: Value) -> Result<Self, String> {
        match value {
            Value::Push { kind, data } => Self::read_push(kind, data),
            Value::Array(parts) => {
                let mut parts = parts.into_iter();
                match parts.next().and_then(|kind| push_kind(kind).ok()) {
                    Some(PushKind::Other(name)) if name == "pong" => Ok(Self::Pong),
                    Some(PushKind::Other(name)) => Err(printable(&format!("an array of the kind {name}"))),
                    Some(kind) => Self::read_push(kind, parts.collect()),
                    None => Err("an array of no kind".to_owned()),
                }
            }
            Value::SimpleString(text) if text == "PONG" => Ok(Self::Pong),
            Value::Okay => Ok(Self::Okay),
            Value::ServerError(error) => Ok(Self::Refused(error)),
            other => Err(describe(&other)),
        }
    }

    fn read_push(kind: PushKind, data: Vec<Value>) -> Result<Self, String> {
        const INCOMPLETE: &str = "half of a push";
        let (verb, scope) = match kind {
            PushKind::Message | PushKind::PMessage | PushKind::SMessage => {
                let size = data.iter().map(memory_of).sum();
                let message = Msg::from_push_info(PushInfo { kind, data });
                return message
                    .map(|message| Self::Message(message, size))
                    .ok_or_else(|| INCOMPLETE.to_owned());
            }
            PushKind::Subscribe => (Verb::Subscribe, Scope::Channel),
            PushKind::PSubscribe => (Verb::Subscribe, Scope::Pattern),
            PushKind::SSubscribe => (Verb::Subscribe, Scope::ShardChannel),
            PushKind::Unsubscribe => (Verb::Unsubscribe, Scope::Channel),
            PushKind::PUnsubscribe => (Verb::Unsubscribe, Scope::Pattern),
            PushKind::SUnsubscribe => (Verb::Unsubscribe, Scope::ShardChannel),
            _ => return Ok(Self::Other),
        };
        match data.into_iter().next() {
            Some(Value::BulkString(name)) => Ok(Self::Confirmed(verb, scope, name)),
            _ => Err(INCOMPLETE.to_owned()),
        }
    }
}
