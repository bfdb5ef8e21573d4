//! Helpers of the tests: settings for a server, and waiting for conditions.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::time::{Duration, Instant};

use ha_redis_testkit::Server;
use ha_redis_tokio::{RedisClient, RedisConfig, RedisConfigBuilder};

/// The timeout of every wait, longer than anything here takes even on a busy machine.
pub(crate) const BOUND: Duration = Duration::from_secs(30);

pub(crate) fn config(url: &str) -> RedisConfig {
    url.parse().unwrap()
}

/// Returns settings for a server on this port.
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
        assert!(start.elapsed() < BOUND, "timed out waiting for: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Returns the resident memory of the process, in bytes.
pub(crate) fn resident_memory() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}
