//! One shard: a master that is followed, and what is known of the connection to it.

use std::time::{Duration, Instant};

use crate::address::Address;
use crate::topology::ShardId;
use crate::topology::cluster::NodeId;

/// A shard without a connection for this long is treated as one whose connection was lost.
pub(super) const CONNECTING: Duration = Duration::from_millis(500);
/// How long a shard whose slots have gone is kept: a master may take its place in the next view.
pub(super) const LIMBO: Duration = Duration::from_secs(2);
/// How long a reply that the cluster is down, or a redirect to another master, makes a shard suspect.
pub(super) const SUSPICION: Duration = Duration::from_secs(2);
/// How long reports alone that the master has failed are a reason to look for another one.
const ALARM: Duration = Duration::from_secs(10);
/// Holds that lead to no switch take up at most one part in this many of the time.
pub(super) const HOLD_SHARE: u32 = 5;

#[derive(Debug)]
pub(super) struct Shard {
    pub(super) id: ShardId,
    /// The master, and where it is followed.
    pub(super) master: NodeId,
    pub(super) address: Address,
    pub(super) followed_at: Instant,
    pub(super) connection: Connection,
    /// Whether the master owes replies and sends nothing.
    pub(super) is_silent: bool,
    /// Whether it replied that it is not the master.
    pub(super) is_demoted: bool,
    /// When it last replied CLUSTERDOWN.
    pub(super) down_at: Option<Instant>,
    /// The replica that it named as the owner of its slots, and when.
    pub(super) redirected: Option<(Address, Instant)>,
    /// Since when other nodes report that it has failed.
    pub(super) reported_since: Option<Instant>,
    /// The replicas that are asked for their roles.
    pub(super) watched: Vec<Address>,
    pub(super) held_until: Option<Instant>,
    pub(super) next_hold: Instant,
    /// Since when no slot belongs to it.
    pub(super) empty_since: Option<Instant>,
}

/// The connection to the master.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Connection {
    /// There was none yet.
    Connecting,
    Up,
    Lost,
}

impl Shard {
    pub(super) fn new(id: ShardId, master: NodeId, address: Address, now: Instant) -> Self {
        Self {
            id,
            master,
            address,
            followed_at: now,
            connection: Connection::Connecting,
            is_silent: false,
            is_demoted: false,
            down_at: None,
            redirected: None,
            reported_since: None,
            watched: Vec::new(),
            held_until: None,
            next_hold: now,
            empty_since: None,
        }
    }

    /// Follows another master, or the same one at another address. What is watched is known to the caller still.
    pub(super) fn follow(&mut self, master: NodeId, address: Address, now: Instant) {
        let watched = std::mem::take(&mut self.watched);
        *self = Self { watched, ..Self::new(self.id, master, address, now) };
    }

    pub(super) fn on_connected(&mut self) {
        self.connection = Connection::Up;
        (self.is_silent, self.is_demoted) = (false, false);
        (self.down_at, self.redirected) = (None, None);
    }

    /// Returns true if there should be a connection that works, and is none.
    pub(super) fn is_lost(&self, now: Instant) -> bool {
        match self.connection {
            Connection::Up => self.is_silent,
            Connection::Connecting => self.followed_at + CONNECTING <= now,
            Connection::Lost => true,
        }
    }

    /// Returns true if the master, or the connection to it, gives a reason to look for another one.
    pub(super) fn is_suspect(&self, now: Instant) -> bool {
        let is_redirected = self.redirected.as_ref().is_some_and(|(_, at)| now < *at + SUSPICION);
        self.is_lost(now) || self.is_demoted || is_redirected
    }

    /// Returns true while reports that the master has failed are a reason to look for another one.
    pub(super) fn is_alarmed(&self, now: Instant) -> bool {
        self.reported_since.is_some_and(|since| now < since + ALARM)
    }

    /// Returns true if the master replied lately that the cluster is down.
    pub(super) fn is_down(&self, now: Instant) -> bool {
        self.down_at.is_some_and(|at| now < at + SUSPICION)
    }

    /// Returns the moments at which something about the shard changes by itself.
    pub(super) fn deadlines(&self) -> impl Iterator<Item = Instant> {
        let connecting = (self.connection == Connection::Connecting).then(|| self.followed_at + CONNECTING);
        let redirected = self.redirected.as_ref().map(|(_, at)| *at + SUSPICION);
        let empty = self.empty_since.map(|since| since + LIMBO);
        [connecting, redirected, empty, self.held_until].into_iter().flatten()
    }
}
