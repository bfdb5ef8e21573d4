//! A replica that is being made the master, by the word of a Sentinel.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::address::Address;

/// A selected replica that has not become master after this is not asked any more, unless commands are held back still.
pub(super) const WATCH: Duration = Duration::from_secs(30);
/// A Sentinel that names a new master tells of what has been: that one answers at once, or is none.
pub(super) const CHECK: Duration = Duration::from_secs(5);
/// What a Sentinel published of a replica that the others do not list yet is remembered for so long: about as long as they
/// need to agree on a failover.
const UNVERIFIED: Duration = Duration::from_secs(4);

/// A replica that is asked for its role until it is master.
#[derive(Debug)]
pub(super) struct Promotion {
    /// The Sentinels that tell of it. One of them leads the failover.
    pub(super) leaders: BTreeSet<Address>,
    pub(super) candidate: Address,
    /// The master that the candidate takes the place of.
    pub(super) replaced: Address,
    /// `None` when commands are not held back any more.
    pub(super) held_until: Option<Instant>,
    pub(super) given_up: Instant,
    /// Whether a Sentinel has named it as the master, and none has published that it is made one.
    pub(super) is_check: bool,
}

impl Promotion {
    /// When something is to be done about it.
    pub(super) fn next_tick(&self) -> Instant {
        self.held_until.unwrap_or(self.given_up)
    }

    /// A Sentinel gives up what it leads. Whether nobody is left that tells of it.
    pub(super) fn is_aborted_by(&mut self, sentinel: &Address) -> bool {
        self.leaders.remove(sentinel) && self.leaders.is_empty()
    }
}

/// What a Sentinel has published of a replica.
#[derive(Clone, Debug)]
pub(super) struct Selection {
    pub(super) leader: Address,
    pub(super) replica: Address,
    pub(super) replaced: Address,
    pub(super) heard: Instant,
}

impl Selection {
    /// Whether there may still be something in it.
    pub(super) fn is_fresh(&self, now: Instant) -> bool {
        now < self.heard + UNVERIFIED
    }
}
