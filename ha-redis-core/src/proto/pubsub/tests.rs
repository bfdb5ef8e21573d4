use redis::{Cmd, Value};

use super::*;
use crate::error::{Kind, Outcome};

type Waiting = Subscriptions<&'static str>;

fn request(
    verb: Verb,
    scope: Scope,
    names: &[&str],
    waiter: &'static str,
) -> SubscriptionChange<&'static str> {
    SubscriptionChange {
        verb,
        scope,
        names: names.iter().map(|name| name.as_bytes().to_vec()).collect(),
        waiter,
    }
}

fn ask(subscriptions: &mut Waiting, verb: Verb, names: &[&str], waiter: &'static str) {
    subscriptions.ask(request(verb, Scope::Channel, names, waiter));
}

fn words(commands: &[Cmd]) -> Vec<String> {
    let words = |command: &Cmd| {
        let args = command.args_iter().map(|arg| match arg {
            redis::Arg::Simple(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            _ => "?".to_owned(),
        });
        args.collect::<Vec<_>>().join(" ")
    };
    commands.iter().map(words).collect()
}

/// Hears what the server says, as one `kind channel` or an error a word.
fn hear(subscriptions: &mut Waiting, said: &str) -> Option<News> {
    subscriptions.hear(value(said)).unwrap()
}

fn value(said: &str) -> Value {
    if said.starts_with(['-', '+']) {
        return redis::parse_redis_value(format!("{said}\r\n").as_bytes()).unwrap();
    }
    let (kind, name) = said.split_once(' ').unwrap();
    let text = format!(">3\r\n+{kind}\r\n${}\r\n{name}\r\n:1\r\n", name.len());
    redis::parse_redis_value(text.as_bytes()).unwrap()
}

fn settled(subscriptions: &mut Waiting) -> Vec<(&'static str, bool)> {
    subscriptions.settled().map(|(waiter, outcome)| (waiter, outcome.is_ok())).collect()
}

/// Subscribed to these channels, on a connection.
fn subscribed(names: &[&str]) -> Waiting {
    let mut subscriptions = Waiting::new();
    ask(&mut subscriptions, Verb::Subscribe, names, "first");
    subscriptions.send();
    names.iter().for_each(|name| _ = hear(&mut subscriptions, &format!("subscribe {name}")));
    assert_eq!(settled(&mut subscriptions), [("first", true)]);
    subscriptions
}

#[test]
fn a_request_is_settled_when_each_of_its_names_is_confirmed() {
    let mut subscriptions = Waiting::new();
    ask(&mut subscriptions, Verb::Subscribe, &["a", "b"], "subscriber");
    ask(&mut subscriptions, Verb::Unsubscribe, &["a"], "leaver");
    assert_eq!(words(&subscriptions.send()), ["SUBSCRIBE a b", "UNSUBSCRIBE a"]);
    assert!(subscriptions.send().is_empty());
    hear(&mut subscriptions, "subscribe a");
    assert!(settled(&mut subscriptions).is_empty());
    hear(&mut subscriptions, "subscribe b");
    assert_eq!(settled(&mut subscriptions), [("subscriber", true)]);
    hear(&mut subscriptions, "unsubscribe a");
    assert_eq!(settled(&mut subscriptions), [("leaver", true)]);
    assert!(!subscriptions.is_owed());
    subscriptions.disconnected();
    assert_eq!(words(&subscriptions.restore()), ["SUBSCRIBE b"]);
}

#[test]
fn names_that_were_not_asked_for_are_not_kept() {
    for said in ["subscribe other", "subscribe b", "psubscribe a"] {
        let mut subscriptions = Waiting::new();
        ask(&mut subscriptions, Verb::Subscribe, &["a", "b"], "subscriber");
        subscriptions.send();
        let error = subscriptions.hear(value(said)).unwrap_err();
        assert_eq!(error.kind(), Kind::Protocol, "{said}");
        subscriptions.disconnected();
        assert!(subscriptions.restore().is_empty(), "{said}");
        assert_eq!(words(&subscriptions.send()), ["SUBSCRIBE a b"]);
    }
}

#[test]
fn each_scope_has_its_own_names() {
    let mut subscriptions = Waiting::new();
    for (scope, kind) in
        [(Scope::Channel, "subscribe"), (Scope::Pattern, "psubscribe"), (Scope::ShardChannel, "ssubscribe")]
    {
        subscriptions.ask(request(Verb::Subscribe, scope, &["x"], "waiter"));
        assert_eq!(words(&subscriptions.send()), [format!("{} x", kind.to_uppercase())]);
        hear(&mut subscriptions, &format!("{kind} x"));
    }
    subscriptions.ask(request(Verb::Unsubscribe, Scope::Pattern, &["x"], "waiter"));
    assert_eq!(words(&subscriptions.send()), ["PUNSUBSCRIBE x"]);
    hear(&mut subscriptions, "punsubscribe x");
    subscriptions.disconnected();
    assert_eq!(words(&subscriptions.restore()), ["SUBSCRIBE x", "SSUBSCRIBE x"]);
}

#[test]
fn a_refusal_is_its_callers_alone_and_says_what_to_do() {
    let mut subscriptions = subscribed(&["a"]);
    ask(&mut subscriptions, Verb::Subscribe, &["a", "secret"], "caller");
    subscriptions.send();
    assert!(hear(&mut subscriptions, "-NOPERM this user has no permissions").is_none());
    let (_, outcome) = subscriptions.settled().next().unwrap();
    let error = outcome.unwrap_err();
    assert!(error.is_permission_denied() && error.outcome() == Outcome::NotApplied);
    let text = error.to_string();
    assert!(text.contains("SUBSCRIBE a secret") && text.contains("ACL SETUSER"), "{text}");
    subscriptions.disconnected();
    assert_eq!(words(&subscriptions.restore()), ["SUBSCRIBE a"], "what was granted before stays");
}

#[test]
fn a_new_connection_restores_each_by_itself_and_gives_up_what_is_refused() {
    let mut subscriptions = subscribed(&["a", "b", "c"]);
    subscriptions.disconnected();
    assert_eq!(words(&subscriptions.restore()), ["SUBSCRIBE a", "SUBSCRIBE b", "SUBSCRIBE c"]);
    hear(&mut subscriptions, "subscribe a");
    let refused = hear(&mut subscriptions, "-NOPERM no");
    assert!(matches!(refused, Some(News::Refused(Subscription { name, .. }, _)) if name == b"b"));
    assert!(!subscriptions.is_restored());
    hear(&mut subscriptions, "subscribe c");
    assert!(subscriptions.is_restored());
    subscriptions.disconnected();
    assert_eq!(words(&subscriptions.restore()), ["SUBSCRIBE a", "SUBSCRIBE c"]);
}

#[test]
fn what_a_lost_connection_owed_is_asked_again_in_order() {
    let mut subscriptions = subscribed(&["a"]);
    ask(&mut subscriptions, Verb::Subscribe, &["b", "c"], "b and c");
    ask(&mut subscriptions, Verb::Unsubscribe, &["a", "c"], "leaver");
    ask(&mut subscriptions, Verb::Subscribe, &["c"], "c");
    subscriptions.send();
    hear(&mut subscriptions, "subscribe b");
    subscriptions.disconnected();
    assert_eq!(
        settled(&mut subscriptions),
        [("leaver", true)],
        "nothing is subscribed to without a connection"
    );
    assert_eq!(words(&subscriptions.restore()), ["SUBSCRIBE b"]);
    assert_eq!(words(&subscriptions.send()), ["SUBSCRIBE b", "SUBSCRIBE c"]);
}

#[test]
fn what_callers_asked_for_is_remembered_without_them() {
    let mut subscriptions = Waiting::new();
    ask(&mut subscriptions, Verb::Subscribe, &["a"], "gone");
    ask(&mut subscriptions, Verb::Subscribe, &["b"], "patient");
    subscriptions.remember(|waiter| *waiter == "gone");
    assert!(settled(&mut subscriptions).is_empty());
    subscriptions.fail(&Error::new(Kind::Authentication, "wrong password"));
    assert_eq!(settled(&mut subscriptions), [("patient", false)]);
    assert_eq!(words(&subscriptions.restore()), ["SUBSCRIBE a", "SUBSCRIBE b"]);
}

#[test]
fn a_request_for_nothing_is_a_request_for_a_connection() {
    let mut subscriptions = Waiting::new();
    ask(&mut subscriptions, Verb::Subscribe, &[], "opener");
    assert!(settled(&mut subscriptions).is_empty());
    assert!(subscriptions.send().is_empty());
    assert_eq!(settled(&mut subscriptions), [("opener", true)]);
}

#[test]
fn a_pong_answers_a_ping_in_both_protocols() {
    let mut subscriptions = Waiting::new();
    let pong = redis::parse_redis_value(b"*2\r\n$4\r\npong\r\n$0\r\n\r\n").unwrap();
    for pong in [value("+PONG"), pong, value("-NOPERM no")] {
        subscriptions.ping();
        assert!(subscriptions.hear(pong).unwrap().is_none());
        assert!(!subscriptions.is_owed());
    }
}

#[test]
fn resp2_speaks_in_arrays() {
    let array = |words: &[&str]| {
        Value::Array(words.iter().map(|word| Value::BulkString(word.as_bytes().to_vec())).collect())
    };
    let mut subscriptions = Waiting::new();
    ask(&mut subscriptions, Verb::Subscribe, &["a"], "waiter");
    subscriptions.send();
    subscriptions.hear(array(&["subscribe", "a", "1"])).unwrap();
    assert_eq!(settled(&mut subscriptions), [("waiter", true)]);
    for (words, pattern) in [
        (&["message", "a", "hello"][..], None),
        (&["pmessage", "?", "a", "hello"], Some("?")),
        (&["smessage", "a", "hello"], None),
    ] {
        let Some(News::Message(message, size)) = subscriptions.hear(array(words)).unwrap() else {
            panic!("no message: {words:?}")
        };
        assert_eq!(message.get_channel_name(), "a");
        assert_eq!(message.get_payload::<String>().unwrap(), "hello");
        assert_eq!(message.get_pattern::<Option<String>>().unwrap().as_deref(), pattern);
        assert_eq!(size, 6 + 2 * 32 + pattern.map_or(0, |pattern| pattern.len() + 32));
    }
}

#[test]
fn what_was_not_asked_for_ends_the_connection() {
    let nonsense = ["subscribe b", "unsubscribe a", "sunsubscribe a", "+PONG", "+OK", "-ERR no"];
    for said in nonsense {
        let mut subscriptions = subscribed(&["a"]);
        let error = subscriptions.hear(value(said)).unwrap_err();
        assert!(error.is_protocol(), "{said}: {error}");
        subscriptions.disconnected();
        assert_eq!(words(&subscriptions.restore()), ["SUBSCRIBE a"], "{said}");
    }
    for bytes in [&b"*0\r\n"[..], b":1\r\n", b"*1\r\n$4\r\nnews\r\n", b"*2\r\n$7\r\nmessage\r\n$1\r\na\r\n"] {
        let error = subscribed(&["a"]).hear(redis::parse_redis_value(bytes).unwrap()).unwrap_err();
        assert!(error.is_protocol(), "{error}");
    }
}

#[test]
fn other_pushes_are_passed_over() {
    assert!(hear(&mut subscribed(&["a"]), "invalidate k").is_none());
}

#[test]
fn long_lists_of_names_are_quoted_in_part() {
    let names = (0..9).map(|name| vec![0xff, b'0' + name]).collect::<Vec<_>>();
    let text = named(Verb::Subscribe, Scope::Pattern, &names);
    assert_eq!(text, r"PSUBSCRIBE \xff0 \xff1 \xff2 and 6 more");
}
