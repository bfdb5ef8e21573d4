//! The topology for callers: the servers as a majority describes them, and what each Sentinel reported.

use std::collections::BTreeMap;

use crate::address::Address;
use crate::topology::sentinel::known_sentinel::KnownSentinel;
use crate::topology::sentinel::votes::SentinelVotes;
use crate::topology::sentinel::{ReportedReplica, is_up};
use crate::topology::{SentinelState, Topology};

impl SentinelVotes {
    /// Describes this master from the answers that name it.
    pub(super) fn topology(&self, master: Address, epoch: u64) -> Topology {
        let is_well = |replica: &ReportedReplica| replica.is_up() && replica.master_link_up;
        let naming = || self.votes().map(|vote| vote.master).filter(|named| named.address == master);
        let up = naming().filter(|named| is_up(&named.flags)).count();
        let mut quorums: BTreeMap<usize, usize> = BTreeMap::new();
        naming().for_each(|named| *quorums.entry(named.quorum).or_default() += 1);
        Topology {
            replicas: self.replicas(is_well).unwrap_or_default(),
            sentinels: self.votes().count(),
            known_sentinels: self.known(),
            quorum: quorums.into_iter().max_by_key(|(_, votes)| *votes).map_or(0, |(quorum, _)| quorum),
            epoch,
            master_healthy: 2 * up > naming().count(),
            sentinel_states: self.states(),
            ..Topology::of(master)
        }
    }

    /// The state of each Sentinel that has a vote.
    fn states(&self) -> Vec<SentinelState> {
        self.members
            .iter()
            .filter(|(_, member)| member.votes)
            .map(|(address, member)| state(address, member))
            .collect()
    }
}

fn state(address: &Address, member: &KnownSentinel) -> SentinelState {
    let (report, master) = (member.report(), member.master());
    let error = match (report, member.failure()) {
        _ if master.is_some() => None,
        (_, Some(failure)) => Some(failure.to_owned()),
        (Some(report), _) => {
            Some(report.refusal.clone().unwrap_or_else(|| "it monitors no master of this name".to_owned()))
        }
        (None, None) => Some("it has not answered yet".to_owned()),
    };
    SentinelState {
        address: address.clone(),
        master: master.map(|master| master.address.clone()),
        epoch: master.map(|master| master.epoch),
        tilt: report.is_some_and(|report| report.tilt),
        error,
    }
}
