use redis::{PushKind, ServerErrorKind, Value, VerbatimFormat, parse_redis_value};

use super::*;

/// The only value that `bytes` are, whole and cut after every byte.
fn value(bytes: impl AsRef<[u8]>) -> Value {
    let bytes = bytes.as_ref();
    let mut input = bytes;
    let mut decoder = Decoder::new();
    let whole = decoder.decode(&mut input).unwrap().expect("a value");
    assert!(input.is_empty() && decoder.is_idle());

    let (last, before) = bytes.split_last().unwrap();
    for byte in before.chunks(1) {
        assert_eq!(decoder.decode(&mut &*byte), Ok(None));
        assert!(!decoder.is_idle());
    }
    assert_same(&decoder.decode(&mut &[*last][..]).unwrap().unwrap(), &whole);
    assert!(decoder.is_idle());
    whole
}

/// Equal, where not-a-number equals itself.
fn assert_same(one: &Value, other: &Value) {
    assert_eq!(format!("{one:?}"), format!("{other:?}"));
}

/// The text of the error that `bytes` lead to, whole and cut after every byte.
fn error(bytes: impl AsRef<[u8]>) -> String {
    error_within(Limits::default(), bytes)
}

fn error_within(limits: Limits, bytes: impl AsRef<[u8]>) -> String {
    let bytes = bytes.as_ref();
    let mut bytewise = Decoder::with_limits(limits.clone());
    let failed = bytes.chunks(1).any(|mut byte| bytewise.decode(&mut byte).is_err());
    assert!(failed, "no error when cut");
    Decoder::with_limits(limits).decode(&mut &*bytes).unwrap_err().to_string()
}

fn bulk(text: &str) -> Value {
    Value::BulkString(text.into())
}

fn simple(text: &str) -> Value {
    Value::SimpleString(text.into())
}

#[test]
fn scalars() {
    assert_eq!(value("+OK\r\n"), Value::Okay);
    assert_eq!(value("+PONG\r\n"), simple("PONG"));
    assert_eq!(value("+\r\n"), simple(""));
    assert_eq!(value("+a\rb\nc\r\r\n"), simple("a\rb\nc\r"));
    assert_eq!(value(":0\r\n"), Value::Int(0));
    assert_eq!(value(":-123\r\n"), Value::Int(-123));
    assert_eq!(value("$5\r\nhe\r\nl\r\n"), bulk("he\r\nl"));
    assert_eq!(value("$0\r\n\r\n"), bulk(""));
    assert_eq!(value("$-1\r\n"), Value::Nil);
    assert_eq!(value("_\r\n"), Value::Nil);
    assert_eq!(value("#t\r\n"), Value::Boolean(true));
    assert_eq!(value("#f\r\n"), Value::Boolean(false));
}

#[test]
fn integers_of_every_size() {
    for number in [i64::MIN, i64::MIN + 1, -10_i64.pow(18), 10_i64.pow(18) - 1, 10_i64.pow(18), i64::MAX] {
        assert_eq!(value(format!(":{number}\r\n")), Value::Int(number));
    }
    assert_eq!(value(":+5\r\n"), Value::Int(5));
    assert_eq!(value(format!(":{:040}\r\n", 7)), Value::Int(7));
    for wrong in
        [":\r\n", ":-\r\n", ":--1\r\n", ":1x\r\n", ":9223372036854775808\r\n", ":1.0\r\n", ":\u{ff}\r\n"]
    {
        assert!(error(wrong).contains("expected an integer"), "{wrong}");
    }
}

#[test]
fn doubles() {
    assert_eq!(value(",1.5\r\n"), Value::Double(1.5));
    assert_eq!(value(",-2.5e-3\r\n"), Value::Double(-0.0025));
    assert_eq!(value(",inf\r\n"), Value::Double(f64::INFINITY));
    assert_eq!(value(",-inf\r\n"), Value::Double(f64::NEG_INFINITY));
    assert!(matches!(value(",nan\r\n"), Value::Double(number) if number.is_nan()));
    assert!(error(",one\r\n").contains("expected a number"));
}

#[test]
fn big_numbers_are_those_of_redis_rs() {
    let line = "(-3492890328409238509324850943850943825024385\r\n";
    assert_eq!(value(line), parse_redis_value(line.as_bytes()).unwrap());
    error("(12x\r\n");
    error("(\r\n");
}

#[test]
fn server_errors() {
    let Value::ServerError(error) = value("-READONLY You can't write\r\n") else { panic!() };
    assert_eq!(error.kind(), Some(ServerErrorKind::ReadOnly));
    assert_eq!(error.details(), Some("You can't write"));

    let Value::ServerError(error) = value("!22\r\nSYNTAX invalid\r\nsyntax\r\n") else { panic!() };
    assert_eq!((error.code(), error.details()), ("SYNTAX", Some("invalid\r\nsyntax")));
}

#[test]
fn lines_that_are_not_utf_8_reach_their_caller() {
    assert_eq!(value(b"+\xff\r\n"), Value::BulkString(vec![0xff]));
    let Value::ServerError(error) = value(b"-ERR unknown command '\xff'\r\n") else { panic!() };
    assert_eq!(error.details(), Some("unknown command '\u{fffd}'"));
}

#[test]
fn verbatim_strings() {
    let verbatim = |format, text: &str| Value::VerbatimString { format, text: text.to_owned() };
    assert_eq!(value("=8\r\ntxt:Some\r\n"), verbatim(VerbatimFormat::Text, "Some"));
    assert_eq!(value("=6\r\nmkd:a:\r\n"), verbatim(VerbatimFormat::Markdown, "a:"));
    assert_eq!(value("=4\r\nxyz:\r\n"), verbatim(VerbatimFormat::Unknown("xyz".into()), ""));
    assert!(error("=3\r\ntxt\r\n").contains("verbatim"));
}

#[test]
fn aggregates() {
    let one_two = vec![Value::Int(1), bulk("two")];
    assert_eq!(value("*2\r\n:1\r\n$3\r\ntwo\r\n"), Value::Array(one_two.clone()));
    assert_eq!(value("~2\r\n:1\r\n$3\r\ntwo\r\n"), Value::Set(one_two));
    assert_eq!(value("%1\r\n:1\r\n$3\r\ntwo\r\n"), Value::Map(vec![(Value::Int(1), bulk("two"))]));
    assert_eq!(value("*0\r\n"), Value::Array(vec![]));
    assert_eq!(value("~0\r\n"), Value::Set(vec![]));
    assert_eq!(value("%0\r\n"), Value::Map(vec![]));
    assert_eq!(value("*-1\r\n"), Value::Nil);
    let nested = Value::Array(vec![Value::Array(vec![]), Value::Map(vec![(Value::Nil, Value::Set(vec![]))])]);
    assert_eq!(value("*2\r\n*0\r\n%1\r\n_\r\n~0\r\n"), nested);
}

#[test]
fn attributes_wrap_the_value_behind_them() {
    let attribute = |attributes, data| Value::Attribute { data: Box::new(data), attributes };
    let ttl = vec![(simple("ttl"), Value::Int(3600))];
    assert_eq!(value("|1\r\n+ttl\r\n:3600\r\n+OK\r\n"), attribute(ttl.clone(), Value::Okay));
    assert_eq!(value("|0\r\n*0\r\n"), attribute(vec![], Value::Array(vec![])));
    let inside = Value::Array(vec![Value::Int(1), attribute(ttl, Value::Int(2)), Value::Int(3)]);
    assert_eq!(value("*3\r\n:1\r\n|1\r\n+ttl\r\n:3600\r\n:2\r\n:3\r\n"), inside);
}

#[test]
fn pushes_of_every_kind() {
    let kinds = [
        ("message", PushKind::Message),
        ("pmessage", PushKind::PMessage),
        ("smessage", PushKind::SMessage),
        ("subscribe", PushKind::Subscribe),
        ("psubscribe", PushKind::PSubscribe),
        ("ssubscribe", PushKind::SSubscribe),
        ("unsubscribe", PushKind::Unsubscribe),
        ("punsubscribe", PushKind::PUnsubscribe),
        ("sunsubscribe", PushKind::SUnsubscribe),
        ("invalidate", PushKind::Invalidate),
        ("news", PushKind::Other("news".into())),
    ];
    for (name, kind) in kinds {
        let expected = Value::Push { kind, data: vec![Value::Int(1)] };
        assert_eq!(value(format!(">2\r\n+{name}\r\n:1\r\n")), expected);
        let bytes = format!(">2\r\n${}\r\n{name}\r\n:1\r\n", name.len());
        assert_eq!(value(&bytes), expected);
        assert_eq!(parse_redis_value(bytes.as_bytes()).unwrap(), expected);
    }
    assert!(error(">2\r\n:7\r\n:1\r\n").ends_with("expected the kind of a push, got \"int(7)\""));
    error(b">1\r\n$1\r\n\xff\r\n");
}

#[test]
fn streamed_values() {
    assert_eq!(value("$?\r\n;4\r\nHell\r\n;1\r\no\r\n;0\r\n"), bulk("Hello"));
    assert_eq!(value("$?\r\n;0\r\n"), bulk(""));
    assert_eq!(
        value("*?\r\n:1\r\n*?\r\n.\r\n.\r\n"),
        Value::Array(vec![Value::Int(1), Value::Array(vec![])])
    );
    assert_eq!(value("~?\r\n+a\r\n.\r\n"), Value::Set(vec![simple("a")]));
    assert_eq!(value("%?\r\n+a\r\n:1\r\n.\r\n"), Value::Map(vec![(simple("a"), Value::Int(1))]));
    assert_eq!(value("*2\r\n$?\r\n;1\r\na\r\n;0\r\n:2\r\n"), Value::Array(vec![bulk("a"), Value::Int(2)]));
}

#[test]
fn streams_that_go_wrong() {
    for stray in [".\r\n", "*1\r\n.\r\n", "%?\r\n+key\r\n.\r\n", "$?\r\n.\r\n", "|0\r\n.\r\n"] {
        assert!(error(stray).ends_with("got \".\""), "{stray}");
    }
    for stray in [";1\r\na\r\n", ";0\r\n", "*?\r\n;1\r\na\r\n"] {
        assert!(error(stray).ends_with("got \";\""), "{stray}");
    }
    assert!(error("$?\r\n:1\r\n").contains("expected a chunk"));
    assert!(error("*?\r\n.x\r\n").contains(".x"));
    error(">?\r\n");
    error("|?\r\n");
    error("$?\r\n;-1\r\n");
}

#[test]
fn bytes_that_are_not_resp() {
    let http =
        Decoder::new().decode(&mut &b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n"[..]).unwrap_err();
    assert!(http.to_string().contains("is this its port"), "{http}");
    assert!(http.to_string().ends_with("got \"HTTP/1.1 400 Bad Request\\r\\nConn…\""), "{http}");
    // The alert of a TLS server is told at its first byte.
    assert!(error(b"\x15").ends_with("got \"\\x15\""));

    assert!(error("#x\r\n").contains("#t or #f"));
    assert!(error("$3\r\nabcdef").contains("a line end after a string of 3 bytes"));
    assert!(error("$3\r\nabc\rx").contains("a line end after"));
    assert!(error("$a\r\n").contains("an integer"));
    for negative in ["%-1\r\n", "|-1\r\n", "!-1\r\n", "=-1\r\n"] {
        error(negative);
    }
    // What redis-rs takes for nil or nothing is taken for the same.
    for bytes in ["$-5\r\n", "*-5\r\n", "~-1\r\n", ">0\r\n", ">-1\r\n", "_x\r\n", ": 7 \r\n"] {
        assert_eq!(value(bytes), parse_redis_value(bytes.as_bytes()).unwrap());
    }
}

#[test]
fn a_failed_decoder_stays_failed() {
    let mut decoder = Decoder::new();
    let error = decoder.decode(&mut &b"*2\r\n$4\r\nha?"[..8]).and_then(|_| decoder.decode(&mut &b"?"[..]));
    assert_eq!(error, Ok(None));
    let error = decoder.decode(&mut &b"1234567"[..]).unwrap_err();
    let mut more = &b"+OK\r\n"[..];
    assert_eq!(decoder.decode(&mut more), Err(error));
    assert_eq!(more.len(), 5, "nothing is taken any more");
    assert!(!decoder.is_idle());
}

#[test]
fn several_values_in_one_input() {
    let mut decoder = Decoder::new();
    let mut input = &b"+OK\r\n*1\r\n:1\r\n$2\r\nhi\r\n:4"[..];
    assert_eq!(decoder.decode(&mut input), Ok(Some(Value::Okay)));
    assert_eq!(decoder.decode(&mut input), Ok(Some(Value::Array(vec![Value::Int(1)]))));
    assert_eq!(decoder.decode(&mut input), Ok(Some(bulk("hi"))));
    assert_eq!(decoder.decode(&mut input), Ok(None));
    assert!(input.is_empty() && !decoder.is_idle());
    assert_eq!(decoder.decode(&mut input), Ok(None));
    assert_eq!(decoder.decode(&mut &b"2\r\n"[..]), Ok(Some(Value::Int(42))));
}

#[test]
fn lying_lengths() {
    assert!(error("$4294967296\r\n").contains("at most 536870912 bytes"));
    assert!(error("!65537\r\n").contains("at most 65536 bytes"));
    assert!(error("$9223372036854775807\r\n").contains("at most 536870912 bytes"));
    assert!(error("*9223372036854775807\r\n").contains("at most 4294967295 elements"));
    assert!(error("%9223372036854775807\r\n").contains("at most 4294967295 elements"));
    for announced in
        ["$536870911\r\nabc", "*4294967295\r\n:1\r\n", "%4294967295\r\n:1\r\n", "|4294967295\r\n"]
    {
        assert_eq!(Decoder::new().decode(&mut announced.as_bytes()), Ok(None));
    }
    // With no limits at all, no sum overflows.
    let none = Limits {
        max_depth: usize::MAX,
        max_bulk: usize::MAX,
        max_elements: usize::MAX,
        max_line: usize::MAX,
    };
    for announced in
        ["$9223372036854775807\r\nabc", "|9223372036854775807\r\n:1\r\n", "%9223372036854775807\r\n:1\r\n"]
    {
        assert_eq!(Decoder::with_limits(none.clone()).decode(&mut announced.as_bytes()), Ok(None));
    }
}

#[test]
fn limits() {
    let limits = Limits { max_depth: 2, max_bulk: 4, max_elements: 2, max_line: 0 };
    for fits in [
        "*1\r\n*1\r\n:1\r\n",
        "$4\r\nabcd\r\n",
        "*?\r\n:1\r\n:2\r\n.\r\n",
        "+12345678901234567890123456789012\r\n",
        "$?\r\n;4\r\nabcd\r\n;0\r\n",
    ] {
        assert!(
            Decoder::with_limits(limits.clone()).decode(&mut fits.as_bytes()).unwrap().is_some(),
            "{fits}"
        );
    }
    let error = |bytes| error_within(limits.clone(), bytes);
    assert!(error("*1\r\n*1\r\n*0\r\n").contains("at most 2 aggregates inside each other"));
    assert!(error("$5\r\n").contains("at most 4 bytes in a string"));
    assert!(error("$?\r\n;3\r\nabc\r\n;2\r\nde\r\n").contains("at most 4 bytes in a string"));
    assert!(error("*3\r\n").contains("at most 2 elements"));
    assert!(error("*?\r\n:1\r\n:2\r\n:3\r\n").contains("at most 2 elements"));
    assert!(error("%?\r\n:1\r\n:2\r\n:3\r\n:4\r\n:5\r\n").contains("at most 2 elements"));
    assert!(error("+123456789012345678901234567890123\r\n").contains("a line of at most 32 bytes"));
    assert!(error("+1234567890123456789012345678901234").contains("a line of at most 32 bytes"));
}

#[test]
fn nesting_a_million_deep() {
    for opening in ["*1\r\n", "%1\r\n:1\r\n", "|0\r\n", "*?\r\n", ">2\r\n+a\r\n"] {
        assert!(error(opening.repeat(1_000_000)).contains("at most 128 aggregates"), "{opening}");
        let deepest = Limits { max_depth: usize::MAX, ..Limits::default() };
        assert!(error_within(deepest, opening.repeat(1_000_000)).contains("at most 1024 aggregates"));
    }
    // The deepest value of all is still dropped, copied and compared on a small stack.
    let deepest = Limits { max_depth: usize::MAX, ..Limits::default() };
    let bytes = "*1\r\n".repeat(1_024) + ":1\r\n";
    let value = Decoder::with_limits(deepest).decode(&mut bytes.as_bytes()).unwrap().unwrap();
    let small_stack = std::thread::Builder::new().stack_size(1024 * 1024);
    small_stack.spawn(move || assert_eq!(value.clone(), value)).unwrap().join().unwrap();
}

#[test]
fn debug_shows_no_data() {
    let mut decoder = Decoder::new();
    assert_eq!(decoder.decode(&mut &b"*2\r\n$6\r\nsecret\r\n+secret"[..]), Ok(None));
    assert!(!format!("{decoder:?}").contains("secret"));
}
