//! A replica that a Sentinel is promoting.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::address::Address;

/// How long a selected replica is asked for its role, unless commands are held for longer.
pub(super) const WATCH: Duration = Duration::from_secs(30);
/// How long a server is asked for its role after a Sentinel has named it as the new master. The promotion is then in
/// the past, so a real master answers at once.
pub(super) const CHECK: Duration = Duration::from_secs(5);
/// How long a selection is remembered while no majority lists the replica: about as long as Sentinels need to agree
/// on a failover.
const UNVERIFIED: Duration = Duration::from_secs(4);

/// A replica that is asked for its role until it is master.
#[derive(Debug)]
pub(super) struct Promotion {
    /// The Sentinels that published it. One of them leads the failover.
    pub(super) leaders: BTreeSet<Address>,
    pub(super) candidate: Address,
    /// The master that the candidate replaces.
    pub(super) replaced: Address,
    /// Until when commands are held; `None` when they no longer are.
    pub(super) held_until: Option<Instant>,
    pub(super) watch_until: Instant,
    /// Whether a Sentinel has only named it as the master, and none has published its selection.
    pub(super) is_check: bool,
}

impl Promotion {
    /// Returns when the monitor must act on it.
    pub(super) fn next_tick(&self) -> Instant {
        self.held_until.unwrap_or(self.watch_until)
    }

    /// Removes a Sentinel that aborted its failover. Returns true if no other one published the promotion.
    pub(super) fn is_aborted_by(&mut self, sentinel: &Address) -> bool {
        self.leaders.remove(sentinel) && self.leaders.is_empty()
    }
}

/// The selection of a replica that a Sentinel published.
#[derive(Clone, Debug)]
pub(super) struct Selection {
    pub(super) leader: Address,
    pub(super) replica: Address,
    pub(super) replaced: Address,
    pub(super) published_at: Instant,
}

impl Selection {
    /// Returns true if it is recent enough to matter.
    pub(super) fn is_fresh(&self, now: Instant) -> bool {
        now < self.published_at + UNVERIFIED
    }
}
