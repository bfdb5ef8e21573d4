//! What the tests share: a client of a server of their own, and waiting for a condition.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::time::{Duration, Instant};

use ha_redis_testkit::Server;
use ha_redis_tokio::{RedisClient, RedisConfig, RedisConfigBuilder};

/// Longer than anything here takes, even on a busy machine.
pub(crate) const BOUND: Duration = Duration::from_secs(30);

pub(crate) fn config(url: &str) -> RedisConfig {
    url.parse().unwrap()
}

/// Settings for a server on this port, to add to.
pub(crate) fn settings(port: u16) -> RedisConfigBuilder {
    RedisConfig::builder().host("127.0.0.1").port(port)
}

pub(crate) async fn client_of(server: &Server) -> RedisClient {
    RedisClient::connect(config(&server.url())).await.unwrap()
}

/// Waits until `condition` holds.
pub(crate) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < BOUND, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Bytes of memory that the process has.
pub(crate) fn resident_memory() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}
