//! When to reconnect a connection that must stay open.

use std::time::Duration;

use crate::error::{Error, Kind};
use crate::retry::Backoff;

/// Uptime that resets the backoff.
const STABLE_UPTIME: Duration = Duration::from_secs(1);

/// Counts failures, and spaces the attempts accordingly.
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
    /// Resets the failures, since another server is the target.
    pub(crate) fn switched(&mut self) {
        self.failures = 0;
    }

    /// Records that a connection ended after this uptime.
    pub(crate) fn lost(&mut self, uptime: Duration) {
        self.failures = if uptime >= STABLE_UPTIME { 0 } else { self.failures + 1 };
        // The cause of earlier failures is gone.
        self.backoff = Backoff::RECONNECT;
    }

    /// Records a failed attempt.
    pub(crate) fn failed(&mut self, error: &Error) {
        self.failures += 1;
        self.backoff = match error.kind() {
            // The attempt has already waited long enough, but not all clients should return in the same
            // instant.
            Kind::Timeout => Backoff::AFTER_WAIT,
            // The script may end soon.
            Kind::Busy => Backoff::RECONNECT,
            _ if error.is_permanent() => Backoff::PERMANENT_FAILURE,
            _ => Backoff::RECONNECT,
        };
    }

    /// Returns the wait before the next attempt.
    pub(crate) fn pause(&self, random: u64) -> Duration {
        match self.failures {
            0 => Backoff::AFTER_LOSS.delay(0, random),
            failures => self.backoff.delay(failures - 1, random),
        }
    }
}
