//! The start, and a new start when most members do not answer any more: the seeds say who belongs to the cluster.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::address::Address;
use crate::topology::cluster::monitor::ClusterMonitor;
use crate::topology::cluster::{ClusterAction, ClusterView, FailureKind, ViewError};

/// How long the other seeds are waited for after the first has answered.
const GRACE: Duration = Duration::from_millis(200);

/// What the seeds say, by their position in the configuration.
#[derive(Debug, Default)]
pub(super) struct Start {
    views: BTreeMap<usize, SeedView>,
    first_at: Option<Instant>,
}

#[derive(Debug)]
struct SeedView {
    asked: Address,
    asked_at: Instant,
    view: Arc<ClusterView>,
}

impl Start {
    /// Returns until when other seeds are waited for.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.first_at.map(|first_at| first_at + GRACE)
    }

    /// Returns the view that most of the seeds belong to, and how many do. A seed may be the address of a node that has
    /// come to belong to another cluster. Of two views for the same number, the one with slots comes first.
    fn choice(&self) -> Option<(usize, usize)> {
        let belongs = |seed: &SeedView, view: &ClusterView| {
            seed.view.myself.is_some_and(|id| view.nodes.contains_key(&id))
        };
        let rank = |(index, chosen): (&usize, &SeedView)| {
            let seeds =
                self.views.iter().filter(|(other, seed)| *other == index || belongs(seed, &chosen.view));
            (seeds.count(), chosen.view.serves_slots(), std::cmp::Reverse(*index))
        };
        let (seeds, _, index) = self.views.iter().map(rank).max()?;
        Some((index.0, seeds))
    }
}

impl ClusterMonitor {
    /// A node that is no member answers. What it says counts if it is a seed, and most members do not answer: the cluster
    /// may have been made anew, and those that are left may not belong to it.
    pub(super) fn on_strangers_view(
        &mut self,
        asked: &Address,
        asked_at: Instant,
        view: ClusterView,
        now: Instant,
        actions: &mut Vec<ClusterAction>,
    ) {
        let seed = self.config.seeds.iter().position(|seed| seed == asked);
        if let Some(seed) = seed.filter(|_| self.members.have_no_majority(&self.queries)) {
            self.start.first_at.get_or_insert(now);
            self.start.views.insert(seed, SeedView { asked: asked.clone(), asked_at, view: Arc::new(view) });
            self.try_start(now, actions);
        }
    }

    /// A node gave no view. If no other does, the calls that wait are told why.
    pub(super) fn on_no_view(&mut self, now: Instant, actions: &mut Vec<ClusterAction>) {
        self.try_start(now, actions);
        let failures = || self.config.seeds.iter().map(|seed| self.queries.failure(seed));
        if self.members.none_answers(&self.queries) && failures().all(|failure| failure.is_some()) {
            let kind = match failures().any(|failure| failure == Some(&ViewError::ClusterDisabled)) {
                true => FailureKind::NotACluster,
                false => FailureKind::Unreachable,
            };
            let reason =
                format!("no node of the cluster could be asked for its slots: {}", self.queries.explain());
            actions.push(ClusterAction::Fail { kind, reason });
        }
    }

    /// Begins with a view to which most of the seeds belong; or if no member answers, with the best one when no more are
    /// coming.
    pub(super) fn try_start(&mut self, now: Instant, actions: &mut Vec<ClusterAction>) {
        let Some((chosen, belonging)) = self.start.choice() else { return };
        let seeds = self.config.seeds.iter().enumerate();
        let mut missing = seeds
            .filter(|(index, seed)| !self.start.views.contains_key(index) && !self.queries.is_failing(seed));
        let is_majority = 2 * belonging > self.config.seeds.len();
        let is_over = self.start.deadline().is_some_and(|deadline| deadline <= now);
        let is_enough = is_majority
            || (self.members.none_answers(&self.queries) && (is_over || missing.next().is_none()));
        if !is_enough {
            return;
        }
        let mut start = std::mem::take(&mut self.start);
        let Some(first) = start.views.remove(&chosen) else { return };
        if belonging <= start.views.len() {
            let address = &self.config.seeds[chosen];
            actions.push(ClusterAction::Warn(format!(
                "the seeds belong to different clusters: using that of {address}, to which {belonging} of {} belong",
                start.views.len() + 1
            )));
        }
        self.begin(first, start.views.into_values(), now);
    }

    fn begin(&mut self, first: SeedView, others: impl Iterator<Item = SeedView>, now: Instant) {
        self.members.begin(&first.view);
        self.hints.clear();
        for seed in std::iter::once(first).chain(others) {
            if let Some(reporter) = seed.view.myself
                && self.members.record(reporter, &seed.asked, seed.asked_at, Arc::clone(&seed.view))
            {
                self.keep_contacts(now);
                self.check_hearsay(&reporter, seed.asked_at, &seed.view, now);
            }
        }
        // Without CLUSTER NODES, a view may not say whose it is. The nodes that it lists do.
        self.keep_contacts(now);
        let silent = self.members.iter().filter(|_| self.members.views().is_empty());
        silent.for_each(|(_, member)| self.queries.want(&member.address, true, now));
        self.is_outdated = true;
    }

    /// Keeps contact to the seeds and the members.
    pub(super) fn keep_contacts(&mut self, now: Instant) {
        let members = self.members.iter().map(|(_, member)| &member.address);
        self.queries.keep(self.config.seeds.iter().chain(members), now);
    }
}
