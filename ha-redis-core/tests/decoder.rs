//! The decoder against redis-rs's own parser, on random values and on random bytes.

mod pieces;

use ha_redis_core::proto::{Incoming, Limits, NotResp, OverLimit, Skipped};
use pieces::decode;
use proptest::collection::vec;
use proptest::prelude::*;
use redis::{Value, parse_redis_value};

/// A value as it goes over the wire.
#[derive(Clone, Debug)]
enum Wire {
    /// A line, with its marker and without its end.
    Line(String),
    /// A string with its length: `$`, `!` or `=`.
    Sized(char, Vec<u8>),
    /// An aggregate of so many elements or pairs.
    Aggregate(char, Vec<Wire>),
    /// The same, with its end marked.
    Streamed(char, Vec<Wire>),
    Chunks(Vec<Vec<u8>>),
}

impl Wire {
    fn encode(&self, streaming: bool, out: &mut Vec<u8>) {
        let mut sized = |marker: char, bytes: &[u8]| {
            out.extend_from_slice(format!("{marker}{}\r\n", bytes.len()).as_bytes());
            out.extend_from_slice(bytes);
            out.extend_from_slice(b"\r\n");
        };
        match self {
            Wire::Line(line) => out.extend_from_slice(format!("{line}\r\n").as_bytes()),
            Wire::Sized(marker, bytes) => sized(*marker, bytes),
            Wire::Chunks(chunks) if streaming => {
                out.extend_from_slice(b"$?\r\n");
                chunks.iter().for_each(|chunk| Wire::Sized(';', chunk.clone()).encode(true, out));
                out.extend_from_slice(b";0\r\n");
            }
            Wire::Chunks(chunks) => sized('$', &chunks.concat()),
            Wire::Streamed(marker, elements) if streaming => {
                out.extend_from_slice(format!("{marker}?\r\n").as_bytes());
                elements.iter().for_each(|element| element.encode(true, out));
                out.extend_from_slice(b".\r\n");
            }
            Wire::Aggregate(marker, elements) | Wire::Streamed(marker, elements) => {
                let length = if "%|".contains(*marker) { elements.len() / 2 } else { elements.len() };
                out.extend_from_slice(format!("{marker}{length}\r\n").as_bytes());
                elements.iter().for_each(|element| element.encode(streaming, out));
            }
        }
    }

    fn encoded(&self, streaming: bool) -> Vec<u8> {
        let mut out = Vec::new();
        self.encode(streaming, &mut out);
        out
    }
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![4 => vec(any::<u8>(), 0..40), 1 => vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'$')], 0..9)]
}

fn scalar() -> impl Strategy<Value = Wire> {
    let line = prop_oneof![
        Just("+OK".to_owned()),
        Just("_".to_owned()),
        Just("$-1".to_owned()),
        Just("*-1".to_owned()),
        "\\+[^\r\n]{0,12}",
        "\\+[a\r]{0,3}",
        "\\+[a\n]{0,3}",
        "-(ERR|MOVED|WRONGTYPE|LOADING)( [a-zé ]{0,20})?",
        any::<i64>().prop_map(|number| format!(":{number}")),
        (-1000..1000_i64).prop_map(|number| format!(":{number}")),
        prop_oneof![any::<f64>(), Just(f64::INFINITY), Just(f64::NEG_INFINITY)]
            .prop_map(|number| format!(",{number}")),
        any::<bool>().prop_map(|yes| format!("#{}", if yes { 't' } else { 'f' })),
        "\\(-?[1-9][0-9]{0,50}",
    ];
    prop_oneof![
        4 => line.prop_map(Wire::Line),
        3 => bytes().prop_map(|bytes| Wire::Sized('$', bytes)),
        1 => "(ERR|SYNTAX) [a-z\r\n]{0,20}".prop_map(|text| Wire::Sized('!', text.into_bytes())),
        1 => "(txt|mkd|abc):\\PC{0,20}".prop_map(|text| Wire::Sized('=', text.into_bytes())),
        1 => vec(vec(any::<u8>(), 1..9), 0..5).prop_map(Wire::Chunks),
    ]
}

fn wire() -> impl Strategy<Value = Wire> {
    scalar().prop_recursive(5, 60, 8, |element| {
        let list = vec(element.clone(), 0..8);
        let pairs = vec((element.clone(), element.clone()), 0..5)
            .prop_map(|pairs| pairs.into_iter().flat_map(|(key, value)| [key, value]).collect::<Vec<_>>());
        let kind = prop_oneof![Just("message"), Just("invalidate"), Just("other")];
        prop_oneof![
            (prop_oneof![Just('*'), Just('~')], list.clone())
                .prop_map(|(marker, list)| Wire::Aggregate(marker, list)),
            (prop_oneof![Just('*'), Just('~')], list.clone())
                .prop_map(|(marker, list)| Wire::Streamed(marker, list)),
            pairs.clone().prop_map(|pairs| Wire::Aggregate('%', pairs)),
            pairs.clone().prop_map(|pairs| Wire::Streamed('%', pairs)),
            (pairs, element).prop_map(|(mut pairs, data)| {
                pairs.push(data);
                Wire::Aggregate('|', pairs)
            }),
            (kind, list).prop_map(|(kind, mut list)| {
                list.insert(0, Wire::Sized('$', kind.into()));
                Wire::Aggregate('>', list)
            }),
        ]
    })
}

/// Bytes that look enough like RESP to get far.
fn garbage() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        4 => "[-$:*+%~>_,#=!(|;.]".prop_map(String::into_bytes),
        2 => Just(b"\r\n".to_vec()),
        4 => "[-$:*+%~>_,#=!(|;.](-?[0-9]{0,3}|\\?)\r\n".prop_map(String::into_bytes),
        2 => "[-+]?[0-9]{1,3}".prop_map(String::into_bytes),
        2 => "[:$*]-?[0-4]\r\n".prop_map(String::into_bytes),
        1 => "[tf a?:\r\n]".prop_map(String::into_bytes),
        1 => Just(b"$3\r\nabc\r\n+OK\r\n".to_vec()),
        1 => vec(any::<u8>(), 0..4),
    ];
    vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

fn built(value: Value) -> Result<Value, Skipped> {
    Ok(value)
}

/// Limits under which every value is over one or the other, if it is large or deep enough.
fn tight_limits() -> impl Strategy<Value = Limits> {
    (0..1_500_usize, 0..4_usize).prop_map(|(bytes, depth)| {
        let mut limits = Limits::default();
        (limits.max_reply_bytes, limits.max_reply_depth) = (bytes, depth);
        limits
    })
}

/// What the error says was expected; how much of what came instead is known depends on the cut.
fn expected(error: &NotResp) -> String {
    let text = error.to_string();
    text.split_once(", got \"").map_or(text.clone(), |(expected, _)| expected.to_owned())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1_000) })]

    #[test]
    fn values_are_those_of_redis_rs_however_cut(wires in vec(wire(), 1..5), cuts in vec(1..30_usize, 1..8)) {
        let known =
            wires.iter().map(|wire| built(parse_redis_value(&wire.encoded(false)).unwrap())).collect::<Vec<_>>();
        for streaming in [false, true] {
            let bytes = wires.iter().flat_map(|wire| wire.encoded(streaming)).collect::<Vec<_>>();
            for cuts in [&cuts[..], &[usize::MAX], &[1]] {
                let (values, end) = decode(Limits::default(), &bytes, cuts);
                prop_assert!(end.unwrap().is_idle());
                prop_assert_eq!(&values, &known);
            }
        }
    }

    #[test]
    fn what_is_over_a_limit_ends_where_it_would_have_ended(
        wires in vec(wire(), 1..5),
        streaming: bool,
        limits in tight_limits(),
        cuts in vec(1..30_usize, 1..8),
    ) {
        let bytes = wires.iter().flat_map(|wire| wire.encoded(streaming)).collect::<Vec<_>>();
        let (known, _) = decode(Limits::default(), &bytes, &[usize::MAX]);
        let (decoded, end) = decode(limits.clone(), &bytes, &[usize::MAX]);
        prop_assert!(end.unwrap().is_idle());
        prop_assert_eq!(decoded.len(), known.len());
        for (decoded, known) in decoded.iter().zip(&known) {
            match decoded {
                Ok(_) => prop_assert_eq!(decoded, known),
                Err(skipped) => {
                    let is_limit = matches!(skipped.over, Some(OverLimit::Bytes(_) | OverLimit::Depth(_)));
                    prop_assert!(is_limit, "{:?}", skipped);
                    let is_push = matches!(known, Ok(Value::Push { .. }));
                    prop_assert_eq!(skipped.incoming == Incoming::Push, is_push);
                }
            }
        }
        for cuts in [&cuts[..], &[1]] {
            let (others, end) = decode(limits.clone(), &bytes, cuts);
            prop_assert!(end.unwrap().is_idle());
            prop_assert_eq!(&others, &decoded);
        }
    }

    #[test]
    fn garbage_over_a_limit_is_told_alike_however_cut(
        bytes in garbage(),
        limits in tight_limits(),
        cuts in vec(1..9_usize, 1..8),
    ) {
        let (decoded, end) = decode(limits.clone(), &bytes, &[usize::MAX]);
        for cuts in [&cuts[..], &[1]] {
            let (others, other_end) = decode(limits.clone(), &bytes, cuts);
            prop_assert_eq!(format!("{decoded:?}"), format!("{others:?}"));
            prop_assert_eq!(end.as_ref().err().map(expected), other_end.as_ref().err().map(expected));
        }
    }

    #[test]
    fn a_value_cut_short_is_no_error(wire in wire(), streaming: bool, cuts in vec(1..30_usize, 1..8)) {
        let bytes = wire.encoded(streaming);
        for length in 0..bytes.len() {
            let (values, end) = decode(Limits::default(), &bytes[..length], &cuts);
            prop_assert!(values.is_empty());
            prop_assert_eq!(end.unwrap().is_idle(), length == 0);
        }
    }

    #[test]
    fn garbage_is_told_alike_however_cut(bytes in garbage(), cuts in vec(1..9_usize, 1..8)) {
        let (values, end) = decode(Limits::default(), &bytes, &[usize::MAX]);
        for cuts in [&cuts[..], &[1]] {
            let (others, other_end) = decode(Limits::default(), &bytes, cuts);
            // Debug, since not-a-number does not equal itself.
            prop_assert_eq!(format!("{values:?}"), format!("{others:?}"));
            match (&end, &other_end) {
                (Ok(one), Ok(other)) => prop_assert_eq!(one.is_idle(), other.is_idle()),
                (Err(one), Err(other)) => prop_assert_eq!(expected(one), expected(other)),
                _ => prop_assert!(false, "{:?} and {:?}", end, other_end),
            }
        }
    }

    #[test]
    fn garbage_means_what_it_means_to_redis_rs(bytes in garbage()) {
        let known = parse_redis_value(&bytes);
        // Streamed values and lines that are not UTF-8 are what redis-rs does not understand.
        let more_than_redis_rs =
            bytes.iter().any(|byte| b"?;.".contains(byte)) || str::from_utf8(&bytes).is_err();
        let (values, end) = decode(Limits::default(), &bytes, &[usize::MAX]);
        match (values.first(), known) {
            (Some(value), Ok(known)) => {
                prop_assert_eq!(format!("{value:?}"), format!("{:?}", built(known)));
            }
            (None, Ok(known)) => prop_assert!(false, "{:?} instead of {:?}", end, known),
            (Some(_), Err(_)) => prop_assert!(more_than_redis_rs),
            (None, Err(error)) if end.is_ok() && !error.is_io_error() => {
                prop_assert!(more_than_redis_rs, "{error}");
            }
            (None, Err(_)) => {}
        }
    }
}
