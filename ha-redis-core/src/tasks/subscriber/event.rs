//! The events of a subscriber.

use redis::Msg;

use crate::error::Error;
use crate::proto::Scope;

/// An event of a [`PubSub`](crate::PubSub).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum PubSubEvent {
    /// A message. Messages of one connection come in the order in which the server sent them.
    ///
    /// `redis::Msg` does not distinguish a shard channel from a channel of the same name.
    Message(Msg),
    /// The connection was lost, for this reason. Messages may be missing from here to the next
    /// [`Resubscribed`](Self::Resubscribed). Sent only to subscribers that are subscribed to something.
    Disconnected(Error),
    /// A new connection is up, and everything is subscribed to again, except for what was [`Refused`](Self::Refused).
    /// No message comes between [`Disconnected`](Self::Disconnected) and this event.
    Resubscribed,
    /// The reader is too slow: the oldest messages were dropped because the waiting ones would exceed
    /// [`pubsub_buffer_bytes`](crate::RedisConfig::pubsub_buffer_bytes). Or a message was larger than
    /// [`max_reply_bytes`](crate::RedisConfig::max_reply_bytes).
    Lagged {
        /// The number of messages dropped here.
        missed: u64,
    },
    /// On a new connection, the server refused a subscription that it had granted before. The client gives the
    /// subscription up; subscribe again once the server allows it.
    Refused {
        /// Whether `name` is a channel, a pattern or a shard channel.
        scope: Scope,
        /// The name of the channel, or the pattern.
        name: Vec<u8>,
        /// The server's error.
        error: Error,
    },
}
