//! Publish and subscribe: what a subscriber requests, what a server has confirmed, and what is sent again on a new
//! connection.

mod marker;
mod push;
mod subscriptions;
#[cfg(test)]
mod tests;

use std::fmt;

use redis::{Msg, ServerError};

use crate::error::Error;

pub(crate) use marker::Marker;
pub(crate) use subscriptions::{SubscriptionChange, Subscriptions, command_text};

/// The kind of a subscription.
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

/// Starts or ends a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Subscribe,
    Unsubscribe,
}

impl Verb {
    /// Returns the command's name.
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

/// What a server's push means for the subscriber.
#[derive(Debug)]
pub(crate) enum SubscriberEvent {
    /// A message, and how much memory its names and its payload take.
    Message(Msg, usize),
    /// The server refused to restore a subscription; it is given up.
    Refused(Subscription, Error),
    /// The server refused a login; the connection stays logged in as before.
    LoginRefused(ServerError),
}
