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

use std::time::{Duration, Instant};

use crate::address::Address;
use crate::sentinel::council::{Candidate, Council};
use crate::sentinel::master::{Connection, Master, Provisional};
use crate::sentinel::{Event, Instance, View};
use crate::topology::{Replica, Topology};

/// A selected replica that has not become master after this is not asked any more, unless commands are held back still.
const WATCH: Duration = Duration::from_secs(30);
/// Sentinels take about a second to agree on a promotion. What they have not confirmed after this did not last: no write
/// goes to a server that none of them names for five seconds.
const CONFIRMATION: Duration = Duration::from_secs(4);
/// A majority that names another master than the one that is followed, in an epoch that is not higher, may change its
/// mind within a second or two, when it hears of the higher one. What it says for so long is followed.
const DISSENT: Duration = Duration::from_millis(2500);
/// How often the Sentinels are asked, in case an event was missed, while all is well.
pub(super) const POLL: Duration = Duration::from_secs(2);
/// How often they are asked while there is no connection to a master, or they name another one.
pub(super) const URGENT_POLL: Duration = Duration::from_millis(250);
/// Holds that come to nothing take up no more than one part in so many of the time, whatever is published.
const HOLD_SHARE: u32 = 5;
/// So many masters of the past are remembered.
const MOST_FORMER: usize = 16;

/// What the configuration has to say.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    pub(crate) master_name: String,
    /// Whether a selected replica is followed as soon as it is master.
    pub(crate) early_promotion: bool,
    /// Commands are held back for no longer than this while a replica is being promoted.
    pub(crate) promotion_hold: Duration,
    /// Whether writes need a majority of the Sentinels.
    pub(crate) require_majority: bool,
}

/// Something that was heard.
#[derive(Clone, Debug)]
pub(crate) enum Input {
    /// What a Sentinel answered to the question that was `asked` then, or why it did not.
    Answer { sentinel: Address, asked: Instant, answer: Result<View, String> },
    /// What a Sentinel published.
    Heard { sentinel: Address, event: Event },
    /// The subscription to a Sentinel's events has begun, maybe after a gap.
    Subscribed,
    /// There is a connection to the master.
    Connected,
    /// The connection to the master was lost.
    Lost,
    /// The server that is followed says that it is no master.
    NotMaster,
    /// A watched replica says that it is master.
    Promoted(Address),
    /// Time has passed.
    Tick,
}

/// Something to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Ask every Sentinel.
    Ask,
    /// Listen to these Sentinels too.
    Meet(Vec<Address>),
    /// Listen to this one no more.
    Forget(Address),
    /// Connect to this master, and to no other any more. Ends a hold.
    Follow(Address),
    /// The Sentinels still name the master whose connection was lost: it may be connected to again.
    Confirm,
    /// Send nothing more to the master for now.
    Hold,
    /// Go on sending.
    Release,
    /// Ask this replica for its role, again and again, until it is master. One that was master `before` may not know
    /// yet that it is none: its word counts only once it was seen as a replica.
    Watch { replica: Address, before: bool },
    /// Stop asking.
    Unwatch,
    /// Let no more writes through, for this reason.
    Close(String),
    /// Let writes through again.
    Open,
    /// Tell those who wait why there is no master.
    Fail(String),
}

/// What the Sentinels say of the master that is followed, to be told in errors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Naming {
    #[default]
    Named,
    /// It is being made the master, as one of them says.
    Selected,
    /// They answer, and none of them names it.
    Unnamed,
    /// None of them answers.
    NamedLast,
}

#[derive(Debug)]
pub(crate) struct Follower {
    rules: Rules,
    council: Council,
    master: Option<Master>,
    /// Masters that were followed before, the last one at the end.
    former: Vec<Address>,
    promotion: Option<Promotion>,
    /// No hold begins before this.
    next_hold: Instant,
    connection: Connection,
    /// When the connection was lost, if the Sentinels have not said since that the master is still the same.
    unconfirmed: Option<Instant>,
    /// Since when a majority has named another master, in an epoch that is not higher.
    dissent: Option<Instant>,
    /// Writes are not let through, since a majority of the Sentinels is missing.
    closed: bool,
    next_ask: Instant,
}

#[derive(Debug)]
struct Promotion {
    /// The Sentinel that leads the failover, or was the first to tell of it.
    leader: Address,
    candidate: Address,
    /// The master that the candidate takes the place of.
    replaced: Address,
    /// `None` when commands are not held back any more.
    held_until: Option<Instant>,
    given_up: Instant,
}

impl Follower {
    pub(crate) fn new(rules: Rules, sentinels: &[Address], now: Instant) -> Self {
        Self {
            rules,
            council: Council::new(sentinels),
            master: None,
            former: Vec::new(),
            promotion: None,
            next_hold: now,
            connection: Connection::Down { since: now },
            unconfirmed: None,
            dissent: None,
            closed: false,
            next_ask: now,
        }
    }

    /// When [`Input::Tick`] is due.
    pub(crate) fn next_tick(&self) -> Instant {
        let promotion = self.promotion.as_ref();
        let promotion = promotion.map(|promotion| promotion.held_until.unwrap_or(promotion.given_up));
        let dissent = self.dissent.map(|since| since + DISSENT);
        [promotion, dissent].into_iter().flatten().fold(self.next_ask, Instant::min)
    }

    /// The configuration epoch of the master that is followed.
    pub(crate) fn epoch(&self) -> u64 {
        self.master.as_ref().map_or(0, |master| master.epoch)
    }

    pub(crate) fn handle(&mut self, input: Input, now: Instant) -> Vec<Action> {
        let mut actions = Vec::new();
        match input {
            Input::Answer { sentinel, asked, answer } => {
                self.on_answer(sentinel, asked, answer, now, &mut actions);
            }
            Input::Heard { sentinel, event } => self.on_event(sentinel, event, now, &mut actions),
            Input::Subscribed => self.ask(now, &mut actions),
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
                self.ask(now, &mut actions);
            }
            Input::Promoted(replica) => self.on_promoted(replica, now, &mut actions),
            Input::Tick => self.on_tick(now, &mut actions),
        }
        actions
    }

    fn on_answer(
        &mut self,
        sentinel: Address,
        asked: Instant,
        answer: Result<View, String>,
        now: Instant,
        actions: &mut Vec<Action>,
    ) {
        if !self.council.knows(&sentinel) {
            return;
        }
        self.council.hear(&sentinel, asked, answer);
        self.council.age(now, self.connection == Connection::Up);
        let met = self.council.meet();
        if !met.is_empty() {
            actions.push(Action::Meet(met));
        }
        actions.extend(self.council.forget().into_iter().map(Action::Forget));
        self.decide(now, actions);
        self.look_at(&sentinel, now, actions);
        self.confirm(actions);
        self.check_majority(actions);
        if self.master.is_none() && self.council.is_heard() {
            actions.push(Action::Fail(self.account()));
        }
    }

    /// Whatever a Sentinel tells, all are asked: events come late, twice, out of order or not at all, so that none
    /// says more than that there is something to be asked. But a selection, which nobody can be asked about, is
    /// acted on at once.
    fn on_event(&mut self, sentinel: Address, event: Event, now: Instant, actions: &mut Vec<Action>) {
        match event {
            Event::Selected { replica, master } if self.is_ours(&replica, &master) => {
                self.on_selected(sentinel, replica, master, now, actions);
                return;
            }
            Event::Aborted => self.on_aborted(&sentinel, now, actions),
            Event::Tilt(tilt) => {
                self.council.set_tilt(&sentinel, tilt);
                self.check_majority(actions);
            }
            _ => {}
        }
        self.ask(now, actions);
    }

    /// Whether a failover is to be followed early: not another than of the master that we know, which is an old one,
    /// told late, or one after a switch that we have missed.
    fn is_ours(&self, replica: &Address, master: &Address) -> bool {
        let known = |known: &Master| [replica, master].contains(&&known.address);
        self.rules.early_promotion && self.master.as_ref().is_none_or(known)
    }

    /// Follows what the Sentinels agree on.
    fn decide(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let choice = self.council.choice();
        let next = match (&mut self.master, choice) {
            (None, None) if self.council.is_heard() => self.council.newest(),
            (None, choice) => choice,
            (Some(_), None) => None,
            (Some(master), Some(choice)) if choice.address == master.address => {
                self.dissent = None;
                let is_known = self.council.names(&master.address, master.epoch);
                master.on_named(choice.epoch, is_known, now);
                None
            }
            (Some(_), Some(choice)) => Some(choice).filter(|choice| self.overrules(choice, now)),
        };
        if let Some(Candidate { address, epoch }) = next {
            self.follow(Master { address, epoch, provisional: None, disowned: None }, now, actions);
        }
    }

    /// Whether another master than the one that is followed is followed now, since a majority names it.
    fn overrules(&mut self, choice: &Candidate, now: Instant) -> bool {
        let Some(master) = &self.master else { return true };
        if master.has_just_replaced(&choice.address, now) {
            return false;
        }
        if choice.epoch > master.epoch {
            return true;
        }
        if master.is_ahead(now) {
            return false;
        }
        let since = *self.dissent.get_or_insert_with(|| {
            // It may change its mind soon.
            self.next_ask = self.next_ask.min(now + URGENT_POLL);
            now
        });
        let is_lasting = since + DISSENT <= now;
        is_lasting
            || match master.doubted_since(self.connection) {
                Some(since) => {
                    self.council.choice_since(since).is_some_and(|fresh| fresh.address == choice.address)
                }
                None => !self.council.names(&master.address, 0),
            }
    }

    /// A Sentinel names another master in a higher epoch than a majority knows of: that one is asked itself.
    fn look_at(&mut self, sentinel: &Address, now: Instant, actions: &mut Vec<Action>) {
        let (Some(master), Some(named)) = (&self.master, self.council.named_by(sentinel)) else { return };
        let is_newer = named.epoch > master.epoch && !master.is_ahead(now);
        // A master of the past may not know that it is none any more, and is not believed.
        let is_new = named.address != master.address && !self.former.contains(&named.address);
        if is_newer && is_new && self.promotion.is_none() && self.council.may_be_replica(&named.address) {
            let replaced = master.address.clone();
            self.watch(sentinel.clone(), named.address, replaced, None, now, actions);
        }
    }

    fn follow(&mut self, next: Master, now: Instant, actions: &mut Vec<Action>) {
        (self.connection, self.unconfirmed) = (Connection::Down { since: now }, None);
        (self.dissent, self.next_hold) = (None, now);
        let address = next.address.clone();
        let former = self.master.replace(next);
        self.former.extend(former.map(|master| master.address));
        self.former.retain(|former| *former != address);
        self.former.drain(..self.former.len().saturating_sub(MOST_FORMER));
        actions.push(Action::Follow(address));
        if self.promotion.take().is_some() {
            actions.push(Action::Unwatch);
        }
    }

    /// The replicas that a majority of the Sentinels lists; `None` when too few of them are there to tell.
    pub(crate) fn replicas(&self) -> Option<Vec<Replica>> {
        self.council.replicas(Instance::is_up)
    }

    /// What the Sentinels say of the master that is followed.
    pub(crate) fn naming(&self) -> Naming {
        let Some(master) = &self.master else { return Naming::Named };
        match (self.council.names(&master.address, 0), &master.provisional) {
            (true, _) => Naming::Named,
            (false, Some(_)) => Naming::Selected,
            (false, None) if self.council.has_answer() => Naming::Unnamed,
            (false, None) => Naming::NamedLast,
        }
    }

    /// The servers and the Sentinels, as these describe them; with the error if there is no master.
    pub(crate) fn topology(&self) -> Result<Topology, String> {
        let master = self.master.as_ref().ok_or_else(|| self.account())?;
        Ok(self.council.topology(master.address.clone(), master.epoch))
    }

    /// A connection is made again only to a master that a majority still names, if one can be had: all who can be asked are
    /// waited for. Whom one of them has named instead is looked at first.
    fn confirm(&mut self, actions: &mut Vec<Action>) {
        let Some(since) = self.unconfirmed else { return };
        let told = self.council.is_heard_since(since) && self.promotion.is_none();
        if told || self.council.choice_since(since).is_some() {
            self.unconfirmed = None;
            actions.push(Action::Confirm);
        }
    }

    /// Without a majority of the Sentinels there may be a newer master that we cannot hear of.
    fn check_majority(&mut self, actions: &mut Vec<Action>) {
        if !self.rules.require_majority || self.master.is_none() {
            return;
        }
        let (acting, known) = (self.council.acting(), self.council.known());
        let closed = acting <= known / 2;
        if closed != self.closed {
            self.closed = closed;
            let account = self.council.account(&self.rules.master_name);
            actions.push(match closed {
                true => {
                    Action::Close(format!("only {acting} of {known} Sentinels answer and act: {account}"))
                }
                false => Action::Open,
            });
        }
    }

    /// Sends nothing more to the old master, for a bounded time, and watches the replica.
    fn on_selected(
        &mut self,
        leader: Address,
        replica: Address,
        replaced: Address,
        now: Instant,
        actions: &mut Vec<Action>,
    ) {
        if self.master.as_ref().is_some_and(|master| master.address == replica) {
            return;
        }
        if !self.council.may_be_replica(&replica) {
            return self.ask(now, actions);
        }
        // A hold that goes on is not made longer, and one that came to nothing is not soon followed by another.
        let held_until = self.promotion.as_ref().and_then(|promotion| promotion.held_until).or_else(|| {
            let hold = self.rules.promotion_hold;
            let may_hold = !hold.is_zero() && self.next_hold <= now;
            may_hold.then(|| {
                actions.push(Action::Hold);
                self.next_hold = now + hold * HOLD_SHARE;
                now + hold
            })
        });
        self.watch(leader, replica, replaced, held_until, now, actions);
    }

    fn watch(
        &mut self,
        leader: Address,
        candidate: Address,
        replaced: Address,
        held_until: Option<Instant>,
        now: Instant,
        actions: &mut Vec<Action>,
    ) {
        let watched = self.promotion.as_ref().map(|promotion| &promotion.candidate);
        if watched != Some(&candidate) {
            actions.extend(watched.map(|_| Action::Unwatch));
            let before = self.former.contains(&candidate);
            actions.push(Action::Watch { replica: candidate.clone(), before });
        }
        // It is watched for as long as commands are held back for it.
        let given_up = now + WATCH.max(self.rules.promotion_hold);
        self.promotion = Some(Promotion { leader, candidate, replaced, held_until, given_up });
    }

    fn on_promoted(&mut self, replica: Address, now: Instant, actions: &mut Vec<Action>) {
        let Some(Promotion { leader, candidate, replaced, .. }) = &self.promotion else { return };
        if *candidate == replica {
            let (leader, replaced) = (leader.clone(), replaced.clone());
            let provisional = Some(Provisional { leader, replaced, until: now + CONFIRMATION });
            // What the majority says now is of the epoch before the promotion.
            let said = self.council.choice().map_or(0, |choice| choice.epoch);
            let epoch = self.master.as_ref().map_or(said, |master| master.epoch.max(said));
            self.follow(Master { address: replica, epoch, provisional, disowned: None }, now, actions);
            self.ask(now, actions);
        }
    }

    /// The leader gave the failover up; what another Sentinel gave up does not matter.
    fn on_aborted(&mut self, sentinel: &Address, now: Instant, actions: &mut Vec<Action>) {
        if let Some(promotion) = self.promotion.take_if(|promotion| promotion.leader == *sentinel) {
            actions.push(Action::Unwatch);
            actions.extend(promotion.held_until.map(|_| Action::Release));
        }
        let switch = self.master.as_mut().and_then(|master| master.provisional.as_mut());
        if let Some(switch) = switch.filter(|switch| switch.leader == *sentinel) {
            switch.until = switch.until.min(now);
        }
    }

    /// What the Sentinels say from now on decides. It may say so many times over: they need the time to answer.
    fn on_not_master(&mut self, now: Instant) {
        if self.connection == Connection::Up {
            self.connection = Connection::Down { since: now };
        }
        if let Some(master) = &mut self.master {
            master.provisional = None;
            master.disowned.get_or_insert(now);
        }
    }

    fn on_connected(&mut self) {
        self.connection = Connection::Up;
        if let Some(master) = &mut self.master {
            master.disowned = None;
        }
    }

    fn on_tick(&mut self, now: Instant, actions: &mut Vec<Action>) {
        if let Some(promotion) = &mut self.promotion {
            if promotion.held_until.is_some_and(|until| until <= now) {
                promotion.held_until = None;
                actions.push(Action::Release);
            }
            if promotion.given_up <= now {
                self.promotion = None;
                actions.push(Action::Unwatch);
            }
        }
        if self.dissent.is_some_and(|since| since + DISSENT <= now) {
            self.decide(now, actions);
        }
        if self.next_ask <= now {
            self.ask(now, actions);
        }
    }

    fn ask(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let is_well = self.connection == Connection::Up && self.dissent.is_none();
        self.next_ask = now + if is_well { POLL } else { URGENT_POLL };
        // What they say once they have had the time to confirm a switch decides on it.
        let confirmed_by = self.master.as_ref().and_then(|master| master.confirmed_by(now));
        self.next_ask = confirmed_by.map_or(self.next_ask, |until| self.next_ask.min(until));
        self.council.ask();
        actions.push(Action::Ask);
    }

    /// Why there is no master: whom we asked, and what each said.
    fn account(&self) -> String {
        let name = &self.rules.master_name;
        let said = self.council.account(name);
        if self.council.has_answer() {
            format!("the Sentinels know no master named `{name}` (is sentinel_master_name right?): {said}")
        } else {
            format!("no Sentinel could be asked for the master `{name}`: {said}")
        }
    }
}

#[cfg(test)]
#[path = "follower_tests.rs"]
mod tests;
