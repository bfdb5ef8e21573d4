//! The state machine that decides which master to use: inputs go in, actions come out.
//!
//! The monitor follows what a majority of the Sentinels names, whatever it knew before. When a single Sentinel names
//! another master, the monitor has that server asked for its role. If the server replies `master`, the monitor
//! switches to it at once, although the majority agrees only about a second later. Until then the switch is
//! *provisional*, and Sentinels that still name the previous master are considered behind.
//!
//! A failover looks like this: the Sentinel that leads it publishes which replica it has selected. From then on
//! commands are held, and the replica is watched. If the events were missed, the first answer that names another
//! master in a higher epoch shows the failover.

mod promotions;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::address::Address;
use crate::topology::rate_limit::{Cooldowns, RateLimit};
use crate::topology::sentinel::master::{Disagreement, Master, MasterConnection};
use crate::topology::sentinel::promotion::{Promotion, Selection};
use crate::topology::sentinel::votes::{MAX_SENTINELS, MasterCandidate, SentinelVotes};
use crate::topology::sentinel::{
    Action, FailoverConfig, Input, Naming, QueryError, ReportedReplica, SentinelEvent, SentinelReport,
};
use crate::topology::{Replica, Topology};

/// How long the Sentinels have to confirm an early switch; they usually take about a second. After this the promotion
/// counts as failed, so that no write goes to a server that no Sentinel has named for five seconds.
const CONFIRMATION_TIMEOUT: Duration = Duration::from_secs(4);
/// How long a majority must name another master, in an epoch that is not higher, before it is followed. Such a
/// majority may change within a second or two, when it learns of the higher epoch.
const DISAGREEMENT: Duration = Duration::from_millis(2500);
/// The polling interval while all is well, in case an event was missed.
pub(super) const POLL: Duration = Duration::from_secs(2);
/// The polling interval while there is no connection to a master, or a majority names another one.
pub(super) const URGENT_POLL: Duration = Duration::from_millis(250);
/// Holds that lead to no switch take up at most one part in this many of the time, whatever is published.
const HOLD_SHARE: u32 = 5;
/// The maximum number of former masters to remember.
const MAX_FORMER_MASTERS: usize = 16;
/// How often Sentinels' events may trigger queries: the burst, and the interval after that.
const QUERY_RATE: (u32, Duration) = (16, Duration::from_millis(100));
/// How often the master may change, whatever the Sentinels report: the burst, and the interval after that.
const SWITCH_RATE: (u32, Duration) = (8, Duration::from_secs(1));

/// What the Sentinels' answers mean for the current master.
enum MasterDecision {
    /// Keep the current master, or stay without one.
    Keep,
    /// The majority names the current master.
    Confirm(MasterCandidate),
    /// Switch to this master.
    Switch(MasterCandidate),
}

#[derive(Debug)]
pub(crate) struct SentinelMonitor {
    config: FailoverConfig,
    votes: SentinelVotes,
    master: Option<Master>,
    /// Former masters, the latest at the end.
    former_masters: Vec<Address>,
    promotion: Option<Promotion>,
    /// The last selection that each Sentinel published of a server that no majority lists as a replica yet.
    unverified_selections: BTreeMap<Address, Selection>,
    /// Servers that one Sentinel named as the master and that turned out not to be.
    failed_checks: Cooldowns,
    /// Servers that were followed early and that no majority has named afterwards.
    unconfirmed_switches: Cooldowns,
    /// No hold begins before this.
    next_hold: Instant,
    connection: MasterConnection,
    /// When the connection was lost, if the Sentinels have not confirmed the master since then.
    unconfirmed_since: Option<Instant>,
    disagreement: Option<Disagreement>,
    /// Whether writes are refused because a majority of the Sentinels is missing.
    writes_closed: bool,
    next_query: Instant,
    /// When [`Input::Tick`] was last handled.
    last_tick: Instant,
    query_rate: RateLimit,
    switch_rate: RateLimit,
}

impl SentinelMonitor {
    /// Sets how long commands are held back during a promotion, from now on.
    pub(crate) fn set_promotion_hold(&mut self, hold: Duration) {
        self.config.promotion_hold = hold;
    }

    pub(crate) fn new(config: FailoverConfig, sentinels: &[Address], now: Instant) -> Self {
        Self {
            votes: SentinelVotes::new(sentinels, config.initial_attempts),
            config,
            master: None,
            former_masters: Vec::new(),
            promotion: None,
            unverified_selections: BTreeMap::new(),
            failed_checks: Cooldowns::default(),
            unconfirmed_switches: Cooldowns::default(),
            next_hold: now,
            connection: MasterConnection::Down { since: now },
            unconfirmed_since: None,
            disagreement: None,
            writes_closed: false,
            next_query: now,
            last_tick: now,
            query_rate: RateLimit::new(QUERY_RATE.0, QUERY_RATE.1),
            switch_rate: RateLimit::new(SWITCH_RATE.0, SWITCH_RATE.1),
        }
    }

    /// Returns when [`Input::Tick`] is due. Deadlines that had passed at the last tick and remain wait for the next
    /// query.
    pub(crate) fn next_tick(&self) -> Instant {
        let promotion = self.promotion.as_ref().map(Promotion::next_tick);
        let disagreement = self.disagreement.as_ref().map(|disagreement| disagreement.since + DISAGREEMENT);
        let undone = [promotion, disagreement].into_iter().flatten().filter(|due| self.last_tick < *due);
        undone.fold(self.next_query, Instant::min)
    }

    /// Returns the configuration epoch of the current master.
    pub(crate) fn epoch(&self) -> u64 {
        self.master.as_ref().map_or(0, |master| master.epoch)
    }

    pub(crate) fn handle(&mut self, input: Input, now: Instant) -> Vec<Action> {
        let mut actions = Vec::new();
        match input {
            Input::Answer { sentinel, asked_at, answer } => {
                self.on_answer(sentinel, asked_at, answer, now, &mut actions);
            }
            Input::Event { sentinel, event } => self.on_event(sentinel, event, now, &mut actions),
            Input::Subscribed => _ = self.query_soon(now, &mut actions),
            Input::Connected => self.on_connected(),
            Input::Lost => {
                self.connection = MasterConnection::Down { since: now };
                self.unconfirmed_since = Some(now);
                self.query_all(now, &mut actions);
                // Do not wait if no Sentinel can answer.
                self.confirm(&mut actions);
            }
            Input::NotMaster => {
                self.on_not_master(now);
                self.query_soon(now, &mut actions);
            }
            Input::Promoted(replica) => self.on_promoted(replica, now, &mut actions),
            Input::Tick => self.on_tick(now, &mut actions),
            // Other sources send it.
            Input::Update(_) => {}
        }
        actions
    }

    fn on_answer(
        &mut self,
        sentinel: Address,
        asked_at: Instant,
        answer: Result<SentinelReport, QueryError>,
        now: Instant,
        actions: &mut Vec<Action>,
    ) {
        if !self.votes.knows(&sentinel) {
            return;
        }
        self.votes.record(&sentinel, asked_at, answer);
        self.votes.expire(now, self.connection == MasterConnection::Up);
        let was_full = self.votes.is_full;
        let added = self.votes.add_sentinels();
        if !added.is_empty() {
            actions.push(Action::AddSentinels(added));
        }
        if self.votes.is_full && !was_full {
            actions
                .push(Action::Warn(format!("too many Sentinels are listed: only {MAX_SENTINELS} are used")));
        }
        actions.extend(self.votes.remove_unlisted().into_iter().map(Action::RemoveSentinel));
        self.votes.discount_replaced();
        self.votes.record_known_servers(self.required(), now);
        self.decide(now, actions);
        self.retry_unverified(now, actions);
        self.check_named_master(&sentinel, now, actions);
        self.confirm(actions);
        self.check_majority(actions);
        if self.master.is_none() && self.votes.all_answered() {
            actions.push(Action::Fail(self.explain()));
        }
    }

    /// Handles an event of a Sentinel. Events come late, twice, out of order or not at all, so an event only triggers
    /// queries. A selection is the exception: it cannot be queried, so it takes effect immediately.
    fn on_event(&mut self, sentinel: Address, event: SentinelEvent, now: Instant, actions: &mut Vec<Action>) {
        if !self.votes.knows(&sentinel) {
            return;
        }
        match event {
            SentinelEvent::Selected { replica, master } if self.concerns_our_master(&replica, &master) => {
                let selection = Selection { leader: sentinel, replica, replaced: master, published_at: now };
                return self.on_selected(selection, now, actions);
            }
            SentinelEvent::Aborted => self.on_aborted(&sentinel, now, actions),
            SentinelEvent::Tilt(tilt) => self.votes.set_tilt(&sentinel, tilt),
            _ => {}
        }
        // This also limits how often writes are refused and allowed again.
        if self.query_soon(now, actions) {
            self.check_majority(actions);
        }
    }

    /// Returns true if early promotion is on and the selection belongs to a failover of the current master. A selection
    /// for another master belongs to an earlier failover, or follows a switch that this client missed.
    fn concerns_our_master(&self, replica: &Address, master: &Address) -> bool {
        let known = |known: &Master| [replica, master].contains(&&known.address);
        self.config.early_promotion && self.master.as_ref().is_none_or(known)
    }

    /// Applies what the Sentinels agree on.
    fn decide(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let choice = self.votes.choice();
        let is_other = |disagreement: &mut Disagreement| {
            choice.as_ref().is_none_or(|choice| choice.address != disagreement.address)
        };
        self.disagreement.take_if(is_other);
        match self.decision(choice, now) {
            MasterDecision::Keep => {}
            MasterDecision::Confirm(choice) => self.confirm_master(&choice, now),
            MasterDecision::Switch(candidate) => self.switch_to(candidate, now, actions),
        }
    }

    /// Compares the choice of the majority, if there is one, with the current master.
    fn decision(&mut self, choice: Option<MasterCandidate>, now: Instant) -> MasterDecision {
        let candidate = match (&self.master, choice) {
            (None, None) if self.votes.all_answered() => self.votes.newest(),
            (None, choice) => choice,
            // The switch was early, and most Sentinels now name other masters.
            (Some(Master { address, early_switch: Some(switch), .. }), None) if switch.until <= now => {
                let has_failed = self.votes.majority_names_another(address);
                self.votes.candidate_at(&switch.replaced).filter(|_| has_failed)
            }
            (Some(_), None) => None,
            (Some(master), Some(choice)) if choice.address == master.address => {
                return MasterDecision::Confirm(choice);
            }
            (Some(_), Some(choice)) => Some(choice).filter(|choice| self.should_replace(choice, now)),
        };
        let required = self.required();
        let candidate = candidate.filter(|candidate| candidate.votes >= required);
        candidate.map_or(MasterDecision::Keep, MasterDecision::Switch)
    }

    /// Records that a majority names the current master.
    fn confirm_master(&mut self, choice: &MasterCandidate, now: Instant) {
        let Some(master) = &mut self.master else { return };
        // A lone outdated Sentinel must not lower the epoch while the others are gone.
        let is_known =
            self.votes.names(&master.address, master.epoch) || !self.votes.is_majority_of_known(choice);
        let was_provisional = master.early_switch.is_some();
        master.on_majority(choice.epoch, is_known, now);
        if was_provisional && master.early_switch.is_none() {
            self.unconfirmed_switches.clear(&master.address);
        }
    }

    /// Switches to the candidate, unless the master has changed too often.
    fn switch_to(&mut self, candidate: MasterCandidate, now: Instant, actions: &mut Vec<Action>) {
        if !self.switch_rate.try_acquire(now) {
            return;
        }
        if let Some(Master { address, early_switch: Some(_), .. }) = &self.master {
            self.unconfirmed_switches.start(address.clone(), now);
        }
        let MasterCandidate { address, epoch, .. } = candidate;
        self.follow(Master { address, epoch, early_switch: None, demoted_at: None }, now, actions);
    }

    /// Returns the minimum number of Sentinels that must agree, however few are present.
    fn required(&self) -> usize {
        if self.config.require_majority { self.votes.expected() / 2 + 1 } else { 1 }
    }

    /// Returns true if the choice of a majority should replace the current master now.
    fn should_replace(&mut self, choice: &MasterCandidate, now: Instant) -> bool {
        let Some(master) = &self.master else { return true };
        if master.has_just_replaced(&choice.address, now) {
            return false;
        }
        if choice.epoch > master.epoch {
            return true;
        }
        // The few Sentinels that remain while the others are gone may be outdated.
        if !self.votes.is_majority_of_known(choice) {
            self.disagreement = None;
            return false;
        }
        if master.awaits_confirmation(now) {
            return false;
        }
        let disagreement = self.disagreement.get_or_insert_with(|| {
            // Poll more often: the majority may change soon.
            self.next_query = self.next_query.min(now + URGENT_POLL);
            Disagreement { address: choice.address.clone(), since: now }
        });
        let is_lasting = disagreement.since + DISAGREEMENT <= now;
        is_lasting
            || match master.suspect_since(self.connection) {
                Some(since) => {
                    self.votes.choice_since(since).is_some_and(|fresh| fresh.address == choice.address)
                }
                None => !self.votes.names(&master.address, 0),
            }
    }

    /// When a Sentinel names another master in a higher epoch than the majority, watches that server for its role.
    fn check_named_master(&mut self, sentinel: &Address, now: Instant, actions: &mut Vec<Action>) {
        let (Some(master), Some(candidate)) = (&self.master, self.votes.candidate_of(sentinel)) else {
            return;
        };
        let is_newer = candidate.epoch > master.epoch && !master.awaits_confirmation(now);
        // A former master may not have learned of its demotion yet, so its role is not trusted.
        let is_new = candidate.address != master.address && !self.former_masters.contains(&candidate.address);
        let is_free =
            self.promotion.is_none() && !self.failed_checks.is_cooling_down(&candidate.address, now);
        let is_known = is_newer && is_new && is_free && self.votes.is_known_server(&candidate.address);
        if is_known && self.votes.try_select(sentinel, now) {
            let (leader, replaced) = (sentinel.clone(), master.address.clone());
            let selection = Selection { leader, replica: candidate.address, replaced, published_at: now };
            self.watch(selection, None, true, now, actions);
        }
    }

    fn follow(&mut self, next: Master, now: Instant, actions: &mut Vec<Action>) {
        (self.connection, self.unconfirmed_since) = (MasterConnection::Down { since: now }, None);
        (self.disagreement, self.next_hold) = (None, now);
        let address = next.address.clone();
        let previous = self.master.replace(next);
        self.former_masters.extend(previous.map(|master| master.address));
        self.former_masters.retain(|former| *former != address);
        self.former_masters.drain(..self.former_masters.len().saturating_sub(MAX_FORMER_MASTERS));
        actions.push(Action::Follow(address));
        if self.promotion.take().is_some() {
            actions.push(Action::Unwatch);
        }
    }

    /// Returns the replicas that a majority of the Sentinels lists; `None` when too few Sentinels are present to
    /// decide.
    pub(crate) fn replicas(&self) -> Option<Vec<Replica>> {
        self.votes.replicas(ReportedReplica::is_up)
    }

    /// Returns whether the Sentinels name the current master.
    pub(crate) fn naming(&self) -> Naming {
        let Some(master) = &self.master else { return Naming::Named };
        match (self.votes.names(&master.address, 0), &master.early_switch) {
            (true, _) => Naming::Named,
            (false, Some(_)) => Naming::Selected,
            (false, None) if self.votes.has_answer() => Naming::Unnamed,
            (false, None) => Naming::NamedLast,
        }
    }

    /// Returns the servers and the Sentinels as the Sentinels describe them, or why there is no master.
    pub(crate) fn topology(&self) -> Result<Topology, String> {
        let master = self.master.as_ref().ok_or_else(|| self.explain())?;
        Ok(self.votes.topology(master.address.clone(), master.epoch))
    }

    /// Allows reconnecting to the master once a majority still names it, or once every Sentinel that can be queried
    /// has answered. A server that one of them names instead is checked first.
    fn confirm(&mut self, actions: &mut Vec<Action>) {
        let Some(since) = self.unconfirmed_since else { return };
        let is_near = |promotion: &Promotion| promotion.is_check || promotion.held_until.is_some();
        let is_settled =
            self.votes.all_answered_since(since) && !self.promotion.as_ref().is_some_and(is_near);
        if is_settled || self.votes.choice_since(since).is_some() {
            self.unconfirmed_since = None;
            actions.push(Action::AllowReconnect);
        }
    }

    /// Refuses writes while fewer than a majority of the Sentinels answer: the others may have promoted a master that
    /// this client cannot see.
    fn check_majority(&mut self, actions: &mut Vec<Action>) {
        if !self.config.require_majority || self.master.is_none() {
            return;
        }
        let (acting, expected) = (self.votes.acting(), self.votes.expected());
        let close = acting <= expected / 2;
        if close != self.writes_closed {
            self.writes_closed = close;
            let answers = self.votes.explain(&self.config.master_name);
            actions.push(match close {
                true => Action::RefuseWrites(format!(
                    "only {acting} of {expected} Sentinels answer and are not in TILT mode: {answers}"
                )),
                false => Action::AllowWrites,
            });
        }
    }

    /// Handles the reply of the current master that it is not the master. From now on the Sentinels' answers decide.
    /// The server may repeat the reply while the Sentinels are answering.
    fn on_not_master(&mut self, now: Instant) {
        if self.connection == MasterConnection::Up {
            self.connection = MasterConnection::Down { since: now };
        }
        if let Some(master) = &mut self.master {
            if master.early_switch.take().is_some() {
                self.unconfirmed_switches.start(master.address.clone(), now);
            }
            master.demoted_at.get_or_insert(now);
        }
    }

    fn on_connected(&mut self) {
        self.connection = MasterConnection::Up;
        if let Some(master) = &mut self.master {
            master.demoted_at = None;
        }
    }

    fn on_tick(&mut self, now: Instant, actions: &mut Vec<Action>) {
        self.last_tick = now;
        if let Some(promotion) = &mut self.promotion
            && promotion.held_until.take_if(|until| *until <= now).is_some()
        {
            actions.push(Action::Release);
        }
        if let Some(promotion) = self.promotion.take_if(|promotion| promotion.watch_until <= now) {
            actions.push(Action::Unwatch);
            if promotion.is_check {
                self.failed_checks.start(promotion.candidate, now);
            }
        }
        if self.disagreement.as_ref().is_some_and(|disagreement| disagreement.since + DISAGREEMENT <= now) {
            self.decide(now, actions);
        }
        if self.next_query <= now {
            self.query_all(now, actions);
        }
    }

    /// Queries the Sentinels unless the rate limit has been reached. Returns true if it did so at once.
    fn query_soon(&mut self, now: Instant, actions: &mut Vec<Action>) -> bool {
        let is_allowed = self.query_rate.try_acquire(now);
        match is_allowed {
            true => self.query_all(now, actions),
            false => self.next_query = self.next_query.min(now + QUERY_RATE.1),
        }
        is_allowed
    }

    fn query_all(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let is_well = self.connection == MasterConnection::Up && self.disagreement.is_none();
        self.next_query = now + if is_well { POLL } else { URGENT_POLL };
        // Answers that arrive after the time for a confirmation decide about an early switch.
        let confirmation_deadline = self.master.as_ref().and_then(|master| master.confirmation_deadline(now));
        self.next_query = confirmation_deadline.map_or(self.next_query, |until| self.next_query.min(until));
        self.votes.mark_queried();
        actions.push(Action::QuerySentinels);
    }

    /// Returns why there is no master: what each Sentinel answered.
    fn explain(&self) -> String {
        let name = &self.config.master_name;
        let answers = self.votes.explain(name);
        if self.votes.votes().next().is_some() {
            format!("no majority of the Sentinels agrees on a master named `{name}`: {answers}")
        } else if self.votes.has_answer() {
            format!("no Sentinel monitors a master named `{name}`: {answers}; check sentinel_master_name")
        } else {
            format!("no Sentinel could be queried for the master `{name}`: {answers}")
        }
    }
}

#[cfg(test)]
#[path = "monitor_tests.rs"]
mod tests;
