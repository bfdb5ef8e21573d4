//! Tests a server that announces more data than it sends. It measures the memory of the process, so this file has
//! no other test.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod common;

use common::config;
use ha_redis_testkit::{Answer, ScriptedServer};
use ha_redis_tokio::RedisClient;
use ha_redis_tokio::redis::AsyncCommands;

/// Returns the peak memory that this process has used or reserved, in bytes.
fn peak_memory() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmPeak:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

#[tokio::test]
async fn false_lengths_allocate_nothing() {
    let lies = [
        "$4294967296\r\nabc".to_owned(),
        "$536870912\r\nabc".to_owned(),
        "*4294967295\r\n:1\r\n".to_owned(),
        "*2147483647\r\n".repeat(100),
    ];
    let mut error = lies.clone().into_iter();
    let server = ScriptedServer::start(move |_, _: &[String]| {
        error.next().map_or(Answer::Silence, |lie| Answer::Send(lie.into()))
    })
    .unwrap();
    let url = format!("{}?retry_attempts=0&socket_timeout=500ms", server.url());
    let mut redis = RedisClient::connect(config(&url)).await.unwrap().connection();
    let before = peak_memory();
    for _ in lies {
        redis.get::<_, String>("key").await.unwrap_err();
    }
    let grown = peak_memory() - before;
    // Far less than any of the announced lengths. A thread of the test itself reserves more than the client does.
    assert!(grown < 256 << 20, "{grown} bytes");
}
