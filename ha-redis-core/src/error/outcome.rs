//! What became of a command.

use std::fmt;

/// What became of a command whose call ended with an error.
///
/// # What do I do with an `INCR` that was maybe applied?
///
/// The server may have counted, or not, and nobody can know without asking it. There are three ways on:
///
/// - *It does not matter.* A count of visits may be off by one: leave it, or allow such commands to run twice with
///   [`RetrySafety::Anything`](crate::RetrySafety::Anything).
/// - *Make it repeatable.* Let the command say what is to be, not what is to change: `SET` a value that the caller
///   knows, `ZADD` or `HSET` under an identifier of the event, `SET key id NX` and look at who is there when it fails.
///   Such a call can be repeated until it succeeds.
/// - *Ask.* Read what the command would have changed, where nobody else changes it, and go on from there.
///
/// ```
/// # #[cfg(feature = "aio")]
/// # mod example {
/// # use ha_redis_core::redis::{self, AsyncCommands};
/// # use ha_redis_core::{Connection, Outcome, RedisErrorExt};
/// async fn count_order(mut redis: Connection, order: &str) -> redis::RedisResult<()> {
///     match redis.incr::<_, _, ()>("orders", 1).await {
///         Err(error) if error.outcome() == Outcome::MaybeApplied => {
///             // A set of the orders themselves can be added to twice, and counted.
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
/// | [`NotSent`](Self::NotSent) | its bytes never reached the server | always |
/// | [`NotApplied`](Self::NotApplied) | the server answered that it did not run: any error of a command of its own | when the reason has passed |
/// | [`MaybeApplied`](Self::MaybeApplied) | it was written and no reply came | only if running it twice does no harm |
/// | [`Ran`](Self::Ran) | a reply came, and it is no plain refusal | it would run again |
///
/// A command of the server's own that is answered with an error has changed nothing: `OOM`, `WRONGTYPE`, `NOPERM`,
/// `ERR wrong number of arguments` and all others mean not applied. Reasons that pass by themselves (`READONLY`,
/// `LOADING`, `MASTERDOWN`, `CLUSTERDOWN`, `TRYAGAIN`, `NOREPLICAS`, `MOVED`, `ASK`, `REDIRECT`, and `UNBLOCKED` when the
/// master became a replica) are waited for, up to `failover_wait`, before the caller is told.
///
/// # What do I do with a script that ran?
///
/// A script, a function, a module's command or `MIGRATE` may end with an error when a part of its work is done, and so
/// may a pipeline or a transaction of which some commands fail. Whoever wrote the script knows what it had done by then;
/// the client does not, and never repeats it. Three ways on: let the script check everything before its first write, so
/// that its errors mean that nothing was changed; let it undo, in a `pcall`, what it had done; or read what it would have
/// changed. What a script's error says before the script begins (`NOSCRIPT`, `BUSY`, `NOPERM` for `EVAL` itself) or at its
/// first write (`READONLY`, `NOREPLICAS`, `OOM`) is told as not applied; what it had published by then was published.
///
/// A reply of another type than the caller asked for is told as *ran*, too: the command did all of its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// The command never reached the server.
    NotSent,
    /// The server answered that it did not run the command.
    NotApplied,
    /// The command was written and its reply is not known.
    MaybeApplied,
    /// The server ran the command and answered it: a script may have done a part of its work before its error.
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
