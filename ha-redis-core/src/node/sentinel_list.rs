//! The known Sentinels, the preferred one first.

use std::collections::BTreeMap;

use crate::address::Address;
use crate::error::Kind;
use crate::sync::{Mutex, lock};

/// Starts with the configured Sentinels; the [topology monitor](crate::tasks::topology_monitor) updates it.
#[derive(Debug)]
pub(crate) struct SentinelList(Mutex<State>);

#[derive(Debug)]
struct State {
    addresses: Vec<Address>,
    /// Whether the first one answered its last query.
    first_answers: bool,
    /// The Sentinels that cannot be queried until a setting changes, each with the kind of the error.
    permanent_failure: BTreeMap<Address, Kind>,
}

impl SentinelList {
    pub(crate) fn new(addresses: &[Address]) -> Self {
        Self(Mutex::new(State {
            addresses: addresses.to_vec(),
            first_answers: false,
            permanent_failure: BTreeMap::new(),
        }))
    }

    pub(crate) fn addresses(&self) -> Vec<Address> {
        lock(&self.0).addresses.clone()
    }

    pub(crate) fn add(&self, sentinel: Address) {
        let addresses = &mut lock(&self.0).addresses;
        if !addresses.contains(&sentinel) {
            addresses.push(sentinel);
        }
    }

    pub(crate) fn remove(&self, sentinel: &Address) {
        let mut state = lock(&self.0);
        state.addresses.retain(|address| address != sentinel);
        state.permanent_failure.remove(sentinel);
    }

    /// Records whether a Sentinel refused its last query for a permanent reason.
    pub(crate) fn set_permanent_failure(&self, sentinel: &Address, kind: Option<Kind>) {
        let permanent_failure = &mut lock(&self.0).permanent_failure;
        match kind {
            Some(kind) => _ = permanent_failure.insert(sentinel.clone(), kind),
            None => _ = permanent_failure.remove(sentinel),
        }
    }

    /// Returns the kind of error for which none of them can be queried until a setting changes.
    pub(crate) fn permanent_failure(&self) -> Option<Kind> {
        let state = lock(&self.0);
        let mut kinds = state.addresses.iter().map(|sentinel| state.permanent_failure.get(sentinel).copied());
        let first = kinds.next()??;
        kinds.all(|kind| kind.is_some()).then_some(first)
    }

    /// Moves a Sentinel that answered to the front, unless the first one still answers.
    pub(crate) fn answered(&self, sentinel: &Address) {
        let mut state = lock(&self.0);
        let place = state.addresses.iter().position(|address| address == sentinel);
        if let (Some(place), false) = (place, state.first_answers) {
            state.addresses[..=place].rotate_right(1);
            state.first_answers = true;
        }
    }

    /// Moves a Sentinel that did not answer to the end.
    pub(crate) fn failed(&self, sentinel: &Address) {
        let mut state = lock(&self.0);
        let Some(place) = state.addresses.iter().position(|address| address == sentinel) else { return };
        state.addresses[place..].rotate_left(1);
        state.first_answers &= place != 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_to_answer_stays_first_until_it_fails() {
        let [a, b, c] = ["a", "b", "c"].map(|host| Address::tcp(host, 26379));
        let list = SentinelList::new(&[a.clone(), b.clone()]);
        list.add(c.clone());
        list.add(a.clone());
        list.answered(&c);
        list.answered(&b);
        assert_eq!(list.addresses(), [c.clone(), a.clone(), b.clone()], "the fastest");
        list.failed(&a);
        assert_eq!(list.addresses(), [c.clone(), b.clone(), a.clone()]);
        list.failed(&c);
        list.answered(&a);
        assert_eq!(list.addresses(), [a.clone(), b.clone(), c.clone()]);
        list.remove(&b);
        assert_eq!(list.addresses(), [a, c]);
    }

    #[test]
    fn permanent_failure_when_all_refuse_permanently() {
        let [a, b] = ["a", "b"].map(|host| Address::tcp(host, 26379));
        let list = SentinelList::new(&[a.clone(), b.clone()]);
        assert_eq!(list.permanent_failure(), None);
        list.set_permanent_failure(&a, Some(Kind::Authentication));
        assert_eq!(list.permanent_failure(), None);
        list.set_permanent_failure(&b, Some(Kind::Permission));
        assert_eq!(list.permanent_failure(), Some(Kind::Authentication));
        list.set_permanent_failure(&a, None);
        assert_eq!(list.permanent_failure(), None);
        list.remove(&a);
        assert_eq!(list.permanent_failure(), Some(Kind::Permission));
    }
}
