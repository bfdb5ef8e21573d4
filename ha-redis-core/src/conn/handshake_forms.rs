//! Remembers which form of the handshake each server accepts.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::address::Address;
use crate::proto::Form;
use crate::sync::{Mutex, lock};

/// How long HELLO is not sent to a server that refused it: the server may be replaced by one that accepts it.
const RETRY_HELLO: Duration = Duration::from_secs(300);

/// The same for a server that closed the connection, possibly for another reason.
const RETRY_HELLO_AFTER_CLOSE: Duration = Duration::from_secs(30);

/// How many servers are remembered. There are rarely more, but the list of servers comes from peers.
const MAX_SERVERS: usize = 256;

#[derive(Debug, Default)]
pub(crate) struct HandshakeForms(Mutex<BTreeMap<Address, Known>>);

#[derive(Debug)]
enum Known {
    AcceptsHello,
    /// The server accepted this form instead of HELLO, which is sent again from that time on.
    AcceptsOnly(Form, Instant),
    /// The server closed the connection after HELLO. That may be a coincidence, unless it does so again before that
    /// time.
    ClosedOnce(Instant),
    /// The server closed the connection after richer forms, so this one is used until that time.
    Closed(Form, Instant),
}

impl HandshakeForms {
    /// Returns the form to start with.
    pub(crate) fn first(&self, server: &Address, now: Instant) -> Form {
        match lock(&self.0).get(server) {
            Some(Known::AcceptsOnly(form, until) | Known::Closed(form, until)) if now < *until => *form,
            _ => Form::Hello,
        }
    }

    /// Returns true if the server has completed a handshake before.
    pub(crate) fn is_known(&self, server: &Address) -> bool {
        matches!(lock(&self.0).get(server), Some(Known::AcceptsHello | Known::AcceptsOnly(..)))
    }

    /// Returns true if the server has accepted HELLO before: then a closed connection is not a refusal of HELLO.
    pub(crate) fn accepts_hello(&self, server: &Address) -> bool {
        matches!(lock(&self.0).get(server), Some(Known::AcceptsHello))
    }

    /// Records that the server closed the connection after this form. Returns the one to try next. The record stays
    /// when a connection attempt times out.
    pub(crate) fn on_close(&self, server: &Address, form: Form, now: Instant) -> Form {
        let mut known = lock(&self.0);
        let until = now + RETRY_HELLO_AFTER_CLOSE;
        let (next, found) = match (form, known.get(server)) {
            // Another connection has learned more meanwhile.
            (Form::Hello, Some(Known::AcceptsOnly(next, until) | Known::Closed(next, until)))
                if now < *until =>
            {
                return *next;
            }
            (Form::Hello, Some(Known::ClosedOnce(until))) if now < *until => {
                (form.simpler(), Known::Closed(form.simpler(), *until))
            }
            (Form::Hello, _) => (Form::Hello, Known::ClosedOnce(until)),
            (form, _) => (form.simpler(), Known::Closed(form.simpler(), until)),
        };
        insert(&mut known, server, found);
        next
    }

    /// Records that the server accepted this form.
    pub(crate) fn learn(&self, server: &Address, form: Form, now: Instant) {
        let mut known = lock(&self.0);
        let found = match (form, known.get(server)) {
            (Form::Hello, _) => Known::AcceptsHello,
            // Every connection confirms the form; HELLO is tried again nevertheless.
            (form, Some(Known::AcceptsOnly(_, until) | Known::Closed(_, until))) if now < *until => {
                Known::AcceptsOnly(form, *until)
            }
            (form, _) => Known::AcceptsOnly(form, now + RETRY_HELLO),
        };
        insert(&mut known, server, found);
    }
}

fn insert(known: &mut BTreeMap<Address, Known>, server: &Address, found: Known) {
    if known.len() >= MAX_SERVERS && !known.contains_key(server) {
        known.clear();
    }
    known.insert(server.clone(), found);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hello_retried_after_refusal() {
        let (forms, server, start) = (HandshakeForms::default(), Address::tcp("s", 1), Instant::now());
        let after = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(forms.first(&server, start), Form::Hello);
        forms.learn(&server, Form::Resp2, start);
        assert_eq!(forms.first(&server, after(299)), Form::Resp2);
        forms.learn(&server, Form::Bare, after(299));
        assert_eq!(forms.first(&server, after(299)), Form::Bare);
        assert_eq!(forms.first(&server, after(300)), Form::Hello, "counted from the first refusal");
        forms.learn(&server, Form::Bare, after(301));
        assert_eq!(forms.first(&server, after(600)), Form::Bare);
        assert!(forms.is_known(&server) && !forms.accepts_hello(&server));
        forms.learn(&server, Form::Hello, after(601));
        assert!(forms.accepts_hello(&server) && forms.first(&server, after(601)) == Form::Hello);
        assert_eq!(forms.first(&Address::tcp("other", 1), start), Form::Hello);
    }

    #[test]
    fn two_closes_count_as_refusal() {
        let (forms, server, start) = (HandshakeForms::default(), Address::tcp("s", 1), Instant::now());
        let after = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(forms.on_close(&server, Form::Hello, start), Form::Hello, "it may be a coincidence");
        assert!(forms.first(&server, start) == Form::Hello && !forms.is_known(&server));
        assert_eq!(forms.on_close(&server, Form::Hello, after(1)), Form::Resp2);
        assert_eq!(forms.on_close(&server, Form::Hello, after(1)), Form::Resp2, "for another connection");
        assert_eq!(forms.on_close(&server, Form::Resp2, after(2)), Form::Bare);
        assert_eq!(forms.first(&server, after(31)), Form::Bare, "also for the next attempt");
        forms.learn(&server, Form::Bare, after(3));
        assert!(forms.is_known(&server));
        assert_eq!(forms.first(&server, after(31)), Form::Bare);
        assert_eq!(forms.first(&server, after(32)), Form::Hello);
        assert_eq!(forms.on_close(&server, Form::Hello, after(32)), Form::Hello);
        assert_eq!(forms.on_close(&server, Form::Hello, after(70)), Form::Hello, "long after the first");
    }

    #[test]
    fn remembered_servers_are_bounded() {
        let (forms, now) = (HandshakeForms::default(), Instant::now());
        for port in 1..=10_000 {
            forms.learn(&Address::tcp("s", port), Form::Resp2, now);
        }
        assert!(lock(&forms.0).len() <= MAX_SERVERS);
    }
}
