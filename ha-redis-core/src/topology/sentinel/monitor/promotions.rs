//! The promotion of a replica: selected, watched, then promoted or abandoned.

use std::collections::BTreeSet;
use std::time::Instant;

use super::{CONFIRMATION_TIMEOUT, HOLD_SHARE, SentinelMonitor};
use crate::address::Address;
use crate::topology::sentinel::Action;
use crate::topology::sentinel::master::{EarlySwitch, Master};
use crate::topology::sentinel::promotion::{CHECK, Promotion, Selection, WATCH};

impl SentinelMonitor {
    /// Holds commands for a bounded time and watches the selected replica. The client does not connect to a server
    /// that a majority does not list, so that no password is sent to it.
    pub(super) fn on_selected(&mut self, selection: Selection, now: Instant, actions: &mut Vec<Action>) {
        let replica = &selection.replica;
        if self.master.as_ref().is_some_and(|master| master.address == *replica) {
            return;
        }
        if !self.votes.is_known_server(replica) {
            if self.votes.knows(&selection.leader) {
                self.unverified_selections.insert(selection.leader.clone(), selection);
            }
            self.query_soon(now, actions);
            return;
        }
        let is_watched = self.promotion.as_ref().is_some_and(|promotion| promotion.candidate == *replica);
        let is_free = is_watched || self.votes.try_select(&selection.leader, now);
        if !is_free || self.unconfirmed_switches.is_cooling_down(replica, now) {
            self.query_soon(now, actions);
            return;
        }
        // A hold that continues is not extended, and after one without a switch the next may not begin soon.
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

    /// Handles the selections of replicas that a majority lists by now.
    pub(super) fn retry_unverified(&mut self, now: Instant, actions: &mut Vec<Action>) {
        self.unverified_selections.retain(|_, selection| selection.is_fresh(now));
        let is_listed = |selection: &Selection| self.votes.is_known_server(&selection.replica);
        let listed_by_now: Vec<_> =
            self.unverified_selections.values().filter(|selection| is_listed(selection)).cloned().collect();
        for selection in listed_by_now {
            self.unverified_selections.remove(&selection.leader);
            if self.concerns_our_master(&selection.replica, &selection.replaced) {
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
        let previous = self.promotion.take();
        let (mut leaders, watch_until) = match previous {
            Some(previous) if previous.candidate == candidate => {
                (previous.leaders, Some(previous.watch_until).filter(|_| previous.is_check == is_check))
            }
            other => {
                actions.extend(other.map(|_| Action::Unwatch));
                let was_master = self.former_masters.contains(&candidate);
                actions.push(Action::Watch { replica: candidate.clone(), was_master });
                (BTreeSet::new(), None)
            }
        };
        // A Sentinel that repeats its selection does not extend the watch.
        let is_repeated = !leaders.insert(leader);
        // Watch the replica at least as long as commands are held for it.
        let watch = if is_check { CHECK } else { WATCH.max(self.config.promotion_hold) };
        let watch_until = watch_until.filter(|_| is_repeated).unwrap_or(now + watch);
        self.promotion = Some(Promotion { leaders, candidate, replaced, held_until, watch_until, is_check });
    }

    pub(super) fn on_promoted(&mut self, replica: Address, now: Instant, actions: &mut Vec<Action>) {
        let Some(promotion) = self.promotion.take_if(|promotion| promotion.candidate == replica) else {
            return;
        };
        if !self.switch_rate.try_acquire(now) {
            actions.push(Action::Unwatch);
            actions.extend(promotion.held_until.map(|_| Action::Release));
            self.query_soon(now, actions);
            return;
        }
        self.failed_checks.clear(&replica);
        let Promotion { leaders, replaced, .. } = promotion;
        let early_switch = Some(EarlySwitch { leaders, replaced, until: now + CONFIRMATION_TIMEOUT });
        // The majority still names the epoch before the promotion.
        let majority_epoch = self.votes.choice().map_or(0, |choice| choice.epoch);
        let epoch = self.master.as_ref().map_or(majority_epoch, |master| master.epoch.max(majority_epoch));
        self.follow(Master { address: replica, epoch, early_switch, demoted_at: None }, now, actions);
        actions.push(Action::Unwatch);
        self.query_all(now, actions);
    }

    /// Handles an aborted failover. Only the Sentinels that lead this failover matter.
    pub(super) fn on_aborted(&mut self, sentinel: &Address, now: Instant, actions: &mut Vec<Action>) {
        self.unverified_selections.remove(sentinel);
        if let Some(promotion) = self.promotion.take_if(|promotion| promotion.is_aborted_by(sentinel)) {
            actions.push(Action::Unwatch);
            actions.extend(promotion.held_until.map(|_| Action::Release));
            if promotion.is_check {
                self.failed_checks.start(promotion.candidate, now);
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
