//! What operators do to Sentinels and servers by hand.

use std::time::Duration;

use fastrand::Rng;

use super::fault::Mend;
use super::host::{Host, SENTINELS, SERVERS};
use super::redis::Role;
use super::world::{Event, World};

/// How long a Sentinel takes at most to find out who else is there, in milliseconds. A master that is new to it is asked
/// for its replicas at once; one that was reset is asked when it is its turn.
const MEETS_PEERS: u64 = 2_000;
const ASKS_NEW_MASTER: u64 = 1_000;
const ASKS_AGAIN: u64 = 10_000;

/// Something that an operator does.
#[derive(Clone, Copy, Debug)]
pub(super) enum Act {
    /// `SENTINEL RESET` on one Sentinel, or on all.
    Reset { sentinel: Option<usize> },
    /// A Sentinel is set up anew, as it was set up at first.
    MakeAnew { sentinel: usize },
    /// Another server, or the same, is to be master. It is promoted by hand, and all Sentinels are told to watch it: by
    /// `SENTINEL REMOVE` and, after a while, `MONITOR`, or made anew. They forget the epochs of the past. One of them
    /// may be lost for ever, and know nothing of that.
    HandOver { to: usize, lost: Option<usize>, gap: Duration },
    /// `REPLICAOF NO ONE`, of which no Sentinel knows.
    Promote { server: usize },
    /// `CONFIG SET min-replicas-to-write`, for a while.
    MinReplicas { server: usize, count: usize, lasts: Duration },
}

impl Act {
    pub(super) fn any(rng: &mut Rng, lasts: Duration) -> Self {
        let (server, sentinel) = (rng.usize(..SERVERS), rng.usize(..SENTINELS));
        match rng.u8(..8) {
            0 | 1 => Self::Reset { sentinel: rng.bool().then_some(sentinel) },
            2 => Self::MakeAnew { sentinel },
            3 | 4 => Self::HandOver { to: server, lost: rng.bool().then_some(sentinel), gap: lasts / 10 },
            5 => Self::Promote { server },
            _ => Self::MinReplicas { server, count: rng.usize(1..=SERVERS), lasts },
        }
    }
}

impl World {
    pub(super) fn on_act(&mut self, act: Act) {
        match act {
            // Who leads a failover would forget it.
            Act::Reset { .. } if self.failover.is_some() => {}
            Act::Reset { sentinel } => {
                let reset = (0..SENTINELS).filter(|number| sentinel.is_none_or(|one| one == *number));
                reset.for_each(|number| self.forget(number, ASKS_AGAIN));
            }
            Act::MakeAnew { sentinel } => self.make_anew(sentinel),
            Act::HandOver { to, lost, gap } => self.hand_over(to, lost, gap),
            Act::Promote { server } => self.promote_by_hand(server),
            Act::MinReplicas { server, count, lasts } => {
                self.servers[server].min_replicas = count;
                self.after(lasts, Event::Mend(Mend::MinReplicas(server)));
            }
        }
    }

    /// A Sentinel knows no replicas and no peers any more, and finds those that are there within its times.
    fn forget(&mut self, number: usize, finds_replicas: u64) {
        let replicas_from = self.now() + self.between(0, finds_replicas);
        let peers_from = self.now() + self.between(0, MEETS_PEERS);
        let peers = std::array::from_fn(|other| !self.sentinels[other].gone);
        self.sentinels[number].forget(replicas_from, peers_from, peers);
    }

    fn make_anew(&mut self, number: usize) {
        if self.failover.is_some() || !self.is_up(Host::Sentinel(number)) {
            return;
        }
        // Who names the first master is put right by those who know of a later one, if there is a later one.
        let Host::Redis(newest) = self.newest_master() else { return };
        let configured = if self.newest_epoch() == 0 { newest } else { 0 };
        self.crash(Host::Sentinel(number));
        self.bring_back(Host::Sentinel(number));
        self.follow(number, 0, configured);
        self.forget(number, ASKS_NEW_MASTER);
    }

    fn hand_over(&mut self, to: usize, lost: Option<usize>, gap: Duration) {
        self.cancel_failover();
        // Two of three can agree.
        let lost = lost.filter(|_| self.sentinels.iter().all(|sentinel| !sentinel.gone));
        // The client must know a majority of those that are left.
        let (named, hidden) = (self.habits.named_sentinels, self.rights.hides("SENTINEL SENTINELS"));
        let lost = lost.filter(|lost| named == SENTINELS || (!hidden && (named > 1 || *lost > 0)));
        if let Some(lost) = lost {
            self.sentinels[lost].gone = true;
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
            // It never ceased to be master, and those that came after it do now.
            Role::Master { era } => (era + 1..=self.eras).for_each(|later| self.revoke(later)),
            Role::Replica { .. } => drop(self.promote(master)),
        }
        self.say(format!("the Sentinels are told to watch {}", Host::Redis(master)));
        for number in 0..SENTINELS {
            self.follow(number, 0, master);
            self.sentinels[number].monitors = true;
            self.forget(number, ASKS_NEW_MASTER);
        }
        for server in (0..SERVERS).filter(|server| *server != master) {
            // The Sentinels see to the others in time.
            if self.rng.bool() && self.is_up(Host::Redis(server)) {
                self.attach(server, master);
            }
        }
    }

    /// As a master it counts for what it was last: nobody is to follow it.
    fn promote_by_hand(&mut self, server: usize) {
        let era = self.servers[server].era;
        if self.failover.is_none() && !self.servers[server].is_master() && self.is_up(Host::Redis(server)) {
            self.servers[server].role = Role::Master { era };
            self.begin_lineage(server);
        }
    }
}
