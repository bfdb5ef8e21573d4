//! Whether a client can serve a call now.

use std::time::Duration;

use crate::address::Address;
use crate::error::Error;
use crate::proto::Role;

/// The result of a health check.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Health {
    /// The current master, if it is known.
    pub master: Option<Address>,
    /// How long the master took to reply to `PING` and `ROLE`, even with an error; `None` if it did not reply.
    pub latency: Option<Duration>,
    /// The role that the server reports; `None` if it reported none, for example because the user may not run ROLE.
    pub role: Option<Role>,
    /// The number of open shared connections.
    pub open_connections: usize,
    /// The number of shared connections that there should be.
    pub expected_connections: usize,
    /// The number of open dedicated connections: those of blocking commands, and of
    /// [`Client::dedicated`](crate::Client::dedicated).
    pub dedicated_connections: usize,
    /// Why the check failed.
    pub error: Option<Error>,
}

impl Health {
    /// Returns true if the master answered and serves callers. A master that is loading its data or is busy with a
    /// script answers without serving. A refused `PING` counts as an answer.
    pub fn is_healthy(&self) -> bool {
        self.latency.is_some() && self.error.is_none()
    }
}
