//! What the monitor of Sentinels is made with, and what it tells.

use std::time::Duration;

use crate::error::Error;

/// What the configuration has to say.
#[derive(Clone, Debug)]
pub(crate) struct FailoverConfig {
    pub(crate) master_name: String,
    /// Whether a selected replica is followed as soon as it is master.
    pub(crate) early_promotion: bool,
    /// Commands are held back for no longer than this while a replica is being promoted.
    pub(crate) promotion_hold: Duration,
    /// Whether writes need a majority of the Sentinels.
    pub(crate) require_majority: bool,
    /// How often a Sentinel of the configuration may be late before it counts as gone, if it has never answered.
    pub(crate) initial_attempts: u32,
}

/// Why a Sentinel did not answer.
#[derive(Clone, Debug)]
pub(crate) enum QueryError {
    /// Nobody is there, or it does not talk to this client.
    Refused(String),
    /// It may be slow.
    Late(String),
}

impl From<&Error> for QueryError {
    fn from(error: &Error) -> Self {
        let why = error.message().to_owned();
        if error.is_timeout() { Self::Late(why) } else { Self::Refused(why) }
    }
}
