//! Tests the memory of idle connections.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod common;

use common::{client_of, resident_memory, settings};
use ha_redis_testkit::Server;
use ha_redis_tokio::RedisClient;
use ha_redis_tokio::redis::AsyncCommands;
use tokio::sync::Mutex;

/// The tests measure the memory of the whole process.
static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

#[tokio::test]
async fn idle_connection_uses_little_memory() {
    const CONNECTIONS: usize = 1_000;
    let _alone = ONE_AT_A_TIME.lock().await;
    let server = Server::start().unwrap();
    let settings = settings(server.port()).max_connections(CONNECTIONS + 1);
    let client = RedisClient::connect(settings.build().unwrap()).await.unwrap();
    let mut connections = vec![client.dedicated().await.unwrap()];
    let before = resident_memory();
    while connections.len() < CONNECTIONS {
        connections.push(client.dedicated().await.unwrap());
    }
    let each = (resident_memory() - before) / (CONNECTIONS - 1);
    println!("{each} bytes per connection");
    assert!(each < 20 << 10, "{each} bytes per connection");
}

#[tokio::test]
async fn memory_released_after_burst() {
    const BURST: usize = 64 << 20;
    let _alone = ONE_AT_A_TIME.lock().await;
    let server = Server::start().unwrap();
    let client = client_of(&server).await;
    let mut redis = client.connection();
    redis.ping::<()>().await.unwrap();
    let before = resident_memory();
    for _ in 0..2 {
        redis.set::<_, _, ()>("key", vec![0; BURST]).await.unwrap();
    }
    let value: Vec<u8> = redis.get("key").await.unwrap();
    assert_eq!(value.len(), BURST);
    drop(value);
    common::until("the memory is released", || resident_memory() < before + BURST / 8).await;
    redis.ping::<()>().await.unwrap();
}
