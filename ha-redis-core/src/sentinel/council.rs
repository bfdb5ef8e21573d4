//! What each Sentinel said last, and what they agree on.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use crate::address::Address;
use crate::sentinel::view::MasterView;
use crate::sentinel::{View, listed_replicas};
use crate::topology::Replica;

/// So many Sentinels are listened to at the most, however many they name.
pub(super) const MOST_SENTINELS: usize = 16;

/// The Sentinels: those of the configuration and those that were met.
#[derive(Debug)]
pub(super) struct Council {
    configured: BTreeSet<Address>,
    sentinels: BTreeMap<Address, Said>,
    /// Addresses of Sentinels that answer at another one, too: they are not asked twice.
    aliases: BTreeMap<Address, Address>,
}

/// What a Sentinel said last.
#[derive(Debug, Default)]
struct Said {
    answer: Option<Result<View, String>>,
    /// When it was asked for that.
    asked: Option<Instant>,
    /// Whether it has answered since it was asked last. An error stands until there is an answer: Sentinels that fail
    /// after different times would never count together.
    current: bool,
}

impl Said {
    /// Whether it was asked for this `since` then; an error stands here, too.
    fn is_since(&self, since: Instant) -> bool {
        matches!(self.answer, Some(Err(_))) || self.asked.is_some_and(|asked| since <= asked)
    }
}

/// A master that at least one Sentinel names.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) address: Address,
    pub(super) epoch: u64,
    votes: usize,
}

impl Council {
    pub(super) fn new(sentinels: &[Address]) -> Self {
        let configured: BTreeSet<_> = sentinels.iter().cloned().collect();
        let sentinels = configured.iter().map(|address| (address.clone(), Said::default())).collect();
        Self { configured, sentinels, aliases: BTreeMap::new() }
    }

    pub(super) fn knows(&self, sentinel: &Address) -> bool {
        self.sentinels.contains_key(sentinel)
    }

    /// Books what a Sentinel answered to the question that was `asked` then, or why it did not.
    pub(super) fn hear(&mut self, sentinel: &Address, asked: Instant, answer: Result<View, String>) {
        // An address in front of several Sentinels leads to another one at times: its aliases are the former one's.
        let id = |view: &View| view.id.clone();
        if self.view(sentinel).and_then(id) != answer.as_ref().ok().and_then(id) {
            self.aliases.retain(|_, to| to != sentinel);
        }
        let said = Said { answer: Some(answer), asked: Some(asked), current: true };
        self.sentinels.insert(sentinel.clone(), said);
    }

    /// A Sentinel has stopped to act, or acts again.
    pub(super) fn set_tilt(&mut self, sentinel: &Address, tilt: bool) {
        if let Some(Said { answer: Some(Ok(view)), .. }) = self.sentinels.get_mut(sentinel) {
            view.tilt = tilt;
        }
    }

    /// All are asked again.
    pub(super) fn ask(&mut self) {
        for said in self.sentinels.values_mut() {
            said.current = matches!(said.answer, Some(Err(_)));
        }
    }

    /// Sentinels that this one names and nobody has named before; they belong to the council from now on.
    pub(super) fn meet(&mut self, sentinel: &Address) -> Vec<Address> {
        let Some(view) = self.view(sentinel) else { return Vec::new() };
        let is_new = |address: &&Address| !self.knows(address) && !self.aliases.contains_key(*address);
        let room = MOST_SENTINELS.saturating_sub(self.sentinels.len());
        let new: BTreeSet<_> = view.sentinels.iter().filter(is_new).cloned().collect();
        let new: Vec<_> = new.into_iter().take(room).collect();
        self.sentinels.extend(new.iter().map(|address| (address.clone(), Said::default())));
        new
    }

    /// Forgets those that were met and are not needed: they do not answer and no other one names them any more, or
    /// this one, which has just answered, answers at two addresses.
    pub(super) fn forget(&mut self, sentinel: &Address) -> Vec<Address> {
        let mut gone = self.vanished();
        if let Some((alias, of)) = self.alias(sentinel) {
            self.aliases.insert(alias.clone(), of);
            gone.push(alias);
        }
        gone.iter().for_each(|address| _ = self.sentinels.remove(address));
        gone
    }

    fn vanished(&self) -> Vec<Address> {
        let named: BTreeSet<_> = self.views().flat_map(|(_, view)| &view.sentinels).collect();
        let gone = |(address, said): (&Address, &Said)| {
            let silent = matches!(said.answer, Some(Err(_)));
            let needed = named.contains(address) || self.configured.contains(address);
            (silent && !needed && !named.is_empty()).then(|| address.clone())
        };
        self.sentinels.iter().filter_map(gone).collect()
    }

    /// An address under which a Sentinel was met that is heard at another one as well, and that other one: a Sentinel
    /// may be configured by a name and announce an address.
    fn alias(&self, sentinel: &Address) -> Option<(Address, Address)> {
        let id = self.view(sentinel)?.id.as_ref()?;
        let mut others = self.views().filter(|(address, _)| *address != sentinel);
        let (other, _) = others.find(|(_, view)| view.id.as_ref() == Some(id))?;
        let is_met = |address: &&Address| !self.configured.contains(*address);
        if is_met(&sentinel) {
            return Some((sentinel.clone(), other.clone()));
        }
        is_met(&other).then(|| (other.clone(), sentinel.clone()))
    }

    /// The master that the Sentinels name in the highest epoch, and most of them if they differ. An epoch is given
    /// out by a majority of them, once a failover: so the highest one is right, whoever tells it, and an answer of a
    /// lower one is old.
    pub(super) fn best(&self) -> Option<Candidate> {
        let mut votes: BTreeMap<(u64, &Address), usize> = BTreeMap::new();
        for (_, master, _) in self.voters() {
            *votes.entry((master.epoch, &master.address)).or_default() += 1;
        }
        let (&(epoch, address), &votes) = votes.iter().max_by_key(|((epoch, _), votes)| (*epoch, **votes))?;
        Some(Candidate { address: address.clone(), epoch, votes })
    }

    /// Whether a majority knows the master, or no more answers are to come.
    pub(super) fn is_settled(&self) -> bool {
        self.voters().count() > self.known() / 2 || self.is_heard()
    }

    /// As [`Council::is_settled`], by what the Sentinels were asked `since` then. All questions since then count, not the
    /// last alone: Sentinels that take longer to answer than until the next one would never count together.
    pub(super) fn is_settled_since(&self, since: Instant) -> bool {
        let voters = self.voters().filter(|(said, ..)| said.is_since(since)).count();
        voters > self.known() / 2 || self.sentinels.values().all(|said| said.is_since(since))
    }

    /// Whether all have answered, or failed to, since they were asked last.
    pub(super) fn is_heard(&self) -> bool {
        self.sentinels.values().all(|said| said.current)
    }

    /// Whether a majority names this candidate, and all who know the master were asked `since` then.
    pub(super) fn is_agreed_on(&self, candidate: &Candidate, since: Instant) -> bool {
        self.voters().all(|(said, ..)| said.is_since(since)) && candidate.votes > self.known() / 2
    }

    /// Whether every known Sentinel has named this candidate since they were asked last.
    pub(super) fn is_unanimous_on(&self, candidate: &Candidate) -> bool {
        self.voters().all(|(said, ..)| said.current)
            && candidate.votes == self.known()
            && candidate.votes == self.voters().count()
    }

    /// How many of the known Sentinels could take part in a failover: they answer, know the master, and do not only
    /// watch.
    pub(super) fn acting(&self) -> usize {
        self.voters().filter(|(.., view)| !view.tilt).count()
    }

    /// How many Sentinels there are, as far as is known: no fewer than the configuration names, and than one of them
    /// knows.
    pub(super) fn known(&self) -> usize {
        let configured: BTreeSet<_> = self.configured.iter().map(|address| self.identity(address)).collect();
        self.voters().map(|(_, master, _)| master.other_sentinels + 1).fold(configured.len(), usize::max)
    }

    /// The replicas that the Sentinels name; `None` when none of them answers.
    pub(super) fn replicas(&self) -> Option<Vec<Replica>> {
        let views: Vec<_> = self.voters().map(|(.., view)| view).collect();
        (!views.is_empty()).then(|| listed_replicas(&views))
    }

    /// Whether this is a replica by any account, or there is none yet.
    pub(super) fn may_be_replica(&self, address: &Address) -> bool {
        let mut replicas = self.views().flat_map(|(_, view)| &view.replicas).peekable();
        replicas.peek().is_none() || replicas.any(|replica| replica.address == *address)
    }

    /// Whom we asked, and what each said.
    pub(super) fn account(&self, master_name: &str) -> String {
        let said = self.sentinels.iter().map(|(address, said)| match &said.answer {
            Some(Ok(View { master: Some(master), tilt, .. })) => {
                let tilt = if *tilt { " in TILT mode" } else { "" };
                format!("{address} names {}{tilt}", master.address)
            }
            Some(Ok(View { refusal: Some(refusal), .. })) => format!("{address} answered: {refusal}"),
            Some(Ok(_)) => format!("{address} knows no master named `{master_name}`"),
            Some(Err(error)) => format!("{address} did not answer: {error}"),
            None => format!("{address} has not answered yet"),
        });
        said.collect::<Vec<_>>().join("; ")
    }

    /// Whether one has answered what it was asked.
    pub(super) fn has_answer(&self) -> bool {
        self.views().any(|(_, view)| view.refusal.is_none())
    }

    fn view(&self, sentinel: &Address) -> Option<&View> {
        self.sentinels.get(sentinel)?.answer.as_ref()?.as_ref().ok()
    }

    fn views(&self) -> impl Iterator<Item = (&Address, &View)> {
        self.sentinels.keys().filter_map(|address| Some((address, self.view(address)?)))
    }

    /// The answers that count, one a Sentinel.
    fn voters(&self) -> impl Iterator<Item = (&Said, &MasterView, &View)> {
        let mut seen = BTreeSet::new();
        self.sentinels.iter().filter_map(move |(address, said)| {
            let view = self.view(address)?;
            let master = view.master.as_ref()?;
            seen.insert(self.identity(address)).then_some((said, master, view))
        })
    }

    /// What tells a Sentinel apart, whatever its address: its id, where it is known.
    fn identity(&self, address: &Address) -> String {
        let id = self.view(address).and_then(|view| view.id.clone());
        id.unwrap_or_else(|| address.to_string())
    }
}
