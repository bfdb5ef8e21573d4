//! The replicas that may be read from: which there are, what is known about each, and which of them callers may use.
//!
//! A replica may be read from while it reports that its link to its master is up, has the history of the current
//! master, and lags no more than is allowed. So a switch ends all reads until the replicas follow the new master.

mod known_replica;
mod readable;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::address::Address;
use crate::config::RedisConfig;
use crate::conn::link::Link;
use crate::error::{Error, Kind};
use crate::generation::Generation;
use crate::node::shard::{Shard, State};
use crate::proto::{Position, Replication};
use crate::replica_choice::{ReplicaCandidate, ReplicaChoice, ReplicaPattern};
use crate::sync::{MutexGuard, lock, wait_for};
use crate::topology::{MAX_REPLICAS, Replica, Topology};

pub(crate) use readable::Readable;
pub(super) use readable::ReadableSnapshot;

use known_replica::{Eligibility, KnownReplica, ListedStatus};

/// The replicas of the current master.
#[derive(Debug, Default)]
pub(super) struct Replicas {
    preferred: Vec<ReplicaPattern>,
    max_lag: Option<u64>,
    /// Whether the source has listed them.
    listed: bool,
    /// Whether a warning about too many replicas was logged.
    has_warned: bool,
    members: BTreeMap<Address, KnownReplica>,
    /// The replication position of the master in its last answer.
    master: Option<Position>,
    /// Why it has not answered since.
    master_failure: Option<String>,
    /// Grows when all replicas are to be asked again at once.
    round: u64,
}

impl Shard {
    // For callers.

    /// Waits for a replica that `choice` selects.
    pub(crate) async fn replica(&self, choice: &dyn ReplicaChoice) -> Result<Arc<Link>, Error> {
        loop {
            let listener = self.usable.listen();
            self.check_open()?;
            if let Some(link) = self.readable.load().choose(choice, self.readable.next_choice()) {
                return Ok(link);
            }
            // The replicas are listed by a master, or by way of a source, that cannot be reached.
            if let Some(failure) = self.permanent_failure() {
                return Err(failure);
            }
            listener.await;
        }
    }

    /// Waits until the health of every replica is known.
    pub(crate) async fn replicas_judged(&self) {
        wait_for(&self.state, &self.usable, |state| state.replicas.are_judged().then_some(())).await;
    }

    /// Returns why no replica can be read from, with the reason for each.
    pub(crate) fn replica_account(&self) -> String {
        lock(&self.state).replicas.account()
    }

    /// Returns the replicas that the source lists.
    pub(crate) fn listed_replicas(&self) -> Vec<Replica> {
        let state = lock(&self.state);
        let members = state.replicas.members.iter();
        let listed = members.filter_map(|(address, member)| match member.listed_status {
            ListedStatus::Well => Some(Replica::new(address.clone(), true)),
            ListedStatus::Down => Some(Replica::new(address.clone(), false)),
            ListedStatus::Unlisted | ListedStatus::Gone => None,
        });
        listed.collect()
    }

    /// Sets which replicas are preferred and how far they may lag from now on.
    pub(crate) fn set_replica_rules(&self, config: &RedisConfig) {
        let mut state = lock(&self.state);
        let Replicas { preferred, max_lag, .. } = Replicas::new(config);
        (state.replicas.preferred, state.replicas.max_lag) = (preferred, max_lag);
        self.renew(state);
    }

    /// Adds the measurements to a topology.
    pub(crate) fn measured(&self, mut topology: Topology) -> Topology {
        let state = lock(&self.state);
        for replica in &mut topology.replicas {
            if let Some(member) = state.replicas.members.get(&replica.address) {
                (replica.latency, replica.lag_bytes) = (member.latency, member.lag_bytes());
            }
        }
        topology
    }

    // For the tasks that know the topology.

    /// Records the master's replicas, and which of them are up.
    pub(crate) fn list_replicas(&self, listed: Vec<Replica>) {
        let mut state = lock(&self.state);
        let master = state.master.as_ref().map(|master| master.address.clone());
        let others = listed.into_iter().filter(|replica| Some(&replica.address) != master.as_ref());
        state.replicas.list(others);
        self.renew(state);
    }

    /// Records the replication position of the master of a generation.
    pub(crate) fn set_master_position(&self, generation: Generation, position: Position) {
        let mut state = lock(&self.state);
        if state.master.as_ref().is_some_and(|master| master.generation == generation) {
            let replicas = &mut state.replicas;
            if replicas.master.as_ref().is_none_or(|before| before.history != position.history) {
                replicas.round += 1;
            }
            replicas.master = Some(position);
            replicas.master_failure = None;
            self.renew(state);
        }
    }

    /// Records why the position of the master of a generation is not known; the generation is `None` when there was
    /// no connection. The last position stays valid: a replica cannot fall behind a master that is gone.
    pub(crate) fn set_master_failure(&self, generation: Option<Generation>, why: &str) {
        let mut state = lock(&self.state);
        let followed = state.master.as_ref().map(|master| master.generation);
        if generation.is_some() && generation != followed {
            return;
        }
        state.replicas.master_failure = Some(format!("the position of the master is unknown: {why}"));
        self.renew(state);
    }

    // For the tasks that keep connections to replicas.

    /// Waits for replicas without a task, and marks them as having one.
    pub(crate) async fn replicas_without_task(&self) -> Vec<Address> {
        wait_for(&self.state, &self.changed, |state| {
            let without_task = state.replicas.members.iter_mut().filter(|(_, member)| !member.has_task);
            let without_task = without_task.map(|(address, member)| {
                member.has_task = true;
                address.clone()
            });
            Some(without_task.collect::<Vec<_>>()).filter(|without_task| !without_task.is_empty())
        })
        .await
    }

    /// Waits until a connection to the replica is wanted. Returns false if it is no longer a replica.
    pub(crate) async fn wait_until_replica_wanted(&self, address: &Address) -> bool {
        wait_for(&self.state, &self.changed, |state| {
            let wanted = state.replicas.wants(address);
            let member = state.replicas.members.get(address)?;
            if member.listed_status == ListedStatus::Down {
                return None;
            }
            if !wanted {
                state.replicas.members.remove(address);
            }
            Some(wanted)
        })
        .await
    }

    /// Waits until no connection to the replica is wanted.
    pub(crate) async fn wait_until_replica_unwanted(&self, address: &Address) {
        wait_for(&self.state, &self.changed, |state| (!state.replicas.wants(address)).then_some(())).await;
    }

    /// Adds a connection to a replica. Returns false if none is wanted.
    pub(crate) fn admit_replica(&self, link: &Arc<Link>) -> bool {
        let mut state = lock(&self.state);
        if state.closed.is_some() || !state.replicas.wants(&link.address) {
            return false;
        }
        self.lifecycle.on_opened();
        if let Some(member) = state.replicas.members.get_mut(&link.address) {
            member.link = Some(Arc::clone(link));
        }
        true
    }

    /// Records an answer of a replica, after `latency`. Returns true if it may be read from.
    pub(crate) fn replica_answered(
        &self,
        address: &Address,
        answer: &Replication,
        latency: Duration,
    ) -> bool {
        let mut state = lock(&self.state);
        let Replicas { members, master, max_lag, .. } = &mut state.replicas;
        let Some(member) = members.get_mut(address) else { return false };
        member.answered(answer, latency, master.as_ref());
        let fit = matches!(member.eligibility(master.as_ref(), *max_lag), Eligibility::Eligible { .. });
        self.renew(state);
        fit
    }

    /// Records why a replica cannot be read from.
    pub(crate) fn replica_failed(&self, address: &Address, why: impl Into<String>) {
        let mut state = lock(&self.state);
        if let Some(member) = state.replicas.members.get_mut(address) {
            member.failed(why.into());
            self.renew(state);
        }
    }

    /// Removes a connection that has ended.
    pub(crate) fn replica_ended(&self, link: &Arc<Link>, why: &Error) {
        let mut state = lock(&self.state);
        if let Some(member) = state.replicas.members.get_mut(&link.address)
            && member.has(link)
        {
            member.link = None;
            member.failed(why.to_string());
        }
        self.renew(state);
        self.lifecycle.on_ended(link);
    }

    /// Returns the current round of queries.
    pub(crate) fn replica_round(&self) -> u64 {
        lock(&self.state).replicas.round
    }

    /// Waits until another round than `round` begins.
    pub(crate) async fn replica_round_after(&self, round: u64) {
        wait_for(&self.state, &self.changed, |state| (state.replicas.round > round).then_some(())).await;
    }

    /// Waits until the connection to a replica has ended.
    pub(crate) async fn wait_until_replica_gone(&self, link: &Arc<Link>) {
        wait_for(&self.state, &self.changed, |state| {
            let member = state.replicas.members.get(&link.address);
            (!member.is_some_and(|member| member.has(link))).then_some(())
        })
        .await;
    }

    /// Updates the readable replicas and notifies waiting callers. Ends connections that are not wanted.
    fn renew(&self, state: MutexGuard<'_, State>) {
        self.readable.store(state.replicas.readable());
        let unwanted = state.replicas.unwanted();
        drop(state);
        for (link, listed_status, objection) in unwanted {
            let why = Error::new(Kind::Lost, format!("{}: {objection}", link.address));
            match listed_status {
                // Its outstanding replies may never come, and other servers can answer.
                ListedStatus::Down => link.shut(why),
                _ => link.drain(why),
            }
        }
        self.usable.notify(usize::MAX);
        self.changed.notify(usize::MAX);
    }
}

impl Replicas {
    pub(super) fn new(config: &RedisConfig) -> Self {
        let preferred = config.preferred_replicas().iter().filter_map(|text| text.parse().ok());
        Self { preferred: preferred.collect(), max_lag: config.replica_max_lag(), ..Self::default() }
    }

    pub(super) fn links(&self) -> impl Iterator<Item = &Arc<Link>> {
        self.members.values().filter_map(|member| member.link.as_ref())
    }

    /// Resets what the replicas reported about the previous master.
    pub(super) fn on_switch(&mut self, master: &Address) -> Option<Arc<Link>> {
        (self.master, self.master_failure) = (None, None);
        self.round += 1;
        self.members.get_mut(master).and_then(|member| {
            member.listed_status = ListedStatus::Gone;
            member.link.clone()
        })
    }

    /// Asks all replicas again: the connection to the master was lost, and they may have lost it too.
    pub(super) fn poll_again(&mut self) {
        self.round += 1;
    }

    fn wants(&self, address: &Address) -> bool {
        self.members.get(address).is_some_and(|member| member.unwanted_reason().is_none())
    }

    /// Returns the connections that are not wanted any more, and why.
    fn unwanted(&self) -> Vec<(Arc<Link>, ListedStatus, &'static str)> {
        let unwanted = self.members.values().filter_map(|member| {
            let objection = member.unwanted_reason()?;
            Some((Arc::clone(member.link.as_ref()?), member.listed_status, objection))
        });
        unwanted.collect()
    }

    fn list(&mut self, listed: impl Iterator<Item = Replica>) {
        let mut listed: BTreeMap<_, _> = listed.map(|replica| (replica.address, replica.healthy)).collect();
        if listed.len() > MAX_REPLICAS && !std::mem::replace(&mut self.has_warned, true) {
            tracing::warn!(
                replicas = listed.len(),
                "too many replicas are listed: only {MAX_REPLICAS} are used"
            );
        }
        while listed.len() > MAX_REPLICAS {
            listed.pop_last();
        }
        self.listed = true;
        for address in listed.keys() {
            self.members.entry(address.clone()).or_default();
        }
        // Members without a task can be removed here; the others are removed by their tasks.
        self.members.retain(|address, member| member.has_task || listed.contains_key(address));
        for (address, member) in &mut self.members {
            member.set_listed_status(match listed.get(address) {
                Some(true) => ListedStatus::Well,
                Some(false) => ListedStatus::Down,
                None if member.listed_status == ListedStatus::Gone => ListedStatus::Gone,
                None => ListedStatus::Unlisted,
            });
        }
    }

    /// Returns the replicas that may be read from now.
    pub(super) fn readable(&self) -> Readable {
        let mut readable = Readable::default();
        for (address, member) in &self.members {
            let Eligibility::Eligible { lag_bytes, latency, link } =
                member.eligibility(self.master.as_ref(), self.max_lag)
            else {
                continue;
            };
            let preferred = self.preferred.iter().any(|pattern| pattern.matches(address));
            let candidate = ReplicaCandidate { address: address.clone(), latency, lag_bytes, preferred };
            readable.add(candidate, link);
        }
        readable
    }

    fn are_judged(&self) -> bool {
        let unknown = |member: &KnownReplica| {
            matches!(member.eligibility(self.master.as_ref(), self.max_lag), Eligibility::Unknown)
        };
        let are_known = self.listed && !self.members.values().any(unknown);
        // Waiting does not help if the master does not answer.
        are_known || (self.master.is_none() && self.master_failure.is_some())
    }

    fn account(&self) -> String {
        let reasons = self.members.iter().filter(|(_, member)| member.listed_status != ListedStatus::Gone);
        let reasons =
            reasons.map(|(address, member)| match member.eligibility(self.master.as_ref(), self.max_lag) {
                Eligibility::Eligible { .. } => format!("{address}: healthy, but not chosen"),
                Eligibility::Unknown => format!("{address}: health not known yet"),
                Eligibility::Ineligible(why) => format!("{address}: {why}"),
            });
        let reasons = self.master_failure.iter().cloned().chain(reasons).collect::<Vec<_>>().join("; ");
        match reasons.is_empty() {
            true if self.listed => "no replica is known".to_owned(),
            true => "the replicas are not known yet".to_owned(),
            false => reasons,
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_lite::future::block_on;

    use super::*;
    use crate::events::EventSender;
    use crate::node::shard::ShardContext;
    use crate::topology::{MonitorMailbox, ShardId, SourceKind};

    #[test]
    fn replicas_beyond_the_limit_are_ignored() {
        let config = RedisConfig::builder().build().unwrap();
        let context = ShardContext {
            lifecycle: Arc::default(),
            source: SourceKind::Direct,
            events: Arc::new(EventSender::new()),
            monitor: Arc::new(MonitorMailbox::new()),
        };
        let shard = Shard::new(ShardId(0), &config, context, 0);
        let listed = (1..=3000).rev().map(|port| Replica::new(Address::tcp("10.0.0.2", port), true));
        shard.list_replicas(listed.collect());
        let without_task = block_on(shard.replicas_without_task());
        assert_eq!(without_task.len(), MAX_REPLICAS);
        assert!(without_task.contains(&Address::tcp("10.0.0.2", 1)), "the same replicas each time");
    }
}
