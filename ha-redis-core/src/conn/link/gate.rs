//! The gate of a connection: which calls it accepts now.

use crate::error::Error;

#[derive(Clone, Debug)]
pub(super) enum Gate {
    Open,
    /// Only calls that change nothing are accepted for now, for this reason.
    ReadOnly(Error),
    /// No calls are accepted for now: a failover is running and may be aborted.
    Held,
    /// No calls are accepted any longer; pending replies may still arrive.
    Draining(Error),
    /// The driver has ended, or must end now.
    Shut(Error),
}

/// Why a link does not accept a call. Nothing of it was sent.
#[derive(Debug)]
pub(crate) enum SubmitError {
    /// Temporarily, because a failover is running.
    Held,
    /// Temporarily, because the server has been silent for too long.
    Silent,
    /// The call is a write, and only reads are accepted for now.
    ReadOnly(Error),
    /// The connection has ended or is about to.
    Ended(Error),
    /// The bounds are reached.
    Full,
}

impl Gate {
    /// Returns true if calls are accepted, at least reads.
    pub(super) fn is_open(&self) -> bool {
        matches!(self, Self::Open | Self::ReadOnly(_))
    }

    /// Returns true if no calls will be accepted any longer.
    pub(super) fn is_at_end(&self) -> bool {
        matches!(self, Self::Draining(_) | Self::Shut(_))
    }

    /// Accepts or refuses a call. `reads_only` is true if the call is known to change nothing.
    pub(super) fn admit(&self, reads_only: bool) -> Result<(), SubmitError> {
        match self {
            Self::Open => Ok(()),
            Self::ReadOnly(_) if reads_only => Ok(()),
            Self::ReadOnly(why) => Err(SubmitError::ReadOnly(why.clone())),
            Self::Held => Err(SubmitError::Held),
            Self::Draining(why) | Self::Shut(why) => Err(SubmitError::Ended(why.clone())),
        }
    }
}
