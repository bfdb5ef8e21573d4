//! Tests memory use while there is no server. It measures the memory of the process, so this file has no other
//! test.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::{client_of, resident_memory};
use ha_redis_testkit::Server;
use ha_redis_tokio::redis::AsyncCommands;
use tokio::task::JoinSet;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_bounded_without_server() {
    let server = Server::start().unwrap();
    let client = client_of(&server).await;
    let stop = Arc::new(AtomicBool::new(false));
    let mut callers = JoinSet::new();
    for caller in 0..10_000 {
        let (mut redis, stop) = (client.connection(), Arc::clone(&stop));
        callers.spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                let _ = redis.set::<_, _, ()>(format!("key:{caller}"), "x".repeat(64)).await;
            }
        });
    }
    server.kill().unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let early = resident_memory();
    let mut most = early;
    for _ in 0..60 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        most = most.max(resident_memory());
    }
    println!("resident memory: {} KiB after a second, at most {} KiB in a minute", early >> 10, most >> 10);
    assert!(most - early < 10 << 20, "memory grew from {early} to {most} bytes");
    stop.store(true, Ordering::Relaxed);
    server.restart().unwrap();
    callers.join_all().await;
    client.connection().ping::<()>().await.unwrap();
}
