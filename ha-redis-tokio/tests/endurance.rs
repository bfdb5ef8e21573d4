//! Tests long faults and many clients: memory stays bounded, and every caller and client recovers.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use common::{client_of, config, until};
use ha_redis_testkit::{Cut, Proxy, Server};
use ha_redis_tokio::redis::{self, AsyncCommands};
use ha_redis_tokio::{RedisClient, RedisErrorExt};
use tokio::task::JoinSet;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_end_by_deadline_while_server_hangs() {
    const DEADLINE: Duration = Duration::from_secs(2);
    let server = Server::start().unwrap();
    let client = client_of(&server).await;
    let (stop, longest) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut callers = JoinSet::new();
    for caller in 0..100 {
        let mut redis = client.connection().with_timeout(DEADLINE);
        let (stop, longest) = (Arc::clone(&stop), Arc::clone(&longest));
        callers.spawn(async move {
            let mut round = 0_u64;
            while !stop.load(Ordering::Relaxed) {
                round += 1;
                let started = Instant::now();
                let sent = format!("{caller}:{round}");
                let echo = redis::cmd("ECHO").arg(&sent).query_async::<String>(&mut redis).await;
                longest.fetch_max(started.elapsed().as_millis() as u64, Ordering::Relaxed);
                if let Ok(echo) = echo {
                    assert_eq!(echo, sent, "a reply reached the wrong caller");
                }
            }
        });
    }
    server.hang().unwrap();
    tokio::time::sleep(Duration::from_secs(20)).await;
    server.resume().unwrap();
    let resumed = Instant::now();
    client.connection().ping::<()>().await.unwrap();
    let recovered = resumed.elapsed();
    stop.store(true, Ordering::Relaxed);
    callers.join_all().await;
    let longest = Duration::from_millis(longest.load(Ordering::Relaxed));
    println!(
        "longest call {longest:?} with a deadline of {DEADLINE:?}; first success {recovered:?} after the end"
    );
    // A busy machine may wake a task late, so this checks only the order of magnitude.
    assert!(longest < DEADLINE + Duration::from_secs(1), "{longest:?}");
    assert!(recovered < Duration::from_secs(1), "{recovered:?}");
}

/// Runs this many clients of a server that is killed, and returns when each connection attempt was made between the
/// kill and the restart.
async fn attempts_of(clients: usize) -> Vec<Duration> {
    let server = Server::start().unwrap();
    let proxy = Proxy::before(&server).unwrap();
    let mut connected = Vec::new();
    for _ in 0..clients {
        connected.push(RedisClient::connect(config(&proxy.url())).await.unwrap());
    }
    server.kill().unwrap();
    proxy.cut(Cut::Reset);
    let down = Instant::now();
    // The proxy accepts each attempt, and resets it because there is no server.
    let attempts = || proxy.accepted_at().into_iter().filter(|at| *at > down).map(|at| at - down);
    until("every client has made several attempts", || attempts().count() > 5 * clients).await;
    let attempts = attempts().collect();
    server.restart().unwrap();
    for client in connected {
        client.connection().ping::<()>().await.unwrap();
    }
    attempts
}

/// Returns how many attempts fell into each interval of length `moment`.
fn histogram(attempts: &[Duration], moment: Duration) -> BTreeMap<u128, usize> {
    let mut histogram = BTreeMap::new();
    for at in attempts {
        *histogram.entry(at.as_millis() / moment.as_millis()).or_default() += 1;
    }
    histogram
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousand_clients_recover_after_restart() {
    let attempts = attempts_of(1_000).await;
    for (tenth, attempts) in histogram(&attempts, Duration::from_millis(100)) {
        println!("{:>4.1} s {attempts:>5} {}", tenth as f64 / 10.0, "#".repeat(attempts / 20));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reconnects_are_spread() {
    let attempts = attempts_of(60).await;
    // Synchronized clients would connect at five moments. A busy machine spreads those, but not this far.
    let moments = histogram(&attempts, Duration::from_millis(10)).len();
    assert!(moments > 60, "{} attempts at {moments} moments: {attempts:?}", attempts.len());
}

#[tokio::test]
async fn wrong_password_reconnects_rarely() {
    let server = Server::builder().password("right").start().unwrap();
    let proxy = Proxy::start(server.address()).unwrap();
    let client = RedisClient::new(config(&format!("redis://:wrong@{}", proxy.address())));
    client.initialize().await.unwrap_err();
    let mut redis = client.connection();
    let until = Instant::now() + Duration::from_secs(3);
    while Instant::now() < until {
        let error = redis.get::<_, Option<String>>("key").await.unwrap_err();
        assert!(error.client_error().is_some_and(|error| error.is_authentication()), "{error}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(proxy.accepted() <= 8, "{} attempts in three seconds of calls", proxy.accepted());
}

#[tokio::test]
async fn wrong_password_limits_dedicated_connections() {
    let server = Server::start().unwrap();
    let proxy = Proxy::start(server.address()).unwrap();
    let client = RedisClient::connect(config(&format!("redis://{}", proxy.address()))).await.unwrap();
    let mut redis = client.connection();
    // The shared connection stays open, and new ones are refused.
    server.query(&["CONFIG", "SET", "requirepass", "new"]).unwrap();
    let until = Instant::now() + Duration::from_secs(2);
    while Instant::now() < until {
        let error = redis.blpop::<_, (String, String)>("queue", 1.0).await.unwrap_err();
        assert!(error.client_error().is_some_and(|error| error.is_authentication()), "{error}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(proxy.accepted() <= 8, "{} attempts in two seconds of calls", proxy.accepted());
}
