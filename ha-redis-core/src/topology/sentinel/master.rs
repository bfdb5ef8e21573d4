//! The master that is followed.

use std::collections::BTreeSet;
use std::time::Instant;

use crate::address::Address;

/// The connection to the master that is followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Connection {
    Up,
    /// There is none `since` then: since it was lost, or since the master has been followed.
    Down {
        since: Instant,
    },
}

/// A majority names another master than the one that is followed, in an epoch that is not higher.
#[derive(Debug)]
pub(super) struct Disagreement {
    pub(super) address: Address,
    pub(super) since: Instant,
}

#[derive(Debug)]
pub(super) struct Master {
    pub(super) address: Address,
    pub(super) epoch: u64,
    /// It says that it is master, and no majority says so yet.
    pub(super) early_switch: Option<EarlySwitch>,
    /// When it said that it is no master: what the Sentinels agree on since counts again, of whatever epoch.
    pub(super) demoted_at: Option<Instant>,
}

impl Master {
    /// Whether the Sentinels have yet to say that it is master.
    pub(super) fn is_ahead(&self, now: Instant) -> bool {
        self.confirmed_by(now).is_some()
    }

    /// Until when they have the time to say so, if they have it still.
    pub(super) fn confirmed_by(&self, now: Instant) -> Option<Instant> {
        self.early_switch.as_ref().map(|switch| switch.until).filter(|until| now < *until)
    }

    /// Whether those who name this one have yet to hear of the switch, whatever epoch they name it in.
    pub(super) fn has_just_replaced(&self, other: &Address, now: Instant) -> bool {
        self.is_ahead(now) && self.early_switch.as_ref().is_some_and(|switch| switch.replaced == *other)
    }

    /// A majority names this one, in that epoch; whether anybody knows the epoch of before.
    pub(super) fn on_named(&mut self, epoch: u64, is_known: bool, now: Instant) {
        // Who has not heard of the switch yet may mean what it was before.
        if self.is_ahead(now) && epoch <= self.epoch {
            return;
        }
        self.early_switch = None;
        // Sentinels that were made anew begin their epochs anew.
        self.epoch = if is_known { self.epoch.max(epoch) } else { epoch };
    }

    /// Since when it is in doubt: since it said that it is no master, its promotion should have been confirmed, or there
    /// is no connection to it.
    pub(super) fn doubted_since(&self, connection: Connection) -> Option<Instant> {
        let unconfirmed = self.early_switch.as_ref().map(|switch| switch.until);
        self.demoted_at.or(unconfirmed).or(match connection {
            Connection::Up => None,
            Connection::Down { since } => Some(since),
        })
    }
}

/// A switch ahead of the majority's word.
#[derive(Debug)]
pub(super) struct EarlySwitch {
    /// The Sentinels that told of it. One of them leads the failover.
    pub(super) leaders: BTreeSet<Address>,
    /// The master before.
    pub(super) replaced: Address,
    /// They have had the time to say so, or the leader has given up.
    pub(super) until: Instant,
}
