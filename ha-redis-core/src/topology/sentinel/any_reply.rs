//! What holds for every answer and every message of a Sentinel, and for what servers say of their replication. A property
//! test and the fuzz target `sentinel` look for one for which it does not.

use redis::Value;

use super::report::MAX_REPORTED_SENTINELS;
use super::{event_of, read_report};
use crate::address::Address;
use crate::peer_text::is_printable;
#[cfg(fuzzing)]
use crate::proto::Decoder;
use crate::proto::{Secrets, read_info_role, read_replication, read_role, read_run_id};
use crate::topology::MAX_REPLICAS;
use crate::topology::Topology;

/// How many questions a Sentinel answers at once.
const QUESTIONS: usize = 6;

/// Reads the replies that these bytes are, as those of a Sentinel and as those of a server.
#[cfg(fuzzing)]
pub(crate) fn check_bytes(bytes: &[u8]) {
    let (mut decoder, mut bytes) = (Decoder::new(), bytes);
    let mut values = Vec::new();
    while let Ok(Some(value)) = decoder.decode(&mut bytes) {
        values.push(value);
    }
    check(&values);
}

/// Reads these replies as those of a Sentinel and as those of a server; panics when something does not hold.
pub(crate) fn check(replies: &[Value]) {
    replies.chunks(QUESTIONS).for_each(check_view);
    for reply in replies {
        if let Some(event) = event_of(reply, "mymaster") {
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

fn check_view(replies: &[Value]) {
    let view = read_report(replies);
    assert!(view.replicas.len() <= MAX_REPLICAS && view.sentinels.len() <= MAX_REPORTED_SENTINELS);
    view.servers().into_iter().for_each(check_address);
    view.sentinels.iter().for_each(|other| check_address(&other.address));
    let ids = view.id.iter().chain(view.sentinels.iter().map(|other| &other.id));
    ids.for_each(|id| assert!(is_printable(id) && !id.is_empty(), "{id:?}"));
    let told = view.left_out.iter().chain(&view.refusal);
    told.for_each(|text| assert!(is_one_line(text), "{text:?}"));
}

fn check_topology(topology: &Topology) {
    check_address(&topology.master);
    topology.replicas.iter().for_each(|replica| check_address(&replica.address));
    assert!(is_one_line(&topology.to_string().chars().take(100).collect::<String>()));
}

/// An address has been read from text before, and is one still.
fn check_address(address: &Address) {
    let Address::Tcp { host, port } = address else { panic!("{address} is no address of a network") };
    assert_eq!(Address::announced(host, &port.to_string()).as_ref(), Some(address));
}

/// It may be put together of several texts, each of which is cut.
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

    /// The words of which Sentinels make sentences, some that they do not know, and some that nobody should print.
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
