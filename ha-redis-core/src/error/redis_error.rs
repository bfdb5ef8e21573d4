//! The outcome of a command whose error is a [`RedisError`].

use std::error::Error as StdError;
use std::io;
use std::sync::Arc;

use redis::{ErrorKind, RedisError, ServerErrorKind};

use crate::error::server_error::{outcome_of, recovery_of, server_errors};
use crate::error::{Error, Outcome};

/// What [`RedisError`] does not report by itself: the outcome of the command.
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
    /// Returns what became of the command; for a pipeline, what became of its least certain command.
    ///
    /// A script, a function or a module's command may fail after a part of its work. Where the code and text of such
    /// an error suggest otherwise, the client's connections add a note to the text.
    fn outcome(&self) -> Outcome;

    /// Returns true if the server accepts no writes: it replied `READONLY`, or the client knows that it is a replica.
    fn is_read_only(&self) -> bool;

    /// Returns the client's own error inside this one, and `None` for an error of the server or of a conversion.
    fn client_error(&self) -> Option<&Error>;
}

impl RedisErrorExt for RedisError {
    fn outcome(&self) -> Outcome {
        if let Some(error) = self.client_error() {
            return error.outcome();
        }
        let errors = server_errors(self);
        if errors.iter().any(|error| outcome_of(error) == Outcome::MaybeApplied) {
            return Outcome::MaybeApplied;
        }
        match (self.kind(), errors.as_slice()) {
            // In a pipeline some commands may have run although others were refused.
            (_, [error]) if !is_pipeline(self) => outcome_of(error),
            // A transaction that EXEC refused ran none of its commands.
            (ErrorKind::Server(ServerErrorKind::ExecAbort), _) => Outcome::NotApplied,
            (ErrorKind::InvalidClientConfig | ErrorKind::AuthenticationFailed | ErrorKind::Client, _) => {
                Outcome::NotSent
            }
            // From a connection that is not ours and tracks no outcomes.
            (ErrorKind::Io, _) => Outcome::MaybeApplied,
            _ => Outcome::Ran,
        }
    }

    fn is_read_only(&self) -> bool {
        let by_server =
            || server_errors(self).iter().any(|error| error.kind() == Some(ServerErrorKind::ReadOnly));
        self.client_error().map_or_else(by_server, Error::is_read_only)
    }

    fn client_error(&self) -> Option<&Error> {
        // redis-rs returns an `Arc` around the `io::Error` made in `From<Error>`.
        let source = StdError::source(self)?;
        let shared = source.downcast_ref::<Arc<dyn StdError + Send + Sync>>()?;
        shared.downcast_ref::<io::Error>()?.get_ref()?.downcast_ref()
    }
}

/// Returns true if the server replied with temporary errors only. In a pipeline, all commands must have been refused.
pub(crate) fn is_temporary(error: &RedisError) -> bool {
    let errors = server_errors(error);
    let is_temporary =
        |error: &_| outcome_of(error) == Outcome::NotApplied && recovery_of(error).is_automatic();
    !errors.is_empty() && errors.iter().all(is_temporary)
}

fn is_pipeline(error: &RedisError) -> bool {
    // Among the server's errors, only a pipeline's has no source.
    StdError::source(error).is_none()
}
