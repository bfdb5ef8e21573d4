//! What became of a command whose error is redis-rs's.

use std::error::Error as StdError;
use std::io;
use std::sync::Arc;

use redis::{ErrorKind, RedisError, ServerErrorKind};

use crate::error::server_error::{outcome_of, passing_of, server_errors};
use crate::error::{Error, Outcome};

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
    ///
    /// An error of a script, a function or a module's command may have come when a part of its work was done. Where its
    /// code and text alone would say the contrary, our connections add a note to the text.
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
        let errors = server_errors(self);
        if errors.iter().any(|error| outcome_of(error) == Outcome::MaybeApplied) {
            return Outcome::MaybeApplied;
        }
        match (self.kind(), errors.as_slice()) {
            // Of a pipeline some commands may have run although others were refused.
            (_, [error]) if !is_pipeline(self) => outcome_of(error),
            // A transaction that EXEC refused ran none of its commands.
            (ErrorKind::Server(ServerErrorKind::ExecAbort), _) => Outcome::NotApplied,
            (ErrorKind::InvalidClientConfig | ErrorKind::AuthenticationFailed | ErrorKind::Client, _) => {
                Outcome::NotSent
            }
            // Of another connection than ours, which cannot tell.
            (ErrorKind::Io, _) => Outcome::MaybeApplied,
            _ => Outcome::Ran,
        }
    }

    fn is_read_only(&self) -> bool {
        let said = || server_errors(self).iter().any(|error| error.kind() == Some(ServerErrorKind::ReadOnly));
        self.client_error().map_or_else(said, Error::is_read_only)
    }

    fn client_error(&self) -> Option<&Error> {
        // redis-rs hands out what it keeps: an `Arc` around the `io::Error` made in `From<Error>`.
        let source = StdError::source(self)?;
        let kept = source.downcast_ref::<Arc<dyn StdError + Send + Sync>>()?;
        kept.downcast_ref::<io::Error>()?.get_ref()?.downcast_ref()
    }
}

/// Whether a server said this, and will take later what it refused: all of it, when it was a pipeline.
pub(crate) fn passes(error: &RedisError) -> bool {
    let errors = server_errors(error);
    let passes = |error: &_| outcome_of(error) == Outcome::NotApplied && passing_of(error).by_itself();
    !errors.is_empty() && errors.iter().all(passes)
}

fn is_pipeline(error: &RedisError) -> bool {
    // Of the server's errors, only a pipeline's have no source.
    StdError::source(error).is_none()
}
