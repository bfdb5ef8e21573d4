//! The state machine that follows the master: what was heard goes in, what is to be done comes out.
//!
//! A failover, as it sees one: a Sentinel that leads it publishes which replica it has selected. From then on
//! commands are held back, and that replica is asked for its role until it says master: it is followed at
//! once, although the Sentinels agree on it only a second later (until then the switch is *provisional*). A
//! failover whose events were missed is noticed in the Sentinels' answers, by its higher epoch.

use std::time::{Duration, Instant};

use crate::address::Address;
use crate::sentinel::council::{Candidate, Council};
use crate::sentinel::{Event, View};
use crate::topology::Replica;

/// A selected replica that has not become master after this is not asked any more, unless commands are held back still.
const WATCH: Duration = Duration::from_secs(30);
/// Sentinels take about a second to agree on a promotion. What they have not confirmed after this did not last.
const CONFIRMATION: Duration = Duration::from_secs(10);
/// How often the Sentinels are asked, in case an event was missed, while all is well.
pub(super) const POLL: Duration = Duration::from_secs(2);
/// How often they are asked while there is no connection to a master.
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
    connected: bool,
    /// When the connection was lost, if the Sentinels have not said since that the master is still the same.
    unconfirmed: Option<Instant>,
    /// Writes are not let through, since a majority of the Sentinels is missing.
    closed: bool,
    next_ask: Instant,
}

#[derive(Debug)]
struct Master {
    address: Address,
    epoch: u64,
    /// It says that it is master, and the Sentinels do not say so yet.
    provisional: Option<Provisional>,
    /// When it said that it is no master: what the Sentinels agree on since counts again, of whatever epoch.
    disowned: Option<Instant>,
}

impl Master {
    /// Whether the Sentinels have yet to say that it is master.
    fn is_ahead(&self, now: Instant) -> bool {
        self.provisional.as_ref().is_some_and(|switch| now < switch.until)
    }

    /// Since when it is in doubt: since it said that it is no master, or its promotion should have been confirmed.
    fn doubted_since(&self) -> Option<Instant> {
        self.disowned.or(self.provisional.as_ref().map(|switch| switch.until))
    }
}

/// A switch ahead of the Sentinels' word.
#[derive(Debug)]
struct Provisional {
    /// The Sentinel that leads the failover.
    leader: Address,
    /// They have had the time to say so, or the leader has given up.
    until: Instant,
}

#[derive(Debug)]
struct Promotion {
    /// The Sentinel that leads the failover.
    leader: Address,
    candidate: Address,
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
            connected: false,
            unconfirmed: None,
            closed: false,
            next_ask: now,
        }
    }

    /// When [`Input::Tick`] is due.
    pub(crate) fn next_tick(&self) -> Instant {
        let promotion = self.promotion.as_ref();
        let promotion = promotion.map(|promotion| promotion.held_until.unwrap_or(promotion.given_up));
        promotion.map_or(self.next_ask, |at| at.min(self.next_ask))
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
                self.connected = false;
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
        let met = self.council.meet(&sentinel);
        if !met.is_empty() {
            actions.push(Action::Meet(met));
        }
        actions.extend(self.council.forget(&sentinel).into_iter().map(Action::Forget));
        self.decide(now, actions);
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
                self.on_selected(sentinel, replica, now, actions);
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
        let council = &self.council;
        let Some(best) = council.best() else { return };
        let follow = match &mut self.master {
            None => council.is_settled(),
            Some(master) if master.address == best.address => {
                // All agree, afresh, on a lower epoch: they were made anew, and their epochs begin anew.
                let reset = master.provisional.is_none() && council.is_unanimous_on(&best);
                if best.epoch > master.epoch || reset {
                    master.provisional = None;
                    master.epoch = best.epoch;
                }
                false
            }
            // Who still names the master that was just replaced is behind, whatever epoch that one had.
            Some(master) if master.is_ahead(now) && self.former.last() == Some(&best.address) => false,
            Some(master) if best.epoch > master.epoch => true,
            Some(master) if master.is_ahead(now) => false,
            Some(master) => match master.doubted_since() {
                // The promotion did not last, or was never heard of.
                Some(since) => council.is_agreed_on(&best, since),
                // All agree, afresh, on what is not newer: their configuration was made anew by hand.
                None => council.is_unanimous_on(&best),
            },
        };
        if follow {
            let Candidate { address, epoch, .. } = best;
            self.follow(address, epoch, None, now, actions);
        }
    }

    fn follow(
        &mut self,
        address: Address,
        epoch: u64,
        provisional: Option<Provisional>,
        now: Instant,
        actions: &mut Vec<Action>,
    ) {
        (self.connected, self.unconfirmed, self.next_hold) = (false, None, now);
        let next = Master { address: address.clone(), epoch, provisional, disowned: None };
        let former = self.master.replace(next);
        self.former.extend(former.map(|master| master.address));
        self.former.retain(|former| *former != address);
        self.former.drain(..self.former.len().saturating_sub(MOST_FORMER));
        actions.push(Action::Follow(address));
        if self.promotion.take().is_some() {
            actions.push(Action::Unwatch);
        }
    }

    /// The replicas that the Sentinels name; `None` when none of them answers.
    pub(crate) fn replicas(&self) -> Option<Vec<Replica>> {
        self.council.replicas()
    }

    /// A connection is made again only to a master that the Sentinels still name, if they can be asked.
    fn confirm(&mut self, actions: &mut Vec<Action>) {
        if self.unconfirmed.is_some_and(|since| self.council.is_settled_since(since)) {
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
    fn on_selected(&mut self, leader: Address, replica: Address, now: Instant, actions: &mut Vec<Action>) {
        if self.master.as_ref().is_some_and(|master| master.address == replica) {
            return;
        }
        if !self.council.may_be_replica(&replica) {
            return self.ask(now, actions);
        }
        let before = self.promotion.take();
        let watched = before.as_ref().is_some_and(|promotion| promotion.candidate == replica);
        if before.is_some() && !watched {
            actions.push(Action::Unwatch);
        }
        // A hold that goes on is not made longer, and one that came to nothing is not soon followed by another.
        let held_until = before.and_then(|promotion| promotion.held_until).or_else(|| {
            let hold = self.rules.promotion_hold;
            let may_hold = !hold.is_zero() && self.next_hold <= now;
            may_hold.then(|| {
                actions.push(Action::Hold);
                self.next_hold = now + hold * HOLD_SHARE;
                now + hold
            })
        });
        if !watched {
            let before = self.former.contains(&replica);
            actions.push(Action::Watch { replica: replica.clone(), before });
        }
        // It is watched for as long as commands are held back for it.
        let given_up = now + WATCH.max(self.rules.promotion_hold);
        self.promotion = Some(Promotion { leader, candidate: replica, held_until, given_up });
    }

    fn on_promoted(&mut self, replica: Address, now: Instant, actions: &mut Vec<Action>) {
        let Some(promotion) = &self.promotion else { return };
        if promotion.candidate == replica {
            let provisional = Provisional { leader: promotion.leader.clone(), until: now + CONFIRMATION };
            // What the Sentinels say now is of the epoch before the promotion.
            let said = self.council.best().map_or(0, |best| best.epoch);
            let epoch = self.master.as_ref().map_or(said, |master| master.epoch.max(said));
            self.follow(replica, epoch, Some(provisional), now, actions);
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
        self.connected = false;
        if let Some(master) = &mut self.master {
            master.provisional = None;
            master.disowned.get_or_insert(now);
        }
    }

    fn on_connected(&mut self) {
        self.connected = true;
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
        if self.next_ask <= now {
            self.ask(now, actions);
        }
    }

    fn ask(&mut self, now: Instant, actions: &mut Vec<Action>) {
        self.next_ask = now + if self.connected { POLL } else { URGENT_POLL };
        self.council.ask();
        actions.push(Action::Ask);
    }

    /// Why there is no master: whom we asked, and what each said.
    pub(crate) fn account(&self) -> String {
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
