//! The state machine that follows the master: what was heard goes in, what is to be done comes out.
//!
//! A failover, as it sees one: a Sentinel that leads it publishes which replica it has selected. From then on
//! commands are held back, and that replica is asked for its role until it says master: it is followed at
//! once, although the Sentinels agree on it only a second later (until then the switch is *provisional*). A
//! failover whose events were missed is noticed in the Sentinels' answers, by its higher epoch.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::address::Address;
use crate::sentinel::{Event, View, listed_replicas};
use crate::topology::Replica;

/// Commands are held back for no longer than this while a replica is being promoted.
const HOLD: Duration = Duration::from_secs(2);
/// A selected replica that has not become master after this is not asked any more.
const WATCH: Duration = Duration::from_secs(30);
/// Sentinels take about a second to agree on a promotion. What they have not confirmed after this did not last.
const CONFIRMATION: Duration = Duration::from_secs(10);
/// How often the Sentinels are asked, in case an event was missed, while all is well.
const POLL: Duration = Duration::from_secs(2);
/// How often they are asked while there is no connection to a master.
const URGENT_POLL: Duration = Duration::from_millis(250);
/// So many Sentinels are listened to at the most, however many they name.
const MOST_SENTINELS: usize = 16;

/// Something that was heard.
#[derive(Clone, Debug)]
pub(crate) enum Input {
    /// What a Sentinel answered, or why it did not.
    Answer { sentinel: Address, answer: Result<View, String> },
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
    /// Send nothing more to the master for now.
    Hold,
    /// Go on sending.
    Release,
    /// Ask this replica for its role, again and again, until it is master.
    Watch(Address),
    /// Stop asking.
    Unwatch,
    /// Tell those who wait why there is no master.
    Fail(String),
}

#[derive(Debug)]
pub(crate) struct Follower {
    master_name: String,
    configured: BTreeSet<Address>,
    sentinels: BTreeMap<Address, Said>,
    master: Option<Master>,
    promotion: Option<Promotion>,
    connected: bool,
    next_ask: Instant,
}

/// What a Sentinel said last.
#[derive(Debug, Default)]
struct Said {
    answer: Option<Result<View, String>>,
    /// Whether it has answered since it was asked last. An error stands until there is an answer: Sentinels that
    /// fail after different times would never count together.
    current: bool,
}

#[derive(Debug)]
struct Master {
    address: Address,
    epoch: u64,
    /// It says that it is master, and the Sentinels do not say so yet.
    provisional: Option<Provisional>,
    /// It says that it is no master: what the Sentinels agree on counts again, of whatever epoch.
    disowned: bool,
}

/// A switch ahead of the Sentinels' word.
#[derive(Debug)]
struct Provisional {
    /// The Sentinel that leads the failover.
    leader: Address,
    /// They have had the time to say so.
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

/// A master that at least one Sentinel names.
#[derive(Debug, PartialEq, Eq)]
struct Candidate {
    epoch: u64,
    votes: usize,
    address: Address,
}

impl Follower {
    pub(crate) fn new(master_name: &str, sentinels: &[Address], now: Instant) -> Self {
        let configured: BTreeSet<_> = sentinels.iter().cloned().collect();
        Self {
            master_name: master_name.to_owned(),
            sentinels: configured.iter().map(|address| (address.clone(), Said::default())).collect(),
            configured,
            master: None,
            promotion: None,
            connected: false,
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
            Input::Answer { sentinel, answer } => self.on_answer(sentinel, answer, now, &mut actions),
            Input::Heard { sentinel, event: Event::Selected(replica) } => {
                self.on_selected(sentinel, replica, now, &mut actions);
            }
            Input::Heard { sentinel, event: Event::Aborted } => {
                self.on_aborted(&sentinel, &mut actions);
                self.ask(now, &mut actions);
            }
            Input::Heard { event: Event::News, .. } | Input::Subscribed => self.ask(now, &mut actions),
            Input::Connected => self.connected = true,
            Input::Lost => {
                self.connected = false;
                self.ask(now, &mut actions);
            }
            Input::NotMaster => {
                self.connected = false;
                if let Some(master) = &mut self.master {
                    master.provisional = None;
                    master.disowned = true;
                }
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
        answer: Result<View, String>,
        now: Instant,
        actions: &mut Vec<Action>,
    ) {
        let Some(said) = self.sentinels.get_mut(&sentinel) else { return };
        let others = answer.as_ref().map(|view| view.sentinels.clone()).unwrap_or_default();
        *said = Said { answer: Some(answer), current: true };
        self.meet(others, actions);
        self.forget(actions);
        self.decide(now, actions);
        if self.master.is_none() && self.sentinels.values().all(|said| said.current) {
            actions.push(Action::Fail(self.account()));
        }
    }

    /// Learns of Sentinels that the configuration does not name.
    fn meet(&mut self, others: Vec<Address>, actions: &mut Vec<Action>) {
        // One that is configured by another name than its own is met twice; its id keeps it from voting twice.
        let room = MOST_SENTINELS.saturating_sub(self.sentinels.len());
        let new = others.into_iter().filter(|address| !self.sentinels.contains_key(address));
        let new: Vec<_> = new.collect::<BTreeSet<_>>().into_iter().take(room).collect();
        if !new.is_empty() {
            self.sentinels.extend(new.iter().map(|address| (address.clone(), Said::default())));
            actions.push(Action::Meet(new));
        }
    }

    /// Forgets a Sentinel that was met, does not answer, and that no other one names any more.
    fn forget(&mut self, actions: &mut Vec<Action>) {
        let answers = || self.sentinels.values().filter_map(|said| said.answer.as_ref());
        let named: BTreeSet<_> = answers().flatten().flat_map(|view| &view.sentinels).cloned().collect();
        let gone = |(address, said): (&Address, &Said)| {
            let silent = matches!(said.answer, Some(Err(_)));
            let needed = named.contains(address) || self.configured.contains(address);
            (silent && !needed && !named.is_empty()).then(|| address.clone())
        };
        for address in self.sentinels.iter().filter_map(gone).collect::<Vec<_>>() {
            self.sentinels.remove(&address);
            actions.push(Action::Forget(address));
        }
    }

    /// Follows what the Sentinels agree on. An epoch is given out by a majority of them, once a failover: so the
    /// highest one is right, whoever tells it, and an answer of a lower one is old.
    fn decide(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let voters = self.voters(false);
        let known = self.known_sentinels(&voters);
        let Some(best) = self.best(&voters) else { return };
        let unanimous = self.voters(true);
        let unanimous = if unanimous.len() == voters.len() { best.votes } else { 0 };
        let follow = match &mut self.master {
            None => voters.len() > known / 2 || self.sentinels.values().all(|said| said.current),
            Some(master) if master.address == best.address => {
                if best.epoch > master.epoch {
                    master.provisional = None;
                }
                master.epoch = master.epoch.max(best.epoch);
                false
            }
            Some(master) if best.epoch > master.epoch => true,
            Some(master) if master.provisional.as_ref().is_some_and(|switch| now < switch.until) => false,
            // The promotion did not last.
            Some(master) if master.disowned => unanimous > known / 2,
            // All agree, afresh, on what is not newer: their configuration was made anew by hand.
            Some(_) => unanimous == known && best.votes == voters.len(),
        };
        if follow {
            self.follow(best.address, best.epoch, None, actions);
        }
    }

    /// The answers that count, one a Sentinel: all, or only those since the Sentinels were asked last.
    fn voters(&self, current: bool) -> Vec<View> {
        let mut seen = BTreeSet::new();
        let answers = self.sentinels.iter().filter_map(|(address, said)| match &said.answer {
            Some(Ok(view)) if view.master.is_some() && (said.current || !current) => Some((address, view)),
            _ => None,
        });
        let distinct = answers
            .filter(|(address, view)| seen.insert(view.id.clone().unwrap_or_else(|| address.to_string())));
        distinct.map(|(_, view)| view.clone()).collect()
    }

    /// The replicas that the Sentinels name; `None` when none of them answers.
    pub(crate) fn replicas(&self) -> Option<Vec<Replica>> {
        let voters = self.voters(false);
        (!voters.is_empty()).then(|| listed_replicas(&voters))
    }

    fn known_sentinels(&self, voters: &[View]) -> usize {
        let masters = voters.iter().filter_map(|view| view.master.as_ref());
        masters.map(|master| master.other_sentinels + 1).fold(self.configured.len(), usize::max)
    }

    fn best(&self, voters: &[View]) -> Option<Candidate> {
        let mut votes: BTreeMap<(u64, &Address), usize> = BTreeMap::new();
        for master in voters.iter().filter_map(|view| view.master.as_ref()) {
            *votes.entry((master.epoch, &master.address)).or_default() += 1;
        }
        let (&(epoch, address), &votes) = votes.iter().max_by_key(|((epoch, _), votes)| (*epoch, **votes))?;
        Some(Candidate { epoch, votes, address: address.clone() })
    }

    fn follow(
        &mut self,
        address: Address,
        epoch: u64,
        provisional: Option<Provisional>,
        actions: &mut Vec<Action>,
    ) {
        if self.promotion.take().is_some() {
            actions.push(Action::Unwatch);
        }
        self.connected = false;
        self.master = Some(Master { address: address.clone(), epoch, provisional, disowned: false });
        actions.push(Action::Follow(address));
    }

    fn on_selected(&mut self, leader: Address, replica: Address, now: Instant, actions: &mut Vec<Action>) {
        let followed = self.master.as_ref().is_some_and(|master| master.address == replica);
        let watched = self.promotion.as_ref().is_some_and(|promotion| promotion.candidate == replica);
        if followed || watched {
            return;
        }
        if self.promotion.is_some() {
            actions.push(Action::Unwatch);
        }
        actions.extend([Action::Hold, Action::Watch(replica.clone())]);
        let (held_until, given_up) = (Some(now + HOLD), now + WATCH);
        self.promotion = Some(Promotion { leader, candidate: replica, held_until, given_up });
    }

    fn on_promoted(&mut self, replica: Address, now: Instant, actions: &mut Vec<Action>) {
        let Some(promotion) = &self.promotion else { return };
        if promotion.candidate == replica {
            let provisional = Provisional { leader: promotion.leader.clone(), until: now + CONFIRMATION };
            // What the Sentinels say now is of the epoch before the promotion.
            let said = self.best(&self.voters(false)).map_or(0, |best| best.epoch);
            let epoch = self.master.as_ref().map_or(said, |master| master.epoch.max(said));
            self.follow(replica, epoch, Some(provisional), actions);
            self.ask(now, actions);
        }
    }

    /// The leader gave the failover up; what another Sentinel gave up does not matter.
    fn on_aborted(&mut self, sentinel: &Address, actions: &mut Vec<Action>) {
        if self.promotion.as_ref().is_some_and(|promotion| promotion.leader == *sentinel) {
            self.promotion = None;
            actions.extend([Action::Unwatch, Action::Release]);
        }
        if let Some(master) = &mut self.master
            && master.provisional.as_ref().is_some_and(|switch| switch.leader == *sentinel)
        {
            master.provisional = None;
            master.disowned = true;
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
        for said in self.sentinels.values_mut() {
            said.current = matches!(said.answer, Some(Err(_)));
        }
        actions.push(Action::Ask);
    }

    /// Why there is no master: whom we asked, and what each said.
    pub(crate) fn account(&self) -> String {
        let name = &self.master_name;
        let said = self.sentinels.iter().map(|(address, said)| match &said.answer {
            Some(Ok(View { master: Some(master), .. })) => format!("{address} names {}", master.address),
            Some(Ok(View { refusal: Some(refusal), .. })) => format!("{address} answered: {refusal}"),
            Some(Ok(_)) => format!("{address} knows no master named `{name}`"),
            Some(Err(error)) => format!("{address} did not answer: {error}"),
            None => format!("{address} has not answered yet"),
        });
        let said = said.collect::<Vec<_>>().join("; ");
        let answered = self.sentinels.values().any(|said| matches!(said.answer, Some(Ok(_))));
        if answered {
            format!("the Sentinels know no master named `{name}` (is sentinel_master_name right?): {said}")
        } else {
            format!("no Sentinel could be asked for the master `{name}`: {said}")
        }
    }
}

#[cfg(test)]
#[path = "follower_tests.rs"]
mod tests;
