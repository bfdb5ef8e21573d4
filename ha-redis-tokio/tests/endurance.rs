//! Long faults and many clients: nothing grows, nobody is forgotten, everybody recovers.

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
async fn a_server_that_hangs_for_twenty_seconds_costs_each_call_its_deadline() {
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
    // A machine that is busy with other tests may be late in waking a task: this guards the order of magnitude.
    assert!(longest < DEADLINE + Duration::from_secs(1), "{longest:?}");
    assert!(recovered < Duration::from_secs(1), "{recovered:?}");
}

/// So many clients of a server that is killed, and of what becomes of them: when each attempt to connect was made,
/// from the kill to the restart.
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
    // The proxy takes each attempt, and passes on that there is no server.
    let attempts = || proxy.accepted_at().into_iter().filter(|at| *at > down).map(|at| at - down);
    until("everybody has tried several times", || attempts().count() > 5 * clients).await;
    let attempts = attempts().collect();
    server.restart().unwrap();
    for client in connected {
        client.connection().ping::<()>().await.unwrap();
    }
    attempts
}

/// How many attempts fell into each of the moments of this length.
fn histogram(attempts: &[Duration], moment: Duration) -> BTreeMap<u128, usize> {
    let mut histogram = BTreeMap::new();
    for at in attempts {
        *histogram.entry(at.as_millis() / moment.as_millis()).or_default() += 1;
    }
    histogram
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_clients_of_a_server_that_restarts_all_come_back() {
    let attempts = attempts_of(1_000).await;
    for (tenth, attempts) in histogram(&attempts, Duration::from_millis(100)) {
        println!("{:>4.1} s {attempts:>5} {}", tenth as f64 / 10.0, "#".repeat(attempts / 20));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_lost_their_server_together_do_not_return_together() {
    let attempts = attempts_of(30).await;
    // In step, all of them would knock at five moments. A busy machine smears those, but not so far.
    let moments = histogram(&attempts, Duration::from_millis(10)).len();
    assert!(moments > 60, "{} attempts at {moments} moments: {attempts:?}", attempts.len());
}

#[tokio::test]
async fn a_wrong_password_does_not_hammer_the_server() {
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
async fn nor_do_blocking_calls_that_need_connections_of_their_own() {
    let server = Server::start().unwrap();
    let proxy = Proxy::start(server.address()).unwrap();
    let client = RedisClient::connect(config(&format!("redis://{}", proxy.address()))).await.unwrap();
    let mut redis = client.connection();
    // The shared connection stays; new ones are refused.
    server.query(&["CONFIG", "SET", "requirepass", "new"]).unwrap();
    let until = Instant::now() + Duration::from_secs(2);
    while Instant::now() < until {
        let error = redis.blpop::<_, (String, String)>("queue", 1.0).await.unwrap_err();
        assert!(error.client_error().is_some_and(|error| error.is_authentication()), "{error}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(proxy.accepted() <= 8, "{} attempts in two seconds of calls", proxy.accepted());
}
