//! The master's replicas, by what all Sentinels say together.

use std::collections::BTreeMap;

use crate::address::Address;
use crate::sentinel::View;
use crate::topology::Replica;

/// All that any Sentinel names. One is down when at least half of those that name it find it so: a Sentinel that is
/// cut off finds everybody down.
///
/// What Sentinels say of a replica's link to its master may be ten seconds old, so it does not count here: whoever
/// reads from a replica asks it itself.
pub(crate) fn listed_replicas(views: &[&View]) -> Vec<Replica> {
    let mut votes: BTreeMap<&Address, (usize, usize)> = BTreeMap::new();
    for instance in views.iter().flat_map(|view| &view.replicas) {
        let (up, down) = votes.entry(&instance.address).or_default();
        *if instance.is_up() { up } else { down } += 1;
    }
    let replica =
        |(address, (up, down)): (&Address, (usize, usize))| Replica::new(address.clone(), up > down);
    votes.into_iter().map(replica).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sentinel::Instance;

    /// A view that names replicas by port and flags.
    fn view(replicas: &[(u16, &str)]) -> View {
        let replicas = replicas.iter().map(|(port, flags)| Instance {
            address: Address::tcp("r", *port),
            flags: (*flags).to_owned(),
            master_link_up: false,
        });
        View { replicas: replicas.collect(), ..View::default() }
    }

    fn listed(views: &[View]) -> Vec<(Address, bool)> {
        let views: Vec<_> = views.iter().collect();
        listed_replicas(&views).into_iter().map(|replica| (replica.address, replica.healthy)).collect()
    }

    #[test]
    fn the_sentinels_vote_on_who_is_down() {
        let (up, down) = ("slave", "s_down,slave,disconnected");
        let of = |port| Address::tcp("r", port);
        let views =
            [view(&[(1, up), (2, down)]), view(&[(1, down), (2, down)]), view(&[(1, up), (2, up), (3, up)])];
        assert_eq!(listed(&views), [(of(1), true), (of(2), false), (of(3), true)]);
        assert_eq!(listed(&views[..2]), [(of(1), false), (of(2), false)], "in doubt it is down");
        assert_eq!(listed(&[]), []);
    }
}
