//! The nodes that belong to the cluster, and what they say about themselves and about each other.
//!
//! **Who is trusted.** Credentials go only to members, and only members own slots. A node becomes a member when as many
//! members list it at its address as are more than half of those that answer, or of five where more do. One node that
//! lies, or that has come to belong to another cluster, adds nobody. The views at the start come from addresses in the
//! configuration, and are believed.
//!
//! This does not protect from a member that lies about itself: in Redis itself, every node believes a member's claim to
//! any slots in any epoch, as this client does.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use crate::address::Address;
use crate::topology::cluster::queries::Queries;
use crate::topology::cluster::{ClusterView, MAX_NODES, NodeHealth, NodeId, NodeRole, SlotRange, ViewedNode};

/// How many members' views are kept, one of each.
const MAX_VIEWS: usize = 8;
/// More than half of as many members decide, at most.
const MAX_ELECTORATE: usize = 5;

#[derive(Debug, Default)]
pub(super) struct Members {
    nodes: BTreeMap<NodeId, Member>,
    /// The last views of different members, the latest at the end.
    views: Vec<HeardView>,
}

#[derive(Debug)]
pub(super) struct HeardView {
    pub(super) reporter: NodeId,
    pub(super) asked_at: Instant,
    pub(super) view: Arc<ClusterView>,
}

/// A node of the cluster.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) address: Address,
    /// What it last said about itself.
    pub(super) own: Option<Claim>,
    /// The master that it replicated last by what anybody said, and when the one that said so was asked.
    pub(super) replicated: Option<(NodeId, Instant)>,
    /// Whether another node answers at the address. This one owns nothing until it is found elsewhere.
    pub(super) is_replaced: bool,
    /// When it was last to be asked because of what another node says about it.
    pub(super) checked_at: Option<Instant>,
}

/// What a node says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Claim {
    pub(super) asked_at: Instant,
    pub(super) role: NodeRole,
    pub(super) epoch: Option<u64>,
    /// The slots that it serves as a master.
    pub(super) slots: Vec<SlotRange>,
}

/// How many members report that a node has failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct FailReports {
    pub(super) failed: usize,
    pub(super) suspected: usize,
}

/// How many members list a node at an address.
#[derive(Clone, Copy, Debug, Default)]
struct Listers {
    all: usize,
    /// Those that are not the node itself.
    others: usize,
}

impl Members {
    pub(super) fn iter(&self) -> impl Iterator<Item = (&NodeId, &Member)> {
        self.nodes.iter()
    }

    pub(super) fn get(&self, id: &NodeId) -> Option<&Member> {
        self.nodes.get(id)
    }

    pub(super) fn get_mut(&mut self, id: &NodeId) -> Option<&mut Member> {
        self.nodes.get_mut(id)
    }

    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Returns the member at an address.
    pub(super) fn at(&self, address: &Address) -> Option<NodeId> {
        let is_there = |member: &Member| member.address == *address && !member.is_replaced;
        self.nodes.iter().find(|(_, member)| is_there(member)).map(|(id, _)| *id)
    }

    pub(super) fn views(&self) -> &[HeardView] {
        &self.views
    }

    /// Begins with what one node says: its nodes are the members. What others of them said before is kept.
    pub(super) fn begin(&mut self, view: &ClusterView) {
        self.nodes.retain(|id, _| view.nodes.contains_key(id));
        for (id, node) in &view.nodes {
            let Some(address) = &node.address else { continue };
            let member = self.nodes.entry(*id).or_insert_with(|| Member::new(address.clone()));
            member.move_to(address);
        }
        let nodes = &self.nodes;
        self.views.retain(|heard| nodes.contains_key(&heard.reporter));
    }

    /// Records the view of a member. Returns false if a later one is known.
    pub(super) fn record(
        &mut self,
        reporter: NodeId,
        asked: &Address,
        asked_at: Instant,
        view: Arc<ClusterView>,
    ) -> bool {
        let (Some(member), Some(own)) = (self.nodes.get_mut(&reporter), view.nodes.get(&reporter)) else {
            return false;
        };
        if member.own.as_ref().is_some_and(|known| asked_at < known.asked_at) {
            return false;
        }
        member.is_replaced &= member.address != *asked;
        member.own = Some(Claim { asked_at, role: own.role, epoch: own.epoch, slots: own.slots.clone() });
        for (id, node) in &view.nodes {
            if let (NodeRole::Replica(Some(master)), Some(member)) = (node.role, self.nodes.get_mut(id))
                && member.replicated.is_none_or(|(_, since)| since <= asked_at)
            {
                member.replicated = Some((master, asked_at));
            }
        }
        self.views.retain(|heard| heard.reporter != reporter);
        if self.views.len() >= MAX_VIEWS {
            self.views.remove(0);
        }
        self.views.push(HeardView { reporter, asked_at, view });
        true
    }

    /// Records that another node answers at the address of this one, so that nothing it said counts any more.
    pub(super) fn on_replaced(&mut self, id: &NodeId) {
        if let Some(member) = self.nodes.get_mut(id) {
            (member.own, member.is_replaced) = (None, true);
        }
        self.views.retain(|heard| heard.reporter != *id);
    }

    /// Returns how many members must agree on who else is one.
    pub(super) fn required(&self, queries: &Queries) -> usize {
        let answers = |member: &&Member| member.own.is_some() && !member.is_failing(queries);
        self.nodes.values().filter(answers).count().min(MAX_ELECTORATE) / 2 + 1
    }

    /// Returns true if no member can be asked any more.
    pub(super) fn none_answers(&self, queries: &Queries) -> bool {
        self.nodes.values().all(|member| member.is_failing(queries))
    }

    /// Returns true if most of the members cannot be asked any more: what is left may not be the cluster.
    pub(super) fn have_no_majority(&self, queries: &Queries) -> bool {
        let failing = self.nodes.values().filter(|member| member.is_failing(queries));
        2 * failing.count() > self.nodes.len() || self.nodes.is_empty()
    }

    /// Applies what enough members list: new members, other addresses, members that are gone. Returns the new ones.
    ///
    /// A member keeps its address as long as it answers there and another one lists it there: nodes may differ in whether
    /// they list names or IP addresses.
    pub(super) fn apply_lists(&mut self, queries: &Queries) -> Vec<NodeId> {
        let required = self.required(queries);
        let mut listed: BTreeMap<(NodeId, &Address), Listers> = BTreeMap::new();
        for heard in &self.views {
            for (id, node) in &heard.view.nodes {
                if let Some(address) = &node.address {
                    let listers = listed.entry((*id, address)).or_default();
                    listers.all += 1;
                    listers.others += usize::from(heard.reporter != *id);
                }
            }
        }
        let mut new = Vec::new();
        for ((id, address), _) in listed.iter().filter(|(_, listers)| listers.all >= required) {
            let is_full = self.nodes.len() >= MAX_NODES;
            match self.nodes.get_mut(id) {
                Some(member) if member.address != **address => {
                    let others_here = listed.get(&(*id, &member.address)).map_or(0, |listers| listers.others);
                    if others_here == 0 || member.is_failing(queries) {
                        member.move_to(address);
                    }
                }
                None if !is_full => {
                    self.nodes.insert(*id, Member::new((*address).clone()));
                    new.push(*id);
                }
                _ => {}
            }
        }
        self.remove_unlisted(queries);
        new
    }

    /// Removes members that no other lists, and that do not serve slots themselves. It takes the word of more than half of
    /// all: a node that was reset lists nobody, and may be the only one that answers for a while.
    fn remove_unlisted(&mut self, queries: &Queries) {
        let required = self.nodes.len().saturating_sub(1).min(MAX_ELECTORATE) / 2 + 1;
        let views = &self.views;
        let is_unlisted = |id: &NodeId| {
            let others = || views.iter().filter(|heard| heard.reporter != *id);
            others().count() >= required && others().all(|heard| !heard.view.nodes.contains_key(id))
        };
        let serves = |member: &Member| {
            member.own.as_ref().is_some_and(|own| !own.slots.is_empty()) && !member.is_failing(queries)
        };
        self.nodes.retain(|id, member| serves(member) || !is_unlisted(id));
        let nodes = &self.nodes;
        self.views.retain(|heard| nodes.contains_key(&heard.reporter));
    }

    /// Returns the number of nodes that are listed and are no members.
    pub(super) fn strangers(&self) -> usize {
        let listed = self.views.iter().flat_map(|heard| &heard.view.nodes);
        let strangers = listed.filter(|(id, node)| node.address.is_some() && !self.nodes.contains_key(id));
        strangers.map(|(id, _)| id).collect::<BTreeSet<_>>().len()
    }

    /// Returns the role of a node by the newest that anybody said, the node itself included.
    pub(super) fn role(&self, id: &NodeId) -> NodeRole {
        let own = self.nodes.get(id).and_then(|member| member.own.as_ref());
        let own = own.map(|own| (own.asked_at, own.role));
        let heard = self.views.iter().filter(|heard| heard.reporter != *id);
        let heard = heard.filter_map(|heard| Some((heard.asked_at, heard.view.nodes.get(id)?.role)));
        heard.chain(own).max_by_key(|(asked_at, _)| *asked_at).map(|(_, role)| role).unwrap_or_default()
    }

    /// Returns true if a node was a replica of `master` after it last said that it is a master: by all that is known, it
    /// is one still, or has just been promoted.
    pub(super) fn is_heir(&self, id: &NodeId, master: &NodeId) -> bool {
        let Some(Member { replicated: Some((replicated, since)), own, .. }) = self.nodes.get(id) else {
            return false;
        };
        let is_older = |own: &Claim| own.role != NodeRole::Master || own.asked_at < *since;
        replicated == master && own.as_ref().is_none_or(is_older)
    }

    /// Returns what others say about a node, as a master of slots, since it was last asked itself.
    pub(super) fn heard_since_own(&self, id: &NodeId) -> impl Iterator<Item = (&HeardView, &ViewedNode)> {
        let own = self.nodes.get(id).and_then(|member| member.own.as_ref()).map(|own| own.asked_at);
        let heard = self
            .views
            .iter()
            .filter(move |heard| heard.reporter != *id && own.is_none_or(|own| own < heard.asked_at));
        let id = *id;
        heard.filter_map(move |heard| Some((heard, heard.view.nodes.get(&id)?)))
    }

    /// Counts the members that report a node as failed, in answers to queries sent after `since`.
    pub(super) fn fail_reports(&self, id: &NodeId, since: Instant) -> FailReports {
        let mut reports = FailReports::default();
        for heard in self.views.iter().filter(|heard| heard.reporter != *id && since < heard.asked_at) {
            match heard.view.nodes.get(id).map(|node| node.health) {
                Some(NodeHealth::Failed) => reports.failed += 1,
                Some(NodeHealth::Suspected) => reports.suspected += 1,
                Some(NodeHealth::Well) | None => {}
            }
        }
        reports
    }

    /// Returns true unless the newest view says that the node has failed or is not connected.
    pub(super) fn is_well(&self, id: &NodeId) -> bool {
        let newest = self.views.iter().rev().find_map(|heard| heard.view.nodes.get(id));
        newest.is_none_or(|node| node.health == NodeHealth::Well && node.link_up)
    }
}

impl Member {
    fn new(address: Address) -> Self {
        Self { address, own: None, replicated: None, is_replaced: false, checked_at: None }
    }

    fn move_to(&mut self, address: &Address) {
        self.is_replaced &= self.address == *address;
        self.address = address.clone();
    }

    /// Returns true if the node cannot be asked now.
    pub(super) fn is_failing(&self, queries: &Queries) -> bool {
        self.is_replaced || queries.is_failing(&self.address)
    }
}
