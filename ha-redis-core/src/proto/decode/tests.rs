use redis::{PushKind, ServerErrorKind, Value, VerbatimFormat, parse_redis_value};

use super::*;

/// Decodes the only value in `bytes`, in one piece and byte by byte.
fn value(bytes: impl AsRef<[u8]>) -> Value {
    decoded(Limits::default(), bytes).unwrap()
}

/// Returns the limit that the only value in `bytes` exceeds.
fn over(limits: &Limits, bytes: impl AsRef<[u8]>) -> OverLimit {
    decoded(limits.clone(), bytes).unwrap_err().over.unwrap()
}

/// Decodes `bytes`, which are one value, in one piece and byte by byte.
fn decoded(limits: Limits, bytes: impl AsRef<[u8]>) -> Result<Value, Skipped> {
    let bytes = bytes.as_ref();
    let mut input = bytes;
    let mut decoder = Decoder::with_limits(limits);
    let whole = next(&mut decoder, &mut input).expect("a value");
    assert!(input.is_empty() && decoder.is_idle());

    let (last, before) = bytes.split_last().unwrap();
    for byte in before.chunks(1) {
        assert_eq!(decoder.decode(&mut &*byte), Ok(None));
        assert!(!decoder.is_idle());
    }
    // Compared as Debug text, since NaN does not equal itself.
    let cut = next(&mut decoder, &mut &[*last][..]).expect("a value");
    assert_eq!(format!("{cut:?}"), format!("{whole:?}"));
    assert!(decoder.is_idle());
    whole
}

fn next(decoder: &mut Decoder, input: &mut &[u8]) -> Option<Result<Value, Skipped>> {
    match decoder.decode(input) {
        Ok(value) => value.map(Ok),
        Err(DecodeError::Skipped(skipped)) => Some(Err(skipped)),
        Err(DecodeError::NotResp(error)) => panic!("{error}"),
    }
}

fn skipped<T>(incoming: Incoming, over: Option<OverLimit>) -> Result<T, DecodeError> {
    Err(Skipped { incoming, over }.into())
}

/// Returns the error that `bytes` cause, in one piece and byte by byte.
fn error(bytes: impl AsRef<[u8]>) -> String {
    let bytes = bytes.as_ref();
    let mut bytewise = Decoder::new();
    let is_garbage = |decoded| matches!(decoded, Err(DecodeError::NotResp(_)));
    let failed = bytes.chunks(1).any(|mut byte| is_garbage(bytewise.decode(&mut byte)));
    assert!(failed, "no error when cut");
    Decoder::new().decode(&mut &*bytes).unwrap_err().to_string()
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
fn big_numbers_as_in_redis_rs() {
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
fn lines_that_are_not_utf_8() {
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
fn attributes_wrap_next_value() {
    let attribute = |attributes, data| Value::Attribute { data: Box::new(data), attributes };
    let ttl = vec![(simple("ttl"), Value::Int(3600))];
    assert_eq!(value("|1\r\n+ttl\r\n:3600\r\n+OK\r\n"), attribute(ttl.clone(), Value::Okay));
    assert_eq!(value("|0\r\n*0\r\n"), attribute(vec![], Value::Array(vec![])));
    let inside = Value::Array(vec![Value::Int(1), attribute(ttl, Value::Int(2)), Value::Int(3)]);
    assert_eq!(value("*3\r\n:1\r\n|1\r\n+ttl\r\n:3600\r\n:2\r\n:3\r\n"), inside);
}

#[test]
fn push_kinds() {
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
fn invalid_streams() {
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
    assert!(http.to_string().contains("check the port"), "{http}");
    assert!(http.to_string().ends_with("got \"HTTP/1.1 400 Bad Request\\r\\nConn…\""), "{http}");
    // The alert of a TLS server is recognized by its first byte.
    assert!(error(b"\x15").ends_with("got \"\\x15\""));

    assert!(error("#x\r\n").contains("#t or #f"));
    assert!(error("$3\r\nabcdef").contains("a line end after a string of 3 bytes"));
    assert!(error("$3\r\nabc\rx").contains("a line end after"));
    assert!(error("$a\r\n").contains("an integer"));
    for negative in ["%-1\r\n", "|-1\r\n", "!-1\r\n", "=-1\r\n"] {
        error(negative);
    }
    // Values that redis-rs accepts as nil or empty are accepted here too.
    for bytes in ["$-5\r\n", "*-5\r\n", "~-1\r\n", ">0\r\n", ">-1\r\n", "_x\r\n", ": 7 \r\n"] {
        assert_eq!(value(bytes), parse_redis_value(bytes.as_bytes()).unwrap());
    }
}

#[test]
fn failed_decoder_stays_failed() {
    let mut decoder = Decoder::new();
    let error = decoder.decode(&mut &b"*2\r\n$4\r\nha?"[..8]).and_then(|_| decoder.decode(&mut &b"?"[..]));
    assert_eq!(error, Ok(None));
    let error = decoder.decode(&mut &b"1234567"[..]).unwrap_err();
    let mut more = &b"+OK\r\n"[..];
    assert_eq!(decoder.decode(&mut more), Err(error));
    assert_eq!(more.len(), 5, "no more bytes are taken");
    assert!(!decoder.is_idle());
}

#[test]
fn several_values_in_one_input() {
    let built = |value| Ok(Some(value));
    let mut decoder = Decoder::new();
    let mut input = &b"+OK\r\n*1\r\n:1\r\n$2\r\nhi\r\n:4"[..];
    assert_eq!(decoder.decode(&mut input), built(Value::Okay));
    assert_eq!(decoder.decode(&mut input), built(Value::Array(vec![Value::Int(1)])));
    assert_eq!(decoder.decode(&mut input), built(bulk("hi")));
    assert_eq!(decoder.decode(&mut input), Ok(None));
    assert!(input.is_empty() && !decoder.is_idle());
    assert_eq!(decoder.decode(&mut input), Ok(None));
    assert_eq!(decoder.decode(&mut &b"2\r\n"[..]), built(Value::Int(42)));
}

#[test]
fn excessive_lengths() {
    assert!(error("$1099511627777\r\n").contains("at most 1099511627776 bytes"));
    assert!(error("$9223372036854775807\r\n").contains("at most 1099511627776 bytes"));
    assert!(error("*4294967296\r\n").contains("at most 4294967295 elements"));
    assert!(error("%9223372036854775807\r\n").contains("at most 4294967295 elements"));
    assert!(error([b":".to_vec(), vec![b'1'; 70_000]].concat()).contains("a line of at most 65536 bytes"));
    // Without limits, no sum overflows.
    let none = Limits { max_reply_depth: usize::MAX, max_reply_bytes: usize::MAX };
    for limits in [Limits::default(), none] {
        for announced in [
            "$1099511627776\r\nabc",
            "*4294967295\r\n:1\r\n",
            "%4294967295\r\n:1\r\n",
            "|4294967295\r\n:1\r\n",
            "=1099511627776\r\ntxt:",
        ] {
            let mut decoder = Decoder::with_limits(limits.clone());
            assert_eq!(decoder.decode(&mut announced.as_bytes()), Ok(None));
        }
    }
    let mut endless = Decoder::new();
    for _ in 0..1_000_000 {
        assert_eq!(endless.decode(&mut &b"*4294967295\r\n|4294967295\r\n"[..]), Ok(None));
    }
    assert!(endless.open.capacity() == 0, "{endless:?}");
}

fn limits(max_reply_bytes: usize) -> Limits {
    Limits { max_reply_bytes, ..Limits::default() }
}

#[test]
fn reply_over_limit_is_skipped() {
    let few = limits(1_000);
    let long = |marker: &str, bytes: usize| format!("{marker}{bytes}\r\n{}\r\n", "x".repeat(bytes));
    assert_eq!(decoded(few.clone(), long("$", 968)), Ok(bulk(&"x".repeat(968))));
    for reply in [
        long("$", 969),
        long("!", 400),
        long("=", 400),
        format!("*18\r\n{}", ":1\r\n".repeat(18)),
        format!("*2\r\n*15\r\n{}:1\r\n", ":1\r\n".repeat(15)),
        format!("*2\r\n:1\r\n%8\r\n{}", ":1\r\n".repeat(16)),
        format!("*2\r\n{}{}", long("$", 500), long("$", 500)),
        format!("*?\r\n{}.\r\n", ":1\r\n".repeat(9)),
        format!("*?\r\n*?\r\n{}.\r\n%?\r\n.\r\n+a\r\n|0\r\n*0\r\n.\r\n", ":1\r\n".repeat(9)),
        format!("$?\r\n{};0\r\n", long(";", 300).repeat(2)),
        format!("*1\r\n$?\r\n{};0\r\n", long(";", 400)),
        format!("|1\r\n+ttl\r\n:1\r\n*1\r\n{}", long("$", 969)),
        format!("|8\r\n{}*1\r\n*0\r\n", ":1\r\n".repeat(16)),
        format!("*3\r\n+{}\r\n:1\r\n$-1\r\n", "x".repeat(1_000)),
        format!("*3\r\n-{}\r\n+OK\r\n_\r\n", "x".repeat(1_000)),
    ] {
        assert_eq!(over(&few, &reply), OverLimit::Bytes(1_000), "{reply}");
        // The next value is complete.
        let both = format!("{reply}:7\r\n");
        let (mut decoder, mut input) = (Decoder::with_limits(few.clone()), both.as_bytes());
        assert_eq!(decoder.decode(&mut input), skipped(Incoming::Reply, Some(OverLimit::Bytes(1_000))));
        assert_eq!(decoder.decode(&mut input), Ok(Some(Value::Int(7))));
    }
}

#[test]
fn line_length_limits() {
    let line = |marker: &str, bytes: usize| format!("{marker}{}\r\n", "1".repeat(bytes));
    let whole = |bytes: String| Decoder::new().decode(&mut bytes.as_bytes());
    let over = |max_bytes| skipped(Incoming::Reply, Some(OverLimit::Line(max_bytes)));
    assert_eq!(whole(line("+", 70_000)), Ok(Some(simple(&"1".repeat(70_000)))));
    let Ok(Some(Value::ServerError(error))) = whole(line("-ERR ", 70_000)) else { panic!() };
    assert_eq!(error.details().map(str::len), Some(70_000));
    assert!(matches!(whole(line("+", 1 << 20)), Ok(Some(_))));
    for marker in ["+", "-"] {
        assert_eq!(whole(line(marker, (1 << 20) + 1)), over(1 << 20));
    }
    assert_eq!(whole(line("(", 70_000)), over(1 << 16));
    assert_eq!(whole(format!("!1048577\r\n{}\r\n", "x".repeat((1 << 20) + 1))), over(1 << 20));
}

#[test]
fn skipped_push_is_not_a_reply() {
    let push = format!(">3\r\n+message\r\n+c\r\n$2000\r\n{}\r\n", "x".repeat(2_000));
    let skipped = Skipped { incoming: Incoming::Push, over: Some(OverLimit::Bytes(1_000)) };
    assert_eq!(decoded(limits(1_000), push), Err(skipped));
}

#[test]
fn unwanted_values_are_skipped() {
    let skipped = |incoming| skipped(incoming, None);
    let mut decoder = Decoder::new();
    let mut input = &b"*2\r\n:1\r\n$3\r\nabc\r\n>1\r\n+a\r\n*1\r\n:5\r\n"[..];
    assert_eq!(decoder.decode_wanted(&mut input, &|_| false), skipped(Incoming::Reply));
    let replies = |incoming| incoming == Incoming::Reply;
    assert_eq!(decoder.decode_wanted(&mut input, &replies), skipped(Incoming::Push));
    let five = Value::Array(vec![Value::Int(5)]);
    assert_eq!(decoder.decode_wanted(&mut input, &replies), Ok(Some(five)));

    // Also if somebody waited at first.
    for half in
        ["*2\r\n:1\r\n", "*2\r\n:1\r\n$3\r\nab", "*2\r\n:1\r\n+a", "*2\r\n:1\r\n+a\r", "*2\r\n:1\r\n%"]
    {
        let rest = match half.as_bytes() {
            [.., b'a', b'b'] => "c\r\n",
            [.., b'a'] => "bc\r\n",
            [.., b'\r'] => "\n",
            [.., b'%'] => "1\r\n+a\r\n+b\r\n",
            _ => "_\r\n",
        };
        assert_eq!(decoder.decode_wanted(&mut half.as_bytes(), &|_| true), Ok(None));
        assert_eq!(decoder.decode_wanted(&mut &b""[..], &|_| false), Ok(None), "{half}");
        assert_eq!(decoder.open.capacity(), 0, "its memory is freed");
        assert_eq!(
            decoder.decode_wanted(&mut rest.as_bytes(), &|_| true),
            skipped(Incoming::Reply),
            "{half}"
        );
        assert_eq!(decoder.decode(&mut &b":1\r\n"[..]), Ok(Some(Value::Int(1))));
    }
}

#[test]
fn values_of_one_answer_share_limit() {
    let string = format!("$300\r\n{}\r\n", "x".repeat(300));
    let mut decoder = Decoder::with_limits(limits(1_000));
    let mut is_over = || {
        let decoded = decoder.decode_wanted(&mut string.as_bytes(), &|_| true);
        decoded == skipped(Incoming::Reply, Some(OverLimit::Bytes(1_000)))
    };
    assert_eq!([(); 5].map(|()| is_over()), [false, false, false, true, true]);
    decoder.begin_answer();
    assert!(matches!(decoder.decode_wanted(&mut string.as_bytes(), &|_| true), Ok(Some(_))));
}

#[test]
fn excessive_nesting() {
    let nested = |opening: &str, levels: usize| opening.repeat(levels) + ":1\r\n";
    for opening in ["*1\r\n", "%1\r\n:1\r\n", "|0\r\n", ">2\r\n+a\r\n"] {
        let bytes = nested(opening, 100_000);
        assert_eq!(over(&Limits::default(), &bytes), OverLimit::Depth(128), "{opening}");
        let deepest = Limits { max_reply_depth: usize::MAX, ..Limits::default() };
        assert_eq!(over(&deepest, &bytes), OverLimit::Depth(1_024), "{opening}");
    }
    // No server nests streamed aggregates like this.
    assert!(error("*?\r\n".repeat(100_000)).contains("at most 1024 streamed"));
    assert!(error("$?\r\n".repeat(100_000)).contains("a chunk"));
    // A value of the maximum depth is dropped, copied and compared on a small stack.
    let deepest = Limits { max_reply_depth: usize::MAX, ..Limits::default() };
    let bytes = nested("*1\r\n", 1_024);
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
