//! Invariants of the views of all replies.

use proptest::prelude::*;
use redis::Value;

use super::{MAX_NODES, SLOTS, read_view};
use crate::address::Address;
use crate::peer_text::is_printable;

/// Words of the replies, some that servers never write, and some that must not be printed as they are.
const WORDS: &[&str] = &[
    "07c37dfeb235213a872192d90877d0cd55635b91",
    "67ed2db8d677e59ec4a4cefb06858cf2a1a89fa1",
    "127.0.0.1:30004@31004,host,shard-id=1",
    ":0@0",
    ":30004@31004",
    "myself,master",
    "slave",
    "master,fail?",
    "handshake",
    "-",
    "0",
    "18446744073709551615",
    "connected",
    "0-16383",
    "16384",
    "[93->-292f8b365bb7edb5e285caf0b7e6ddc7265d2f4f]",
    "[",
    "\n",
    "\u{1b}[2J",
    "\u{202e}",
    "?",
    "",
];

fn word() -> impl Strategy<Value = String> {
    prop_oneof![8 => prop::sample::select(WORDS).prop_map(str::to_owned), 1 => any::<String>()]
}

/// A line whose fields are mostly right.
fn line() -> impl Strategy<Value = String> {
    let fields = (0..6_u8, 0..4_usize, prop::collection::vec(word(), 0..3));
    let right = fields.prop_map(|(digit, role, rest)| {
        let role = ["master", "myself,master", "slave", "master,fail"][role];
        let id = format!("{}{digit}", "0".repeat(39));
        format!("{id} 10.0.0.{digit}:6379@16379 {role} {id} 0 0 {digit} connected {}", rest.join(" "))
    });
    let wrong = prop::collection::vec(word(), 0..12).prop_map(|words| words.join(" "));
    prop_oneof![3 => right, 1 => wrong]
}

fn nodes() -> impl Strategy<Value = Value> {
    let text = prop::collection::vec(line(), 0..8).prop_map(|lines| lines.join("\n"));
    prop_oneof![6 => text.prop_map(|text| Value::BulkString(text.into_bytes())), 1 => value()]
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        4 => word().prop_map(|text| Value::BulkString(text.into_bytes())),
        1 => word().prop_map(Value::SimpleString),
        1 => any::<Vec<u8>>().prop_map(Value::BulkString),
        4 => (-1..20_000_i64).prop_map(Value::Int),
        1 => any::<i64>().prop_map(Value::Int),
        1 => Just(Value::Nil),
        1 => Just(redis::parse_redis_value(b"-NOPERM no\r\n").unwrap()),
    ];
    leaf.prop_recursive(4, 100, 6, |inner| {
        prop_oneof![
            4 => prop::collection::vec(inner.clone(), 0..6).prop_map(Value::Array),
            1 => prop::collection::vec((inner.clone(), inner), 0..4).prop_map(Value::Map),
        ]
    })
}

proptest! {
    #[test]
    fn every_reply_gives_a_sound_view_or_an_error_on_one_line(nodes in nodes(), slots in value(), unix in any::<bool>()) {
        let asked = if unix { Address::unix("/run/a") } else { Address::tcp("asked", 6379) };
        match read_view(&asked, &nodes, &slots) {
            Ok(view) => {
                prop_assert!(view.nodes.len() <= MAX_NODES);
                prop_assert!(view.myself.is_none_or(|id| view.nodes.contains_key(&id)));
                for node in view.nodes.values() {
                    prop_assert!(node.slots.iter().all(|range| range.first <= range.last && usize::from(range.last) < SLOTS));
                    prop_assert!(node.slots.is_empty() || node.is_master());
                    if let Some(Address::Tcp { host, port }) = &node.address {
                        let address = Address::announced(host, &port.to_string());
                        prop_assert_eq!(address.as_ref(), node.address.as_ref());
                    }
                }
            }
            Err(error) => {
                let text: Vec<char> = error.to_string().chars().collect();
                prop_assert!(text.len() < 1000);
                let is_plain = |part: &[char]| is_printable(&part.iter().collect::<String>());
                prop_assert!(text.chunks(100).all(is_plain));
            }
        }
    }
}
