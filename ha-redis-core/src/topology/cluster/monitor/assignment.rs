//! From owners to shards.
//!
//! A shard is a line of masters: a replica that takes the place of its master takes over the shard, with its ID. A master
//! without slots is a shard too, so that there is a connection when slots go there. IDs are not used again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use crate::topology::cluster::members::Claim;
use crate::topology::cluster::monitor::ClusterMonitor;
use crate::topology::cluster::owners::Owners;
use crate::topology::cluster::shard::{LIMBO, Shard};
use crate::topology::cluster::{ClusterAction, NodeId, NodeRole, SlotTable, TableShard};
use crate::topology::{MAX_REPLICAS, Replica, ShardId};

impl ClusterMonitor {
    /// Decides anew who belongs to the cluster and who owns which slot, and returns what changes.
    pub(super) fn decide(&mut self, now: Instant, actions: &mut Vec<ClusterAction>) {
        for id in self.members.apply_lists(&self.queries) {
            self.keep_contacts(now);
            if let Some(member) = self.members.get(&id) {
                self.queries.want(&member.address, true, now);
            }
        }
        self.keep_contacts(now);
        self.ask_about_strangers(now);
        let owners =
            Owners::decide(&self.members, &self.hints, &self.owners, |id| self.is_reachable(id, now));
        let before = std::mem::replace(&mut self.owners, owners);
        self.assign(&before, now, actions);
        let removed = self.gone(now);
        removed.iter().for_each(|shard| drop(self.shards.remove(shard)));
        self.publish(actions);
        actions.extend(removed.into_iter().map(|shard| ClusterAction::RemoveShard { shard }));
    }

    fn is_reachable(&self, id: &NodeId, now: Instant) -> bool {
        let is_failing = self.members.get(id).is_none_or(|member| member.is_failing(&self.queries));
        !is_failing && !self.shards.values().any(|shard| shard.master == *id && shard.is_lost(now))
    }

    /// Gives every owner a shard, and every master without slots.
    fn assign(&mut self, before: &Owners, now: Instant, actions: &mut Vec<ClusterAction>) {
        let sizes: BTreeMap<_, _> = self.owners.sizes().collect();
        let mut free: BTreeSet<NodeId> = sizes.keys().copied().collect();
        free.retain(|id| self.shards.values().all(|shard| shard.master != *id));
        for id in self.shards.keys().copied().collect::<Vec<_>>() {
            let heir = self.shards.get(&id).filter(|shard| !sizes.contains_key(&shard.master));
            let heir = heir.and_then(|shard| self.heir(shard, &free, before));
            free.retain(|id| Some(*id) != heir);
            let Some(shard) = self.shards.get_mut(&id) else { continue };
            let master = heir.unwrap_or(shard.master);
            if let Some(member) = self.members.get(&master)
                && (master, &member.address) != (shard.master, &shard.address)
            {
                shard.follow(master, member.address.clone(), now);
                actions.push(ClusterAction::Follow { shard: id, address: member.address.clone() });
            }
            if sizes.contains_key(&master) {
                shard.empty_since = None;
            } else if shard.empty_since.is_none() {
                shard.empty_since = Some(now);
                self.queries.want(&shard.address, false, now);
            }
        }
        let masters: BTreeSet<_> = self.shards.values().map(|shard| shard.master).collect();
        let empty = self.members.iter().map(|(id, _)| *id).filter(|id| !masters.contains(id));
        free.extend(empty.filter(|id| self.is_empty_master(id)));
        free.into_iter().for_each(|master| self.add_shard(master, now, actions));
    }

    fn add_shard(&mut self, master: NodeId, now: Instant, actions: &mut Vec<ClusterAction>) {
        let Some(member) = self.members.get(&master) else { return };
        let (id, address) = (ShardId(self.next_shard), member.address.clone());
        self.next_shard += 1;
        let mut shard = Shard::new(id, master, address.clone(), now);
        shard.empty_since = self.is_empty_master(&master).then_some(now);
        self.shards.insert(id, shard);
        actions.push(ClusterAction::Follow { shard: id, address });
    }

    /// Returns the owner that takes over a shard: one that replicated its master, or that has most of its slots.
    fn heir(&self, shard: &Shard, free: &BTreeSet<NodeId>, before: &Owners) -> Option<NodeId> {
        let size = before.sizes().find(|(id, _)| *id == shard.master).map_or(0, |(_, size)| size);
        let replicates =
            |one: &NodeId, other: &NodeId| self.members.role(one) == NodeRole::Replica(Some(*other));
        let rank = |id: &NodeId| {
            let replicated = self
                .members
                .get(id)
                .is_some_and(|member| member.replicated.is_some_and(|(master, _)| master == shard.master));
            let taken = self.owners.taken_from(before, &shard.master, id);
            let is_related = replicated || replicates(&shard.master, id);
            (is_related || 2 * taken > size).then_some((is_related, taken, *id))
        };
        free.iter().filter_map(rank).max().map(|(_, _, id)| id)
    }

    /// Returns true for a node that is a master and has no slots, by what it says itself and nobody denies.
    fn is_empty_master(&self, id: &NodeId) -> bool {
        let Some(member) = self.members.get(id) else { return false };
        let is_empty = |own: &Claim| own.slots.is_empty() && own.role == NodeRole::Master;
        member.own.as_ref().is_some_and(is_empty)
            && self.members.role(id) == NodeRole::Master
            && self.members.is_well(id)
            && !member.is_failing(&self.queries)
    }

    /// Returns the shards that no master is left for. If that were all, they stay: there is always a table with shards.
    fn gone(&self, now: Instant) -> Vec<ShardId> {
        let is_gone = |shard: &&Shard| match shard.empty_since {
            Some(_) if self.members.get(&shard.master).is_none_or(|member| member.is_replaced) => true,
            Some(since) => since + LIMBO <= now && !self.is_empty_master(&shard.master),
            None => false,
        };
        let gone: Vec<_> = self.shards.values().filter(is_gone).map(|shard| shard.id).collect();
        if gone.len() < self.shards.len() { gone } else { Vec::new() }
    }

    /// Returns the table, if it has changed.
    fn publish(&mut self, actions: &mut Vec<ClusterAction>) {
        if self.shards.is_empty() {
            return;
        }
        let mut replicas: BTreeMap<NodeId, Vec<Replica>> = BTreeMap::new();
        for (id, member) in self.members.iter() {
            if let NodeRole::Replica(Some(master)) = self.members.role(id)
                && !member.is_replaced
            {
                let healthy = self.members.is_well(id) && !member.is_failing(&self.queries);
                replicas.entry(master).or_default().push(Replica::new(member.address.clone(), healthy));
            }
        }
        let mut indices = BTreeMap::new();
        let mut shards = Vec::new();
        for shard in self.shards.values() {
            indices.insert(shard.master, shards.len());
            let mut replicas = replicas.remove(&shard.master).unwrap_or_default();
            replicas.retain(|replica| replica.address != shard.address);
            replicas.truncate(MAX_REPLICAS);
            shards.push(TableShard {
                id: shard.id,
                node: shard.master,
                master: shard.address.clone(),
                replicas,
            });
        }
        let slots = self.owners.mapped(|id| indices.get(id).copied());
        let table = SlotTable { shards, slots };
        if self.table.as_ref() != Some(&table) {
            self.table = Some(table.clone());
            actions.push(ClusterAction::Table(table));
        }
    }
}
