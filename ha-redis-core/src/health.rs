//! Whether a client could serve a call now.

use std::time::Duration;

use crate::address::Address;
use crate::error::Error;
use crate::proto::Role;

/// What a health check found.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Health {
    /// The master that the client follows, when it knows one.
    pub master: Option<Address>,
    /// How long the master took to answer a PING, be it with an error; `None` when it did not.
    pub latency: Option<Duration>,
    /// What the server says that it is; `None` when it did not say so, for example since the user may not run ROLE.
    pub role: Option<Role>,
    /// How many of the connections that the handles share are open.
    pub open_connections: usize,
    /// How many there are to be.
    pub expected_connections: usize,
    /// How many connections for one caller each are open: of blocking commands, and of
    /// [`Client::dedicated`](crate::Client::dedicated).
    pub dedicated_connections: usize,
    /// Why the check failed.
    pub error: Option<Error>,
}

impl Health {
    /// Returns true if the master answered and serves callers. A master that loads its data, or is busy with a script,
    /// answers and does not serve. A refused `PING` is an answer, too.
    pub fn is_healthy(&self) -> bool {
        self.latency.is_some() && self.error.is_none()
    }
}
