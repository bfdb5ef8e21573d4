//! The replicas that may be read from now: callers choose from them without a lock while they stay the same.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::conn::link::Link;
use crate::node::shard::Shard;
use crate::replica_choice::{ReplicaCandidate, ReplicaChoice, SelectionContext};
use crate::sync::{Seen, Snapshot};

/// The replicas that may be read from, and their connections in the same order.
#[derive(Debug, Default)]
pub(crate) struct Readable {
    candidates: Vec<ReplicaCandidate>,
    links: Vec<Arc<Link>>,
}

/// The current set, and how often a choice was made from it.
#[derive(Debug)]
pub(in crate::node::shard) struct ReadableSnapshot {
    current: Snapshot<Readable>,
    choices: AtomicU64,
    seed: u64,
}

impl ReadableSnapshot {
    pub(in crate::node::shard) fn new(seed: u64) -> Self {
        Self { current: Snapshot::new(Readable::default()), choices: AtomicU64::new(0), seed }
    }

    pub(in crate::node::shard) fn store(&self, readable: Readable) {
        self.current.store(readable);
    }

    pub(super) fn load(&self) -> Arc<Readable> {
        self.current.load()
    }

    pub(super) fn next_choice(&self) -> SelectionContext {
        SelectionContext::new(self.choices.fetch_add(1, Ordering::Relaxed).wrapping_add(1), self.seed)
    }
}

impl Shard {
    /// Returns the readable replicas, for a handle to look at from call to call.
    pub(crate) fn readable(&self) -> Seen<Readable> {
        Seen::of(&self.readable.current)
    }

    /// Returns the connection of the replica that `choice` selects, excluding `avoided`.
    pub(crate) fn choose_replica(
        &self,
        seen: &mut Seen<Readable>,
        choice: &dyn ReplicaChoice,
        avoided: Option<&Arc<Link>>,
    ) -> Option<Arc<Link>> {
        let readable = seen.refresh(&self.readable.current);
        match avoided {
            Some(avoided) => readable.without(avoided).choose(choice, self.readable.next_choice()),
            None => readable.choose(choice, self.readable.next_choice()),
        }
    }

    /// Returns true if the replica behind `link` may be read from now.
    pub(crate) fn is_readable(&self, link: &Arc<Link>) -> bool {
        self.readable.load().links.iter().any(|readable| Arc::ptr_eq(readable, link))
    }
}

impl Readable {
    pub(super) fn add(&mut self, candidate: ReplicaCandidate, link: &Arc<Link>) {
        self.candidates.push(candidate);
        self.links.push(Arc::clone(link));
    }

    pub(super) fn choose(&self, choice: &dyn ReplicaChoice, turn: SelectionContext) -> Option<Arc<Link>> {
        if self.candidates.is_empty() {
            return None;
        }
        choice
            .choose(&self.candidates, turn)
            .and_then(|index| self.links.get(index).filter(|link| link.is_open()).cloned())
    }

    fn without(&self, avoided: &Arc<Link>) -> Self {
        let both = self.candidates.iter().zip(&self.links).filter(|(_, link)| !Arc::ptr_eq(link, avoided));
        let (candidates, links) = both.map(|(candidate, link)| (candidate.clone(), Arc::clone(link))).unzip();
        Self { candidates, links }
    }
}
