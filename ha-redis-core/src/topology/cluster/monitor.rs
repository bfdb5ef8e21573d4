//! The state machine that decides which node serves which slot: inputs go in, actions come out.
//!
//! The monitor keeps what each node says about itself and what others say about it (`members.rs`), derives the owner of
//! each slot from that (`owners.rs`), and follows the owners. It asks one node now and then. It asks more often while
//! something is wrong, but never more than eleven times a second (`queries.rs`).
//!
//! Redis announces nothing to clients. A failover looks like this: the connection to the master is lost, or it falls
//! silent, or another node reports that it has failed. The shard's replicas are then asked for their roles every few
//! milliseconds, and the one that is master is followed at once. Its view confirms that, or else it is undone. In a
//! planned failover the demoted master redirects to the new one, which is followed at once in the same way.
//!
//! A new master is only followed after a server has said so. Until then a silent master is not left: commands go
//! nowhere else, since no other node would take them.

mod assignment;
mod polling;
mod redirects;
mod start;
mod watches;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::address::Address;
use crate::topology::ShardId;
use crate::topology::cluster::members::Members;
use crate::topology::cluster::owners::{HINT_LIFETIME, Hint, Owners};
use crate::topology::cluster::queries::Queries;
use crate::topology::cluster::shard::{Connection, LIMBO, Shard};
use crate::topology::cluster::{
    ClusterAction, ClusterConfig, ClusterInput, ClusterView, NodeId, SlotTable, ViewError,
};
use crate::topology::rate_limit::{Cooldowns, RateLimit};
use polling::Poll;
use start::Start;

/// How often slots may move by hints: the burst, and the interval after that. Each move makes a new table.
const HINT_RATE: (u32, Duration) = (16, Duration::from_millis(20));
/// How often a reply that the cluster is down counts.
const DOWN_SPACING: Duration = Duration::from_millis(100);
/// How often members are asked who else is one: the burst, and the interval after that.
const STRANGER_RATE: (u32, Duration) = (4, Duration::from_secs(1));

#[derive(Debug)]
pub(crate) struct ClusterMonitor {
    config: ClusterConfig,
    members: Members,
    queries: Queries,
    /// What the seeds say, while most members do not answer.
    start: Start,
    owners: Owners,
    hints: Vec<Hint>,
    hint_rate: RateLimit,
    stranger_rate: RateLimit,
    /// Nodes that were hinted at and turned out not to own the slots.
    failed_hints: Cooldowns,
    /// Masters that were reported as failed and were not replaced.
    false_alarms: Cooldowns,
    shards: BTreeMap<ShardId, Shard>,
    next_shard: usize,
    /// The last table that was returned.
    table: Option<SlotTable>,
    poll: Poll,
    /// Whether owners must be decided anew.
    is_outdated: bool,
    last_handled: Instant,
}

impl ClusterMonitor {
    /// Creates a monitor. Its first tick is due now.
    pub(crate) fn new(config: ClusterConfig, now: Instant) -> Self {
        let mut queries = Queries::new(config.query_timeout);
        queries.keep(config.seeds.iter(), now);
        config.seeds.iter().for_each(|seed| queries.want(seed, true, now));
        Self {
            members: Members::default(),
            queries,
            start: Start::default(),
            owners: Owners::none(),
            hints: Vec::new(),
            hint_rate: RateLimit::new(HINT_RATE.0, HINT_RATE.1),
            stranger_rate: RateLimit::new(STRANGER_RATE.0, STRANGER_RATE.1),
            failed_hints: Cooldowns::default(),
            false_alarms: Cooldowns::default(),
            shards: BTreeMap::new(),
            next_shard: 0,
            table: None,
            poll: Poll::new(config.spread, now),
            is_outdated: false,
            last_handled: now,
            config,
        }
    }

    /// Sets how long commands are held at most, from now on.
    pub(crate) fn set_hold(&mut self, hold: Duration) {
        self.config.hold = hold;
    }

    /// Returns the epoch in which the master of a shard claims its slots; 0 if it is not known.
    pub(crate) fn epoch(&self, shard: ShardId) -> u64 {
        let master = self.shards.get(&shard).and_then(|shard| self.members.get(&shard.master));
        master.and_then(|member| member.own.as_ref()?.epoch).unwrap_or(0)
    }

    /// Returns when [`ClusterInput::Tick`] is due.
    pub(crate) fn next_tick(&self) -> Instant {
        let hints = self.hints.iter().map(|hint| hint.at + HINT_LIFETIME);
        let shards = self.shards.values().flat_map(Shard::deadlines);
        let deadlines = hints.chain(shards).chain(self.start.deadline());
        // Deadlines that had passed at the last input have had their effect.
        let deadlines = deadlines.filter(|deadline| *deadline > self.last_handled);
        deadlines.chain(self.queries.next_due(self.last_handled)).fold(self.poll.next, Instant::min)
    }

    pub(crate) fn handle(&mut self, input: ClusterInput, now: Instant) -> Vec<ClusterAction> {
        let mut actions = Vec::new();
        self.last_handled = now;
        let has_effect = match input {
            ClusterInput::View { asked, asked_at, view } => {
                self.on_view(&asked, asked_at, view, now, &mut actions)
            }
            ClusterInput::Moved { slot, to, from } => self.on_moved(slot, to.as_ref(), &from, now),
            ClusterInput::RoleMaster { node } => self.on_role_master(&node, now),
            ClusterInput::Connected { shard } => self.on_shard(shard, Shard::on_connected),
            ClusterInput::Silent { shard } => self.on_shard(shard, |shard| shard.is_silent = true),
            ClusterInput::Lost { shard } => self.on_shard(shard, |shard| shard.connection = Connection::Lost),
            ClusterInput::NotMaster { shard } => self.on_not_master(shard, now),
            ClusterInput::Down { shard } => self.on_down(shard, now),
            ClusterInput::Tick => self.on_tick(now, &mut actions),
        };
        if has_effect {
            self.is_outdated |= self.expire_hints(now);
            if std::mem::take(&mut self.is_outdated) {
                self.decide(now, &mut actions);
            }
            self.update_watches(now, &mut actions);
            self.poll(now);
        }
        actions.extend(self.queries.take_due(now).into_iter().map(ClusterAction::Query));
        actions
    }

    /// Returns false if there is no such shard.
    fn on_shard(&mut self, shard: ShardId, change: impl FnOnce(&mut Shard)) -> bool {
        let shard = self.shards.get_mut(&shard);
        shard.map(change).is_some()
    }

    /// The master knows best who has replaced it.
    fn on_not_master(&mut self, shard: ShardId, now: Instant) -> bool {
        let Some(shard) = self.shards.get_mut(&shard).filter(|shard| !shard.is_demoted) else { return false };
        shard.is_demoted = true;
        self.queries.want(&shard.address, true, now);
        true
    }

    /// Every call may get that reply, and most of them say nothing new.
    fn on_down(&mut self, shard: ShardId, now: Instant) -> bool {
        let Some(shard) = self.shards.get_mut(&shard) else { return false };
        let is_news = shard.down_at.is_none_or(|at| at + DOWN_SPACING <= now);
        if is_news {
            shard.down_at = Some(now);
        }
        is_news
    }

    fn on_view(
        &mut self,
        asked: &Address,
        asked_at: Instant,
        view: Result<ClusterView, ViewError>,
        now: Instant,
        actions: &mut Vec<ClusterAction>,
    ) -> bool {
        if !self.queries.on_answer(asked, view.as_ref().err()) {
            return false;
        }
        self.is_outdated = true;
        let Ok(view) = view else {
            self.on_no_view(now, actions);
            return true;
        };
        let expected = self.members.at(asked);
        let reporter = view.myself.or(expected.filter(|id| view.nodes.contains_key(id)));
        let is_another = |expected: &NodeId| view.myself.is_some_and(|myself| myself != *expected);
        if let Some(expected) = expected.filter(is_another) {
            // It was made anew, or the address has a new owner.
            self.members.on_replaced(&expected);
            actions.push(ClusterAction::Warn(format!(
                "another node than {expected} answers at {asked}: waiting for the cluster to say where it is"
            )));
        }
        match reporter.filter(|reporter| self.members.get(reporter).is_some()) {
            Some(reporter) => self.on_members_view(reporter, asked, asked_at, Arc::new(view), now),
            None => self.on_strangers_view(asked, asked_at, view, now, actions),
        }
        true
    }

    fn on_members_view(
        &mut self,
        reporter: NodeId,
        asked: &Address,
        asked_at: Instant,
        view: Arc<ClusterView>,
        now: Instant,
    ) {
        if !self.members.record(reporter, asked, asked_at, Arc::clone(&view)) {
            return;
        }
        if !self.members.have_no_majority(&self.queries) {
            self.start = Start::default();
        }
        self.resolve_hints(&reporter, asked_at, now);
        self.check_hearsay(&reporter, asked_at, &view, now);
    }

    fn on_tick(&mut self, now: Instant, actions: &mut Vec<ClusterAction>) -> bool {
        let limbo = |shard: &Shard| shard.empty_since.is_some_and(|since| since + LIMBO <= now);
        self.is_outdated |= self.shards.values().any(limbo);
        self.try_start(now, actions);
        true
    }
}

#[cfg(test)]
#[path = "monitor_tests.rs"]
mod tests;
