//! Tests replies over the size limit: only the call that requested one fails.

use std::time::Duration;

use super::kit::{Kit, calls, connections, forget_peak_memory, peak_memory, settings};
use crate::{Answer, ScriptedServer, Server};
use ha_redis_core::{Connection, Outcome, PubSubEvent, RedisErrorExt};
use redis::{AsyncCommands, RedisError, Value};

tests![
    reply_over_limit_fails_only_its_call,
    pipeline_over_limit_keeps_later_replies_in_order,
    long_status_and_error_lines_arrive,
    deeply_nested_reply_fails_only_its_call,
    large_reply_of_blocking_command_is_an_error,
    message_over_limit_skipped,
    abandoned_reply_uses_no_memory,
    endless_reply_memory_is_bounded,
    endless_handshake_memory_is_bounded,
    subscriber_buffer_limit_holds_for_nested_messages,
    subscriber_buffer_counts_every_payload_type,
];

const LIMIT: usize = 1 << 20;

async fn client_with_limit(kit: &Kit, server: &Server) -> ha_redis_core::Client {
    let settings = settings(&server.url()).max_reply_bytes(LIMIT as u64);
    kit.connect(settings.build().unwrap()).await.unwrap()
}

fn assert_too_large(error: &RedisError, limit: &str) {
    let ours = error.client_error().unwrap_or_else(|| panic!("{error}"));
    assert!(ours.is_reply_too_large(), "{error}");
    assert!(error.to_string().contains(limit), "{error}");
    assert_eq!(error.outcome(), Outcome::Ran);
}

async fn reply_over_limit_fails_only_its_call(kit: Kit) {
    let server = Server::start().unwrap();
    let client = client_with_limit(&kit, &server).await;
    let mut redis = client.connection();
    redis.set::<_, _, ()>("large", vec![b'x'; LIMIT]).await.unwrap();
    redis.set::<_, _, ()>("fits", vec![b'x'; LIMIT - 100]).await.unwrap();
    let neighbours = (0..40).map(|_| {
        let mut redis = client.connection();
        kit.spawn(async move {
            for _ in 0..20 {
                redis.incr::<_, _, ()>("count", 1).await.unwrap();
            }
        })
    });
    let neighbours = neighbours.collect::<Vec<_>>();
    for _ in 0..10 {
        let error = redis.get::<_, Vec<u8>>("large").await.unwrap_err();
        assert_too_large(&error, "max_reply_bytes");
        assert_eq!(redis.get::<_, Vec<u8>>("fits").await.unwrap().len(), LIMIT - 100);
    }
    kit.all(neighbours).await;
    assert_eq!(redis.get::<_, usize>("count").await.unwrap(), 800);
    assert_eq!(calls(&server, "get"), 21, "nothing was retried");
    assert_eq!(connections(&server), 1);
}

async fn pipeline_over_limit_keeps_later_replies_in_order(kit: Kit) {
    let server = Server::start().unwrap();
    let client = client_with_limit(&kit, &server).await;
    let mut redis = client.connection();
    redis.set::<_, _, ()>("large", vec![b'x'; LIMIT]).await.unwrap();
    redis.set::<_, _, ()>("half", vec![b'x'; LIMIT / 2]).await.unwrap();
    let mut with_large = redis::pipe();
    with_large.incr("count", 1).get("large").incr("count", 1);
    let mut halves = redis::pipe();
    halves.get("half").get("half").incr("count", 1);
    for round in 1..=3 {
        for pipeline in [&mut with_large, &mut halves] {
            for atomic in [false, true] {
                let mut pipeline = pipeline.clone();
                if atomic {
                    pipeline.atomic();
                }
                let error = pipeline.query_async::<Value>(&mut redis).await.unwrap_err();
                assert_too_large(&error, "max_reply_bytes");
            }
        }
        assert_eq!(redis.get::<_, usize>("count").await.unwrap(), 6 * round, "the whole pipeline ran once");
    }
    assert_eq!(connections(&server), 1);
}

async fn eval(redis: &mut Connection, script: &str) -> Result<Value, RedisError> {
    redis::cmd("EVAL").arg(script).arg(0).query_async(redis).await
}

async fn long_status_and_error_lines_arrive(kit: Kit) {
    let server = Server::start().unwrap();
    let client = kit.client_of(&server).await;
    let mut redis = client.connection();
    let text = |bytes: usize| format!("string.rep('x', {bytes})");
    let status = eval(&mut redis, &format!("return {{ok = {}}}", text(70_000))).await.unwrap();
    assert_eq!(status, Value::SimpleString("x".repeat(70_000)));
    let error = eval(&mut redis, &format!("return redis.error_reply('CODE ' .. {})", text(70_000))).await;
    let error = error.unwrap_err();
    assert_eq!(error.code(), Some("CODE"));
    assert!(error.detail().is_some_and(|detail| detail.len() >= 70_000), "{error}");
    for script in
        [format!("return {{ok = {}}}", text(2_000_000)), format!("return {{err = {}}}", text(2_000_000))]
    {
        assert_too_large(&eval(&mut redis, &script).await.unwrap_err(), "1048576 bytes");
    }
    assert_eq!(redis.ping::<String>().await.unwrap(), "PONG");
    assert_eq!(calls(&server, "eval"), 4);
    assert_eq!(connections(&server), 1);
}

async fn deeply_nested_reply_fails_only_its_call(kit: Kit) {
    let server = Server::start().unwrap();
    let nested = "local t = {7} for level = 2, 500 do t = {t} end return t";
    let mut redis = kit.client_of(&server).await.connection();
    assert_too_large(&eval(&mut redis, nested).await.unwrap_err(), "max_reply_depth");
    assert_eq!(redis.ping::<String>().await.unwrap(), "PONG");
    let deeper = settings(&server.url()).max_reply_depth(500);
    let mut redis = kit.connect(deeper.build().unwrap()).await.unwrap().connection();
    let mut value = eval(&mut redis, nested).await.unwrap();
    while let Value::Array(mut elements) = value {
        value = elements.pop().unwrap();
    }
    assert_eq!(value, Value::Int(7));
}

async fn large_reply_of_blocking_command_is_an_error(kit: Kit) {
    let server = Server::start().unwrap();
    let client = client_with_limit(&kit, &server).await;
    let mut redis = client.connection();
    redis.rpush::<_, _, ()>("queue", vec![b'x'; LIMIT]).await.unwrap();
    let error = redis.blpop::<_, Value>("queue", 1.0).await.unwrap_err();
    assert_too_large(&error, "max_reply_bytes");
    assert_eq!(calls(&server, "blpop"), 1);
    redis.rpush::<_, _, ()>("queue", "next").await.unwrap();
    assert_eq!(redis.blpop::<_, (String, String)>("queue", 1.0).await.unwrap().1, "next");
}

async fn message_over_limit_skipped(kit: Kit) {
    let server = Server::start().unwrap();
    let client = client_with_limit(&kit, &server).await;
    let mut sub = client.pubsub().await.unwrap();
    sub.subscribe("news").await.unwrap();
    let mut redis = client.connection();
    for message in [b"before".to_vec(), vec![b'x'; LIMIT], b"after".to_vec()] {
        redis.publish::<_, _, ()>("news", message).await.unwrap();
    }
    let mut received = Vec::new();
    for _ in 0..3 {
        received.push(match kit.within("an event", sub.next()).await.unwrap() {
            PubSubEvent::Message(message) => message.get_payload::<String>().unwrap(),
            PubSubEvent::Lagged { missed } => format!("missed {missed}"),
            event => panic!("{event:?}"),
        });
    }
    assert_eq!(received, ["before", "missed 1", "after"]);
}

/// An array of this many elements takes about 12 MB on the wire, and 224 MB as values.
const MANY: usize = 4_000_000;
/// How much memory a test may use beside the limit.
const SLACK: usize = 64 << 20;

async fn abandoned_reply_uses_no_memory(kit: Kit) {
    let server = ScriptedServer::start(|_, command: &[String]| match command[0].as_str() {
        "GET" => Answer::Send([format!("*{MANY}\r\n").into_bytes(), b"_\r\n".repeat(1_000)].concat()),
        "SET" => Answer::Send([b"_\r\n".repeat(MANY - 1_000), b"+OK\r\n".to_vec()].concat()),
        _ => Answer::Send(b"$2\r\nok\r\n".to_vec()),
    })
    .unwrap();
    let settings = settings(&server.url()).socket_timeout(Duration::from_secs(20));
    let client = kit.connect(settings.build().unwrap()).await.unwrap();
    let before = peak_memory();
    let mut with_timeout = client.connection().with_timeout(Duration::from_millis(200));
    let error = with_timeout.get::<_, Value>("key").await.unwrap_err();
    assert!(error.is_timeout(), "{error}");
    let mut redis = client.connection();
    // The reply arrives after the rest of the large one.
    redis.set::<_, _, ()>("key", 1).await.unwrap();
    assert!(peak_memory() < before + SLACK);
    assert_eq!(redis::cmd("ECHO").arg(1).query_async::<String>(&mut redis).await.unwrap(), "ok");
    assert_eq!(server.accepted(), 1);
}

async fn endless_reply_memory_is_bounded(kit: Kit) {
    let server = ScriptedServer::start(|_, command: &[String]| match command[0].as_str() {
        "GET" => Answer::Flood(b"*?\r\n".to_vec(), b"_\r\n".repeat(10_000)),
        _ => Answer::Send(b"$2\r\nok\r\n".to_vec()),
    })
    .unwrap();
    let settings = settings(&server.url()).max_reply_bytes(64 << 20).socket_timeout(Duration::from_secs(3));
    let client = kit.connect(settings.retry_attempts(0).build().unwrap()).await.unwrap();
    let before = peak_memory();
    let mut redis = client.connection().with_timeout(Duration::from_secs(3));
    assert!(redis.get::<_, Value>("key").await.unwrap_err().client_error().is_some());
    assert!(peak_memory() < before + (64 << 20) + SLACK);
}

async fn endless_handshake_memory_is_bounded(kit: Kit) {
    let server = ScriptedServer::start_bare(|_, _: &[String]| {
        Answer::Flood(format!("*{MANY}\r\n").into_bytes(), b"_\r\n".repeat(10_000))
    })
    .unwrap();
    let settings = settings(&server.url()).socket_connect_timeout(Duration::from_secs(2));
    let before = peak_memory();
    let connected = kit.connect(settings.failover_wait(Duration::from_secs(2)).build().unwrap()).await;
    assert!(connected.is_err());
    assert!(peak_memory() < before + SLACK);
}

async fn subscriber_buffer_limit_holds_for_nested_messages(kit: Kit) {
    // Each element of a message takes 20 bytes on the wire, and five times as much in memory.
    let list = [b"*1000\r\n".to_vec(), b"+aaaaaaaaaaaaaaaaa\r\n".repeat(1_000)].concat();
    let message = [b">3\r\n$7\r\nmessage\r\n$1\r\nc\r\n".to_vec(), list].concat();
    let mut messages = b">3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n".to_vec();
    (0..3_000).for_each(|_| messages.extend_from_slice(&message));
    let server = ScriptedServer::start(move |_, command: &[String]| match command[0].as_str() {
        "SUBSCRIBE" => Answer::Send(std::mem::take(&mut messages)),
        _ => Answer::Send(b">3\r\n$11\r\nunsubscribe\r\n$1\r\nc\r\n:0\r\n".to_vec()),
    })
    .unwrap();
    let settings = settings(&server.url()).pubsub_buffer_bytes(1 << 20);
    let client = kit.connect(settings.build().unwrap()).await.unwrap();
    let mut sub = client.pubsub().await.unwrap();
    let before = peak_memory();
    sub.subscribe("c").await.unwrap();
    // The confirmation arrives after all messages.
    sub.unsubscribe("c").await.unwrap();
    assert!(peak_memory() < before + SLACK);
    let PubSubEvent::Lagged { missed } = kit.within("an event", sub.next()).await.unwrap() else {
        panic!("expected a lagged event")
    };
    assert!((2_980..3_000).contains(&missed), "{missed}");
}

/// How much memory a subscriber may use beside its buffer.
const SUBSCRIBER_SLACK: usize = 16 << 20;

/// Returns payloads of all kinds, and for each how many bytes on the wire would fill much more memory than allowed.
fn payloads() -> Vec<(&'static str, Vec<u8>, usize)> {
    const MB: usize = 1 << 20;
    let line = |kind: &str, bytes: usize| format!("{kind}{}\r\n", "a".repeat(bytes)).into_bytes();
    let list = |kind: &str, count: usize, element: &[u8]| {
        [format!("{kind}{count}\r\n").into_bytes(), element.repeat(2 * count).to_vec()].concat()
    };
    let array =
        |count: usize, element: &[u8]| [format!("*{count}\r\n").into_bytes(), element.repeat(count)].concat();
    vec![
        ("a byte", b"+x\r\n".to_vec(), 2 * MB),
        ("a simple string", line("+", 1_000), 22 * MB),
        ("a string", [b"$1000\r\n".to_vec(), vec![b'x'; 1_000], b"\r\n".to_vec()].concat(), 22 * MB),
        ("a verbatim string", [b"=1004\r\ntxt:".to_vec(), line("", 1_000)].concat(), 22 * MB),
        ("verbatim strings", array(1_000, b"=5\r\nabc:x\r\n"), 4 * MB),
        ("errors", array(1_000, b"-E x\r\n"), 2 * MB),
        ("numbers", array(1_000, b":1\r\n"), 2 * MB),
        ("doubles", array(1_000, b",1\r\n"), 2 * MB),
        ("big numbers", array(10, b"(123456789012345678901234567890\r\n"), 4 * MB),
        ("lists in lists", [b"*1\r\n".repeat(100), b":1\r\n".to_vec()].concat(), 2 * MB),
        ("empty lists", array(1_000, b"*0\r\n"), 2 * MB),
        (
            "a set",
            array(1, &[b"~?\r\n".to_vec(), b"_\r\n".repeat(1_025), b".\r\n".to_vec()].concat()),
            4 * MB,
        ),
        ("a map", list("%", 500, b"_\r\n"), 2 * MB),
        ("attributes", array(1_000, b"|1\r\n_\r\n_\r\n_\r\n"), 2 * MB),
        ("chunks", array(100, b"$?\r\n;1\r\nx\r\n;1\r\nx\r\n;0\r\n"), 4 * MB),
    ]
}

async fn subscriber_buffer_counts_every_payload_type(kit: Kit) {
    let buffer = 1 << 20;
    for (kind, payload, wire) in payloads() {
        let message = [b">3\r\n$7\r\nmessage\r\n$1\r\nc\r\n".to_vec(), payload].concat();
        let many = wire / message.len();
        let server = ScriptedServer::start(move |_, command: &[String]| match command[0].as_str() {
            "SUBSCRIBE" => {
                let confirmation = b">3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n".to_vec();
                let at_once = 1 + (64 << 10) / message.len();
                Answer::Repeat(confirmation, message.repeat(at_once), many.div_ceil(at_once))
            }
            _ => Answer::Send(b">3\r\n$11\r\nunsubscribe\r\n$1\r\nc\r\n:0\r\n".to_vec()),
        })
        .unwrap();
        let settings = settings(&server.url()).pubsub_buffer_bytes(buffer);
        let client = kit.connect(settings.build().unwrap()).await.unwrap();
        let mut sub = client.pubsub().await.unwrap();
        forget_peak_memory();
        let before = peak_memory();
        sub.subscribe("c").await.unwrap();
        // The confirmation arrives after all messages.
        sub.unsubscribe("c").await.unwrap();
        let grown = peak_memory().saturating_sub(before);
        println!("{kind}: {grown} bytes");
        assert!(grown < buffer as usize + SUBSCRIBER_SLACK, "{kind}: {grown} bytes");
        let PubSubEvent::Lagged { missed } = kit.within("an event", sub.next()).await.unwrap() else {
            panic!("{kind}: expected a lagged event")
        };
        assert!(missed > many as u64 / 2, "{kind}: missed {missed} of {many}");
    }
}
