//! The client's error type, and what became of a failed command.

mod outcome;
mod redis_error;
mod server_error;

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::sync::Arc;

use redis::{RedisError, Value};

use crate::config::ConfigError;
use crate::peer_text::printable;

pub use outcome::Outcome;
pub use redis_error::RedisErrorExt;
pub(crate) use redis_error::is_temporary;
pub(crate) use server_error::{
    Recovery, is_from_inside, is_refusal, may_succeed_later, outcome_of, printable_error, recovery_of,
    server_errors, verbatim, with_node, with_note,
};

/// An error of the client: opaque and cheap to clone, with predicates for the cases that callers handle.
///
/// Commands that are called through redis-rs return a [`RedisError`]. [`RedisErrorExt`] returns its outcome and the
/// `Error` inside it.
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
    Busy,
    Sentinel,
    Overloaded,
    Closed,
    Protocol,
    NotMaster,
    Refused,
    ReplyTooLarge,
    Server,
}

impl Error {
    /// Creates an error with the outcome [`Outcome::NotSent`]. [`Error::with_outcome`] changes that.
    pub(crate) fn new(kind: Kind, message: impl Into<String>) -> Self {
        let inner = Inner { kind, message: message.into(), source: None };
        Self { outcome: Outcome::NotSent, inner: Arc::new(inner) }
    }

    /// Creates an error with a cause, which is printed after the message.
    pub(crate) fn caused(
        kind: Kind,
        message: impl Into<String>,
        cause: impl StdError + Send + Sync + 'static,
    ) -> Self {
        let message = format!("{}: {cause}", message.into());
        let inner = Inner { kind, message, source: Some(Arc::new(cause)) };
        Self { outcome: Outcome::NotSent, inner: Arc::new(inner) }
    }

    /// Returns the reply, or an error if the reply is one. Errors nested in a reply are not searched for: that takes
    /// long in a large one.
    pub(crate) fn answer(reply: Value) -> Result<Value, Self> {
        match reply {
            Value::ServerError(_) => reply.extract_error().map_err(Self::from_redis),
            reply => Ok(reply),
        }
    }

    /// Returns the client's own error inside `error`, or a new one with the server's text.
    pub(crate) fn from_redis(error: RedisError) -> Self {
        if let Some(ours) = error.client_error() {
            return ours.clone();
        }
        let outcome = error.outcome();
        let message = format!("the server replied with an error: {}", printable(&error.to_string()));
        let inner = Inner { kind: Kind::Server, message, source: Some(Arc::new(error)) };
        Self { outcome, inner: Arc::new(inner) }
    }

    /// Puts what was being done in front of the message.
    pub(crate) fn during(self, what: impl fmt::Display) -> Self {
        let message = format!("{what}: {}", self.inner.message);
        let inner = Inner { kind: self.kind(), message, source: Some(Arc::new(self.clone())) };
        Self { outcome: self.outcome, inner: Arc::new(inner) }
    }

    pub(crate) fn with_outcome(mut self, outcome: Outcome) -> Self {
        self.outcome = outcome;
        self
    }

    /// Replaces the message. The cause is dropped, since it may contain the text that is replaced.
    pub(crate) fn with_message(self, message: String) -> Self {
        Self { outcome: self.outcome, inner: Arc::new(Inner { kind: self.kind(), message, source: None }) }
    }

    pub(crate) fn kind(&self) -> Kind {
        self.inner.kind
    }

    /// Returns the message without the outcome, to be quoted in another message.
    pub(crate) fn message(&self) -> &str {
        &self.inner.message
    }

    /// Returns what became of the command: [`Outcome::NotSent`] for errors that belong to no command, such as those
    /// of a connection attempt.
    pub fn outcome(&self) -> Outcome {
        self.outcome
    }

    /// Returns true if the configuration is wrong, or needs a feature that is not compiled in.
    pub fn is_config(&self) -> bool {
        self.kind() == Kind::Config
    }

    /// Returns true if a wait reached its bound: for a reply, for a connection, or for a reply of the Sentinels.
    pub fn is_timeout(&self) -> bool {
        self.kind() == Kind::Timeout
    }

    /// Returns true if no connection could be made, or if the connection in use was lost or ended by a switch to
    /// another master.
    pub fn is_connection(&self) -> bool {
        matches!(
            self.kind(),
            Kind::Connect | Kind::Tls | Kind::Busy | Kind::Lost | Kind::NotMaster | Kind::Protocol
        )
    }

    /// Returns true if the server refused the user name or password.
    pub fn is_authentication(&self) -> bool {
        self.kind() == Kind::Authentication
    }

    /// Returns true if the server's ACL does not allow the client's user to run a needed command or to use a channel.
    /// The message names what to allow.
    pub fn is_permission_denied(&self) -> bool {
        self.kind() == Kind::Permission
    }

    /// Returns true if the Sentinels did not name a master, or if too few of them reply for writes (see
    /// [`sentinel_require_majority`](crate::RedisConfig::sentinel_require_majority)).
    pub fn is_sentinel(&self) -> bool {
        self.kind() == Kind::Sentinel
    }

    /// Returns true if the server accepts no writes: the client expected a master and found a replica.
    pub fn is_read_only(&self) -> bool {
        self.kind() == Kind::NotMaster
    }

    /// Returns true if too many commands were waiting for a connection or for their replies.
    pub fn is_overloaded(&self) -> bool {
        self.kind() == Kind::Overloaded
    }

    /// Returns true if the client is closed.
    pub fn is_closed(&self) -> bool {
        self.kind() == Kind::Closed
    }

    /// Returns true if the server sent something that is not the Redis protocol.
    pub fn is_protocol(&self) -> bool {
        self.kind() == Kind::Protocol
    }

    /// Returns true if the reply exceeded [`max_reply_bytes`](crate::RedisConfig::max_reply_bytes) or another limit, so
    /// that the client skipped it. The command has run.
    pub fn is_reply_too_large(&self) -> bool {
        self.kind() == Kind::ReplyTooLarge
    }

    /// Returns true if the command is not allowed on this kind of connection, or if an atomic pipeline did not run as
    /// a transaction. The message gives the reason.
    pub fn is_refused_command(&self) -> bool {
        self.kind() == Kind::Refused
    }

    /// Returns true if the next attempt will fail in the same way until somebody changes a setting or ends a script.
    pub(crate) fn is_permanent(&self) -> bool {
        let kinds = [Kind::Authentication, Kind::Permission, Kind::Tls, Kind::Busy, Kind::Config];
        kinds.contains(&self.kind())
    }

    fn io_kind(&self) -> io::ErrorKind {
        match self.kind() {
            Kind::Timeout => io::ErrorKind::TimedOut,
            Kind::Connect | Kind::Tls | Kind::Busy => io::ErrorKind::ConnectionRefused,
            Kind::Lost | Kind::NotMaster => io::ErrorKind::ConnectionReset,
            Kind::Closed => io::ErrorKind::NotConnected,
            Kind::Authentication | Kind::Permission => io::ErrorKind::PermissionDenied,
            Kind::Config | Kind::Refused => io::ErrorKind::InvalidInput,
            Kind::Protocol | Kind::ReplyTooLarge => io::ErrorKind::InvalidData,
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
        Self::caused(Kind::Config, "invalid configuration", error)
    }
}

impl From<Error> for RedisError {
    /// Keeps the error inside, where [`RedisErrorExt`] finds it. redis-rs's own `is_timeout`, `is_connection_dropped`
    /// and `is_connection_refusal` return what they would for its own connections.
    fn from(error: Error) -> Self {
        io::Error::new(error.io_kind(), error).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server_error(line: &str) -> RedisError {
        let value = redis::parse_redis_value(format!("-{line}\r\n").as_bytes()).unwrap();
        value.extract_error().unwrap_err()
    }

    #[test]
    fn redis_error_keeps_outcome_of_client_error() {
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
    fn outcome_from_server_error_code() {
        for line in ["READONLY no", "ERR syntax error", "WRONGTYPE no", "NOSCRIPT none", "OOM full"] {
            assert_eq!(server_error(line).outcome(), Outcome::NotApplied, "{line}");
        }
        for line in ["MYERR half way", "ERR no script: f, on @user_script:1.", "IOERR timeout"] {
            assert_eq!(server_error(line).outcome(), Outcome::Ran, "{line}");
        }
        assert_eq!(server_error("EXECABORT discarded").outcome(), Outcome::NotApplied);
    }

    #[test]
    fn cause_in_message_and_source() {
        let cause = io::Error::from(io::ErrorKind::ConnectionRefused);
        let error = Error::caused(Kind::Connect, "cannot connect to localhost:1", cause);
        assert_eq!(error.to_string(), "cannot connect to localhost:1: connection refused (not sent)");
        assert!(error.source().is_some());
    }
}
