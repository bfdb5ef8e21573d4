//! What a subscriber yields.

use redis::Msg;

use crate::error::Error;
use crate::proto::Scope;

/// What a [`PubSub`](crate::PubSub) yields.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum PubSubEvent {
    /// A message. Those of one connection come in the order in which the server sent them.
    ///
    /// `redis::Msg` does not tell a shard channel from a channel of the same name.
    Message(Msg),
    /// The connection was lost, for this reason: messages are missed from here to the next
    /// [`Resubscribed`](Self::Resubscribed). It comes only to those who are subscribed to something.
    Disconnected(Error),
    /// There is a new connection, and everything is subscribed to again, but for what was
    /// [`Refused`](Self::Refused). No message comes between [`Disconnected`](Self::Disconnected) and this.
    Resubscribed,
    /// The reader is too slow: the oldest messages were dropped, since all that waited would have been more than
    /// [`pubsub_buffer_bytes`](crate::RedisConfig::pubsub_buffer_bytes). Or a message was larger than
    /// [`max_reply_bytes`](crate::RedisConfig::max_reply_bytes).
    Lagged {
        /// How many messages were dropped here.
        missed: u64,
    },
    /// On a new connection, the server has refused what it had granted before. The subscription is given up; ask for
    /// it again when the server has been put right.
    Refused {
        /// Whether `name` is a channel, a pattern or a shard channel.
        scope: Scope,
        /// The name of the channel, or the pattern.
        name: Vec<u8>,
        /// What the server said.
        error: Error,
    },
}
