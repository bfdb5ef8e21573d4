//! What a server says about its own slots and role in passing: redirects, and the roles of watched replicas.
//!
//! They are believed for a moment, so that a failover costs no time, and checked at once: see the hints in `owners.rs`.
//! That is safe, since a node refuses the commands for slots that it does not own.

use std::time::{Duration, Instant};

use crate::address::Address;
use crate::topology::cluster::monitor::ClusterMonitor;
use crate::topology::cluster::owners::{HINT_LIFETIME, Hint, HintedSlots, MAX_HINTS};
use crate::topology::cluster::shard::{Connection, Shard};
use crate::topology::cluster::{NodeId, SlotRange};

/// How often a node is asked because of redirects that move nothing.
const SPACING: Duration = Duration::from_millis(500);

impl ClusterMonitor {
    /// Handles a redirect of a caller. Many come at once, and most say what is known by then: returns false for these.
    pub(super) fn on_moved(&mut self, slot: u16, to: Option<&Address>, from: &Address, now: Instant) -> bool {
        if SlotRange::new(slot, slot).is_none() {
            return false;
        }
        let owner = self.owners.owner(slot);
        let shard = owner.and_then(|owner| self.shards.values().find(|shard| shard.master == owner));
        if let Some(shard) = shard {
            if Some(&shard.address) == to {
                return false;
            }
            if shard.address != *from {
                // Only the owner knows that it owns a slot no more.
                return self.want_again(to.unwrap_or(from), now);
            }
        }
        let Some((address, id)) = to.and_then(|to| Some((to, self.members.at(to)?))) else {
            return self.want_again(from, now);
        };
        let is_heir = shard.is_some_and(|shard| self.members.is_heir(&id, &shard.master));
        let is_master = self.shards.values().any(|shard| shard.master == id);
        let slots = match (is_heir, is_master) {
            (true, _) => HintedSlots::All,
            (false, true) => HintedSlots::One(slot),
            (false, false) => return self.want_again(address, now),
        };
        let is_news = is_heir
            && shard.is_some_and(|shard| shard.redirected.as_ref().is_none_or(|(known, _)| known != address));
        if is_heir && let Some(shard) = shard.map(|shard| shard.id).and_then(|id| self.shards.get_mut(&id)) {
            shard.redirected = Some((address.clone(), now));
        }
        // Its own claim may be older, and in no lower epoch.
        self.want_again(from, now);
        self.hint(Hint { slots, from: owner, to: id, at: now }, address, now) || is_news
    }

    /// Handles the reply of a watched replica that it is a master.
    pub(super) fn on_role_master(&mut self, node: &Address, now: Instant) -> bool {
        let watching = self.shards.values().find(|shard| shard.watched.contains(node));
        let (Some(id), Some(shard)) = (self.members.at(node), watching) else { return false };
        // A former master may not know yet that it was replaced. Its view says which epoch it is in.
        match self.members.is_heir(&id, &shard.master) {
            true => {
                let from = Some(shard.master);
                self.hint(Hint { slots: HintedSlots::All, from, to: id, at: now }, node, now)
            }
            false => self.want_again(node, now),
        }
    }

    /// Lets slots move at once, and has the node that it names asked. Returns false if too many move, or the node was
    /// named in vain before.
    fn hint(&mut self, hint: Hint, address: &Address, now: Instant) -> bool {
        let is_known = self.hints.iter().any(|known| known.slots == hint.slots && known.to == hint.to);
        if is_known || self.failed_hints.is_cooling_down(address, now) {
            return self.want_again(address, now);
        }
        self.queries.want(address, true, now);
        let is_failover = hint.slots == HintedSlots::All;
        if is_failover || (self.hints.len() < MAX_HINTS && self.hint_rate.try_acquire(now)) {
            self.hints.push(hint);
            self.is_outdated = true;
        }
        true
    }

    /// Has a node asked, unless it has just been.
    fn want_again(&mut self, address: &Address, now: Instant) -> bool {
        let asked_at = self.queries.asked_at(address);
        let is_due = asked_at.is_none_or(|asked_at| asked_at + SPACING <= now);
        if is_due && self.queries.is_idle(address) {
            self.queries.want(address, false, now);
        }
        false
    }

    /// Ends the hints at a node that has answered: its claim counts from now on.
    pub(super) fn resolve_hints(&mut self, node: &NodeId, asked_at: Instant, now: Instant) {
        let Some(member) = self.members.get(node) else { return };
        let owns = |slots: &HintedSlots| match (slots, &member.own) {
            (HintedSlots::All, Some(own)) => !own.slots.is_empty(),
            (HintedSlots::One(slot), Some(own)) => {
                own.slots.iter().any(|range| (range.first..=range.last).contains(slot))
            }
            (_, None) => false,
        };
        let is_resolved = |hint: &Hint| hint.to == *node && hint.at <= asked_at;
        let resolved: Vec<_> =
            self.hints.iter().filter(|hint| is_resolved(hint)).map(|hint| owns(&hint.slots)).collect();
        match resolved.iter().all(|owns| *owns) {
            true if resolved.is_empty() => {}
            true => self.failed_hints.clear(&member.address),
            false => self.failed_hints.start(member.address.clone(), now),
        }
        self.hints.retain(|hint| !is_resolved(hint));
    }

    /// Ends the hints that no answer has confirmed. Returns true if there were any. A new master to which there is a
    /// connection is not left: it has said again that it is one.
    pub(super) fn expire_hints(&mut self, now: Instant) -> bool {
        let is_up = |shard: &Shard| shard.connection == Connection::Up && !shard.is_demoted;
        let shards = &self.shards;
        let is_served = |id: NodeId| shards.values().any(|shard| shard.master == id && is_up(shard));
        let is_expired = |hint: &Hint| {
            hint.at + HINT_LIFETIME <= now && !(hint.slots == HintedSlots::All && is_served(hint.to))
        };
        for hint in self.hints.iter().filter(|hint| is_expired(hint)) {
            if let Some(member) = self.members.get(&hint.to) {
                self.failed_hints.start(member.address.clone(), now);
            }
        }
        let before = self.hints.len();
        self.hints.retain(|hint| !is_expired(hint));
        self.hints.len() < before
    }
}
