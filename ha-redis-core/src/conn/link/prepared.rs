//! Calls that take more than the common way.

use crate::conn::link::{Call, SubmitError};

/// What was done for a call outside of the link's lock, since it takes its time, where that turned out to be needed.
#[derive(Default)]
pub(super) struct Prepared {
    /// Whether the call is known to change nothing.
    pub(super) reads_only: bool,
    pub(super) encoded: Option<Vec<u8>>,
}

/// Why a call was not taken.
pub(super) enum Obstacle {
    SubmitError(SubmitError),
    /// It is to be encoded outside of the lock.
    IsLarge,
}

impl Prepared {
    /// Does what is needed for another attempt, if there is anything.
    #[cold]
    pub(super) fn overcome(&mut self, obstacle: Obstacle, call: Call<'_>) -> Result<(), SubmitError> {
        match obstacle {
            Obstacle::IsLarge => self.encoded = Some(call.encoded()),
            Obstacle::SubmitError(SubmitError::ReadOnly(why)) if !self.reads_only => {
                self.reads_only = call.is_read();
                if !self.reads_only {
                    return Err(SubmitError::ReadOnly(why));
                }
            }
            Obstacle::SubmitError(not_taken) => return Err(not_taken),
        }
        Ok(())
    }
}
