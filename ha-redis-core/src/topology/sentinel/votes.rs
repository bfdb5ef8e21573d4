//! The votes of the Sentinels: who has one, what each last reported, and what a majority agrees on.
//!
//! A majority of the Sentinels that answer, or recently answered, decides. [`SentinelVotes::electorate`] determines who
//! has a vote at all. How a voter counts depends on its answers:
//!
//! | a voter is | if | counts towards the majority | counts as known |
//! |---|---|---|---|
//! | awaited | it has not answered yet, and may still do so | yes | yes |
//! | present | it names a master, or recently did | yes | yes |
//! | gone | it once answered, or others list it | no | yes |
//! | removed | it is gone, and no Sentinel lists it any more | no | no |
//!
//! A configured address at which no Sentinel ever answered, and that has failed for good, does not count.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::address::Address;
use crate::topology::Replica;
use crate::topology::sentinel::QueryError;
use crate::topology::sentinel::known_sentinel::KnownSentinel;
use crate::topology::sentinel::replicas::listed_replicas;
use crate::topology::sentinel::report::{ReportedMaster, ReportedReplica, SentinelReport};

/// The maximum number of Sentinels to query, however many they list.
pub(super) const MAX_SENTINELS: usize = 16;

/// How long a server still counts as listed after a majority stopped listing it. Sentinels that are reset list no
/// replicas for ten seconds, and not all of them at the same time.
const KNOWN_FOR: Duration = Duration::from_secs(60);

type Members<'a> = BTreeMap<&'a Address, &'a KnownSentinel>;

/// The Sentinels of the configuration and those that were discovered, with their last replies.
#[derive(Debug)]
pub(super) struct SentinelVotes {
    pub(super) members: BTreeMap<Address, KnownSentinel>,
    /// Whether the Sentinels listed more than [`MAX_SENTINELS`].
    pub(super) is_full: bool,
    /// The servers that a majority has listed, as the master or as replicas, and when it last did.
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

/// A reply that counts.
pub(super) struct Vote<'a> {
    member: &'a KnownSentinel,
    pub(super) report: &'a SentinelReport,
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

    /// Records the answer to the query sent at `asked_at`, or why there was none.
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

    /// Expires Sentinels that have been gone for long: they no longer count.
    pub(super) fn expire(&mut self, now: Instant, connected: bool) {
        self.members.values_mut().for_each(|member| member.expire(now, connected));
        self.assign_votes();
    }

    /// Records that a Sentinel entered or left TILT mode.
    pub(super) fn set_tilt(&mut self, sentinel: &Address, tilt: bool) {
        if let Some(report) = self.members.get_mut(sentinel).and_then(KnownSentinel::report_mut) {
            report.tilt = tilt;
        }
    }

    /// Records that all Sentinels are being queried again.
    pub(super) fn mark_queried(&mut self) {
        self.members.values_mut().for_each(KnownSentinel::mark_queried);
    }

    /// Adds the unknown Sentinels that a majority lists, and returns their addresses. An address is added even if the
    /// Sentinel there claims the id of a known one: only that Sentinel claims so.
    pub(super) fn add_sentinels(&mut self) -> Vec<Address> {
        let (mut added, can_change, listed) = (Vec::new(), self.can_change_members(), self.listed());
        for (address, member) in &mut self.members {
            // A Sentinel that is now listed at another address has moved there.
            let moved = |id: &String| !listed.contains_key(address) && listed.values().any(|now| now == id);
            member.listed_id.take_if(|id| moved(id));
            if member.configured {
                member.listed_id = listed.get(address).cloned().or(member.listed_id.take());
            }
        }
        for (address, id) in listed {
            if !can_change {
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

    /// Removes discovered Sentinels that have been gone for long and that no peer lists any more, and returns their
    /// addresses. Those that a single peer lists are removed only to make room for new ones; otherwise one liar among
    /// few Sentinels could have an honest one removed.
    pub(super) fn remove_unlisted(&mut self) -> Vec<Address> {
        let listed = self.listed();
        let is_majority_present = self.votes().count() >= self.majority() && self.can_change_members();
        let is_full = self.members.len() >= MAX_SENTINELS;
        let is_listed = |address: &Address| match is_full {
            true => listed.contains_key(address),
            false => self.voters().any(|voter| voter.lists(address)),
        };
        let is_needed = |address: &Address, member: &KnownSentinel| {
            member.configured || !is_majority_present || member.is_counted() || is_listed(address)
        };
        let gone = self.members.iter().filter(|(address, member)| !is_needed(address, member));
        let gone: Vec<_> = gone.map(|(address, _)| address.clone()).collect();
        self.members.retain(|address, _| !gone.contains(address));
        self.assign_votes();
        gone
    }

    /// Stops counting Sentinels that have been gone for long and that no majority lists: others have replaced them.
    pub(super) fn discount_replaced(&mut self) {
        // A single Sentinel cannot show that there are no others.
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

    /// Sets which Sentinels have a vote; see [`SentinelVotes::electorate`].
    fn assign_votes(&mut self) {
        let voters = self.electorate();
        self.members.iter_mut().for_each(|(address, member)| member.votes = voters.contains(address));
    }

    /// Returns the Sentinels that have a vote: either the configured addresses or those that a majority has listed.
    /// The two are never mixed, because one Sentinel may have an address of each kind, and only its own reply would
    /// show that.
    ///
    /// The configuration is trusted. The listed addresses vote if all configured Sentinels that are present are among
    /// them, or if at least half of the configured ones are gone and more of the listed ones answer. Otherwise they
    /// do not vote, however many there are: no Sentinel lists itself, so where Sentinels are configured by name, a
    /// liar could decide which addresses are listed.
    fn electorate(&self) -> BTreeSet<Address> {
        let configured: Members<'_> = self.members.iter().filter(|(_, member)| member.configured).collect();
        let listed: Members<'_> =
            self.members.iter().filter(|(_, member)| member.listed_id.is_some()).collect();
        let answering = |members: &Members<'_>| members.values().filter(|member| member.answers()).count();
        let present: Vec<_> = configured.values().filter(|member| member.is_counted()).collect();
        let are_all_listed =
            answering(&listed) > 0 && present.iter().all(|member| member.listed_id.is_some());
        let outnumber_configured =
            2 * present.len() <= configured.len() && answering(&listed) > answering(&configured);
        let voters = match (are_all_listed || outnumber_configured, configured.len()) {
            (true, _) => listed,
            (false, 1) => voters_beside_single_address(configured, listed),
            (false, _) => configured,
        };
        voters.into_keys().cloned().collect()
    }

    /// Returns true if the Sentinels that answer may add and remove members: at least half of the known ones answer,
    /// so that the others are no majority without them, and more than one does unless only one is known.
    fn can_change_members(&self) -> bool {
        let (votes, known) = (self.votes().count(), self.known());
        known <= 2 * votes && (votes > 1 || known == 1)
    }

    /// Returns true if more than half of all known Sentinels name the candidate. Sentinels that are gone count as
    /// known.
    pub(super) fn is_majority_of_known(&self, choice: &MasterCandidate) -> bool {
        choice.votes > self.known() / 2
    }

    /// Returns how many Sentinels there may be: the known ones, and configured ones that never answered unless others
    /// have replaced them.
    pub(super) fn expected(&self) -> usize {
        let is_expected =
            |member: &&KnownSentinel| member.is_known() || (member.configured && !member.replaced_by_others);
        self.voters().filter(is_expected).count()
    }

    /// Returns the addresses that a majority lists, each with the id that most of the majority gives for it. No
    /// Sentinel lists itself, so a configured one that is present counts as listing its own address.
    fn listed(&self) -> BTreeMap<Address, String> {
        let mut votes: BTreeMap<&Address, BTreeMap<&String, usize>> = BTreeMap::new();
        for vote in self.votes() {
            let others: BTreeMap<_, _> =
                vote.report.sentinels.iter().map(|other| (&other.address, &other.id)).collect();
            others.into_iter().for_each(|(address, id)| {
                *votes.entry(address).or_default().entry(id).or_default() += 1;
            });
        }
        let majority = self.majority();
        let own_listing = |address: &Address| {
            let member = self.members.get(address).filter(|member| member.configured && member.votes);
            usize::from(member.is_some_and(KnownSentinel::is_present))
        };
        let listed = votes
            .into_iter()
            .filter(|(address, ids)| ids.values().sum::<usize>() + own_listing(address) >= majority);
        let listed = listed.filter_map(|(address, ids)| {
            let (id, _) = ids.into_iter().max_by_key(|(_, votes)| *votes)?;
            Some((address.clone(), id.clone()))
        });
        listed.collect()
    }

    /// Returns the master that a majority of the Sentinels names, in the highest epoch that a majority has reached.
    pub(super) fn choice(&self) -> Option<MasterCandidate> {
        self.choice_of(|_| true)
    }

    /// Returns the same as [`SentinelVotes::choice`], counting only answers to queries sent at or after `since`.
    /// Answers to any query in that time count, not only to the last one: otherwise Sentinels that take longer to
    /// answer than the polling interval would never count together.
    pub(super) fn choice_since(&self, since: Instant) -> Option<MasterCandidate> {
        self.choice_of(|vote| vote.member.asked_since(since))
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

    /// Returns the master that any Sentinel names in the highest epoch, and the most often named one if they differ.
    /// Servers that a majority lists come first. Used at the start, when no majority can be reached.
    pub(super) fn newest(&self) -> Option<MasterCandidate> {
        let mut votes: BTreeMap<(u64, &Address), usize> = BTreeMap::new();
        for vote in self.votes() {
            *votes.entry((vote.master.epoch, &vote.master.address)).or_default() += 1;
        }
        let candidates = votes.into_iter().map(|((epoch, address), votes)| {
            let is_known = self.is_known_server(address);
            (is_known, MasterCandidate { address: address.clone(), epoch, votes })
        });
        let newest =
            candidates.max_by_key(|(is_known, candidate)| (*is_known, candidate.epoch, candidate.votes));
        newest.map(|(_, candidate)| candidate)
    }

    /// Returns true if any Sentinel names this master in this epoch or a later one.
    pub(super) fn names(&self, master: &Address, epoch: u64) -> bool {
        self.votes().any(|vote| vote.master.address == *master && epoch <= vote.master.epoch)
    }

    /// Returns true if a majority names other masters than this one.
    pub(super) fn majority_names_another(&self, master: &Address) -> bool {
        self.votes().filter(|vote| vote.master.address != *master).count() >= self.majority()
    }

    /// Returns this master as a candidate, in the highest epoch in which any Sentinel names it.
    pub(super) fn candidate_at(&self, master: &Address) -> Option<MasterCandidate> {
        let epochs: Vec<_> = self
            .votes()
            .filter(|vote| vote.master.address == *master)
            .map(|vote| vote.master.epoch)
            .collect();
        let epoch = *epochs.iter().max()?;
        Some(MasterCandidate { address: master.clone(), epoch, votes: epochs.len() })
    }

    /// Returns the candidate that one Sentinel names.
    pub(super) fn candidate_of(&self, sentinel: &Address) -> Option<MasterCandidate> {
        let master = self.members.get(sentinel)?.master()?;
        Some(MasterCandidate { address: master.address.clone(), epoch: master.epoch, votes: 1 })
    }

    /// Returns true if every Sentinel has answered the last query or failed to, and none is still awaited.
    pub(super) fn all_answered(&self) -> bool {
        self.voters().all(|member| member.replied && !member.is_awaited())
    }

    /// Returns true if every Sentinel has answered a query sent at or after `since`, or failed to.
    pub(super) fn all_answered_since(&self, since: Instant) -> bool {
        self.voters().all(|member| member.asked_since(since))
    }

    /// Returns how many Sentinels could take part in a failover: they answer, name a master, and are not in TILT
    /// mode. A Sentinel in TILT mode still counts when it names a master, because it adopts what the others announce.
    pub(super) fn acting(&self) -> usize {
        self.votes().filter(|vote| !vote.report.tilt).count()
    }

    /// Returns the number of known Sentinels: those that ever answered and those that a majority lists. The numbers
    /// that Sentinels report themselves are not trusted.
    pub(super) fn known(&self) -> usize {
        self.voters().filter(|member| member.is_known()).count()
    }

    /// Returns the smallest number that is more than half of the Sentinels that are present or still awaited.
    pub(super) fn majority(&self) -> usize {
        self.voters().filter(|member| member.is_counted()).count() / 2 + 1
    }

    /// Returns the replicas that a majority of the Sentinels lists; `None` when too few Sentinels are present to
    /// decide.
    pub(super) fn replicas(&self, is_well: fn(&ReportedReplica) -> bool) -> Option<Vec<Replica>> {
        let reports: Vec<_> = self.last_reports().collect();
        let can_tell = self.votes().next().is_some() && reports.len() >= self.majority();
        can_tell.then(|| listed_replicas(&reports, self.majority(), is_well))
    }

    /// Returns true if a majority of the Sentinels lists this server as the master or as a replica, or did recently.
    pub(super) fn is_known_server(&self, address: &Address) -> bool {
        self.known_servers.contains_key(address)
    }

    /// Records the servers that a majority, and at least `required` Sentinels, lists.
    pub(super) fn record_known_servers(&mut self, required: usize, now: Instant) {
        let mut votes: BTreeMap<&Address, usize> = BTreeMap::new();
        for report in self.last_reports() {
            report.servers().into_iter().for_each(|server| *votes.entry(server).or_default() += 1);
        }
        let majority = self.majority().max(required);
        let known = votes.into_iter().filter(|(_, votes)| *votes >= majority);
        let known: Vec<_> = known.map(|(server, _)| (server.clone(), now)).collect();
        self.known_servers.extend(known);
        self.known_servers.retain(|_, last| now < *last + KNOWN_FOR);
    }

    /// Returns true if the replica that a Sentinel selected may be asked for its role. The rate is limited per
    /// Sentinel.
    pub(super) fn try_select(&mut self, sentinel: &Address, now: Instant) -> bool {
        self.members.get_mut(sentinel).is_some_and(|member| member.try_select(now))
    }

    /// Returns what each Sentinel answered, for error messages.
    pub(super) fn explain(&self, master_name: &str) -> String {
        let answers =
            self.members.iter().map(|(address, member)| match (member.report(), member.failure()) {
                (Some(SentinelReport { master: Some(master), tilt, .. }), _) => {
                    let tilt = if *tilt { " in TILT mode" } else { "" };
                    format!("{address} names master {}{tilt}", master.address)
                }
                (Some(SentinelReport { refusal: Some(refusal), .. }), _) => {
                    format!("{address} answered: {refusal}")
                }
                (Some(_), _) => format!("{address} monitors no master named `{master_name}`"),
                (None, Some(failure)) => format!("{address} did not answer: {failure}"),
                (None, None) => format!("{address} has not answered yet"),
            });
        answers.collect::<Vec<_>>().join("; ")
    }

    /// Returns true if at least one Sentinel has sent a usable answer.
    pub(super) fn has_answer(&self) -> bool {
        let mut reports = self.members.values().filter_map(KnownSentinel::report);
        reports.any(|report| report.refusal.is_none())
    }

    /// The Sentinels that have a vote, whether they answer or not.
    fn voters(&self) -> impl Iterator<Item = &KnownSentinel> {
        self.members.values().filter(|member| member.votes)
    }

    /// The answers that count.
    pub(super) fn votes(&self) -> impl Iterator<Item = Vote<'_>> {
        self.voters()
            .filter_map(|member| Some(Vote { member, report: member.report()?, master: member.master()? }))
    }

    /// The last report of each voter that is present.
    fn last_reports(&self) -> impl Iterator<Item = &SentinelReport> {
        self.voters().filter_map(KnownSentinel::last_report)
    }
}

/// Returns the voters when the configuration has a single address, which discovers the others, `listed`. The listed
/// Sentinels vote as long as one of them may answer. `lone` votes as well if it is not one of those that answer.
fn voters_beside_single_address<'a>(lone: Members<'a>, listed: Members<'a>) -> Members<'a> {
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
