//! What went wrong, and what became of the command.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::sync::Arc;

use redis::{ErrorKind as RedisErrorKind, RedisError, ServerErrorKind};

use crate::config::ConfigError;

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
/// use ha_redis_core::redis::{self, AsyncCommands};
/// use ha_redis_core::{Connection, Outcome, RedisErrorExt};
///
/// # #[cfg(feature = "aio")]
/// async fn count_order(mut redis: Connection, order: &str) -> redis::RedisResult<()> {
///     match redis.incr::<_, _, ()>("orders", 1).await {
///         Err(error) if error.outcome() == Outcome::MaybeApplied => {
///             // A set of the orders themselves can be added to twice, and counted.
///             redis.sadd("orders:in-doubt", order).await
///         }
///         done => done,
///     }
/// }
/// ```
///
/// # The outcomes
///
/// | outcome | when | may it be sent again? |
/// |---|---|---|
/// | [`NotSent`](Self::NotSent) | its bytes never reached the server | always |
/// | [`NotApplied`](Self::NotApplied) | the server refused before running it: `READONLY`, `LOADING`, … | always |
/// | [`MaybeApplied`](Self::MaybeApplied) | it was written and no reply came | only if running it twice does no harm |
/// | [`Applied`](Self::Applied) | a reply came, and it was an error or of another type than asked for | it would run again |
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// The command never reached the server.
    NotSent,
    /// The server refused the command without running it.
    NotApplied,
    /// The command was written and its reply is not known.
    MaybeApplied,
    /// The server answered the command.
    Applied,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotSent => "not sent",
            Self::NotApplied => "not applied",
            Self::MaybeApplied => "maybe applied",
            Self::Applied => "applied",
        })
    }
}

/// An error of the client: opaque, cheap to clone, with predicates for what callers branch on.
///
/// Commands that are called through redis-rs return a [`RedisError`]; [`RedisErrorExt`] tells the outcome of
/// one and finds the `Error` inside it.
#[derive(Clone)]
pub struct Error {
    outcome: Outcome,
    inner: Arc<Inner>,
}

struct Inner {
    kind: Kind,
    message: String,
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Config,
    Connect,
    Lost,
    Timeout,
    Authentication,
    Permission,
    Tls,
    Sentinel,
    Overloaded,
    Closed,
    Protocol,
    NotMaster,
    Refused,
    Server,
}

impl Error {
    /// An error before anything was sent. [`Error::with_outcome`] changes that.
    pub(crate) fn new(kind: Kind, message: impl Into<String>) -> Self {
        let inner = Inner { kind, message: message.into(), source: None };
        Self { outcome: Outcome::NotSent, inner: Arc::new(inner) }
    }

    /// The same with a cause, which is printed behind the message.
    pub(crate) fn caused(
        kind: Kind,
        message: impl Into<String>,
        cause: impl StdError + Send + Sync + 'static,
    ) -> Self {
        let message = format!("{}: {cause}", message.into());
        let inner = Inner { kind, message, source: Some(Arc::new(cause)) };
        Self { outcome: Outcome::NotSent, inner: Arc::new(inner) }
    }

    /// The client's own error inside `error`, or one that says what the server said.
    pub(crate) fn from_redis(error: RedisError) -> Self {
        if let Some(ours) = error.client_error() {
            return ours.clone();
        }
        let outcome = error.outcome();
        Self::caused(Kind::Server, "the server answered with an error", error).with_outcome(outcome)
    }

    /// The same error, with what was being done when it came up.
    pub(crate) fn during(self, what: impl fmt::Display) -> Self {
        let message = format!("{what}: {}", self.inner.message);
        let inner = Inner { kind: self.kind(), message, source: Some(Arc::new(self.clone())) };
        Self { outcome: self.outcome, inner: Arc::new(inner) }
    }

    pub(crate) fn with_outcome(mut self, outcome: Outcome) -> Self {
        self.outcome = outcome;
        self
    }

    pub(crate) fn kind(&self) -> Kind {
        self.inner.kind
    }

    /// The message alone, to be quoted in another.
    pub(crate) fn message(&self) -> &str {
        &self.inner.message
    }

    /// What became of the command. Errors that belong to no command, of a connection attempt for example, say
    /// [`Outcome::NotSent`].
    pub fn outcome(&self) -> Outcome {
        self.outcome
    }

    /// The configuration is wrong, or needs a feature that is not compiled in.
    pub fn is_config(&self) -> bool {
        self.kind() == Kind::Config
    }

    /// A wait came to its end: for a reply, for a connection, or for an answer of the Sentinels.
    pub fn is_timeout(&self) -> bool {
        self.kind() == Kind::Timeout
    }

    /// No connection could be made, or the one in use was lost or gave up its place to another master.
    pub fn is_connection(&self) -> bool {
        matches!(self.kind(), Kind::Connect | Kind::Tls | Kind::Lost | Kind::NotMaster | Kind::Protocol)
    }

    /// The server refused the user name or password.
    pub fn is_authentication(&self) -> bool {
        self.kind() == Kind::Authentication
    }

    /// The user that the client logs in as may not run a command that was needed, or may not use a channel: the
    /// server's ACL does not allow it. The message names what to allow.
    pub fn is_permission_denied(&self) -> bool {
        self.kind() == Kind::Permission
    }

    /// The Sentinels did not name a master, or too few of them answer for writes to go on (see
    /// [`sentinel_require_majority`](crate::RedisConfig::sentinel_require_majority)).
    pub fn is_sentinel(&self) -> bool {
        self.kind() == Kind::Sentinel
    }

    /// The server that was taken for the master is none, or no longer: it takes no writes.
    pub fn is_read_only(&self) -> bool {
        self.kind() == Kind::NotMaster
    }

    /// Too many commands were waiting for a connection or for their replies.
    pub fn is_overloaded(&self) -> bool {
        self.kind() == Kind::Overloaded
    }

    /// The client was closed.
    pub fn is_closed(&self) -> bool {
        self.kind() == Kind::Closed
    }

    /// The server sent what is not the Redis protocol.
    pub fn is_protocol(&self) -> bool {
        self.kind() == Kind::Protocol
    }

    /// The command may not run on this kind of connection.
    pub fn is_refused_command(&self) -> bool {
        self.kind() == Kind::Refused
    }

    fn io_kind(&self) -> io::ErrorKind {
        match self.kind() {
            Kind::Timeout => io::ErrorKind::TimedOut,
            Kind::Connect | Kind::Tls => io::ErrorKind::ConnectionRefused,
            Kind::Lost | Kind::NotMaster => io::ErrorKind::ConnectionReset,
            Kind::Closed => io::ErrorKind::NotConnected,
            Kind::Authentication | Kind::Permission => io::ErrorKind::PermissionDenied,
            Kind::Config | Kind::Refused => io::ErrorKind::InvalidInput,
            Kind::Protocol => io::ErrorKind::InvalidData,
            Kind::Sentinel | Kind::Overloaded | Kind::Server => io::ErrorKind::Other,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.inner.message, self.outcome)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.inner.kind)
            .field("outcome", &self.outcome)
            .field("message", &self.inner.message)
            .finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.inner.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

impl From<ConfigError> for Error {
    fn from(error: ConfigError) -> Self {
        Self::caused(Kind::Config, "the configuration cannot be used", error)
    }
}

impl From<Error> for RedisError {
    /// Keeps the error inside, for [`RedisErrorExt`] to find. redis-rs's own `is_timeout`,
    /// `is_connection_dropped` and `is_connection_refusal` answer as they would for its connections.
    fn from(error: Error) -> Self {
        io::Error::new(error.io_kind(), error).into()
    }
}

/// What [`RedisError`] cannot tell by itself: the outcome of the command.
///
/// ```
/// use ha_redis_core::{Outcome, RedisErrorExt, redis};
///
/// let refused = redis::parse_redis_value(b"-READONLY You can't write against a read only replica.\r\n")
///     .and_then(redis::Value::extract_error)
///     .unwrap_err();
/// assert_eq!(refused.outcome(), Outcome::NotApplied);
/// ```
pub trait RedisErrorExt {
    /// What became of the command. A pipeline's is that of its least certain command.
    fn outcome(&self) -> Outcome;

    /// Whether the server takes no writes, by its own `READONLY` or by what the client knows of it.
    fn is_read_only(&self) -> bool;

    /// The client's own error, when it is one: `None` for errors that the server or a conversion gave.
    fn client_error(&self) -> Option<&Error>;
}

impl RedisErrorExt for RedisError {
    fn outcome(&self) -> Outcome {
        if let Some(error) = self.client_error() {
            return error.outcome();
        }
        match self.kind() {
            // A transaction that EXEC refused ran none of its commands.
            RedisErrorKind::Server(ServerErrorKind::ExecAbort) => Outcome::NotApplied,
            // Of a pipeline some commands may have run although others were refused.
            RedisErrorKind::Server(_) if is_pipeline(self) => Outcome::Applied,
            RedisErrorKind::Server(kind) if runs_nothing(kind) => Outcome::NotApplied,
            RedisErrorKind::InvalidClientConfig | RedisErrorKind::Client => Outcome::NotSent,
            // Of another connection than ours, which cannot tell.
            RedisErrorKind::Io => Outcome::MaybeApplied,
            _ => Outcome::Applied,
        }
    }

    fn is_read_only(&self) -> bool {
        self.kind() == RedisErrorKind::Server(ServerErrorKind::ReadOnly)
            || self.client_error().is_some_and(Error::is_read_only)
    }

    fn client_error(&self) -> Option<&Error> {
        // redis-rs hands out what it keeps: an `Arc` around the `io::Error` made in `From<Error>` above.
        let source = StdError::source(self)?;
        let kept = source.downcast_ref::<Arc<dyn StdError + Send + Sync>>()?;
        kept.downcast_ref::<io::Error>()?.get_ref()?.downcast_ref()
    }
}

fn is_pipeline(error: &RedisError) -> bool {
    // Of the server's errors, only a pipeline's have no source.
    StdError::source(error).is_none()
}

/// Whether a server that answers with this error has left the command alone.
pub(crate) fn runs_nothing(kind: ServerErrorKind) -> bool {
    matches!(
        kind,
        ServerErrorKind::ReadOnly
            | ServerErrorKind::BusyLoading
            | ServerErrorKind::MasterDown
            | ServerErrorKind::ClusterDown
            | ServerErrorKind::TryAgain
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server_error(line: &str) -> RedisError {
        let value = redis::parse_redis_value(format!("-{line}\r\n").as_bytes()).unwrap();
        value.extract_error().unwrap_err()
    }

    #[test]
    fn a_redis_error_keeps_the_outcome_of_ours() {
        for outcome in [Outcome::NotSent, Outcome::NotApplied, Outcome::MaybeApplied] {
            let error = Error::new(Kind::Lost, "gone").with_outcome(outcome);
            let redis_error = RedisError::from(error);
            assert_eq!(redis_error.outcome(), outcome);
            assert!(redis_error.client_error().is_some_and(Error::is_connection));
            assert!(redis_error.is_connection_dropped());
        }
        assert!(RedisError::from(Error::new(Kind::Timeout, "late")).is_timeout());
        assert!(RedisError::from(Error::new(Kind::NotMaster, "demoted")).is_read_only());
        assert!(server_error("READONLY no").is_read_only() && !server_error("LOADING no").is_read_only());
    }

    #[test]
    fn a_servers_error_tells_whether_the_command_ran() {
        for line in ["READONLY no", "LOADING wait", "MASTERDOWN x", "CLUSTERDOWN x", "TRYAGAIN x"] {
            assert_eq!(server_error(line).outcome(), Outcome::NotApplied, "{line}");
        }
        for line in ["ERR syntax error", "WRONGTYPE no", "NOSCRIPT none", "OOM full"] {
            assert_eq!(server_error(line).outcome(), Outcome::Applied, "{line}");
        }
        assert_eq!(server_error("EXECABORT discarded").outcome(), Outcome::NotApplied);
    }

    #[test]
    fn the_cause_is_named_and_kept() {
        let cause = io::Error::from(io::ErrorKind::ConnectionRefused);
        let error = Error::caused(Kind::Connect, "cannot connect to localhost:1", cause);
        assert_eq!(error.to_string(), "cannot connect to localhost:1: connection refused (not sent)");
        assert!(error.source().is_some());
    }
}
