//! The master's replicas, by what the Sentinels say together.

use std::collections::BTreeMap;

use crate::address::Address;
use crate::topology::Replica;
use crate::topology::sentinel::report::{ReportedReplica, SentinelReport};

/// Those that at least `listers` of the Sentinels list. One is down when at least half of those find it so: a Sentinel
/// that is cut off finds everybody down.
pub(crate) fn listed_replicas(
    views: &[&SentinelReport],
    listers: usize,
    is_well: fn(&ReportedReplica) -> bool,
) -> Vec<Replica> {
    let mut votes: BTreeMap<&Address, (usize, usize)> = BTreeMap::new();
    for view in views {
        let listed: BTreeMap<_, _> =
            view.replicas.iter().map(|replica| (&replica.address, is_well(replica))).collect();
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

    /// A view that names replicas by port and flags.
    fn view(replicas: &[(u16, &str)]) -> SentinelReport {
        let replicas = replicas.iter().map(|(port, flags)| ReportedReplica {
            address: Address::tcp("r", *port),
            flags: (*flags).to_owned(),
            master_link_up: false,
        });
        SentinelReport { replicas: replicas.collect(), ..SentinelReport::default() }
    }

    fn listed(views: &[SentinelReport], listers: usize) -> Vec<(u16, bool)> {
        let views: Vec<_> = views.iter().collect();
        let listed = listed_replicas(&views, listers, ReportedReplica::is_up).into_iter();
        let port = |address| match address {
            Address::Tcp { port, .. } => port,
            Address::Unix(_) => 0,
        };
        listed.map(|replica| (port(replica.address), replica.healthy)).collect()
    }

    #[test]
    fn the_sentinels_vote_on_who_is_down() {
        let (up, down) = ("slave", "s_down,slave,disconnected");
        let views =
            [view(&[(1, up), (2, down)]), view(&[(1, down), (2, down)]), view(&[(1, up), (2, up), (3, up)])];
        assert_eq!(listed(&views, 1), [(1, true), (2, false), (3, true)]);
        assert_eq!(listed(&views[..2], 1), [(1, false), (2, false)], "in doubt it is down");
        assert_eq!(listed(&[], 1), []);
    }

    #[test]
    fn who_lists_a_replica_twice_has_one_vote() {
        let views = [view(&[(1, "slave"), (9, "slave"), (9, "slave")]), view(&[(1, "slave")])];
        assert_eq!(listed(&views, 2), [(1, true)]);
    }
}
