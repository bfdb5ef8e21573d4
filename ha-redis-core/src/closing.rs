//! What closing a client left unfinished.

use std::fmt;

use crate::error::Outcome;

/// What became of the calls that were in flight when a client was closed, and did not finish in time.
///
/// Each of these calls has ended with an error that reports the same outcome. Calls that were still waiting for a
/// connection or in a queue do not count: they were not in flight.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CloseReport {
    /// How many calls were queued on a connection and never written.
    pub not_sent: usize,
    /// How many calls were written and ended without a reply.
    pub maybe_applied: usize,
}

impl CloseReport {
    /// Returns true if every call in flight got a reply.
    pub fn is_clean(&self) -> bool {
        *self == Self::default()
    }

    pub(crate) fn count(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::NotSent => self.not_sent += 1,
            _ => self.maybe_applied += 1,
        }
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.not_sent += other.not_sent;
        self.maybe_applied += other.maybe_applied;
    }
}

impl fmt::Display for CloseReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} calls cut as not sent, {} as maybe applied", self.not_sent, self.maybe_applied)
    }
}
