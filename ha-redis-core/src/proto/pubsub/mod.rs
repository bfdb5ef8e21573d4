//! Publish and subscribe: what a subscriber asks for, what a server has confirmed, and what is said again on a new
//! connection.

mod push;
mod subscriptions;
#[cfg(test)]
mod tests;

use std::fmt;

use redis::Msg;

use crate::error::Error;

pub(crate) use subscriptions::{SubscriptionChange, Subscriptions, named};

/// What a subscription is to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Scope {
    /// A channel: `SUBSCRIBE`.
    Channel,
    /// All channels whose names match a pattern: `PSUBSCRIBE`.
    Pattern,
    /// A shard channel: `SSUBSCRIBE`.
    ShardChannel,
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Channel => "channel",
            Self::Pattern => "pattern",
            Self::ShardChannel => "shard channel",
        })
    }
}

/// Beginning or ending a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Subscribe,
    Unsubscribe,
}

impl Verb {
    /// The command's name.
    pub(crate) fn on(self, scope: Scope) -> &'static str {
        match (self, scope) {
            (Self::Subscribe, Scope::Channel) => "SUBSCRIBE",
            (Self::Subscribe, Scope::Pattern) => "PSUBSCRIBE",
            (Self::Subscribe, Scope::ShardChannel) => "SSUBSCRIBE",
            (Self::Unsubscribe, Scope::Channel) => "UNSUBSCRIBE",
            (Self::Unsubscribe, Scope::Pattern) => "PUNSUBSCRIBE",
            (Self::Unsubscribe, Scope::ShardChannel) => "SUNSUBSCRIBE",
        }
    }
}

/// One channel or pattern.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Subscription {
    pub(crate) scope: Scope,
    pub(crate) name: Vec<u8>,
}

/// What a server's word means to the reader of the messages.
#[derive(Debug)]
pub(crate) enum News {
    /// A message, and how much memory its names and its payload take.
    Message(Msg, usize),
    /// A subscription that was to be made again is refused, and given up.
    Refused(Subscription, Error),
}
