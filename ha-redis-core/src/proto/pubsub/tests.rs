use proptest::prelude::*;
use redis::{Cmd, Value};

use super::*;
use crate::error::{Kind, Outcome};
use crate::peer_text::is_printable;
use crate::proto::written::{args, hostile_bytes, written};

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

fn request_channels(subscriptions: &mut Waiting, verb: Verb, names: &[&str], waiter: &'static str) {
    subscriptions.request(request(verb, Scope::Channel, names, waiter));
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

/// Processes a push, given as `kind channel`, or an error.
fn receive(subscriptions: &mut Waiting, text: &str) -> Option<SubscriberEvent> {
    subscriptions.receive(value(text)).unwrap()
}

fn value(text: &str) -> Value {
    if text.starts_with(['-', '+']) {
        return redis::parse_redis_value(format!("{text}\r\n").as_bytes()).unwrap();
    }
    let (kind, name) = text.split_once(' ').unwrap();
    let text = format!(">3\r\n+{kind}\r\n${}\r\n{name}\r\n:1\r\n", name.len());
    redis::parse_redis_value(text.as_bytes()).unwrap()
}

fn settled(subscriptions: &mut Waiting) -> Vec<(&'static str, bool)> {
    subscriptions.settled().map(|(waiter, outcome)| (waiter, outcome.is_ok())).collect()
}

/// Returns subscriptions to these channels, on a connection.
fn subscribed(names: &[&str]) -> Waiting {
    let mut subscriptions = Waiting::new();
    request_channels(&mut subscriptions, Verb::Subscribe, names, "first");
    subscriptions.send();
    names.iter().for_each(|name| _ = receive(&mut subscriptions, &format!("subscribe {name}")));
    assert_eq!(settled(&mut subscriptions), [("first", true)]);
    subscriptions
}

#[test]
fn request_completes_when_all_names_confirmed() {
    let mut subscriptions = Waiting::new();
    request_channels(&mut subscriptions, Verb::Subscribe, &["a", "b"], "subscriber");
    request_channels(&mut subscriptions, Verb::Unsubscribe, &["a"], "leaver");
    assert_eq!(words(&subscriptions.send()), ["SUBSCRIBE a b", "UNSUBSCRIBE a"]);
    assert!(subscriptions.send().is_empty());
    receive(&mut subscriptions, "subscribe a");
    assert!(settled(&mut subscriptions).is_empty());
    receive(&mut subscriptions, "subscribe b");
    assert_eq!(settled(&mut subscriptions), [("subscriber", true)]);
    receive(&mut subscriptions, "unsubscribe a");
    assert_eq!(settled(&mut subscriptions), [("leaver", true)]);
    assert!(!subscriptions.has_pending());
    subscriptions.disconnected();
    assert_eq!(words(&subscriptions.restore()), ["SUBSCRIBE b"]);
}

#[test]
fn unrequested_names_are_rejected() {
    for text in ["subscribe other", "subscribe b", "psubscribe a"] {
        let mut subscriptions = Waiting::new();
        request_channels(&mut subscriptions, Verb::Subscribe, &["a", "b"], "subscriber");
        subscriptions.send();
        let error = subscriptions.receive(value(text)).unwrap_err();
        assert_eq!(error.kind(), Kind::Protocol, "{text}");
        subscriptions.disconnected();
        assert!(subscriptions.restore().is_empty(), "{text}");
        assert_eq!(words(&subscriptions.send()), ["SUBSCRIBE a b"]);
    }
}

#[test]
fn scopes_have_separate_names() {
    let mut subscriptions = Waiting::new();
    for (scope, kind) in
        [(Scope::Channel, "subscribe"), (Scope::Pattern, "psubscribe"), (Scope::ShardChannel, "ssubscribe")]
    {
        subscriptions.request(request(Verb::Subscribe, scope, &["x"], "waiter"));
        assert_eq!(words(&subscriptions.send()), [format!("{} x", kind.to_uppercase())]);
        receive(&mut subscriptions, &format!("{kind} x"));
    }
    subscriptions.request(request(Verb::Unsubscribe, Scope::Pattern, &["x"], "waiter"));
    assert_eq!(words(&subscriptions.send()), ["PUNSUBSCRIBE x"]);
    receive(&mut subscriptions, "punsubscribe x");
    subscriptions.disconnected();
    assert_eq!(words(&subscriptions.restore()), ["SUBSCRIBE x", "SSUBSCRIBE x"]);
}

#[test]
fn refusal_affects_its_request_only() {
    let mut subscriptions = subscribed(&["a"]);
    request_channels(&mut subscriptions, Verb::Subscribe, &["a", "secret"], "caller");
    subscriptions.send();
    assert!(receive(&mut subscriptions, "-NOPERM this user has no permissions").is_none());
    let (_, outcome) = subscriptions.settled().next().unwrap();
    let error = outcome.unwrap_err();
    assert!(error.is_permission_denied() && error.outcome() == Outcome::NotApplied);
    let text = error.to_string();
    assert!(text.contains("SUBSCRIBE a secret") && text.contains("ACL SETUSER"), "{text}");
    subscriptions.disconnected();
    assert_eq!(words(&subscriptions.restore()), ["SUBSCRIBE a"], "earlier subscriptions stay");
}

#[test]
fn restore_gives_up_refused_subscription() {
    let mut subscriptions = subscribed(&["a", "b", "c"]);
    subscriptions.disconnected();
    assert_eq!(words(&subscriptions.restore()), ["SUBSCRIBE a", "SUBSCRIBE b", "SUBSCRIBE c"]);
    receive(&mut subscriptions, "subscribe a");
    let refused = receive(&mut subscriptions, "-NOPERM no");
    assert!(matches!(refused, Some(SubscriberEvent::Refused(Subscription { name, .. }, _)) if name == b"b"));
    assert!(!subscriptions.is_restored());
    receive(&mut subscriptions, "subscribe c");
    assert!(subscriptions.is_restored());
    subscriptions.disconnected();
    assert_eq!(words(&subscriptions.restore()), ["SUBSCRIBE a", "SUBSCRIBE c"]);
}

#[test]
fn pending_requests_repeated_on_new_connection() {
    let mut subscriptions = subscribed(&["a"]);
    request_channels(&mut subscriptions, Verb::Subscribe, &["b", "c"], "b and c");
    request_channels(&mut subscriptions, Verb::Unsubscribe, &["a", "c"], "leaver");
    request_channels(&mut subscriptions, Verb::Subscribe, &["c"], "c");
    subscriptions.send();
    receive(&mut subscriptions, "subscribe b");
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
fn requests_of_gone_callers_are_stored() {
    let mut subscriptions = Waiting::new();
    request_channels(&mut subscriptions, Verb::Subscribe, &["a"], "gone");
    request_channels(&mut subscriptions, Verb::Subscribe, &["b"], "patient");
    subscriptions.remember(|waiter| *waiter == "gone");
    assert!(settled(&mut subscriptions).is_empty());
    subscriptions.fail(&Error::new(Kind::Authentication, "wrong password"));
    assert_eq!(settled(&mut subscriptions), [("patient", false)]);
    assert_eq!(words(&subscriptions.restore()), ["SUBSCRIBE a", "SUBSCRIBE b"]);
}

#[test]
fn request_without_names_completes_on_connection() {
    let mut subscriptions = Waiting::new();
    request_channels(&mut subscriptions, Verb::Subscribe, &[], "opener");
    assert!(settled(&mut subscriptions).is_empty());
    assert!(subscriptions.send().is_empty());
    assert_eq!(settled(&mut subscriptions), [("opener", true)]);
}

#[test]
fn pong_in_both_protocols() {
    let mut subscriptions = Waiting::new();
    let pong = redis::parse_redis_value(b"*2\r\n$4\r\npong\r\n$0\r\n\r\n").unwrap();
    for pong in [value("+PONG"), pong, value("-NOPERM no")] {
        subscriptions.ping();
        assert!(subscriptions.receive(pong).unwrap().is_none());
        assert!(!subscriptions.has_pending());
    }
}

#[test]
fn resp2_arrays() {
    let array = |words: &[&str]| {
        Value::Array(words.iter().map(|word| Value::BulkString(word.as_bytes().to_vec())).collect())
    };
    let mut subscriptions = Waiting::new();
    request_channels(&mut subscriptions, Verb::Subscribe, &["a"], "waiter");
    subscriptions.send();
    subscriptions.receive(array(&["subscribe", "a", "1"])).unwrap();
    assert_eq!(settled(&mut subscriptions), [("waiter", true)]);
    for (words, pattern) in [
        (&["message", "a", "hello"][..], None),
        (&["pmessage", "?", "a", "hello"], Some("?")),
        (&["smessage", "a", "hello"], None),
    ] {
        let Some(SubscriberEvent::Message(message, size)) = subscriptions.receive(array(words)).unwrap()
        else {
            panic!("no message: {words:?}")
        };
        assert_eq!(message.get_channel_name(), "a");
        assert_eq!(message.get_payload::<String>().unwrap(), "hello");
        assert_eq!(message.get_pattern::<Option<String>>().unwrap().as_deref(), pattern);
        assert_eq!(size, 6 + 2 * 32 + pattern.map_or(0, |pattern| pattern.len() + 32));
    }
}

#[test]
fn unexpected_reply_is_protocol_error() {
    let nonsense = ["subscribe b", "unsubscribe a", "sunsubscribe a", "+PONG", "+OK", "-ERR no"];
    for text in nonsense {
        let mut subscriptions = subscribed(&["a"]);
        let error = subscriptions.receive(value(text)).unwrap_err();
        assert!(error.is_protocol(), "{text}: {error}");
        subscriptions.disconnected();
        assert_eq!(words(&subscriptions.restore()), ["SUBSCRIBE a"], "{text}");
    }
    for bytes in [&b"*0\r\n"[..], b":1\r\n", b"*1\r\n$4\r\nnews\r\n", b"*2\r\n$7\r\nmessage\r\n$1\r\na\r\n"] {
        let error = subscribed(&["a"]).receive(redis::parse_redis_value(bytes).unwrap()).unwrap_err();
        assert!(error.is_protocol(), "{error}");
    }
}

/// Returns a message of the channel as it arrives in RESP3 and in RESP2, directly and through a pattern.
fn messages(channel: &[u8], payload: &[u8]) -> [Value; 3] {
    let bulk = |bytes: &[u8]| Value::BulkString(bytes.to_vec());
    let push = Value::Push { kind: redis::PushKind::Message, data: vec![bulk(channel), bulk(payload)] };
    let direct = vec![bulk(b"message"), bulk(channel), bulk(payload)];
    let matched = vec![bulk(b"pmessage"), bulk(b"*"), bulk(channel), bulk(payload)];
    [push, Value::Array(direct), Value::Array(matched)]
}

/// Returns the channel and the payload of a marker.
fn published(marker: &Marker) -> (Vec<u8>, Vec<u8>) {
    let [command] = &written(&[marker.publish()])[..] else { panic!("one command") };
    (command[1].clone(), command[2].clone())
}

/// Starts a handover, in which the server confirms the subscription to the marker's channel.
fn start_handover(subscriptions: &mut Waiting, marker: &Marker) {
    let channel = published(marker).0;
    let subscribe = written(&[subscriptions.start_handover(marker.clone())]);
    assert_eq!(subscribe, [args([&b"SUBSCRIBE"[..], &channel])]);
    assert!(subscriptions.has_pending());
    receive(subscriptions, &format!("subscribe {}", String::from_utf8(channel).unwrap()));
    assert!(!subscriptions.has_pending() && subscriptions.handover_refusal().is_none());
}

#[test]
fn marker_arrives_on_its_channel_with_its_payload() {
    let (marker, other) = (Marker::new(), Marker::new());
    let ((channel, payload), (other_channel, other_payload)) = (published(&marker), published(&other));
    assert_ne!((&channel, &payload), (&other_channel, &other_payload));
    assert_eq!(payload.len(), 32, "128 bits");
    let forged = [(&channel, &b""[..]), (&channel, &other_payload), (&other_channel, &payload)];
    for round in 0..3 {
        let mut subscriptions = subscribed(&["a"]);
        start_handover(&mut subscriptions, &marker);
        for message in forged.iter().flat_map(|(channel, payload)| messages(channel, payload)) {
            assert!(subscriptions.receive(message).unwrap().is_none());
            assert!(!subscriptions.has_marker());
        }
        let [first, ..] = messages(b"a", &payload);
        assert!(subscriptions.receive(first).unwrap().is_some() && !subscriptions.has_marker());
        let arrived = messages(&channel, &payload)[round].clone();
        assert!(subscriptions.receive(arrived).unwrap().is_none() && subscriptions.has_marker());
    }
}

#[test]
fn markers_of_others_are_dropped() {
    let (channel, payload) = published(&Marker::new());
    for message in messages(&channel, &payload) {
        let mut subscriptions = subscribed(&["a"]);
        assert!(subscriptions.receive(message).unwrap().is_none() && !subscriptions.has_marker());
    }
}

#[test]
fn failed_handover_leaves_subscriptions_unchanged() {
    let marker = Marker::new();
    let (channel, payload) = published(&marker);
    let name = String::from_utf8(channel.clone()).unwrap();
    for is_confirmed in [false, true] {
        let mut subscriptions = subscribed(&["a"]);
        if is_confirmed {
            start_handover(&mut subscriptions, &marker);
        } else {
            subscriptions.start_handover(marker.clone());
        }
        let unsubscribe = written(subscriptions.end_handover().as_slice());
        assert_eq!(unsubscribe, [args([&b"UNSUBSCRIBE"[..], &channel])]);
        assert!(subscriptions.end_handover().is_none());
        if !is_confirmed {
            receive(&mut subscriptions, &format!("subscribe {name}"));
        }
        for late in messages(&channel, &payload) {
            assert!(subscriptions.receive(late).unwrap().is_none() && !subscriptions.has_marker());
        }
        receive(&mut subscriptions, &format!("unsubscribe {name}"));
        assert!(!subscriptions.has_pending());
        assert_eq!(words(&subscriptions.restore()), ["SUBSCRIBE a"]);
    }
}

#[test]
fn refused_handover_is_not_a_refused_subscription() {
    let mut subscriptions = subscribed(&["a"]);
    subscriptions.start_handover(Marker::new());
    assert!(receive(&mut subscriptions, "-NOPERM no").is_none());
    assert_eq!(subscriptions.handover_refusal().unwrap().code(), "NOPERM");
    assert!(subscriptions.end_handover().is_none(), "there is nothing to unsubscribe from");
    assert!(!subscriptions.has_pending() && settled(&mut subscriptions).is_empty());

    // The refusal of an earlier handover may arrive during the next one.
    subscriptions.start_handover(Marker::new());
    subscriptions.end_handover();
    subscriptions.start_handover(Marker::new());
    receive(&mut subscriptions, "-NOPERM no");
    receive(&mut subscriptions, "-NOPERM no");
    assert!(subscriptions.handover_refusal().is_none());
    subscriptions.disconnected();
    assert!(subscriptions.end_handover().is_none());
}

#[test]
fn successor_takes_over_what_its_user_may() {
    let mut subscriptions = subscribed(&["a", "b", "c"]);
    let marker = Marker::new();
    start_handover(&mut subscriptions, &marker);
    let mut successor = subscriptions.successor();
    assert_eq!(words(&successor.restore()), ["SUBSCRIBE a", "SUBSCRIBE b", "SUBSCRIBE c"]);
    receive(&mut successor, "subscribe a");
    assert!(matches!(receive(&mut successor, "-NOPERM no"), Some(SubscriberEvent::Refused(..))));
    receive(&mut successor, "subscribe c");
    start_handover(&mut successor, &marker);
    request_channels(&mut subscriptions, Verb::Subscribe, &["d"], "waits");
    subscriptions.continue_as(successor);
    assert_eq!(words(subscriptions.end_handover().as_slice()).len(), 1);
    assert_eq!(words(&subscriptions.send()), ["SUBSCRIBE d"]);
    subscriptions.disconnected();
    assert_eq!(words(&subscriptions.restore()), ["SUBSCRIBE a", "SUBSCRIBE c"]);
}

#[test]
fn other_pushes_ignored() {
    assert!(receive(&mut subscribed(&["a"]), "invalidate k").is_none());
}

#[test]
fn long_list_of_names_is_cut() {
    let names = (0..9).map(|name| vec![0xff, b'0' + name]).collect::<Vec<_>>();
    let text = command_text(Verb::Subscribe, Scope::Pattern, &names);
    assert_eq!(text, r"PSUBSCRIBE \xff0 \xff1 \xff2 and 6 more");
}

proptest! {
    #[test]
    fn any_name_stays_in_its_argument(
        names in prop::collection::vec(hostile_bytes(), 1..4),
        pattern in any::<bool>(),
    ) {
        let (scope, command) = if pattern { (Scope::Pattern, "PSUBSCRIBE") } else { (Scope::Channel, "SUBSCRIBE") };
        let mut subscriptions = Waiting::new();
        let request = SubscriptionChange { verb: Verb::Subscribe, scope, names: names.clone(), waiter: "a" };
        subscriptions.request(request);
        let expected = [args([command]), names.clone()].concat();
        prop_assert_eq!(written(&subscriptions.send()), [expected]);

        for name in &names {
            let kind = Value::BulkString(command.to_ascii_lowercase().into_bytes());
            let confirmed = vec![kind, Value::BulkString(name.clone()), Value::Int(1)];
            subscriptions.receive(Value::Array(confirmed)).unwrap();
        }
        let restored = names.iter().collect::<std::collections::BTreeSet<_>>();
        let each = restored.iter().map(|name| args([command.as_bytes(), name])).collect::<Vec<_>>();
        prop_assert_eq!(written(&subscriptions.restore()), each);
        let text = command_text(Verb::Subscribe, scope, &names);
        prop_assert!(text.chars().all(|character| is_printable(character.encode_utf8(&mut [0; 4]))), "{}", text);
    }
}
