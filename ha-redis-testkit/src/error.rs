//! The errors of starting, querying and waiting for servers.

use std::io;
use std::time::Duration;

use crate::binary::NoServer;

/// The reasons why a server could not be started, queried or waited for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No Redis server is installed.
    #[error(transparent)]
    NoServer(#[from] NoServer),
    /// A system call failed, or the server closed a connection or did not answer on it.
    #[error("cannot {action}: {source}")]
    Io {
        /// The action that failed.
        action: String,
        /// The error of the system.
        source: io::Error,
    },
    /// Another test or program uses the port.
    #[error("port {port} is in use")]
    PortTaken {
        /// The port.
        port: u16,
    },
    /// The server ended unexpectedly.
    #[error("the server on port {port} ended; the last lines of its log:\n{log}")]
    Ended {
        /// The server's port.
        port: u16,
        /// The end of the server's log.
        log: String,
    },
    /// The server answered a query with an error.
    #[error("{command} was refused: {message}")]
    Refused {
        /// The command's name.
        command: String,
        /// The server's error message.
        message: String,
    },
    /// A condition is not met, or not met yet.
    #[error("{0}")]
    NotReady(String),
    /// A wait timed out.
    #[error("timed out after {bound:?}: {last}")]
    TimedOut {
        /// The timeout.
        bound: Duration,
        /// The condition that was still unmet.
        last: Box<Error>,
    },
}

impl Error {
    /// Returns a closure that adds the failed action to an I/O error: `file.map_err(Error::io("open the log"))`.
    pub(crate) fn io(action: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let action = action.into();
        move |source| Self::Io { action, source }
    }

    /// Returns true if waiting longer cannot help.
    fn is_final(&self) -> bool {
        matches!(self, Self::NoServer(_) | Self::PortTaken { .. } | Self::Ended { .. })
    }
}

/// Repeats `attempt` until it succeeds, fails permanently, or `bound` has passed.
pub(crate) fn wait_for<T>(
    bound: Duration,
    mut attempt: impl FnMut() -> Result<T, Error>,
) -> Result<T, Error> {
    let longest_pause = Duration::from_millis(25);
    let mut pause = Duration::from_millis(1);
    let start = std::time::Instant::now();
    loop {
        match attempt() {
            Ok(value) => return Ok(value),
            Err(error) if error.is_final() => return Err(error),
            Err(last) if start.elapsed() >= bound => {
                return Err(Error::TimedOut { bound, last: Box::new(last) });
            }
            Err(_) => std::thread::sleep(pause),
        }
        pause = (pause * 2).min(longest_pause);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wait_ends_on_success_or_final_error() {
        let mut attempts = 0;
        let outcome = wait_for(Duration::from_secs(5), || {
            attempts += 1;
            if attempts == 3 { Ok("done") } else { Err(Error::NotReady("not yet".into())) }
        });
        assert_eq!((outcome.unwrap(), attempts), ("done", 3));

        let outcome = wait_for::<()>(Duration::from_secs(3600), || Err(Error::PortTaken { port: 1 }));
        assert!(matches!(outcome, Err(Error::PortTaken { port: 1 })));
    }

    #[test]
    fn timed_out_wait_names_last_error() {
        let outcome = wait_for::<()>(Duration::ZERO, || Err(Error::NotReady("no replica".into())));
        assert_eq!(outcome.unwrap_err().to_string(), "timed out after 0ns: no replica");
    }
}
