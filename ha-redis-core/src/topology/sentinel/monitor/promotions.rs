//! A replica is selected, watched, promoted, or given up.

use std::collections::BTreeSet;
use std::time::Instant;

use super::{CONFIRMATION, HOLD_SHARE, SentinelMonitor};
use crate::address::Address;
use crate::topology::sentinel::Action;
use crate::topology::sentinel::master::{EarlySwitch, Master};
use crate::topology::sentinel::promotion::{CHECK, Promotion, Selection, WATCH};

impl SentinelMonitor {
    /// Sends nothing more to the old master, for a bounded time, and watches the replica. A server that a majority does
    /// not list hears nothing from us, least of all a password.
    pub(super) fn on_selected(&mut self, selection: Selection, now: Instant, actions: &mut Vec<Action>) {
        let replica = &selection.replica;
        if self.master.as_ref().is_some_and(|master| master.address == *replica) {
            return;
        }
        if !self.votes.is_known_server(replica) {
            if self.votes.knows(&selection.leader) {
                self.unverified.insert(selection.leader.clone(), selection);
            }
            self.ask_soon(now, actions);
            return;
        }
        let is_watched = self.promotion.as_ref().is_some_and(|promotion| promotion.candidate == *replica);
        let is_free = is_watched || self.votes.may_select(&selection.leader, now);
        if !is_free || self.unconfirmed_switches.is_resting(replica, now) {
            self.ask_soon(now, actions);
            return;
        }
        // A hold that goes on is not made longer, and one that came to nothing is not soon followed by another.
        let held_until = self.promotion.as_ref().and_then(|promotion| promotion.held_until).or_else(|| {
            let hold = self.config.promotion_hold;
            let may_hold = !hold.is_zero() && self.next_hold <= now;
            may_hold.then(|| {
                actions.push(Action::Hold);
                self.next_hold = now + hold * HOLD_SHARE;
                now + hold
            })
        });
        self.watch(selection, held_until, false, now, actions);
    }

    /// A majority may list by now what was selected.
    pub(super) fn retry_unverified(&mut self, now: Instant, actions: &mut Vec<Action>) {
        self.unverified.retain(|_, selection| selection.is_fresh(now));
        let is_proven = |selection: &Selection| self.votes.is_known_server(&selection.replica);
        let proven: Vec<_> =
            self.unverified.values().filter(|selection| is_proven(selection)).cloned().collect();
        for selection in proven {
            self.unverified.remove(&selection.leader);
            if self.is_ours(&selection.replica, &selection.replaced) {
                self.on_selected(selection, now, actions);
            }
        }
    }

    pub(super) fn watch(
        &mut self,
        selection: Selection,
        held_until: Option<Instant>,
        is_check: bool,
        now: Instant,
        actions: &mut Vec<Action>,
    ) {
        let Selection { leader, replica: candidate, replaced, .. } = selection;
        let before = self.promotion.take();
        let (mut leaders, given_up) = match before {
            Some(before) if before.candidate == candidate => {
                (before.leaders, Some(before.given_up).filter(|_| before.is_check == is_check))
            }
            other => {
                actions.extend(other.map(|_| Action::Unwatch));
                let before = self.former.contains(&candidate);
                actions.push(Action::Watch { replica: candidate.clone(), before });
                (BTreeSet::new(), None)
            }
        };
        // Who says the same again does not make it longer.
        let is_told_again = !leaders.insert(leader);
        // It is watched for as long as commands are held back for it.
        let watch = if is_check { CHECK } else { WATCH.max(self.config.promotion_hold) };
        let given_up = given_up.filter(|_| is_told_again).unwrap_or(now + watch);
        self.promotion = Some(Promotion { leaders, candidate, replaced, held_until, given_up, is_check });
    }

    pub(super) fn on_promoted(&mut self, replica: Address, now: Instant, actions: &mut Vec<Action>) {
        let Some(promotion) = self.promotion.take_if(|promotion| promotion.candidate == replica) else {
            return;
        };
        if !self.switches.take(now) {
            actions.push(Action::Unwatch);
            actions.extend(promotion.held_until.map(|_| Action::Release));
            self.ask_soon(now, actions);
            return;
        }
        self.checked.end(&replica);
        let Promotion { leaders, replaced, .. } = promotion;
        let early_switch = Some(EarlySwitch { leaders, replaced, until: now + CONFIRMATION });
        // What the majority says now is of the epoch before the promotion.
        let said = self.votes.choice().map_or(0, |choice| choice.epoch);
        let epoch = self.master.as_ref().map_or(said, |master| master.epoch.max(said));
        self.follow(Master { address: replica, epoch, early_switch, demoted_at: None }, now, actions);
        actions.push(Action::Unwatch);
        self.ask(now, actions);
    }

    /// The leader gave the failover up; what another Sentinel gave up does not matter.
    pub(super) fn on_aborted(&mut self, sentinel: &Address, now: Instant, actions: &mut Vec<Action>) {
        self.unverified.remove(sentinel);
        if let Some(promotion) = self.promotion.take_if(|promotion| promotion.is_aborted_by(sentinel)) {
            actions.push(Action::Unwatch);
            actions.extend(promotion.held_until.map(|_| Action::Release));
            if promotion.is_check {
                self.checked.begin(promotion.candidate, now);
            }
        }
        let switch = self.master.as_mut().and_then(|master| master.early_switch.as_mut());
        if let Some(switch) = switch
            && switch.leaders.remove(sentinel)
            && switch.leaders.is_empty()
        {
            switch.until = switch.until.min(now);
        }
    }
}
