//! Whom to ask, and how often: one query at a time to a node, and few in all.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::address::Address;
use crate::topology::cluster::ViewError;
use crate::topology::rate_limit::RateLimit;

/// How often a client asks for a view, whatever happens: the burst, and the interval after that. Eleven in one second.
const RATE: (u32, Duration) = (3, Duration::from_millis(125));
/// The shortest interval between two queries to the same node.
const SPACING: Duration = Duration::from_millis(100);

/// How long urgent queries may hold up others.
const PATIENCE: Duration = Duration::from_secs(1);

/// The addresses of the seeds and the members, and how the last query to each went.
#[derive(Debug)]
pub(super) struct Queries {
    contacts: BTreeMap<Address, Contact>,
    rate: RateLimit,
    /// After this time an answer is not coming any more.
    lost_after: Duration,
}

#[derive(Debug, Default)]
struct Contact {
    asked_at: Option<Instant>,
    is_in_flight: bool,
    wanted: Option<Wanted>,
    failure: Option<ViewError>,
    /// Whether nobody needs the address any more, and the answer is only awaited so that it is not asked twice.
    is_leaving: bool,
}

/// A query that will be sent as soon as the limits allow it.
#[derive(Clone, Copy, Debug)]
struct Wanted {
    is_urgent: bool,
    since: Instant,
}

impl Queries {
    pub(super) fn new(timeout: Duration) -> Self {
        Self { contacts: BTreeMap::new(), rate: RateLimit::new(RATE.0, RATE.1), lost_after: timeout * 2 }
    }

    /// Keeps exactly these addresses, and those that have not answered yet.
    pub(super) fn keep<'a>(&mut self, addresses: impl Iterator<Item = &'a Address>, now: Instant) {
        let mut kept = BTreeMap::new();
        for address in addresses {
            if !kept.contains_key(address) {
                let contact = self.contacts.remove(address).unwrap_or_default();
                kept.insert(address.clone(), Contact { is_leaving: false, ..contact });
            }
        }
        for (address, contact) in std::mem::take(&mut self.contacts) {
            if contact.is_in_flight
                && contact.asked_at.is_some_and(|asked_at| now < asked_at + self.lost_after)
            {
                kept.insert(address, Contact { is_leaving: true, wanted: None, ..contact });
            }
        }
        self.contacts = kept;
    }

    /// Has a node asked. A query that is in flight does not count: its answer may be older than the reason.
    pub(super) fn want(&mut self, address: &Address, is_urgent: bool, now: Instant) {
        if let Some(contact) = self.contacts.get_mut(address).filter(|contact| !contact.is_leaving) {
            let since = contact.wanted.map_or(now, |wanted| wanted.since);
            let is_urgent = is_urgent || contact.wanted.is_some_and(|wanted| wanted.is_urgent);
            contact.wanted = Some(Wanted { is_urgent, since });
        }
    }

    /// Returns the nodes to ask now, the most urgent first.
    pub(super) fn take_due(&mut self, now: Instant) -> Vec<Address> {
        let lost_after = self.lost_after;
        let mut wanted: Vec<_> = self
            .contacts
            .iter_mut()
            .filter(|(_, contact)| contact.due(lost_after).is_some_and(|due| due <= now))
            .filter_map(|(address, contact)| Some((contact.wanted?, address, contact)))
            .collect();
        // Whoever has waited for long comes before urgent queries, of which there may always be more.
        wanted.sort_by_key(|(wanted, ..)| (!wanted.is_urgent && now < wanted.since + PATIENCE, wanted.since));
        let mut due = Vec::new();
        for (_, address, contact) in wanted {
            if !self.rate.try_acquire(now) {
                break;
            }
            (contact.asked_at, contact.is_in_flight, contact.wanted) = (Some(now), true, None);
            due.push(address.clone());
        }
        due
    }

    /// Returns when the next query is due.
    pub(super) fn next_due(&self, now: Instant) -> Option<Instant> {
        let due = self.contacts.values().filter_map(|contact| contact.due(self.lost_after)).min()?;
        Some(due.max(self.rate.next_at(now)))
    }

    /// Records how a query went. Returns false if nobody needs the answer.
    pub(super) fn on_answer(&mut self, asked: &Address, failure: Option<&ViewError>) -> bool {
        let Some(contact) = self.contacts.get_mut(asked) else { return false };
        (contact.is_in_flight, contact.failure) = (false, failure.cloned());
        let is_leaving = contact.is_leaving;
        if is_leaving {
            self.contacts.remove(asked);
        }
        !is_leaving
    }

    /// Returns true if the last query to the address failed.
    pub(super) fn is_failing(&self, address: &Address) -> bool {
        self.failure(address).is_some()
    }

    pub(super) fn failure(&self, address: &Address) -> Option<&ViewError> {
        self.contacts.get(address)?.failure.as_ref()
    }

    /// Returns true if no query to the address is on its way or waiting.
    pub(super) fn is_idle(&self, address: &Address) -> bool {
        self.contacts.get(address).is_none_or(|contact| !contact.is_in_flight && contact.wanted.is_none())
    }

    /// Returns when the address was last asked.
    pub(super) fn asked_at(&self, address: &Address) -> Option<Instant> {
        self.contacts.get(address)?.asked_at
    }

    /// Returns every address that failed, with what it said.
    pub(super) fn explain(&self) -> String {
        let said = |(address, contact): (&Address, &Contact)| {
            let failure = contact.failure.as_ref()?;
            Some(format!("{address}: {failure}"))
        };
        self.contacts.iter().filter_map(said).collect::<Vec<_>>().join("; ")
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.contacts.len()
    }
}

impl Contact {
    /// Returns when the wanted query may be sent. A query in flight is waited for, unless its answer is lost.
    fn due(&self, lost_after: Duration) -> Option<Instant> {
        let wanted = self.wanted?;
        let wait = if self.is_in_flight { lost_after } else { SPACING };
        Some(self.asked_at.map_or(wanted.since, |asked_at| wanted.since.max(asked_at + wait)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queries(addresses: &[Address]) -> Queries {
        let mut queries = Queries::new(Duration::from_secs(1));
        queries.keep(addresses.iter(), Instant::now());
        queries
    }

    #[test]
    fn one_query_at_a_time_to_a_node() {
        let (start, node) = (Instant::now(), Address::tcp("a", 1));
        let at = |ms: u64| start + Duration::from_millis(ms);
        let mut queries = queries(std::slice::from_ref(&node));
        queries.want(&node, false, start);
        assert_eq!(queries.take_due(start), std::slice::from_ref(&node));
        queries.want(&node, true, at(10));
        assert_eq!(queries.take_due(at(500)), []);
        assert!(queries.on_answer(&node, None));
        assert_eq!(queries.take_due(at(500)), std::slice::from_ref(&node));
        queries.want(&node, true, at(501));
        assert_eq!(
            queries.next_due(at(501)),
            Some(at(2500)),
            "the answer counts as lost after twice the timeout"
        );
        assert!(queries.on_answer(&node, Some(&ViewError::ClusterDisabled)));
        assert_eq!((queries.next_due(at(501)), queries.is_failing(&node)), (Some(at(600)), true));
        assert!(!queries.on_answer(&Address::tcp("b", 1), None), "it is not known");
    }

    #[test]
    fn address_that_leaves_and_returns_is_not_asked_twice() {
        let (start, nodes) = (Instant::now(), [Address::tcp("a", 1)]);
        let mut queries = queries(&nodes);
        queries.want(&nodes[0], true, start);
        assert_eq!(queries.take_due(start).len(), 1);
        queries.keep([].iter(), start);
        assert_eq!(queries.len(), 1);
        queries.keep(nodes.iter(), start);
        queries.want(&nodes[0], true, start);
        assert_eq!(queries.take_due(start + Duration::from_secs(1)), []);
        queries.keep([].iter(), start);
        assert!(!queries.on_answer(&nodes[0], None), "nobody needs the answer");
        assert_eq!(queries.len(), 0);
    }

    #[test]
    fn few_queries_in_all_and_urgent_ones_first() {
        let start = Instant::now();
        let nodes: Vec<_> = (1..=50).map(|port| Address::tcp("a", port)).collect();
        let mut queries = queries(&nodes);
        nodes.iter().for_each(|node| queries.want(node, false, start));
        queries.want(&nodes[49], true, start);
        assert_eq!(queries.take_due(start), [nodes[49].clone(), nodes[0].clone(), nodes[1].clone()]);
        let (mut now, mut asked) = (start, 3);
        while let Some(due) = queries.next_due(now).filter(|due| *due < start + Duration::from_secs(1)) {
            assert!(due > now);
            now = due;
            asked += queries.take_due(now).len();
        }
        assert_eq!(asked, 10);
    }
}
