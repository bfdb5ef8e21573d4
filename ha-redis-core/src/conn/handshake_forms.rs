//! In which form each server takes the handshake, as far as that was found out.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::address::Address;
use crate::proto::Form;
use crate::sync::{Mutex, lock};

/// A server that does not take HELLO is not asked again for so long: it may be replaced by one that does.
const ASK_AGAIN: Duration = Duration::from_secs(300);

/// The same of one that has not said so, but closed the connection, as it may have done for another reason.
const ASK_AGAIN_AFTER_CLOSES: Duration = Duration::from_secs(30);

/// So many servers are remembered. There are hardly more; but who names them may be anybody.
const MOST_SERVERS: usize = 256;

#[derive(Debug, Default)]
pub(crate) struct HandshakeForms(Mutex<BTreeMap<Address, Known>>);

#[derive(Debug)]
enum Known {
    TakesHello,
    /// It took this form in place of HELLO, which it is to be asked for again from then on.
    Without(Form, Instant),
    /// It closed the connection upon HELLO. That may have been a coincidence, until it does so again before then.
    ClosedOnce(Instant),
    /// It closed the connection upon richer forms, so this one is tried until then.
    Closed(Form, Instant),
}

impl HandshakeForms {
    /// The form to begin with.
    pub(crate) fn first(&self, server: &Address, now: Instant) -> Form {
        match lock(&self.0).get(server) {
            Some(Known::Without(form, until) | Known::Closed(form, until)) if now < *until => *form,
            _ => Form::Hello,
        }
    }

    /// Whether it has taken a handshake before.
    pub(crate) fn is_known(&self, server: &Address) -> bool {
        matches!(lock(&self.0).get(server), Some(Known::TakesHello | Known::Without(..)))
    }

    /// Whether it has taken HELLO before: when it closes the connection now, that is no refusal of HELLO.
    pub(crate) fn takes_hello(&self, server: &Address) -> bool {
        matches!(lock(&self.0).get(server), Some(Known::TakesHello))
    }

    /// It has closed the connection upon this form; the one to try next. What was found out stays found out when the time
    /// of an attempt is over.
    pub(crate) fn on_close(&self, server: &Address, form: Form, now: Instant) -> Form {
        let mut known = lock(&self.0);
        let until = now + ASK_AGAIN_AFTER_CLOSES;
        let (next, found) = match (form, known.get(server)) {
            // Another connection has found out more meanwhile.
            (Form::Hello, Some(Known::Without(next, until) | Known::Closed(next, until))) if now < *until => {
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

    /// It has taken this form.
    pub(crate) fn learn(&self, server: &Address, form: Form, now: Instant) {
        let mut known = lock(&self.0);
        let found = match (form, known.get(server)) {
            (Form::Hello, _) => Known::TakesHello,
            // Every connection says so again; HELLO is to have its chance nevertheless.
            (form, Some(Known::Without(_, until) | Known::Closed(_, until))) if now < *until => {
                Known::Without(form, *until)
            }
            (form, _) => Known::Without(form, now + ASK_AGAIN),
        };
        insert(&mut known, server, found);
    }
}

fn insert(known: &mut BTreeMap<Address, Known>, server: &Address, found: Known) {
    if known.len() >= MOST_SERVERS && !known.contains_key(server) {
        known.clear();
    }
    known.insert(server.clone(), found);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_without_hello_is_asked_for_it_again_after_a_while() {
        let (forms, server, start) = (HandshakeForms::default(), Address::tcp("s", 1), Instant::now());
        let after = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(forms.first(&server, start), Form::Hello);
        forms.learn(&server, Form::Resp2, start);
        assert_eq!(forms.first(&server, after(299)), Form::Resp2);
        forms.learn(&server, Form::Bare, after(299));
        assert_eq!(forms.first(&server, after(299)), Form::Bare);
        assert_eq!(forms.first(&server, after(300)), Form::Hello, "counted from the first time");
        forms.learn(&server, Form::Bare, after(301));
        assert_eq!(forms.first(&server, after(600)), Form::Bare);
        assert!(forms.is_known(&server) && !forms.takes_hello(&server));
        forms.learn(&server, Form::Hello, after(601));
        assert!(forms.takes_hello(&server) && forms.first(&server, after(601)) == Form::Hello);
        assert_eq!(forms.first(&Address::tcp("other", 1), start), Form::Hello);
    }

    #[test]
    fn two_closes_are_a_refusal_for_a_while() {
        let (forms, server, start) = (HandshakeForms::default(), Address::tcp("s", 1), Instant::now());
        let after = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(forms.on_close(&server, Form::Hello, start), Form::Hello, "it may be a coincidence");
        assert!(forms.first(&server, start) == Form::Hello && !forms.is_known(&server));
        assert_eq!(forms.on_close(&server, Form::Hello, after(1)), Form::Resp2);
        assert_eq!(forms.on_close(&server, Form::Hello, after(1)), Form::Resp2, "of another connection");
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
    fn memory_is_bounded() {
        let (forms, now) = (HandshakeForms::default(), Instant::now());
        for port in 1..=10_000 {
            forms.learn(&Address::tcp("s", port), Form::Resp2, now);
        }
        assert!(lock(&forms.0).len() <= MOST_SERVERS);
    }
}
