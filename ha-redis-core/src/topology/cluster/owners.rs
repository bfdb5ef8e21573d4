//! Which member owns which slot.
//!
//! The rules, in order. They look at what is claimed now, and at nothing else, so that no answer can do lasting harm:
//!
//! 1. **A node's own claim counts**, by the last that it said. A node that comes back without its slots has none.
//! 2. **The highest epoch wins**, as between servers: a master that comes back after it was replaced changes nothing.
//! 3. **Equal or unknown epochs**: the owner so far keeps the slot as long as it answers, as between servers. Without one,
//!    the smaller ID wins: when the servers notice that two masters have the same epoch, the one with the smaller ID
//!    takes a higher one.
//! 4. **Where no node claims a slot**, what others say counts, if they were asked after the node itself. So one view is
//!    enough to begin with. A node that does not own a slot refuses its commands.
//! 5. **Hints** come before all of these for a moment: a server has said itself that it does not own a slot any more, or
//!    that it is master now. They end with the next view of the node that they name.

use std::time::{Duration, Instant};

use crate::topology::cluster::members::Members;
use crate::topology::cluster::{NodeId, SlotMap};

/// How long a hint counts without an answer of the node that it names.
pub(super) const HINT_LIFETIME: Duration = Duration::from_secs(2);
/// The maximum number of hints at single slots at a time. There are as many others as nodes, at most.
pub(super) const MAX_HINTS: usize = 64;

/// The owner of each slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Owners {
    nodes: Vec<NodeId>,
    map: SlotMap,
}

/// Slots that have gone from one node to another, by what a server said.
#[derive(Clone, Debug)]
pub(super) struct Hint {
    pub(super) slots: HintedSlots,
    /// The node that does not own them any more; any, where nobody owned them.
    pub(super) from: Option<NodeId>,
    pub(super) to: NodeId,
    pub(super) at: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HintedSlots {
    One(u16),
    /// All slots of the node: its replica has taken its place.
    All,
}

impl Owners {
    pub(super) fn none() -> Self {
        Self { nodes: Vec::new(), map: SlotMap::new() }
    }

    pub(super) fn owner(&self, slot: u16) -> Option<NodeId> {
        self.map.owner(slot).map(|index| self.nodes[index])
    }

    /// Returns how many slots have an owner.
    pub(super) fn owned(&self) -> usize {
        self.map.owned()
    }

    /// Returns the owners, with the number of their slots.
    pub(super) fn sizes(&self) -> impl Iterator<Item = (NodeId, usize)> {
        let sizes = self.map.sizes(self.nodes.len());
        self.nodes.iter().copied().zip(sizes).filter(|(_, size)| *size > 0)
    }

    /// Returns a map whose owners are those that `index` returns for the nodes.
    pub(super) fn mapped(&self, index: impl Fn(&NodeId) -> Option<usize>) -> SlotMap {
        let mut mapped = SlotMap::new();
        let indices: Vec<_> = self.nodes.iter().map(index).collect();
        for (range, owner) in self.map.ranges() {
            range.slots().for_each(|slot| mapped.set(slot, indices[owner]));
        }
        mapped
    }

    /// Returns how many slots of `before` belonged to one node and belong to the other now.
    pub(super) fn taken_from(&self, before: &Self, from: &NodeId, by: &NodeId) -> usize {
        let index = |owners: &Self, id: &NodeId| owners.nodes.binary_search(id).ok();
        let (Some(from), Some(by)) = (index(before, from), index(self, by)) else { return 0 };
        let ranges = before.map.ranges().into_iter().filter(|(_, owner)| *owner == from);
        ranges.flat_map(|(range, _)| range.slots()).filter(|slot| self.map.owner(*slot) == Some(by)).count()
    }

    /// Finds the owners by the rules above. `is_reachable` is whether a node answers.
    pub(super) fn decide(
        members: &Members,
        hints: &[Hint],
        before: &Self,
        is_reachable: impl Fn(&NodeId) -> bool,
    ) -> Self {
        let nodes: Vec<NodeId> = members.iter().map(|(id, _)| *id).collect();
        let mut contest = Contest { owners: Self { nodes, map: SlotMap::new() }, epochs: Vec::new(), before };
        contest.epochs = vec![None; contest.owners.nodes.len()];
        contest.count_own_claims(members, is_reachable);
        contest.count_hearsay(members);
        contest.follow_hints(hints);
        contest.owners
    }
}

struct Contest<'a> {
    owners: Owners,
    /// The epoch of each node's own claim.
    epochs: Vec<Option<u64>>,
    before: &'a Owners,
}

impl Contest<'_> {
    fn count_own_claims(&mut self, members: &Members, is_reachable: impl Fn(&NodeId) -> bool) {
        for (index, (id, member)) in members.iter().enumerate() {
            let Some(own) = member.own.as_ref().filter(|_| !member.is_replaced) else { continue };
            self.epochs[index] = own.epoch;
            for slot in own.slots.iter().flat_map(|range| range.slots()) {
                let rival = self.owners.map.owner(slot);
                if rival.is_none_or(|rival| self.outranks(index, rival, id, slot, &is_reachable)) {
                    self.owners.map.set(slot, Some(index));
                }
            }
        }
    }

    /// Returns true if a claim comes before that of a rival, which has a smaller ID.
    fn outranks(
        &self,
        index: usize,
        rival: usize,
        id: &NodeId,
        slot: u16,
        is_reachable: impl Fn(&NodeId) -> bool,
    ) -> bool {
        match (self.epochs[index], self.epochs[rival]) {
            (Some(epoch), Some(other)) if epoch != other => return epoch > other,
            _ => {}
        }
        let rival = self.owners.nodes[rival];
        let before = self.before.owner(slot);
        let rank = |id: NodeId| (is_reachable(&id), before == Some(id));
        rank(*id) > rank(rival)
    }

    /// Fills in the slots that no node claims itself.
    fn count_hearsay(&mut self, members: &Members) {
        let mut heard: Vec<_> = members
            .iter()
            .enumerate()
            .filter(|(_, (_, member))| !member.is_replaced)
            .flat_map(|(index, (id, _))| {
                members.heard_since_own(id).map(move |(heard, node)| (index, heard, node))
            })
            .filter(|(_, _, node)| !node.slots.is_empty())
            .collect();
        heard.sort_by_key(|(_, heard, node)| (node.epoch, heard.asked_at));
        for (index, _, node) in heard.into_iter().rev() {
            for slot in node.slots.iter().flat_map(|range| range.slots()) {
                if self.owners.map.owner(slot).is_none() {
                    self.owners.map.set(slot, Some(index));
                }
            }
        }
    }

    fn follow_hints(&mut self, hints: &[Hint]) {
        for hint in hints {
            let index = |id: &NodeId| self.owners.nodes.binary_search(id).ok();
            let Some(to) = index(&hint.to) else { continue };
            let from = hint.from.as_ref().and_then(index);
            match hint.slots {
                HintedSlots::One(slot) if self.owners.map.owner(slot) == from => {
                    self.owners.map.set(slot, Some(to));
                }
                HintedSlots::One(_) => {}
                HintedSlots::All => {
                    let ranges =
                        self.owners.map.ranges().into_iter().filter(|(_, owner)| Some(*owner) == from);
                    ranges
                        .flat_map(|(range, _)| range.slots())
                        .for_each(|slot| self.owners.map.set(slot, Some(to)));
                }
            }
        }
    }
}
