//! Which replicas and Sentinels are up, for events about changes.

use std::collections::BTreeMap;

use crate::address::Address;
use crate::events::Event;
use crate::topology::Replica;

/// Whether each replica was up in the last list.
#[derive(Debug, Default)]
pub(crate) struct ReplicaMembership {
    replicas: BTreeMap<Address, bool>,
}

/// Whether each Sentinel answered its last query.
#[cfg(feature = "sentinel")]
#[derive(Debug, Default)]
pub(crate) struct SentinelMembership {
    sentinels: BTreeMap<Address, bool>,
}

impl ReplicaMembership {
    /// Compares the replicas with the last list. Returns an event for each change.
    pub(crate) fn update(&mut self, now: &[Replica]) -> Vec<Event> {
        let now: BTreeMap<_, _> =
            now.iter().map(|replica| (replica.address.clone(), replica.healthy)).collect();
        let before = std::mem::replace(&mut self.replicas, now);
        let changes =
            self.replicas.iter().filter(|(address, healthy)| before.get(*address) != Some(*healthy));
        let changed = changes.map(|(address, healthy)| match healthy {
            true => Event::ReplicaUp(address.clone()),
            false => Event::ReplicaDown(address.clone()),
        });
        let gone =
            before.iter().filter(|(address, healthy)| **healthy && !self.replicas.contains_key(*address));
        changed.chain(gone.map(|(address, _)| Event::ReplicaDown(address.clone()))).collect()
    }
}

#[cfg(feature = "sentinel")]
impl SentinelMembership {
    /// Records whether a Sentinel answered. Returns an event if that has changed.
    pub(crate) fn update(&mut self, address: &Address, up: bool) -> Option<Event> {
        let before = self.sentinels.insert(address.clone(), up);
        (before != Some(up)).then(|| match up {
            true => Event::SentinelUp(address.clone()),
            false => Event::SentinelDown(address.clone()),
        })
    }

    /// Removes a Sentinel; the event that it is down was sent before.
    pub(crate) fn forget(&mut self, address: &Address) {
        self.sentinels.remove(address);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replica(port: u16, healthy: bool) -> Replica {
        Replica::new(Address::tcp("10.0.0.1", port), healthy)
    }

    fn events(events: Vec<Event>) -> Vec<(bool, u16)> {
        let read = |event: &Event| match event {
            Event::ReplicaUp(Address::Tcp { port, .. }) => (true, *port),
            Event::ReplicaDown(Address::Tcp { port, .. }) => (false, *port),
            other => panic!("{other:?}"),
        };
        events.iter().map(read).collect()
    }

    #[test]
    fn replica_changes_are_reported_once() {
        let mut membership = ReplicaMembership::default();
        assert_eq!(
            events(membership.update(&[replica(1, true), replica(2, false)])),
            [(true, 1), (false, 2)]
        );
        assert_eq!(events(membership.update(&[replica(1, true), replica(2, false)])), []);
        assert_eq!(
            events(membership.update(&[replica(1, false), replica(2, true)])),
            [(false, 1), (true, 2)]
        );
        assert_eq!(events(membership.update(&[replica(1, false)])), [(false, 2)]);
        assert_eq!(events(membership.update(&[])), [], "already reported as down");
    }

    #[cfg(feature = "sentinel")]
    #[test]
    fn sentinel_reported_only_on_change() {
        let mut membership = SentinelMembership::default();
        let sentinel = Address::tcp("10.0.0.9", 1);
        assert!(matches!(membership.update(&sentinel, true), Some(Event::SentinelUp(_))));
        assert!(membership.update(&sentinel, true).is_none());
        assert!(matches!(membership.update(&sentinel, false), Some(Event::SentinelDown(_))));
        membership.forget(&sentinel);
        assert!(matches!(membership.update(&sentinel, true), Some(Event::SentinelUp(_))));
    }
}
