//! Invariants of all replies and messages of Sentinels, and of servers' replication status. A property test and the
//! fuzz target `sentinel` look for counterexamples.

use redis::Value;

use super::report::MAX_REPORTED_SENTINELS;
use super::{parse_event, read_report};
use crate::address::Address;
use crate::peer_text::is_printable;
#[cfg(fuzzing)]
use crate::proto::Decoder;
use crate::proto::{Secrets, read_info_role, read_replication, read_role, read_run_id};
use crate::topology::MAX_REPLICAS;
use crate::topology::Topology;

/// The number of queries in one pipeline.
const QUERIES: usize = 6;

/// Decodes these bytes and checks the replies as those of a Sentinel and of a server.
#[cfg(fuzzing)]
pub(crate) fn check_bytes(bytes: &[u8]) {
    let (mut decoder, mut bytes) = (Decoder::new(), bytes);
    let mut values = Vec::new();
    while let Ok(Some(value)) = decoder.decode(&mut bytes) {
        values.push(value);
    }
    check(&values);
}

/// Checks these replies as those of a Sentinel and of a server; panics if an invariant does not hold.
pub(crate) fn check(replies: &[Value]) {
    replies.chunks(QUERIES).for_each(check_report);
    for reply in replies {
        if let Some(event) = parse_event(reply, "mymaster") {
            assert!(is_one_line(&event.to_string()), "{event}");
        }
        let errors = [read_role(reply).err(), read_info_role(reply).err()];
        errors.iter().flatten().for_each(|error| assert!(is_one_line(error.message()), "{error}"));
        match read_replication(reply) {
            Ok(replication) => {
                replication.replicas.iter().chain(&replication.master).for_each(check_address);
                check_topology(&Topology::from_replication(replication, asked()));
            }
            Err(error) => assert!(is_one_line(error.message()), "{error}"),
        }
        check_topology(&Topology::from_role(reply, asked(), &Secrets::default()));
        read_run_id(reply);
    }
}

fn check_report(replies: &[Value]) {
    let report = read_report(replies);
    assert!(report.replicas.len() <= MAX_REPLICAS && report.sentinels.len() <= MAX_REPORTED_SENTINELS);
    report.servers().into_iter().for_each(check_address);
    report.sentinels.iter().for_each(|other| check_address(&other.address));
    let ids = report.id.iter().chain(report.sentinels.iter().map(|other| &other.id));
    ids.for_each(|id| assert!(is_printable(id) && !id.is_empty(), "{id:?}"));
    let texts = report.left_out.iter().chain(&report.refusal);
    texts.for_each(|text| assert!(is_one_line(text), "{text:?}"));
}

fn check_topology(topology: &Topology) {
    check_address(&topology.master);
    topology.replicas.iter().for_each(|replica| check_address(&replica.address));
    assert!(is_one_line(&topology.to_string().chars().take(100).collect::<String>()));
}

/// An address was parsed from text, so its text must parse to the same address.
fn check_address(address: &Address) {
    let Address::Tcp { host, port } = address else { panic!("{address} is not a network address") };
    assert_eq!(Address::announced(host, &port.to_string()).as_ref(), Some(address));
}

/// The text may combine several texts, each of which is truncated.
fn is_one_line(text: &str) -> bool {
    let text: Vec<char> = text.chars().collect();
    text.len() < 1000 && text.chunks(100).all(|part| is_printable(&part.iter().collect::<String>()))
}

fn asked() -> Address {
    Address::tcp("asked", 6379)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use redis::PushKind;

    use super::*;

    /// Words that Sentinels send, some that they do not know, and some that must not be printed as they are.
    const WORDS: &[&str] = &[
        "mymaster",
        "master",
        "slave",
        "sentinel",
        "@",
        "127.0.0.1",
        "::1",
        "0.0.0.0",
        "0",
        "6379",
        "65536",
        "18446744073709551615",
        "ip",
        "port",
        "flags",
        "runid",
        "config-epoch",
        "quorum",
        "num-other-sentinels",
        "message",
        "+switch-master",
        "+selected-slave",
        "connected",
        "role:master",
        "role:slave",
        "sentinel_tilt:1",
        "slave0:ip=10.0.0.2,port=6380,state=online",
        "master_host:m\nmaster_port:1",
        "master_replid:a\nmaster_repl_offset:-1\nslave_repl_offset:1",
        "\r\n",
        "\u{1b}[2J",
        "\u{202e}",
    ];

    fn word() -> impl Strategy<Value = String> {
        prop_oneof![8 => prop::sample::select(WORDS).prop_map(str::to_owned), 1 => any::<String>()]
    }

    fn text() -> impl Strategy<Value = String> {
        let joined = |separator: &'static str| {
            prop::collection::vec(word(), 0..10).prop_map(move |words| words.join(separator))
        };
        prop_oneof![3 => word(), 3 => joined(" "), 1 => joined("\r\n")]
    }

    fn error() -> impl Strategy<Value = Value> {
        text().prop_map(|text| {
            let text = format!("ERR {text}");
            redis::parse_redis_value(format!("!{}\r\n{text}\r\n", text.len()).as_bytes())
                .unwrap_or(Value::Nil)
        })
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            6 => text().prop_map(|text| Value::BulkString(text.into_bytes())),
            2 => text().prop_map(Value::SimpleString),
            1 => any::<Vec<u8>>().prop_map(Value::BulkString),
            1 => any::<i64>().prop_map(Value::Int),
            1 => error(),
            1 => Just(Value::Nil),
        ];
        leaf.prop_recursive(4, 200, 12, |inner| {
            prop_oneof![
                4 => prop::collection::vec(inner.clone(), 0..12).prop_map(Value::Array),
                2 => prop::collection::vec((inner.clone(), inner.clone()), 0..8).prop_map(Value::Map),
                1 => prop::collection::vec(inner, 0..4)
                    .prop_map(|data| Value::Push { kind: PushKind::Message, data }),
            ]
        })
    }

    proptest! {
        #[test]
        fn every_reply_can_be_read_and_printed(replies in prop::collection::vec(value(), 0..13)) {
            check(&replies);
        }
    }
}
