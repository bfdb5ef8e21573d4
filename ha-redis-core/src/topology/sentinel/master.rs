//! The current master.

use std::collections::BTreeSet;
use std::time::Instant;

use crate::address::Address;

/// The state of the connection to the master.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MasterConnection {
    Up,
    /// There has been no connection `since` then: it was lost, or the master has just changed.
    Down {
        since: Instant,
    },
}

/// A majority names another master than the current one, in an epoch that is not higher.
#[derive(Debug)]
pub(super) struct Disagreement {
    pub(super) address: Address,
    pub(super) since: Instant,
}

#[derive(Debug)]
pub(super) struct Master {
    pub(super) address: Address,
    pub(super) epoch: u64,
    /// Set while the server itself reports the role `master` and no majority has confirmed it.
    pub(super) early_switch: Option<EarlySwitch>,
    /// When it replied that it is not the master: from then on the Sentinels' agreement counts again, in any epoch.
    pub(super) demoted_at: Option<Instant>,
}

impl Master {
    /// Returns true if the Sentinels still have time to confirm the early switch.
    pub(super) fn awaits_confirmation(&self, now: Instant) -> bool {
        self.confirmation_deadline(now).is_some()
    }

    /// Returns until when the Sentinels may confirm the early switch, unless that time is over.
    pub(super) fn confirmation_deadline(&self, now: Instant) -> Option<Instant> {
        self.early_switch.as_ref().map(|switch| switch.until).filter(|until| now < *until)
    }

    /// Returns true if Sentinels that name `other` have not learned of the switch yet, in whatever epoch they name
    /// it.
    pub(super) fn has_just_replaced(&self, other: &Address, now: Instant) -> bool {
        self.awaits_confirmation(now)
            && self.early_switch.as_ref().is_some_and(|switch| switch.replaced == *other)
    }

    /// Records that a majority names this master in `epoch`. `is_known` is whether any Sentinel still reports the
    /// previous epoch.
    pub(super) fn on_majority(&mut self, epoch: u64, is_known: bool, now: Instant) {
        // Sentinels that have not learned of the switch yet may mean the time before it.
        if self.awaits_confirmation(now) && epoch <= self.epoch {
            return;
        }
        self.early_switch = None;
        // Sentinels that lost their state restart their epochs.
        self.epoch = if is_known { self.epoch.max(epoch) } else { epoch };
    }

    /// Returns since when the master is suspect: since it replied that it is not the master, since its promotion
    /// should have been confirmed, or since the connection was lost.
    pub(super) fn suspect_since(&self, connection: MasterConnection) -> Option<Instant> {
        let unconfirmed_since = self.early_switch.as_ref().map(|switch| switch.until);
        self.demoted_at.or(unconfirmed_since).or(match connection {
            MasterConnection::Up => None,
            MasterConnection::Down { since } => Some(since),
        })
    }
}

/// A switch that the majority has not confirmed yet.
#[derive(Debug)]
pub(super) struct EarlySwitch {
    /// The Sentinels that published it. One of them leads the failover.
    pub(super) leaders: BTreeSet<Address>,
    /// The previous master.
    pub(super) replaced: Address,
    /// The deadline of the confirmation, or when the leader gave up.
    pub(super) until: Instant,
}
