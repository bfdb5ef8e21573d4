//! What became of a command.

use std::fmt;

/// What became of a command whose call ended with an error.
///
/// # What should I do with an `INCR` that was maybe applied?
///
/// The server may have counted or not; only a further query can tell. There are three options:
///
/// - *Ignore it.* A count of visits may be off by one: leave it, or allow such commands to run twice with
///   [`RetrySafety::Anything`](crate::RetrySafety::Anything).
/// - *Make it repeatable.* Write the result instead of the change: `SET` a value that the caller knows, `ZADD` or
///   `HSET` under an identifier of the event, or `SET key id NX` followed by a read of the stored identifier when it
///   fails. Such a call can be repeated until it succeeds.
/// - *Check.* Read what the command would have changed, provided nobody else changes it, and continue from there.
///
/// ```
/// # #[cfg(feature = "aio")]
/// # mod example {
/// # use ha_redis_core::redis::{self, AsyncCommands};
/// # use ha_redis_core::{Connection, Outcome, RedisErrorExt};
/// async fn count_order(mut redis: Connection, order: &str) -> redis::RedisResult<()> {
///     match redis.incr::<_, _, ()>("orders", 1).await {
///         Err(error) if error.outcome() == Outcome::MaybeApplied => {
// Adding to a set of order identifiers is repeatable; its size gives the count.
///             redis.sadd("orders:in-doubt", order).await
///         }
///         done => done,
///     }
/// }
/// # }
/// ```
///
/// # The outcomes
///
/// | outcome | when | may it be sent again? |
/// |---|---|---|
/// | [`NotSent`](Self::NotSent) | the command never reached the server | always |
/// | [`NotApplied`](Self::NotApplied) | the server replied with an error and did not run the command | when the cause is gone |
/// | [`MaybeApplied`](Self::MaybeApplied) | the command was written and no reply came | only if running it twice does no harm |
/// | [`Ran`](Self::Ran) | a reply came, and it is not a plain refusal | it would run again |
///
/// A built-in command that fails with an error reply has changed nothing: `OOM`, `WRONGTYPE`, `NOPERM`, `ERR wrong
/// number of arguments` and all others mean *not applied*. For temporary errors (`READONLY`, `LOADING`, `MASTERDOWN`,
/// `CLUSTERDOWN`, `TRYAGAIN`, `NOREPLICAS`, `MOVED`, `ASK`, `REDIRECT`, and `UNBLOCKED` when the master became a
/// replica) the client waits up to `failover_wait` before it returns them.
///
/// # What should I do with a script that ran?
///
/// A script, a function, a module's command or `MIGRATE` may fail after a part of its work is done, and so may a
/// pipeline or a transaction in which some commands fail. The author of the script knows what it had done by then;
/// the client does not, and never repeats it. There are three options: let the script check everything before its
/// first write, so that its errors mean that nothing was changed; let it undo in a `pcall` what it had done; or read
/// what it would have changed. Errors from before the script begins (`NOSCRIPT`, `BUSY`, `NOPERM` for `EVAL` itself)
/// or at its first write (`READONLY`, `NOREPLICAS`, `OOM`) count as *not applied*; messages that it had published by
/// then stay published.
///
/// A reply of another type than the caller asked for counts as *ran*, too: the command did all of its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// The command never reached the server.
    NotSent,
    /// The server replied that it did not run the command.
    NotApplied,
    /// The command was written and its reply is unknown.
    MaybeApplied,
    /// The server ran the command and replied to it. A script may have done a part of its work before its error.
    Ran,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotSent => "not sent",
            Self::NotApplied => "not applied",
            Self::MaybeApplied => "maybe applied",
            Self::Ran => "ran",
        })
    }
}
