//! What a connection takes now.

use crate::error::Error;

#[derive(Clone, Debug)]
pub(super) enum Gate {
    Open,
    /// Only what changes nothing is taken for now, for this reason.
    ReadOnly(Error),
    /// Nothing new is taken for now: a failover is under way and may be aborted.
    Held,
    /// Nothing new is taken ever again; what is owed may still come.
    Draining(Error),
    /// The driver has ended, or is to end now.
    Shut(Error),
}

/// Why a link takes no command. Nothing of it was sent.
#[derive(Debug)]
pub(crate) enum SubmitError {
    /// For now, because a failover is under way.
    Held,
    /// For now, because the server has been silent for too long.
    Silent,
    /// It is a write, and only reads are taken for now.
    ReadOnly(Error),
    /// The connection is at its end.
    Ended(Error),
    /// The bounds are reached.
    Full,
}

impl Gate {
    /// Whether it takes commands, if only reads.
    pub(super) fn is_open(&self) -> bool {
        matches!(self, Self::Open | Self::ReadOnly(_))
    }

    /// Whether it takes nothing ever again.
    pub(super) fn is_at_end(&self) -> bool {
        matches!(self, Self::Draining(_) | Self::Shut(_))
    }

    /// Whether a call is taken that is known to change nothing, or not known to.
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
