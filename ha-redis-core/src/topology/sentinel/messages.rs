//! The settings of the Sentinel monitor, and the errors of its queries.

use std::time::Duration;

use crate::error::Error;

/// The settings of the failover.
#[derive(Clone, Debug)]
pub(crate) struct FailoverConfig {
    pub(crate) master_name: String,
    /// Whether a selected replica is followed as soon as it is master.
    pub(crate) early_promotion: bool,
    /// How long commands are held at most while a replica is being promoted.
    pub(crate) promotion_hold: Duration,
    /// Whether writes need a majority of the Sentinels.
    pub(crate) require_majority: bool,
    /// How often a configured Sentinel that has never answered may be late before it counts as gone.
    pub(crate) initial_attempts: u32,
}

/// Why a Sentinel did not answer.
#[derive(Clone, Debug)]
pub(crate) enum QueryError {
    /// No Sentinel is reachable there, or it refuses this client.
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
