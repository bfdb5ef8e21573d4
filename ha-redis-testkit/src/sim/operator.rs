//! The actions of operators on Sentinels and servers.

use std::time::Duration;

use fastrand::Rng;

use super::fault::Repair;
use super::host::{Host, SENTINELS, SERVERS};
use super::redis::Role;
use super::world::{Event, World};

/// The longest that a Sentinel takes to discover replicas and other Sentinels, in milliseconds. A Sentinel queries
/// a new master for its replicas at once, and a reset one at the next interval.
const PEER_DISCOVERY_MS: u64 = 2_000;
const NEW_MASTER_INFO_MS: u64 = 1_000;
const INFO_INTERVAL_MS: u64 = 10_000;

/// An action of an operator.
#[derive(Clone, Copy, Debug)]
pub(super) enum OperatorAction {
    /// `SENTINEL RESET` on one Sentinel, or on all.
    Reset { sentinel: Option<usize> },
    /// A Sentinel is recreated with its initial configuration.
    Recreate { sentinel: usize },
    /// An operator makes a server master, which may be the current one. The server is promoted by hand, and all
    /// Sentinels are made to monitor it, with `SENTINEL REMOVE` and later `MONITOR`, or by recreating them. They
    /// lose their epochs. One Sentinel may be lost for good and keep its old state.
    HandOver { to: usize, lost: Option<usize>, gap: Duration },
    /// `REPLICAOF NO ONE`, without the Sentinels.
    Promote { server: usize },
    /// `CONFIG SET min-replicas-to-write`, for a while.
    MinReplicas { server: usize, count: usize, lasts: Duration },
}

impl OperatorAction {
    pub(super) fn any(rng: &mut Rng, lasts: Duration) -> Self {
        let (server, sentinel) = (rng.usize(..SERVERS), rng.usize(..SENTINELS));
        match rng.u8(..8) {
            0 | 1 => Self::Reset { sentinel: rng.bool().then_some(sentinel) },
            2 => Self::Recreate { sentinel },
            3 | 4 => Self::HandOver { to: server, lost: rng.bool().then_some(sentinel), gap: lasts / 10 },
            5 => Self::Promote { server },
            _ => Self::MinReplicas { server, count: rng.usize(1..=SERVERS), lasts },
        }
    }
}

impl World {
    pub(super) fn on_operator_action(&mut self, act: OperatorAction) {
        match act {
            // The reset would drop the failover that the Sentinel leads.
            OperatorAction::Reset { .. } if self.failover.is_some() => {}
            OperatorAction::Reset { sentinel } => {
                let reset = (0..SENTINELS).filter(|number| sentinel.is_none_or(|one| one == *number));
                reset.for_each(|number| self.clear_known(number, INFO_INTERVAL_MS));
            }
            OperatorAction::Recreate { sentinel } => self.recreate_sentinel(sentinel),
            OperatorAction::HandOver { to, lost, gap } => self.hand_over(to, lost, gap),
            OperatorAction::Promote { server } => self.promote_by_hand(server),
            OperatorAction::MinReplicas { server, count, lasts } => {
                self.servers[server].min_replicas = count;
                self.after(lasts, Event::Repair(Repair::MinReplicas(server)));
            }
        }
    }

    /// A Sentinel loses its replicas and peers, and discovers them again after a while.
    fn clear_known(&mut self, number: usize, finds_replicas: u64) {
        let replicas_from = self.now() + self.between(0, finds_replicas);
        let peers_from = self.now() + self.between(0, PEER_DISCOVERY_MS);
        let peers = std::array::from_fn(|other| !self.sentinels[other].removed);
        self.sentinels[number].clear_known(replicas_from, peers_from, peers);
    }

    fn recreate_sentinel(&mut self, number: usize) {
        if self.failover.is_some() || !self.is_up(Host::Sentinel(number)) {
            return;
        }
        // Sentinels that know a later failover correct one that names the first master, if there was a later
        // failover.
        let Host::Redis(newest) = self.newest_master() else { return };
        let configured = if self.newest_epoch() == 0 { newest } else { 0 };
        self.crash(Host::Sentinel(number));
        self.bring_back(Host::Sentinel(number));
        self.set_master(number, 0, configured);
        self.clear_known(number, NEW_MASTER_INFO_MS);
    }

    fn hand_over(&mut self, to: usize, lost: Option<usize>, gap: Duration) {
        self.cancel_failover();
        // Two of three Sentinels can agree.
        let lost = lost.filter(|_| self.sentinels.iter().all(|sentinel| !sentinel.removed));
        // The client must know a majority of the remaining Sentinels.
        let (named, hidden) = (self.behavior.named_sentinels, self.permissions.hides("SENTINEL SENTINELS"));
        let lost = lost.filter(|lost| named == SENTINELS || (!hidden && (named > 1 || *lost > 0)));
        if let Some(lost) = lost {
            self.sentinels[lost].removed = true;
            self.crash(Host::Sentinel(lost));
        }
        for sentinel in &mut self.sentinels {
            sentinel.monitors = false;
        }
        self.after(gap, Event::TakeOver { by: to });
    }

    pub(super) fn take_over(&mut self, by: usize) {
        let is_up = |server: &usize| self.is_up(Host::Redis(*server));
        let Some(master) = [by, 0, 1, 2].into_iter().find(is_up) else {
            return self.after(Duration::from_millis(100), Event::TakeOver { by });
        };
        self.cancel_failover();
        match self.servers[master].role {
            // The server never stopped being master, and the later masters stop now.
            Role::Master { era } => (era + 1..=self.eras).for_each(|later| self.revoke(later)),
            Role::Replica { .. } => drop(self.promote(master)),
        }
        self.log_note(format!("the Sentinels are made to monitor {}", Host::Redis(master)));
        for number in 0..SENTINELS {
            self.set_master(number, 0, master);
            self.sentinels[number].monitors = true;
            self.clear_known(number, NEW_MASTER_INFO_MS);
        }
        for server in (0..SERVERS).filter(|server| *server != master) {
            // The Sentinels reconfigure the other servers later.
            if self.rng.bool() && self.is_up(Host::Redis(server)) {
                self.attach(server, master);
            }
        }
    }

    /// The promoted server keeps its last era, since nobody is meant to follow it.
    fn promote_by_hand(&mut self, server: usize) {
        let era = self.servers[server].era;
        if self.failover.is_none() && !self.servers[server].is_master() && self.is_up(Host::Redis(server)) {
            self.servers[server].role = Role::Master { era };
            self.begin_lineage(server);
        }
    }
}
