//! In which form each server takes the handshake, as far as that was found out.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::address::Address;
use crate::proto::Form;
use crate::sync::{Mutex, lock};

/// A server that does not take HELLO is not asked again for so long: it may be replaced by one that does.
const ASK_AGAIN: Duration = Duration::from_secs(300);

/// The same of one that has not said so, but closed the connection, as it may have done for another reason.
const ASK_AGAIN_AFTER_A_CLOSE: Duration = Duration::from_secs(30);

/// So many servers are remembered. There are hardly more; but who names them may be anybody.
const MOST_SERVERS: usize = 256;

#[derive(Debug, Default)]
pub(crate) struct HandshakeForms(Mutex<BTreeMap<Address, Known>>);

#[derive(Debug)]
enum Known {
    TakesHello,
    /// It took this form in place of HELLO, which it is to be asked for again from then on.
    Without(Form, Instant),
}

impl HandshakeForms {
    /// The form to begin with.
    pub(crate) fn first(&self, server: &Address, now: Instant) -> Form {
        match lock(&self.0).get(server) {
            Some(Known::Without(form, until)) if now < *until => *form,
            _ => Form::Hello,
        }
    }

    /// Whether it has taken a handshake before.
    pub(crate) fn is_known(&self, server: &Address) -> bool {
        lock(&self.0).contains_key(server)
    }

    /// Whether it has taken HELLO before: when it closes the connection now, that is no refusal of HELLO.
    pub(crate) fn takes_hello(&self, server: &Address) -> bool {
        matches!(lock(&self.0).get(server), Some(Known::TakesHello))
    }

    /// It has taken this form, after it `was_closed` upon a richer one.
    pub(crate) fn learn(&self, server: &Address, form: Form, was_closed: bool, now: Instant) {
        let pause = if was_closed { ASK_AGAIN_AFTER_A_CLOSE } else { ASK_AGAIN };
        let mut known = lock(&self.0);
        let found = match (form, known.get(server)) {
            (Form::Hello, _) => Known::TakesHello,
            // Every connection says so again; HELLO is to have its chance nevertheless.
            (form, Some(Known::Without(_, until))) if now < *until => Known::Without(form, *until),
            (form, _) => Known::Without(form, now + pause),
        };
        if known.len() >= MOST_SERVERS && !known.contains_key(server) {
            known.clear();
        }
        known.insert(server.clone(), found);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_without_hello_is_asked_for_it_again_after_a_while() {
        let (forms, server, start) = (HandshakeForms::default(), Address::tcp("s", 1), Instant::now());
        let after = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(forms.first(&server, start), Form::Hello);
        forms.learn(&server, Form::Resp2, false, start);
        assert_eq!(forms.first(&server, after(299)), Form::Resp2);
        forms.learn(&server, Form::Bare, false, after(299));
        assert_eq!(forms.first(&server, after(299)), Form::Bare);
        assert_eq!(forms.first(&server, after(300)), Form::Hello, "counted from the first time");
        forms.learn(&server, Form::Bare, false, after(301));
        assert_eq!(forms.first(&server, after(600)), Form::Bare);
        assert!(forms.is_known(&server) && !forms.takes_hello(&server));
        forms.learn(&server, Form::Hello, false, after(601));
        assert!(forms.takes_hello(&server) && forms.first(&server, after(601)) == Form::Hello);
        let other = Address::tcp("other", 1);
        assert_eq!(forms.first(&other, start), Form::Hello);
        forms.learn(&other, Form::Bare, true, start);
        assert_eq!(forms.first(&other, after(29)), Form::Bare);
        assert_eq!(forms.first(&other, after(30)), Form::Hello, "it may have closed for another reason");
    }

    #[test]
    fn memory_is_bounded() {
        let (forms, now) = (HandshakeForms::default(), Instant::now());
        for port in 1..=10_000 {
            forms.learn(&Address::tcp("s", port), Form::Resp2, true, now);
        }
        assert!(lock(&forms.0).len() <= MOST_SERVERS);
    }
}
