//! The Sentinels: which there are, what each said last, and what they agree on.
//!
//! Those that answer decide by majority, and those that did a moment ago are counted with them: who is gone for long
//! takes no part, nor does an address in the configuration at which nobody ever answered.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::address::Address;
use crate::sentinel::NoAnswer;
use crate::sentinel::member::Member;
use crate::sentinel::replicas::listed_replicas;
use crate::sentinel::view::{Instance, MasterView, View};
use crate::topology::Replica;

/// So many Sentinels are listened to at the most, however many they name.
pub(super) const MOST_SENTINELS: usize = 16;

/// A server that a majority does not list any more counts as listed for so long: Sentinels that are reset list no replica
/// for ten seconds, each for seconds of its own.
const VOUCHED: Duration = Duration::from_secs(60);

/// The Sentinels: those of the configuration and those that were met.
#[derive(Debug)]
pub(super) struct Council {
    pub(super) members: BTreeMap<Address, Member>,
    /// Whether more were listed than are listened to.
    pub(super) is_crowded: bool,
    /// Some of those that were forgotten, and their ids.
    former: BTreeMap<Address, String>,
    /// The servers that a majority has known, as the master or as replicas, and when it did so last.
    vouched: BTreeMap<Address, Instant>,
}

/// A master that Sentinels name.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) address: Address,
    pub(super) epoch: u64,
    /// How many Sentinels name it.
    pub(super) votes: usize,
}

/// An answer that counts.
pub(super) struct Vote<'a> {
    member: &'a Member,
    pub(super) view: &'a View,
    pub(super) master: &'a MasterView,
}

/// What tells a Sentinel apart: its id, where it is known, or its address. Two that give the same id and name different
/// masters are not one.
type Identity<'a> = (Result<&'a str, &'a Address>, Option<&'a Address>);

fn identity<'a>((address, member): (&'a Address, &'a Member)) -> Identity<'a> {
    (member.id.as_deref().ok_or(address), member.named())
}

impl Council {
    pub(super) fn new(sentinels: &[Address], first_tries: u32) -> Self {
        let members = sentinels.iter().map(|address| (address.clone(), Member::configured(first_tries)));
        Self {
            members: members.collect(),
            is_crowded: false,
            former: BTreeMap::new(),
            vouched: BTreeMap::new(),
        }
    }

    pub(super) fn knows(&self, sentinel: &Address) -> bool {
        self.members.contains_key(sentinel)
    }

    /// Books what a Sentinel answered to the question that was `asked` then, or why it did not.
    pub(super) fn hear(&mut self, sentinel: &Address, asked: Instant, answer: Result<View, NoAnswer>) {
        if let Some(member) = self.members.get_mut(sentinel) {
            member.hear(asked, answer);
        }
    }

    /// Time has passed: who is gone for long takes no part any more.
    pub(super) fn age(&mut self, now: Instant, connected: bool) {
        self.members.values_mut().for_each(|member| member.age(now, connected));
    }

    /// A Sentinel has stopped to act, or acts again.
    pub(super) fn set_tilt(&mut self, sentinel: &Address, tilt: bool) {
        if let Some(view) = self.members.get_mut(sentinel).and_then(Member::view_mut) {
            view.tilt = tilt;
        }
    }

    /// All are asked again.
    pub(super) fn ask(&mut self) {
        self.members.values_mut().for_each(Member::ask);
    }

    /// Sentinels that a majority lists and that were not known: they belong to the council from now on.
    pub(super) fn meet(&mut self) -> Vec<Address> {
        let (mut met, quorate) = (Vec::new(), self.is_quorate());
        for (address, id) in self.listed() {
            // One alone can bring back who belonged to them before, and nobody else.
            if !quorate && self.former.get(&address) != Some(&id) {
                continue;
            }
            if let Some(known) = self.members.get_mut(&address) {
                known.id.get_or_insert(id);
            } else if self.members.len() >= MOST_SENTINELS {
                self.is_crowded = true;
            } else if !self.answers_elsewhere(&id) {
                self.members.insert(address.clone(), Member::met(&id));
                met.push(address);
            }
        }
        met
    }

    /// Forgets those that were met and are not needed: no majority lists them any more and they do not answer, or they
    /// answer at an address of the configuration as well.
    pub(super) fn forget(&mut self) -> Vec<Address> {
        let listed = self.listed();
        let heard = self.votes().count() >= self.majority() && self.is_quorate();
        let is_needed = |address: &Address, member: &Member| {
            let vanished = heard && member.failure().is_some() && !listed.contains_key(address);
            let is_double = || member.id.as_ref().is_some_and(|id| self.answers_elsewhere(id));
            member.configured || !(vanished || is_double())
        };
        let gone = self.members.iter().filter(|(address, member)| !is_needed(address, member));
        let gone: Vec<_> = gone.map(|(address, _)| address.clone()).collect();
        for address in &gone {
            let id = self.members.remove(address).and_then(|member| member.id);
            self.former.extend(id.map(|id| (address.clone(), id)));
        }
        while self.former.len() > MOST_SENTINELS {
            self.former.pop_first();
        }
        gone
    }

    /// Counts no more who has been gone for long and is listed by no majority: others have taken its place.
    pub(super) fn dismiss(&mut self) {
        if !self.is_quorate() {
            return;
        }
        let listed = self.listed();
        for (address, member) in &mut self.members {
            let is_listed =
                listed.contains_key(address) || listed.values().any(|id| member.id.as_ref() == Some(id));
            member.dismissed = !(is_listed || member.is_there() || member.is_awaited());
        }
    }

    /// Whether those who answer may say who is one of them: half of those that are known, so that the others are no
    /// majority without them, and not one alone.
    fn is_quorate(&self) -> bool {
        let (votes, known) = (self.votes().count(), self.known());
        known <= 2 * votes && (votes > 1 || known == 1)
    }

    /// Whether more than half of all Sentinels that are known name it, those included that are gone.
    pub(super) fn is_majority(&self, choice: &Candidate) -> bool {
        choice.votes > self.known() / 2
    }

    /// The Sentinels that a majority lists: their addresses and ids.
    fn listed(&self) -> BTreeMap<Address, String> {
        let mut votes: BTreeMap<_, usize> = BTreeMap::new();
        for vote in self.votes() {
            let others: BTreeSet<_> = vote.view.sentinels.iter().collect();
            others.into_iter().for_each(|other| *votes.entry(other).or_default() += 1);
        }
        let listed = votes.into_iter().filter(|(_, votes)| *votes >= self.majority());
        listed.map(|(other, _)| (other.address.clone(), other.id.clone())).collect()
    }

    /// Whether the Sentinel of this id answers at an address of the configuration that other Sentinels do not know it by:
    /// it may be configured by a name and announce an address.
    fn answers_elsewhere(&self, id: &str) -> bool {
        let listed = |address: &Address| {
            self.votes().any(|vote| vote.view.sentinels.iter().any(|other| other.address == *address))
        };
        let mut members = self.members.iter().filter(|(_, member)| member.configured);
        members.any(|(address, member)| {
            member.id.as_deref() == Some(id) && member.view().is_some() && !listed(address)
        })
    }

    /// The master that a majority of the Sentinels names, in the highest epoch that a majority has reached.
    pub(super) fn choice(&self) -> Option<Candidate> {
        self.choice_of(|_| true)
    }

    /// As [`Council::choice`], by what the Sentinels were asked `since` then. All questions since then count, not the
    /// last alone: Sentinels that take longer to answer than until the next one would never count together.
    pub(super) fn choice_since(&self, since: Instant) -> Option<Candidate> {
        self.choice_of(|vote| vote.member.is_since(since))
    }

    fn choice_of(&self, counts: impl Fn(&Vote<'_>) -> bool) -> Option<Candidate> {
        let mut votes: BTreeMap<&Address, Vec<u64>> = BTreeMap::new();
        for vote in self.votes().filter(counts) {
            votes.entry(&vote.master.address).or_default().push(vote.master.epoch);
        }
        let majority = self.majority();
        let (address, mut epochs) = votes.into_iter().find(|(_, epochs)| epochs.len() >= majority)?;
        epochs.sort_unstable_by_key(|epoch| std::cmp::Reverse(*epoch));
        Some(Candidate { address: address.clone(), epoch: *epochs.get(majority - 1)?, votes: epochs.len() })
    }

    /// The master that any Sentinel names in the highest epoch, and most of those if they differ: for a start without a
    /// majority. One that a majority knows at all comes before all others.
    pub(super) fn newest(&self) -> Option<Candidate> {
        let mut votes: BTreeMap<(u64, &Address), usize> = BTreeMap::new();
        for vote in self.votes() {
            *votes.entry((vote.master.epoch, &vote.master.address)).or_default() += 1;
        }
        let named = votes.into_iter().map(|((epoch, address), votes)| {
            let is_vouched_for = self.vouches_for(address);
            (is_vouched_for, Candidate { address: address.clone(), epoch, votes })
        });
        let newest = named.max_by_key(|(vouched_for, named)| (*vouched_for, named.epoch, named.votes));
        newest.map(|(_, named)| named)
    }

    /// Whether any Sentinel names this master, in this epoch or a later one.
    pub(super) fn names(&self, master: &Address, epoch: u64) -> bool {
        self.votes().any(|vote| vote.master.address == *master && epoch <= vote.master.epoch)
    }

    /// What one Sentinel names.
    pub(super) fn named_by(&self, sentinel: &Address) -> Option<Candidate> {
        let master = self.members.get(sentinel)?.master()?;
        Some(Candidate { address: master.address.clone(), epoch: master.epoch, votes: 1 })
    }

    /// Whether all have answered, or failed to, since they were asked last, and none is waited for.
    pub(super) fn is_heard(&self) -> bool {
        self.members.values().all(|member| member.current && !member.is_awaited())
    }

    /// Whether all have answered what they were asked `since` then, or have failed to.
    pub(super) fn is_heard_since(&self, since: Instant) -> bool {
        self.members.values().all(|member| member.is_since(since))
    }

    /// How many Sentinels could take part in a failover: they answer, know the master, and do not only watch. What one in
    /// TILT mode says of the master counts all the same: it takes over what the others tell it.
    pub(super) fn acting(&self) -> usize {
        self.votes().filter(|vote| !vote.view.tilt).count()
    }

    /// How many Sentinels there are, as far as is known: those that ever answered and those that a majority lists. What
    /// they say of how many there are is not believed.
    pub(super) fn known(&self) -> usize {
        self.count(Member::is_known)
    }

    /// More than half of the Sentinels that are there, or may be: who has not answered yet is waited for.
    pub(super) fn majority(&self) -> usize {
        self.count(|member| member.is_awaited() || member.is_there()) / 2 + 1
    }

    /// How many Sentinels are behind these members. One may be configured by a name and announce an address: until it has
    /// answered by that name, nobody can tell that the two are one. So those of the configuration and those whose ids are
    /// known are counted each for themselves, and the larger number is right.
    fn count(&self, counts: impl Fn(&Member) -> bool) -> usize {
        let of = |is_of: fn(&Member) -> bool| {
            let members = self.members.iter().filter(|(_, member)| is_of(member) && counts(member));
            members.map(identity).collect::<BTreeSet<_>>().len()
        };
        of(|member| member.configured).max(of(|member| member.id.is_some()))
    }

    /// The replicas that a majority of the Sentinels lists; `None` when too few of them are there to tell.
    pub(super) fn replicas(&self, is_well: fn(&Instance) -> bool) -> Option<Vec<Replica>> {
        let views: Vec<_> = self.last_views().collect();
        let can_tell = self.votes().next().is_some() && views.len() >= self.majority();
        can_tell.then(|| listed_replicas(&views, self.majority(), is_well))
    }

    /// Whether a majority of the Sentinels knows this server, as the master or as a replica, or did so not long ago.
    pub(super) fn vouches_for(&self, address: &Address) -> bool {
        self.vouched.contains_key(address)
    }

    /// Remembers which servers a majority knows.
    pub(super) fn vouch(&mut self, now: Instant) {
        let mut votes: BTreeMap<&Address, usize> = BTreeMap::new();
        for view in self.last_views() {
            view.servers().into_iter().for_each(|server| *votes.entry(server).or_default() += 1);
        }
        let majority = self.majority();
        let known = votes.into_iter().filter(|(_, votes)| *votes >= majority);
        let known: Vec<_> = known.map(|(server, _)| (server.clone(), now)).collect();
        self.vouched.extend(known);
        self.vouched.retain(|_, last| now < *last + VOUCHED);
    }

    /// A Sentinel has selected a replica; whether that one is asked for its role. None has others asked all the time.
    pub(super) fn may_select(&mut self, sentinel: &Address, now: Instant) -> bool {
        self.members.get_mut(sentinel).is_some_and(|member| member.may_select(now))
    }

    /// Whom we asked, and what each said.
    pub(super) fn account(&self, master_name: &str) -> String {
        let said = self.members.iter().map(|(address, member)| match (member.view(), member.failure()) {
            (Some(View { master: Some(master), tilt, .. }), _) => {
                let tilt = if *tilt { " in TILT mode" } else { "" };
                format!("{address} names {}{tilt}", master.address)
            }
            (Some(View { refusal: Some(refusal), .. }), _) => format!("{address} answered: {refusal}"),
            (Some(_), _) => format!("{address} knows no master named `{master_name}`"),
            (None, Some(failure)) => format!("{address} did not answer: {failure}"),
            (None, None) => format!("{address} has not answered yet"),
        });
        said.collect::<Vec<_>>().join("; ")
    }

    /// Whether one has answered what it was asked.
    pub(super) fn has_answer(&self) -> bool {
        let mut views = self.members.values().filter_map(Member::view);
        views.any(|view| view.refusal.is_none())
    }

    /// The answers that count, one a Sentinel.
    pub(super) fn votes(&self) -> impl Iterator<Item = Vote<'_>> {
        let mut seen = BTreeSet::new();
        self.members.iter().filter_map(move |(address, member)| {
            let vote = Vote { member, view: member.view()?, master: member.master()? };
            seen.insert(identity((address, member))).then_some(vote)
        })
    }

    /// What each Sentinel that is there said last, one a Sentinel.
    fn last_views(&self) -> impl Iterator<Item = &View> {
        let mut seen = BTreeSet::new();
        self.members.iter().filter_map(move |(address, member)| {
            let view = member.last_view()?;
            seen.insert(identity((address, member))).then_some(view)
        })
    }
}
