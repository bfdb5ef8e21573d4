//! The Sentinels: which there are, what each said last, and what they agree on.
//!
//! Those that answer decide by majority, and those that did a moment ago are counted with them. Who has a vote at all,
//! [`SentinelVotes::electorate`] says. A voter counts by what it has answered:
//!
//! | a voter is | when | counts for the majority | counts as known |
//! |---|---|---|---|
//! | awaited | it has not answered yet, nor failed for good | yes | yes |
//! | there | it names a master, or did a while ago | yes | yes |
//! | gone | it did once, or others list it | no | yes |
//! | dismissed | it is gone, and nobody lists it any more | no | no |
//!
//! An address in the configuration at which nobody ever answered, and that has failed for good, takes no part.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::address::Address;
use crate::topology::Replica;
use crate::topology::sentinel::QueryError;
use crate::topology::sentinel::known_sentinel::KnownSentinel;
use crate::topology::sentinel::replicas::listed_replicas;
use crate::topology::sentinel::report::{ReportedMaster, ReportedReplica, SentinelReport};

/// So many Sentinels are listened to at the most, however many they name.
pub(super) const MAX_SENTINELS: usize = 16;

/// A server that a majority does not list any more counts as listed for so long: Sentinels that are reset list no replica
/// for ten seconds, each for seconds of its own.
const KNOWN_FOR: Duration = Duration::from_secs(60);

type Members<'a> = BTreeMap<&'a Address, &'a KnownSentinel>;

/// The Sentinels: those of the configuration and those that were met.
#[derive(Debug)]
pub(super) struct SentinelVotes {
    pub(super) members: BTreeMap<Address, KnownSentinel>,
    /// Whether more were listed than are listened to.
    pub(super) is_full: bool,
    /// The servers that a majority has known, as the master or as replicas, and when it did so last.
    known_servers: BTreeMap<Address, Instant>,
}

/// A master that Sentinels name.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct MasterCandidate {
    pub(super) address: Address,
    pub(super) epoch: u64,
    /// How many Sentinels name it.
    pub(super) votes: usize,
}

/// An answer that counts.
pub(super) struct Vote<'a> {
    member: &'a KnownSentinel,
    pub(super) view: &'a SentinelReport,
    pub(super) master: &'a ReportedMaster,
}

impl SentinelVotes {
    pub(super) fn new(sentinels: &[Address], initial_attempts: u32) -> Self {
        let members =
            sentinels.iter().map(|address| (address.clone(), KnownSentinel::configured(initial_attempts)));
        Self { members: members.collect(), is_full: false, known_servers: BTreeMap::new() }
    }

    pub(super) fn knows(&self, sentinel: &Address) -> bool {
        self.members.contains_key(sentinel)
    }

    /// Books what a Sentinel answered to the question that was `asked_at` then, or why it did not.
    pub(super) fn record(
        &mut self,
        sentinel: &Address,
        asked_at: Instant,
        answer: Result<SentinelReport, QueryError>,
    ) {
        if let Some(member) = self.members.get_mut(sentinel) {
            member.record(asked_at, answer);
        }
    }

    /// Time has passed: who is gone for long takes no part any more.
    pub(super) fn age(&mut self, now: Instant, connected: bool) {
        self.members.values_mut().for_each(|member| member.age(now, connected));
        self.assign_votes();
    }

    /// A Sentinel has stopped to act, or acts again.
    pub(super) fn set_tilt(&mut self, sentinel: &Address, tilt: bool) {
        if let Some(view) = self.members.get_mut(sentinel).and_then(KnownSentinel::view_mut) {
            view.tilt = tilt;
        }
    }

    /// All are asked again.
    pub(super) fn ask(&mut self) {
        self.members.values_mut().for_each(KnownSentinel::ask);
    }

    /// Sentinels that a majority lists and that were not known: they belong to the council from now on. An address is met
    /// even if the Sentinel there is heard at another one, since that is only what that one says.
    pub(super) fn add_sentinels(&mut self) -> Vec<Address> {
        let (mut added, quorate, listed) = (Vec::new(), self.can_change_members(), self.listed());
        for (address, member) in &mut self.members {
            // One that is listed at another address now has moved there.
            let moved = |id: &String| !listed.contains_key(address) && listed.values().any(|now| now == id);
            member.listed_id.take_if(|id| moved(id));
            if member.configured {
                member.listed_id = listed.get(address).cloned().or(member.listed_id.take());
            }
        }
        for (address, id) in listed {
            if !quorate {
                continue;
            }
            if let Some(known) = self.members.get_mut(&address) {
                known.listed_id = Some(id);
            } else if self.members.len() >= MAX_SENTINELS {
                self.is_full = true;
            } else {
                self.members.insert(address.clone(), KnownSentinel::added(&id));
                added.push(address);
            }
        }
        self.assign_votes();
        added
    }

    /// Forgets those that were met and are not needed: they have been gone for long, and nobody lists them any more. What
    /// one alone lists gives way only to new ones: or else a liar among few would have an honest one forgotten.
    pub(super) fn remove_unlisted(&mut self) -> Vec<Address> {
        let listed = self.listed();
        let heard = self.votes().count() >= self.majority() && self.can_change_members();
        let is_full = self.members.len() >= MAX_SENTINELS;
        let is_listed = |address: &Address| match is_full {
            true => listed.contains_key(address),
            false => self.voters().any(|voter| voter.lists(address)),
        };
        let is_needed = |address: &Address, member: &KnownSentinel| {
            member.configured || !heard || member.is_counted() || is_listed(address)
        };
        let gone = self.members.iter().filter(|(address, member)| !is_needed(address, member));
        let gone: Vec<_> = gone.map(|(address, _)| address.clone()).collect();
        self.members.retain(|address, _| !gone.contains(address));
        self.assign_votes();
        gone
    }

    /// Counts no more who has been gone for long and is listed by no majority: others have taken its place.
    pub(super) fn discount_replaced(&mut self) {
        // One alone never says that there are no others.
        if !self.can_change_members() || self.votes().count() < 2 {
            return;
        }
        let listed = self.listed();
        for (address, member) in &mut self.members {
            let is_listed =
                listed.contains_key(address) || listed.values().any(|id| member.id.as_ref() == Some(id));
            member.replaced_by_others = !(is_listed || member.is_present() || member.is_awaited());
        }
        self.assign_votes();
    }

    /// Says who has a vote, see [`SentinelVotes::electorate`].
    fn assign_votes(&mut self) {
        let voters = self.electorate();
        self.members.iter_mut().for_each(|(address, member)| member.votes = voters.contains(address));
    }

    /// Who has a vote: either the addresses of the configuration or those that a majority has listed, never a mix, since one
    /// Sentinel may have an address of each kind, and that it is one, only it could say.
    ///
    /// The configuration is the user's word. The listed ones have the votes where all that are there of it are among them,
    /// or half of it is gone and more of the listed ones answer. Otherwise they never have, however many they are: no
    /// Sentinel lists itself, so that of those that are configured by a name, a liar decides who is listed.
    fn electorate(&self) -> BTreeSet<Address> {
        let configured: Members<'_> = self.members.iter().filter(|(_, member)| member.configured).collect();
        let listed: Members<'_> =
            self.members.iter().filter(|(_, member)| member.listed_id.is_some()).collect();
        let answering = |members: &Members<'_>| members.values().filter(|member| member.answers()).count();
        let last_named_at: Vec<_> = configured.values().filter(|member| member.is_counted()).collect();
        let are_all_listed =
            answering(&listed) > 0 && last_named_at.iter().all(|member| member.listed_id.is_some());
        let are_left =
            2 * last_named_at.len() <= configured.len() && answering(&listed) > answering(&configured);
        let voters = match (are_all_listed || are_left, configured.len()) {
            (true, _) => listed,
            (false, 1) => beside_a_lone_one(configured, listed),
            (false, _) => configured,
        };
        voters.into_keys().cloned().collect()
    }

    /// Whether those who answer may say who is one of them: half of those that are known, so that the others are no
    /// majority without them, and not one alone.
    fn can_change_members(&self) -> bool {
        let (votes, known) = (self.votes().count(), self.known());
        known <= 2 * votes && (votes > 1 || known == 1)
    }

    /// Whether more than half of all Sentinels that are known name it, those included that are gone.
    pub(super) fn is_majority(&self, choice: &MasterCandidate) -> bool {
        choice.votes > self.known() / 2
    }

    /// How many Sentinels there may be: those that are known, and those of the configuration that never answered, unless
    /// others say that they do without them.
    pub(super) fn expected(&self) -> usize {
        let is_expected =
            |member: &&KnownSentinel| member.is_known() || (member.configured && !member.replaced_by_others);
        self.voters().filter(is_expected).count()
    }

    /// The addresses that a majority lists, and the id that most of it gives for each. No Sentinel lists itself: one of
    /// the configuration that is there counts as listing its address.
    fn listed(&self) -> BTreeMap<Address, String> {
        let mut votes: BTreeMap<&Address, BTreeMap<&String, usize>> = BTreeMap::new();
        for vote in self.votes() {
            let others: BTreeMap<_, _> =
                vote.view.sentinels.iter().map(|other| (&other.address, &other.id)).collect();
            others.into_iter().for_each(|(address, id)| {
                *votes.entry(address).or_default().entry(id).or_default() += 1;
            });
        }
        let majority = self.majority();
        let itself = |address: &Address| {
            let member = self.members.get(address).filter(|member| member.configured && member.votes);
            usize::from(member.is_some_and(KnownSentinel::is_present))
        };
        let listed = votes
            .into_iter()
            .filter(|(address, ids)| ids.values().sum::<usize>() + itself(address) >= majority);
        let listed = listed.filter_map(|(address, ids)| {
            let (id, _) = ids.into_iter().max_by_key(|(_, votes)| *votes)?;
            Some((address.clone(), id.clone()))
        });
        listed.collect()
    }

    /// The master that a majority of the Sentinels names, in the highest epoch that a majority has reached.
    pub(super) fn choice(&self) -> Option<MasterCandidate> {
        self.choice_of(|_| true)
    }

    /// As [`SentinelVotes::choice`], by what the Sentinels were asked `since` then. All questions since then count, not the
    /// last alone: Sentinels that take longer to answer than until the next one would never count together.
    pub(super) fn choice_since(&self, since: Instant) -> Option<MasterCandidate> {
        self.choice_of(|vote| vote.member.is_since(since))
    }

    fn choice_of(&self, counts: impl Fn(&Vote<'_>) -> bool) -> Option<MasterCandidate> {
        let mut votes: BTreeMap<&Address, Vec<u64>> = BTreeMap::new();
        for vote in self.votes().filter(counts) {
            votes.entry(&vote.master.address).or_default().push(vote.master.epoch);
        }
        let majority = self.majority();
        let (address, mut epochs) = votes.into_iter().max_by_key(|(_, epochs)| epochs.len())?;
        epochs.sort_unstable_by_key(|epoch| std::cmp::Reverse(*epoch));
        Some(MasterCandidate {
            address: address.clone(),
            epoch: *epochs.get(majority - 1)?,
            votes: epochs.len(),
        })
    }

    /// The master that any Sentinel names in the highest epoch, and most of those if they differ: for a start without a
    /// majority. One that a majority knows at all comes before all others.
    pub(super) fn newest(&self) -> Option<MasterCandidate> {
        let mut votes: BTreeMap<(u64, &Address), usize> = BTreeMap::new();
        for vote in self.votes() {
            *votes.entry((vote.master.epoch, &vote.master.address)).or_default() += 1;
        }
        let named = votes.into_iter().map(|((epoch, address), votes)| {
            let is_vouched_for = self.is_known_server(address);
            (is_vouched_for, MasterCandidate { address: address.clone(), epoch, votes })
        });
        let newest = named.max_by_key(|(vouched_for, named)| (*vouched_for, named.epoch, named.votes));
        newest.map(|(_, named)| named)
    }

    /// Whether any Sentinel names this master, in this epoch or a later one.
    pub(super) fn names(&self, master: &Address, epoch: u64) -> bool {
        self.votes().any(|vote| vote.master.address == *master && epoch <= vote.master.epoch)
    }

    /// Whether a majority names something else than this master.
    pub(super) fn majority_names_another(&self, master: &Address) -> bool {
        self.votes().filter(|vote| vote.master.address != *master).count() >= self.majority()
    }

    /// This master, if any Sentinel names it, in the highest epoch that one does.
    pub(super) fn named(&self, master: &Address) -> Option<MasterCandidate> {
        let epochs: Vec<_> = self
            .votes()
            .filter(|vote| vote.master.address == *master)
            .map(|vote| vote.master.epoch)
            .collect();
        let epoch = *epochs.iter().max()?;
        Some(MasterCandidate { address: master.clone(), epoch, votes: epochs.len() })
    }

    /// What one Sentinel names.
    pub(super) fn named_by(&self, sentinel: &Address) -> Option<MasterCandidate> {
        let master = self.members.get(sentinel)?.master()?;
        Some(MasterCandidate { address: master.address.clone(), epoch: master.epoch, votes: 1 })
    }

    /// Whether all have answered, or failed to, since they were asked last, and none is waited for.
    pub(super) fn is_heard(&self) -> bool {
        self.voters().all(|member| member.current && !member.is_awaited())
    }

    /// Whether all have answered what they were asked `since` then, or have failed to.
    pub(super) fn is_heard_since(&self, since: Instant) -> bool {
        self.voters().all(|member| member.is_since(since))
    }

    /// How many Sentinels could take part in a failover: they answer, know the master, and do not only watch. What one in
    /// TILT mode says of the master counts all the same: it takes over what the others tell it.
    pub(super) fn acting(&self) -> usize {
        self.votes().filter(|vote| !vote.view.tilt).count()
    }

    /// How many Sentinels there are, as far as is known: those that ever answered and those that a majority lists. What
    /// they say of how many there are is not believed.
    pub(super) fn known(&self) -> usize {
        self.voters().filter(|member| member.is_known()).count()
    }

    /// More than half of the Sentinels that are there, or may be: who has not answered yet is waited for.
    pub(super) fn majority(&self) -> usize {
        self.voters().filter(|member| member.is_counted()).count() / 2 + 1
    }

    /// The replicas that a majority of the Sentinels lists; `None` when too few of them are there to tell.
    pub(super) fn replicas(&self, is_well: fn(&ReportedReplica) -> bool) -> Option<Vec<Replica>> {
        let views: Vec<_> = self.last_views().collect();
        let can_tell = self.votes().next().is_some() && views.len() >= self.majority();
        can_tell.then(|| listed_replicas(&views, self.majority(), is_well))
    }

    /// Whether a majority of the Sentinels knows this server, as the master or as a replica, or did so not long ago.
    pub(super) fn is_known_server(&self, address: &Address) -> bool {
        self.known_servers.contains_key(address)
    }

    /// Remembers which servers a majority knows, which is no fewer Sentinels than are `required`.
    pub(super) fn record_known_servers(&mut self, required: usize, now: Instant) {
        let mut votes: BTreeMap<&Address, usize> = BTreeMap::new();
        for view in self.last_views() {
            view.servers().into_iter().for_each(|server| *votes.entry(server).or_default() += 1);
        }
        let majority = self.majority().max(required);
        let known = votes.into_iter().filter(|(_, votes)| *votes >= majority);
        let known: Vec<_> = known.map(|(server, _)| (server.clone(), now)).collect();
        self.known_servers.extend(known);
        self.known_servers.retain(|_, last| now < *last + KNOWN_FOR);
    }

    /// A Sentinel has selected a replica; whether that one is asked for its role. None has others asked all the time.
    pub(super) fn may_select(&mut self, sentinel: &Address, now: Instant) -> bool {
        self.members.get_mut(sentinel).is_some_and(|member| member.may_select(now))
    }

    /// Whom we asked, and what each said.
    pub(super) fn explain(&self, master_name: &str) -> String {
        let said = self.members.iter().map(|(address, member)| match (member.view(), member.failure()) {
            (Some(SentinelReport { master: Some(master), tilt, .. }), _) => {
                let tilt = if *tilt { " in TILT mode" } else { "" };
                format!("{address} names {}{tilt}", master.address)
            }
            (Some(SentinelReport { refusal: Some(refusal), .. }), _) => {
                format!("{address} answered: {refusal}")
            }
            (Some(_), _) => format!("{address} knows no master named `{master_name}`"),
            (None, Some(failure)) => format!("{address} did not answer: {failure}"),
            (None, None) => format!("{address} has not answered yet"),
        });
        said.collect::<Vec<_>>().join("; ")
    }

    /// Whether one has answered what it was asked.
    pub(super) fn has_answer(&self) -> bool {
        let mut views = self.members.values().filter_map(KnownSentinel::view);
        views.any(|view| view.refusal.is_none())
    }

    /// Those that have a vote, whether they answer or not.
    fn voters(&self) -> impl Iterator<Item = &KnownSentinel> {
        self.members.values().filter(|member| member.votes)
    }

    /// The answers that count.
    pub(super) fn votes(&self) -> impl Iterator<Item = Vote<'_>> {
        self.voters()
            .filter_map(|member| Some(Vote { member, view: member.view()?, master: member.master()? }))
    }

    /// What each voter that is there said last.
    fn last_views(&self) -> impl Iterator<Item = &SentinelReport> {
        self.voters().filter_map(KnownSentinel::last_view)
    }
}

/// Who has a vote where the configuration names one address alone, which is where the others are `listed`: as long as one of
/// them may answer, they have, and `lone` has one as well if it is none of those that answer.
fn beside_a_lone_one<'a>(lone: Members<'a>, listed: Members<'a>) -> Members<'a> {
    if !listed.values().any(|other| other.is_awaited() || other.answers()) {
        return lone;
    }
    let is_other = |address: &Address| lone.values().all(|lone| lone.is_other_than(address));
    let (others, same): (Members<'_>, Members<'_>) =
        listed.iter().partition(|(address, _)| is_other(address));
    match same.values().any(|same| same.answers()) {
        true => listed,
        false => others.into_iter().chain(lone).collect(),
    }
}
