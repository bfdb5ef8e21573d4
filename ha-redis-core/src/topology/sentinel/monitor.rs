//! The state machine that follows the master: what was heard goes in, what is to be done comes out.
//!
//! What a majority of the Sentinels says is followed, whatever was known before. What one of them says is looked at: the
//! server that it means is asked for its role, and when that says master it is followed at once, although the majority
//! agrees on it only a second later. Until then the switch is *provisional*, and those who still name the master before
//! are behind.
//!
//! A failover, as it sees one: a Sentinel that leads it publishes which replica it has selected. From then on commands
//! are held back, and that replica is watched. A failover whose events were missed is noticed in the first answer that
//! names another master in a higher epoch.

mod promotions;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::address::Address;
use crate::topology::sentinel::master::{Connection, Disagreement, Master};
use crate::topology::sentinel::promotion::{Promotion, Selection};
use crate::topology::sentinel::rate_limit::{Cooldowns, RateLimit};
use crate::topology::sentinel::votes::{MAX_SENTINELS, MasterCandidate, SentinelVotes};
use crate::topology::sentinel::{
    Action, FailoverConfig, Input, Naming, QueryError, ReportedReplica, SentinelEvent, SentinelReport,
};
use crate::topology::{Replica, Topology};

/// Sentinels take about a second to agree on a promotion. What they have not confirmed after this did not last: no write
/// goes to a server that none of them names for five seconds.
const CONFIRMATION: Duration = Duration::from_secs(4);
/// A majority that names another master than the one that is followed, in an epoch that is not higher, may change its
/// mind within a second or two, when it hears of the higher one. What it says for so long is followed.
const DISAGREEMENT: Duration = Duration::from_millis(2500);
/// How often the Sentinels are asked, in case an event was missed, while all is well.
pub(super) const POLL: Duration = Duration::from_secs(2);
/// How often they are asked while there is no connection to a master, or they name another one.
pub(super) const URGENT_POLL: Duration = Duration::from_millis(250);
/// Holds that come to nothing take up no more than one part in so many of the time, whatever is published.
const HOLD_SHARE: u32 = 5;
/// So many masters of the past are remembered.
const MAX_FORMER: usize = 16;
/// What others tell is reason to ask the Sentinels so often at once, and then once each such time.
const ASKS: (u32, Duration) = (16, Duration::from_millis(100));
/// Another master is followed so often at once, and then once each such time, whatever is said.
const SWITCHES: (u32, Duration) = (8, Duration::from_secs(1));

#[derive(Debug)]
pub(crate) struct SentinelMonitor {
    config: FailoverConfig,
    votes: SentinelVotes,
    master: Option<Master>,
    /// Masters that were followed before, the last one at the end.
    former: Vec<Address>,
    promotion: Option<Promotion>,
    /// The last selection by each Sentinel of a server that no majority lists as a replica yet.
    unverified: BTreeMap<Address, Selection>,
    /// Servers that one Sentinel named as the master, and that were none.
    checked: Cooldowns,
    /// Servers that were followed early, and that no majority has named after that.
    unconfirmed_switches: Cooldowns,
    /// No hold begins before this.
    next_hold: Instant,
    connection: Connection,
    /// When the connection was lost, if the Sentinels have not said since that the master is still the same.
    unconfirmed: Option<Instant>,
    disagreement: Option<Disagreement>,
    /// Writes are not let through, since a majority of the Sentinels is missing.
    closed: bool,
    next_ask: Instant,
    /// When [`Input::Tick`] was handled last.
    ticked: Instant,
    asks: RateLimit,
    switches: RateLimit,
}

impl SentinelMonitor {
    pub(crate) fn new(config: FailoverConfig, sentinels: &[Address], now: Instant) -> Self {
        Self {
            votes: SentinelVotes::new(sentinels, config.initial_attempts),
            config,
            master: None,
            former: Vec::new(),
            promotion: None,
            unverified: BTreeMap::new(),
            checked: Cooldowns::default(),
            unconfirmed_switches: Cooldowns::default(),
            next_hold: now,
            connection: Connection::Down { since: now },
            unconfirmed: None,
            disagreement: None,
            closed: false,
            next_ask: now,
            ticked: now,
            asks: RateLimit::new(ASKS.0, ASKS.1),
            switches: RateLimit::new(SWITCHES.0, SWITCHES.1),
        }
    }

    /// When [`Input::Tick`] is due. What was due at the last one, and still stands, waits for the next question.
    pub(crate) fn next_tick(&self) -> Instant {
        let promotion = self.promotion.as_ref().map(Promotion::next_tick);
        let disagreement = self.disagreement.as_ref().map(|disagreement| disagreement.since + DISAGREEMENT);
        let undone = [promotion, disagreement].into_iter().flatten().filter(|due| self.ticked < *due);
        undone.fold(self.next_ask, Instant::min)
    }

    /// The configuration epoch of the master that is followed.
    pub(crate) fn epoch(&self) -> u64 {
        self.master.as_ref().map_or(0, |master| master.epoch)
    }

    pub(crate) fn handle(&mut self, input: Input, now: Instant) -> Vec<Action> {
        let mut actions = Vec::new();
        match input {
            Input::Answer { sentinel, asked_at, answer } => {
                self.on_answer(sentinel, asked_at, answer, now, &mut actions);
            }
            Input::Heard { sentinel, event } => self.on_event(sentinel, event, now, &mut actions),
            Input::Subscribed => _ = self.ask_soon(now, &mut actions),
            Input::Connected => self.on_connected(),
            Input::Lost => {
                self.connection = Connection::Down { since: now };
                self.unconfirmed = Some(now);
                self.ask(now, &mut actions);
                // Nobody is waited for when none is there to answer.
                self.confirm(&mut actions);
            }
            Input::NotMaster => {
                self.on_not_master(now);
                self.ask_soon(now, &mut actions);
            }
            Input::Promoted(replica) => self.on_promoted(replica, now, &mut actions),
            Input::Tick => self.on_tick(now, &mut actions),
            // It comes from other sources.
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
        self.votes.age(now, self.connection == Connection::Up);
        let was_full = self.votes.is_full;
        let added = self.votes.add_sentinels();
        if !added.is_empty() {
            actions.push(Action::AddSentinels(added));
        }
        if self.votes.is_full && !was_full {
            actions.push(Action::Warn(format!("no more than {MAX_SENTINELS} Sentinels are listened to")));
        }
        actions.extend(self.votes.remove_unlisted().into_iter().map(Action::RemoveSentinel));
        self.votes.discount_replaced();
        self.votes.record_known_servers(self.required(), now);
        self.decide(now, actions);
        self.retry_unverified(now, actions);
        self.check_named_master(&sentinel, now, actions);
        self.confirm(actions);
        self.check_majority(actions);
        if self.master.is_none() && self.votes.is_heard() {
            actions.push(Action::Fail(self.explain()));
        }
    }

    /// Whatever a Sentinel tells, all are asked: events come late, twice, out of order or not at all, so that none
    /// says more than that there is something to be asked. But a selection, which nobody can be asked about, is
    /// acted on at once.
    fn on_event(&mut self, sentinel: Address, event: SentinelEvent, now: Instant, actions: &mut Vec<Action>) {
        if !self.votes.knows(&sentinel) {
            return;
        }
        match event {
            SentinelEvent::Selected { replica, master } if self.is_ours(&replica, &master) => {
                let selection = Selection { leader: sentinel, replica, replaced: master, heard: now };
                return self.on_selected(selection, now, actions);
            }
            SentinelEvent::Aborted => self.on_aborted(&sentinel, now, actions),
            SentinelEvent::Tilt(tilt) => self.votes.set_tilt(&sentinel, tilt),
            _ => {}
        }
        // Writes are closed and opened no more often than that.
        if self.ask_soon(now, actions) {
            self.check_majority(actions);
        }
    }

    /// Whether a failover is to be followed early: not another than of the master that we know, which is an old one,
    /// told late, or one after a switch that we have missed.
    fn is_ours(&self, replica: &Address, master: &Address) -> bool {
        let known = |known: &Master| [replica, master].contains(&&known.address);
        self.config.early_promotion && self.master.as_ref().is_none_or(known)
    }

    /// Follows what the Sentinels agree on.
    fn decide(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let choice = self.votes.choice();
        let is_other = |disagreement: &mut Disagreement| {
            choice.as_ref().is_none_or(|choice| choice.address != disagreement.address)
        };
        self.disagreement.take_if(is_other);
        let next = match (&mut self.master, choice) {
            (None, None) if self.votes.is_heard() => self.votes.newest(),
            (None, choice) => choice,
            // It was followed early, and most of them have gone on to name others.
            (Some(Master { address, early_switch: Some(switch), .. }), None) if switch.until <= now => {
                let demoted_at = self.votes.majority_names_another(address);
                self.votes.named(&switch.replaced).filter(|_| demoted_at)
            }
            (Some(_), None) => None,
            (Some(master), Some(choice)) if choice.address == master.address => {
                // Nor does an old one lower the epoch, when the others are gone.
                let is_known =
                    self.votes.names(&master.address, master.epoch) || !self.votes.is_majority(&choice);
                let was_provisional = master.early_switch.is_some();
                master.on_named(choice.epoch, is_known, now);
                if was_provisional && master.early_switch.is_none() {
                    self.unconfirmed_switches.end(&master.address);
                }
                None
            }
            (Some(_), Some(choice)) => Some(choice).filter(|choice| self.overrules(choice, now)),
        };
        let required = self.required();
        if let Some(MasterCandidate { address, epoch, .. }) = next.filter(|next| next.votes >= required)
            && self.switches.take(now)
        {
            if let Some(Master { address, early_switch: Some(_), .. }) = &self.master {
                self.unconfirmed_switches.begin(address.clone(), now);
            }
            self.follow(Master { address, epoch, early_switch: None, demoted_at: None }, now, actions);
        }
    }

    /// How many Sentinels have to agree at the least, however few of them are there.
    fn required(&self) -> usize {
        if self.config.require_majority { self.votes.expected() / 2 + 1 } else { 1 }
    }

    /// Whether another master than the one that is followed is followed now, since a majority names it.
    fn overrules(&mut self, choice: &MasterCandidate, now: Instant) -> bool {
        let Some(master) = &self.master else { return true };
        if master.has_just_replaced(&choice.address, now) {
            return false;
        }
        if choice.epoch > master.epoch {
            return true;
        }
        // Those that are left when the others are gone may be old ones.
        if !self.votes.is_majority(choice) {
            self.disagreement = None;
            return false;
        }
        if master.is_ahead(now) {
            return false;
        }
        let disagreement = self.disagreement.get_or_insert_with(|| {
            // It may change its mind soon.
            self.next_ask = self.next_ask.min(now + URGENT_POLL);
            Disagreement { address: choice.address.clone(), since: now }
        });
        let is_lasting = disagreement.since + DISAGREEMENT <= now;
        is_lasting
            || match master.doubted_since(self.connection) {
                Some(since) => {
                    self.votes.choice_since(since).is_some_and(|fresh| fresh.address == choice.address)
                }
                None => !self.votes.names(&master.address, 0),
            }
    }

    /// A Sentinel names another master in a higher epoch than a majority knows of: that one is asked itself.
    fn check_named_master(&mut self, sentinel: &Address, now: Instant, actions: &mut Vec<Action>) {
        let (Some(master), Some(named)) = (&self.master, self.votes.named_by(sentinel)) else { return };
        let is_newer = named.epoch > master.epoch && !master.is_ahead(now);
        // A master of the past may not know that it is none any more, and is not believed.
        let is_new = named.address != master.address && !self.former.contains(&named.address);
        let is_free = self.promotion.is_none() && !self.checked.is_resting(&named.address, now);
        let is_known = is_newer && is_new && is_free && self.votes.is_known_server(&named.address);
        if is_known && self.votes.may_select(sentinel, now) {
            let (leader, replaced) = (sentinel.clone(), master.address.clone());
            let selection = Selection { leader, replica: named.address, replaced, heard: now };
            self.watch(selection, None, true, now, actions);
        }
    }

    fn follow(&mut self, next: Master, now: Instant, actions: &mut Vec<Action>) {
        (self.connection, self.unconfirmed) = (Connection::Down { since: now }, None);
        (self.disagreement, self.next_hold) = (None, now);
        let address = next.address.clone();
        let former = self.master.replace(next);
        self.former.extend(former.map(|master| master.address));
        self.former.retain(|former| *former != address);
        self.former.drain(..self.former.len().saturating_sub(MAX_FORMER));
        actions.push(Action::Follow(address));
        if self.promotion.take().is_some() {
            actions.push(Action::Unwatch);
        }
    }

    /// The replicas that a majority of the Sentinels lists; `None` when too few of them are there to tell.
    pub(crate) fn replicas(&self) -> Option<Vec<Replica>> {
        self.votes.replicas(ReportedReplica::is_up)
    }

    /// What the Sentinels say of the master that is followed.
    pub(crate) fn naming(&self) -> Naming {
        let Some(master) = &self.master else { return Naming::Named };
        match (self.votes.names(&master.address, 0), &master.early_switch) {
            (true, _) => Naming::Named,
            (false, Some(_)) => Naming::Selected,
            (false, None) if self.votes.has_answer() => Naming::Unnamed,
            (false, None) => Naming::NamedLast,
        }
    }

    /// The servers and the Sentinels, as these describe them; with the error if there is no master.
    pub(crate) fn topology(&self) -> Result<Topology, String> {
        let master = self.master.as_ref().ok_or_else(|| self.explain())?;
        Ok(self.votes.topology(master.address.clone(), master.epoch))
    }

    /// A connection is made again only to a master that a majority still names, if one can be had: all who can be asked are
    /// waited for. Whom one of them has named instead is looked at first.
    fn confirm(&mut self, actions: &mut Vec<Action>) {
        let Some(since) = self.unconfirmed else { return };
        let is_near = |promotion: &Promotion| promotion.is_check || promotion.held_until.is_some();
        let told = self.votes.is_heard_since(since) && !self.promotion.as_ref().is_some_and(is_near);
        if told || self.votes.choice_since(since).is_some() {
            self.unconfirmed = None;
            actions.push(Action::Confirm);
        }
    }

    /// Without a majority of the Sentinels there may be a newer master that we cannot hear of.
    fn check_majority(&mut self, actions: &mut Vec<Action>) {
        if !self.config.require_majority || self.master.is_none() {
            return;
        }
        let (acting, known) = (self.votes.acting(), self.votes.expected());
        let closed = acting <= known / 2;
        if closed != self.closed {
            self.closed = closed;
            let explain = self.votes.explain(&self.config.master_name);
            actions.push(match closed {
                true => {
                    Action::Close(format!("only {acting} of {known} Sentinels answer and act: {explain}"))
                }
                false => Action::Open,
            });
        }
    }

    /// What the Sentinels say from now on decides. It may say so many times over: they need the time to answer.
    fn on_not_master(&mut self, now: Instant) {
        if self.connection == Connection::Up {
            self.connection = Connection::Down { since: now };
        }
        if let Some(master) = &mut self.master {
            if master.early_switch.take().is_some() {
                self.unconfirmed_switches.begin(master.address.clone(), now);
            }
            master.demoted_at.get_or_insert(now);
        }
    }

    fn on_connected(&mut self) {
        self.connection = Connection::Up;
        if let Some(master) = &mut self.master {
            master.demoted_at = None;
        }
    }

    fn on_tick(&mut self, now: Instant, actions: &mut Vec<Action>) {
        self.ticked = now;
        if let Some(promotion) = &mut self.promotion
            && promotion.held_until.take_if(|until| *until <= now).is_some()
        {
            actions.push(Action::Release);
        }
        if let Some(promotion) = self.promotion.take_if(|promotion| promotion.given_up <= now) {
            actions.push(Action::Unwatch);
            if promotion.is_check {
                self.checked.begin(promotion.candidate, now);
            }
        }
        if self.disagreement.as_ref().is_some_and(|disagreement| disagreement.since + DISAGREEMENT <= now) {
            self.decide(now, actions);
        }
        if self.next_ask <= now {
            self.ask(now, actions);
        }
    }

    /// Asks, unless others would have us do nothing else. Whether it does so at once.
    fn ask_soon(&mut self, now: Instant, actions: &mut Vec<Action>) -> bool {
        let may_ask = self.asks.take(now);
        match may_ask {
            true => self.ask(now, actions),
            false => self.next_ask = self.next_ask.min(now + ASKS.1),
        }
        may_ask
    }

    fn ask(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let is_well = self.connection == Connection::Up && self.disagreement.is_none();
        self.next_ask = now + if is_well { POLL } else { URGENT_POLL };
        // What they say once they have had the time to confirm a switch decides on it.
        let confirmed_by = self.master.as_ref().and_then(|master| master.confirmed_by(now));
        self.next_ask = confirmed_by.map_or(self.next_ask, |until| self.next_ask.min(until));
        self.votes.ask();
        actions.push(Action::Ask);
    }

    /// Why there is no master: whom we asked, and what each said.
    fn explain(&self) -> String {
        let name = &self.config.master_name;
        let said = self.votes.explain(name);
        if self.votes.votes().next().is_some() {
            format!("no majority of the Sentinels names a master `{name}`: {said}")
        } else if self.votes.has_answer() {
            format!("the Sentinels know no master named `{name}` (is sentinel_master_name right?): {said}")
        } else {
            format!("no Sentinel could be asked for the master `{name}`: {said}")
        }
    }
}

#[cfg(test)]
#[path = "monitor_tests.rs"]
mod tests;
