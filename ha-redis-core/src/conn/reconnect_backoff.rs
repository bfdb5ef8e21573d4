//! When a connection that is kept for ever is made again.

use std::time::Duration;

use crate::error::{Error, Kind};
use crate::retry::Backoff;

/// A connection that has lived for so long says that the server is well: the next attempt comes at once.
const PROVEN: Duration = Duration::from_secs(1);

/// Counts what went wrong, and spaces the attempts by it.
#[derive(Debug)]
pub(crate) struct ReconnectBackoff {
    failures: u32,
    backoff: Backoff,
}

impl Default for ReconnectBackoff {
    fn default() -> Self {
        Self { failures: 0, backoff: Backoff::RECONNECT }
    }
}

impl ReconnectBackoff {
    /// Another server is to be reached.
    pub(crate) fn switched(&mut self) {
        self.failures = 0;
    }

    /// A connection has ended after so long.
    pub(crate) fn lost(&mut self, lived: Duration) {
        self.failures = if lived >= PROVEN { 0 } else { self.failures + 1 };
        // What was wrong with attempts before is mended.
        self.backoff = Backoff::RECONNECT;
    }

    /// An attempt has failed.
    pub(crate) fn failed(&mut self, error: &Error) {
        self.failures += 1;
        self.backoff = match error.kind() {
            // Whoever waited for an answer has waited enough, but not all clients to the same instant.
            Kind::Timeout => Backoff::AFTER_WAIT,
            // A script may be ended soon.
            Kind::Busy => Backoff::RECONNECT,
            _ if error.is_permanent() => Backoff::PERMANENT_FAILURE,
            _ => Backoff::RECONNECT,
        };
    }

    /// The wait before the next attempt.
    pub(crate) fn pause(&self, random: u64) -> Duration {
        match self.failures {
            0 => Backoff::AFTER_LOSS.delay(0, random),
            failures => self.backoff.delay(failures - 1, random),
        }
    }
}
