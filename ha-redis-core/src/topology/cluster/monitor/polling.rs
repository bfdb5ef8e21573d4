//! Whom to ask next, and when.
//!
//! In quiet times each client asks one node every ten seconds, the one that it has not asked for the longest time. While
//! something is wrong it begins with a query every 150 ms, and slows down to one a second.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};

use crate::address::Address;
use crate::topology::cluster::monitor::ClusterMonitor;
use crate::topology::cluster::shard::Shard;
use crate::topology::cluster::{ClusterView, NodeHealth, NodeId, NodeRole, SLOTS};

const QUIET: Duration = Duration::from_secs(10);
const URGENT: Duration = Duration::from_millis(150);
const MAX_URGENT: Duration = Duration::from_secs(1);
/// Clients that notice the same at the same time ask within this time.
const FIRST_JITTER: Duration = Duration::from_millis(30);
/// How often a member is asked at most because of what others say about it.
const CHECK_SPACING: Duration = Duration::from_millis(500);

#[derive(Debug)]
pub(super) struct Poll {
    pub(super) next: Instant,
    /// Since when something has been wrong, and how wrong it is.
    trouble: Option<(Trouble, Instant)>,
    count: u64,
    spread: u64,
    random: u64,
}

/// What makes a client ask more often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    /// Some slots have no owner. That may last.
    Incomplete,
    /// A shard needs another master, or slots have just moved.
    Urgent,
}

/// A kind of node to ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    Well,
    /// A replica of a master that may have failed: it knows first that it is master.
    Heir,
    Failing,
}

impl Poll {
    pub(super) fn new(spread: u64, now: Instant) -> Self {
        Self { next: now, trouble: None, count: 0, spread, random: spread | 1 }
    }

    /// Returns a part of `most`, another one each time (xorshift).
    fn part(&mut self, most: Duration) -> Duration {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        most.mul_f64((self.random >> 11) as f64 / (1_u64 << 53) as f64)
    }

    fn interval(&self, now: Instant) -> Duration {
        match self.trouble {
            None => QUIET,
            Some((trouble, since)) => {
                let most = if trouble == Trouble::Urgent { MAX_URGENT } else { QUIET };
                (now.saturating_duration_since(since) / 4).clamp(URGENT, most)
            }
        }
    }
}

impl ClusterMonitor {
    /// Has a node asked if one is due.
    pub(super) fn poll(&mut self, now: Instant) {
        let trouble = self.trouble(now);
        if self.poll.trouble.map(|(trouble, _)| trouble) != trouble {
            self.poll.trouble = trouble.map(|trouble| (trouble, now));
            let soon = now + self.poll.part(FIRST_JITTER);
            if trouble.is_some() && now < self.poll.next {
                self.poll.next = self.poll.next.min(soon);
            }
        }
        if now < self.poll.next {
            return;
        }
        self.poll.count += 1;
        let interval = self.poll.interval(now);
        self.poll.next = now + interval * 9 / 10 + self.poll.part(interval / 5);
        let mut targets: Vec<Address> = self.target(now).into_iter().collect();
        let failing = self.members.iter().filter(|(_, member)| member.is_failing(&self.queries)).count();
        if 2 * failing >= self.members.len() {
            // All may have moved. The names of the seeds are resolved anew.
            targets.extend(self.config.seeds.iter().filter(|seed| self.queries.is_idle(seed)).cloned());
        }
        targets.iter().for_each(|address| self.queries.want(address, false, now));
    }

    fn trouble(&self, now: Instant) -> Option<Trouble> {
        let is_urgent = |shard: &Shard| shard.is_suspect(now) || shard.is_down(now) || shard.is_alarmed(now);
        let nobody = self.members.none_answers(&self.queries);
        if nobody || !self.hints.is_empty() || self.shards.values().any(is_urgent) {
            return Some(Trouble::Urgent);
        }
        (self.owners.owned() < SLOTS).then_some(Trouble::Incomplete)
    }

    /// Returns the node to ask: mostly one that is well; in turn also one that may be a master soon, and one that fails.
    fn target(&self, now: Instant) -> Option<Address> {
        let first = match self.poll.count % 4 {
            1 => Target::Heir,
            3 => Target::Failing,
            _ => Target::Well,
        };
        let idle = self.members.iter().filter(|(_, member)| self.queries.is_idle(&member.address));
        let rank = |(id, address): &(&NodeId, &Address)| {
            let kind = self.kind(id, address, now);
            let is_late = self.queries.asked_at(address);
            (kind != first, kind == Target::Failing, is_late, self.shuffled(id))
        };
        let idle = idle.map(|(id, member)| (id, &member.address));
        idle.min_by_key(rank).map(|(_, address)| address.clone())
    }

    fn kind(&self, id: &NodeId, address: &Address, now: Instant) -> Target {
        let is_master = |master: NodeId| {
            self.shards.values().any(|shard| shard.master == master && shard.is_suspect(now))
        };
        match self.members.role(id) {
            _ if self.queries.is_failing(address) || is_master(*id) => Target::Failing,
            NodeRole::Replica(Some(master)) if is_master(master) => Target::Heir,
            _ => Target::Well,
        }
    }

    /// Returns the place of a node in the order of this client, so that not all clients ask the same one first.
    fn shuffled(&self, id: &NodeId) -> u64 {
        let mut hasher = DefaultHasher::new();
        (self.poll.spread, id).hash(&mut hasher);
        hasher.finish()
    }

    /// Asks the nodes about which a member says something else than they said themselves before.
    pub(super) fn check_hearsay(
        &mut self,
        reporter: &NodeId,
        asked_at: Instant,
        view: &ClusterView,
        now: Instant,
    ) {
        for (id, node) in view.nodes.iter().filter(|(id, _)| *id != reporter) {
            let Some(member) = self.members.get_mut(id) else { continue };
            let (is_news, is_promotion) = match &member.own {
                None => (node.is_master(), node.is_master()),
                Some(own) if asked_at <= own.asked_at => (false, false),
                Some(own) => {
                    let is_same = own.role == node.role
                        && (!node.is_master() || (own.epoch == node.epoch && own.slots == node.slots));
                    (!is_same, node.is_master() && own.role != NodeRole::Master)
                }
            };
            let is_spaced = member.checked_at.is_none_or(|checked_at| checked_at + CHECK_SPACING <= now);
            let is_failing = node.health == NodeHealth::Failed || member.is_failing(&self.queries);
            if is_news && is_spaced && !is_failing {
                member.checked_at = Some(now);
                self.queries.want(&member.address, is_promotion, now);
            }
        }
    }

    /// Asks other members whether they know the nodes that some list and that are no members.
    pub(super) fn ask_about_strangers(&mut self, now: Instant) {
        if self.members.strangers() == 0 || !self.stranger_rate.try_acquire(now) {
            return;
        }
        let idle = self.members.iter().map(|(_, member)| &member.address);
        let idle = idle.filter(|address| self.queries.is_idle(address) && !self.queries.is_failing(address));
        let mut idle: Vec<Address> = idle.cloned().collect();
        idle.sort_by_key(|address| self.queries.asked_at(address));
        idle.truncate(self.members.required(&self.queries));
        idle.iter().for_each(|address| self.queries.want(address, false, now));
    }
}
