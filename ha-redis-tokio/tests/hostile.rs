//! A server that does not speak the protocol: an error that says what came, and a new connection.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod common;

use std::time::Duration;

use common::config;
use ha_redis_testkit::{Answer, ScriptedServer};
use ha_redis_tokio::redis::{self, AsyncCommands};
use ha_redis_tokio::{Outcome, RedisClient, RedisErrorExt, RetryPolicy};

/// What a client makes of a server that answers GET in this way, the first time.
async fn error_of(answer: Answer) -> (String, Outcome) {
    let mut first = Some(answer);
    let server = ScriptedServer::start(move |_, command: &[String]| {
        assert_eq!(command[0], "GET");
        first.take().unwrap_or_else(|| Answer::Send(b"$2\r\nok\r\n".to_vec()))
    })
    .unwrap();
    let url = format!("{}?retry_attempts=0&socket_timeout=500ms", server.url());
    let client = RedisClient::connect(config(&url)).await.unwrap();
    let mut redis = client.connection();
    let error = redis.get::<_, String>("key").await.unwrap_err();
    assert!(error.client_error().is_some(), "{error}");
    // The next call may still have met the connection at its end: then it goes on with the new one.
    let mut redis = redis.with_retry_policy(RetryPolicy::new());
    assert_eq!(redis.get::<_, String>("key").await.unwrap(), "ok", "a new connection serves the next call");
    assert_eq!(server.accepted(), 2);
    (error.to_string(), error.outcome())
}

fn sent(bytes: impl Into<Vec<u8>>) -> Answer {
    Answer::Send(bytes.into())
}

/// The most memory that this process has had or reserved, in bytes.
fn peak_memory() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmPeak:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

#[tokio::test]
async fn garbage_is_quoted() {
    let (error, outcome) = error_of(sent("HTTP/1.1 400 Bad Request\r\n")).await;
    assert!(error.contains("HTTP/1.1 400"), "{error}");
    assert_eq!(outcome, Outcome::MaybeApplied);
}

#[tokio::test]
async fn half_a_reply_and_then_the_end() {
    let (error, outcome) = error_of(Answer::Close(b"$100\r\nonly this".to_vec())).await;
    assert!(error.contains("lost the connection"), "{error}");
    assert_eq!(outcome, Outcome::MaybeApplied);
}

#[tokio::test]
async fn half_a_reply_and_then_nothing() {
    let (error, outcome) = error_of(sent("$100\r\nonly this")).await;
    assert!(error.contains("did not answer in time") || error.contains("has sent nothing"), "{error}");
    assert_eq!(outcome, Outcome::MaybeApplied);
}

#[tokio::test]
async fn lengths_that_lie_take_no_memory() {
    let before = peak_memory();
    let (error, _) = error_of(sent("$4294967296\r\nabc")).await;
    assert!(error.contains("4294967296"), "{error}");
    error_of(sent("$536870912\r\nabc")).await;
    error_of(sent("*4294967295\r\n:1\r\n")).await;
    error_of(sent("*2147483647\r\n".repeat(100))).await;
    let grown = peak_memory() - before;
    // Far less than any of the lengths; a thread of the test's own reserves more than the client does.
    assert!(grown < 256 << 20, "{grown} bytes");
}

#[tokio::test]
async fn nesting_without_end_ends() {
    let (error, _) = error_of(sent("*1\r\n".repeat(100_000))).await;
    assert!(error.contains("inside each other"), "{error}");
}

#[tokio::test]
async fn more_replies_than_were_asked_for() {
    let server = ScriptedServer::start(|_, _: &[String]| sent("$2\r\nok\r\n$5\r\nextra\r\n")).unwrap();
    let client = RedisClient::connect(config(&server.url())).await.unwrap();
    let mut redis = client.connection();
    for _ in 0..20 {
        // Never the extra reply of the call before.
        assert_eq!(redis.get::<_, String>("key").await.unwrap(), "ok");
    }
    assert!(server.accepted() > 1);
}

#[tokio::test]
async fn random_bytes_never_bring_a_client_down() {
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
    let settings =
        common::settings(server.port()).socket_timeout(Duration::from_millis(20)).retry_attempts(0);
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..10 {
        let settings = settings.clone().build().unwrap();
        callers.spawn(async move {
            let client = RedisClient::connect(settings).await.unwrap();
            let mut redis = client.connection();
            for _ in 0..15 {
                // Whatever the answer, there is one.
                let _ = redis::cmd("GET").arg("key").query_async::<redis::Value>(&mut redis).await;
            }
            // The last connection may still owe half of an answer.
            while redis.ping::<String>().await.is_err() {}
        });
    }
    callers.join_all().await;
}
