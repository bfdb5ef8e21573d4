//! Calls that need preparation before they are accepted.

use crate::conn::link::{Call, SubmitError};

/// What was prepared for a call outside of the link's lock, since it takes long and is rarely needed.
#[derive(Default)]
pub(super) struct Prepared {
    /// True if the call is known to change nothing.
    pub(super) reads_only: bool,
    pub(super) encoded: Option<Vec<u8>>,
}

/// Why a call was not accepted.
pub(super) enum Obstacle {
    SubmitError(SubmitError),
    /// The call must be encoded outside of the lock.
    IsLarge,
}

impl Prepared {
    /// Prepares another attempt, or returns the error if that is impossible.
    #[cold]
    pub(super) fn resolve(&mut self, obstacle: Obstacle, call: Call<'_>) -> Result<(), SubmitError> {
        match obstacle {
            Obstacle::IsLarge => self.encoded = Some(call.encoded()),
            Obstacle::SubmitError(SubmitError::ReadOnly(why)) if !self.reads_only => {
                self.reads_only = call.is_read();
                if !self.reads_only {
                    return Err(SubmitError::ReadOnly(why));
                }
            }
            Obstacle::SubmitError(error) => return Err(error),
        }
        Ok(())
    }
}
