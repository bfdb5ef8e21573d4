//! Tests a server that violates the protocol: the error quotes what was received, and the client opens a new
//! connection.

use std::time::Duration;

use super::kit::{Kit, config, settings};
use crate::{Answer, ScriptedServer};
use ha_redis_core::{Outcome, RedisErrorExt, RetryPolicy};
use redis::AsyncCommands;

tests![
    error_quotes_invalid_reply,
    partial_reply_then_close,
    partial_reply_then_silence,
    endless_nesting_times_out,
    unexpected_extra_replies,
    client_survives_random_bytes,
];

/// Returns the error and outcome of a GET that the server answers with `answer` the first time.
async fn error_of(kit: &Kit, answer: Answer) -> (String, Outcome) {
    let mut first = Some(answer);
    let server = ScriptedServer::start(move |_, command: &[String]| {
        assert_eq!(command[0], "GET");
        first.take().unwrap_or_else(|| Answer::Send(b"$2\r\nok\r\n".to_vec()))
    })
    .unwrap();
    let url = format!("{}?retry_attempts=0&socket_timeout=500ms", server.url());
    let client = kit.connect(config(&url)).await.unwrap();
    let mut redis = client.connection();
    let error = redis.get::<_, String>("key").await.unwrap_err();
    assert!(error.client_error().is_some(), "{error}");
    // The next call may still use the closing connection. With retries it moves to the new one.
    let mut redis = redis.with_retry_policy(RetryPolicy::new());
    assert_eq!(redis.get::<_, String>("key").await.unwrap(), "ok", "a new connection serves the next call");
    assert_eq!(server.accepted(), 2);
    (error.to_string(), error.outcome())
}

fn sent(bytes: impl Into<Vec<u8>>) -> Answer {
    Answer::Send(bytes.into())
}

async fn error_quotes_invalid_reply(kit: Kit) {
    let (error, outcome) = error_of(&kit, sent("HTTP/1.1 400 Bad Request\r\n")).await;
    assert!(error.contains("HTTP/1.1 400"), "{error}");
    assert_eq!(outcome, Outcome::MaybeApplied);
}

async fn partial_reply_then_close(kit: Kit) {
    let (error, outcome) = error_of(&kit, Answer::Close(b"$100\r\nonly this".to_vec())).await;
    assert!(error.contains("lost the connection"), "{error}");
    assert_eq!(outcome, Outcome::MaybeApplied);
}

async fn partial_reply_then_silence(kit: Kit) {
    let (error, outcome) = error_of(&kit, sent("$100\r\nonly this")).await;
    assert!(error.contains("is unresponsive"), "{error}");
    assert_eq!(outcome, Outcome::MaybeApplied);
}

async fn endless_nesting_times_out(kit: Kit) {
    let (error, outcome) = error_of(&kit, sent("*1\r\n".repeat(100_000))).await;
    assert!(error.contains("is unresponsive"), "{error}");
    assert_eq!(outcome, Outcome::MaybeApplied);
}

async fn unexpected_extra_replies(kit: Kit) {
    let server = ScriptedServer::start(|_, _: &[String]| sent("$2\r\nok\r\n$5\r\nextra\r\n")).unwrap();
    let client = kit.connect(config(&server.url())).await.unwrap();
    let mut redis = client.connection();
    for _ in 0..20 {
        // The call must not get the extra reply of the call before it.
        assert_eq!(redis.get::<_, String>("key").await.unwrap(), "ok");
    }
    assert!(server.accepted() > 1);
}

async fn client_survives_random_bytes(kit: Kit) {
    let mut seed = 42_u64;
    let mut next = move || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as u8
    };
    let server = ScriptedServer::start(move |_, _: &[String]| {
        let length = usize::from(next()) + 1;
        let bytes: Vec<u8> =
            (0..length).map(|_| b"*$+-:%~_,#!=(>\r\n0123456789az"[usize::from(next()) % 28]).collect();
        if next() < 64 { Answer::Close(bytes) } else { Answer::Send(bytes) }
    })
    .unwrap();
    let settings = settings(&server.url()).socket_timeout(Duration::from_millis(20)).retry_attempts(0);
    let mut callers = Vec::new();
    for _ in 0..10 {
        let client = kit.client(settings.clone().build().unwrap());
        callers.push(kit.spawn(async move {
            client.initialize().await.unwrap();
            let mut redis = client.connection();
            for _ in 0..15 {
                // The call may succeed or fail, but it must end.
                let _ = redis::cmd("GET").arg("key").query_async::<redis::Value>(&mut redis).await;
            }
            // The last connection may still be in the middle of a reply.
            while redis.ping::<String>().await.is_err() {}
        }));
    }
    kit.all(callers).await;
}
