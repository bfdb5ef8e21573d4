//! The master's replicas, combined from the Sentinels' reports.

use std::collections::BTreeMap;

use crate::address::Address;
use crate::topology::Replica;
use crate::topology::sentinel::report::{ReportedReplica, SentinelReport};

/// Returns the replicas that at least `listers` of the Sentinels list. A replica is down when at least half of those
/// report it down: a Sentinel that is cut off reports every server down.
pub(crate) fn listed_replicas(
    reports: &[&SentinelReport],
    listers: usize,
    is_well: fn(&ReportedReplica) -> bool,
) -> Vec<Replica> {
    let mut votes: BTreeMap<&Address, (usize, usize)> = BTreeMap::new();
    for report in reports {
        let listed: BTreeMap<_, _> =
            report.replicas.iter().map(|replica| (&replica.address, is_well(replica))).collect();
        for (address, well) in listed {
            let (up, down) = votes.entry(address).or_default();
            *if well { up } else { down } += 1;
        }
    }
    let listed = votes.into_iter().filter(|(_, (up, down))| up + down >= listers);
    listed.map(|(address, (up, down))| Replica::new(address.clone(), up > down)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A report of replicas, given by port and flags.
    fn report(replicas: &[(u16, &str)]) -> SentinelReport {
        let replicas = replicas.iter().map(|(port, flags)| ReportedReplica {
            address: Address::tcp("r", *port),
            flags: (*flags).to_owned(),
            master_link_up: false,
        });
        SentinelReport { replicas: replicas.collect(), ..SentinelReport::default() }
    }

    fn listed(reports: &[SentinelReport], listers: usize) -> Vec<(u16, bool)> {
        let reports: Vec<_> = reports.iter().collect();
        let listed = listed_replicas(&reports, listers, ReportedReplica::is_up).into_iter();
        let port = |address| match address {
            Address::Tcp { port, .. } => port,
            Address::Unix(_) => 0,
        };
        listed.map(|replica| (port(replica.address), replica.healthy)).collect()
    }

    #[test]
    fn sentinels_vote_on_which_replicas_are_down() {
        let (up, down) = ("slave", "s_down,slave,disconnected");
        let reports = [
            report(&[(1, up), (2, down)]),
            report(&[(1, down), (2, down)]),
            report(&[(1, up), (2, up), (3, up)]),
        ];
        assert_eq!(listed(&reports, 1), [(1, true), (2, false), (3, true)]);
        assert_eq!(listed(&reports[..2], 1), [(1, false), (2, false)], "a tie counts as down");
        assert_eq!(listed(&[], 1), []);
    }

    #[test]
    fn replica_listed_twice_by_one_sentinel_has_one_vote() {
        let reports = [report(&[(1, "slave"), (9, "slave"), (9, "slave")]), report(&[(1, "slave")])];
        assert_eq!(listed(&reports, 2), [(1, true)]);
    }
}
