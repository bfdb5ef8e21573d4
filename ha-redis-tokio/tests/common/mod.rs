//! What the tests share: a client of a server of their own, and waiting for a condition.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
#![allow(dead_code, reason = "each test file uses a part of it")]

pub(crate) mod load;

use std::time::{Duration, Instant};

use ha_redis_testkit::{Server, Topology};
use ha_redis_tokio::{Address, Client, RedisClient, RedisConfig, RedisConfigBuilder};

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

pub(crate) async fn client_of_topology(topology: &Topology) -> RedisClient {
    // On a busy machine the Sentinels may need a second attempt.
    let settings = config(&topology.url()).to_builder().failover_wait(BOUND);
    RedisClient::connect(settings.build().unwrap()).await.unwrap()
}

/// Waits until `condition` holds.
pub(crate) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < BOUND, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Waits until the client has a connection to this server as the master, by whatever name it is known.
pub(crate) async fn until_master(client: &Client, server: &Server) {
    let start = Instant::now();
    loop {
        let health = client.health_check().await;
        match health.master {
            Some(Address::Tcp { port, .. }) if port == server.port() && health.error.is_none() => return,
            _ => assert!(start.elapsed() < BOUND, "waited in vain for the new master: {health:?}"),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The connections that the server has from clients: not from replicas, Sentinels, or the one that asks.
pub(crate) fn connections(server: &Server) -> usize {
    let list = server.query(&["CLIENT", "LIST", "TYPE", "NORMAL"]).unwrap();
    list.text()
        .unwrap()
        .lines()
        .filter(|line| !line.contains("cmd=client") && !line.contains("name=sentinel-"))
        .count()
}

/// How often the server has run a command.
pub(crate) fn calls(server: &Server, command: &str) -> u64 {
    let stats = server.query(&["INFO", "commandstats"]).unwrap();
    let prefix = format!("cmdstat_{command}:calls=");
    let line = stats.text().unwrap().lines().find_map(|line| line.strip_prefix(&prefix)).map(str::to_owned);
    line.map_or(0, |line| line.split(',').next().unwrap().parse().unwrap())
}

/// How many clients wait in a blocking command.
pub(crate) fn blocked_clients(server: &Server) -> usize {
    let info = server.query(&["INFO", "clients"]).unwrap();
    let line = info.text().unwrap().lines().find_map(|line| line.strip_prefix("blocked_clients:"));
    line.unwrap().trim().parse().unwrap()
}

/// Bytes of memory that the process has.
pub(crate) fn resident_memory() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}
