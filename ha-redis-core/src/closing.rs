//! What closing a client has left undone.

use std::fmt;

use crate::error::Outcome;

/// What became of the calls that were in flight when a client was closed, and did not finish in time.
///
/// Every one of those calls has ended with an error that says the same. Calls that were still waiting for a
/// connection, or for their turn, are not counted: nothing of them was in flight.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CloseReport {
    /// How many calls were staged for a connection and never written.
    pub not_sent: usize,
    /// How many calls ended after they had been written, without a reply.
    pub maybe_applied: usize,
}

impl CloseReport {
    /// Returns true if every call in flight was answered.
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
