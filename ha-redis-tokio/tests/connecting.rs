//! What is Tokio's own in making connections.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod common;

use common::config;
use ha_redis_testkit::Server;
use ha_redis_tokio::redis::AsyncCommands;
use ha_redis_tokio::{RedisClient, RedisConfig};

#[test]
fn a_client_outside_of_a_runtime_gives_an_error() {
    let client = RedisClient::new(RedisConfig::default());
    let error = futures_lite::future::block_on(client.initialize()).unwrap_err();
    assert!(error.is_config(), "{error}");
}

#[test]
fn a_client_whose_runtime_has_ended_says_so() {
    let server = Server::start().unwrap();
    let client = RedisClient::new(config(&server.url()));
    let first = tokio::runtime::Runtime::new().unwrap();
    first.block_on(client.initialize()).unwrap();
    drop(first);
    let second = tokio::runtime::Runtime::new().unwrap();
    let error = second.block_on(client.connection().get::<_, Option<i64>>("key")).unwrap_err();
    assert!(error.to_string().contains("the runtime on which the client was started has ended"), "{error}");
}

/// A client that is kept in a `static` is often touched in one test and used in the next, each of which has a runtime.
#[test]
fn client_whose_runtime_ended_before_its_tasks_ran_says_so() {
    let server = Server::start().unwrap();
    let first = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let client = first.block_on(async {
        let client = RedisClient::new(config(&server.url()));
        // Polled once, and given up: its tasks have not been polled.
        assert!(futures_lite::future::poll_once(client.initialize()).await.is_none());
        client
    });
    let mut events = client.events();
    drop(first);
    let second = tokio::runtime::Runtime::new().unwrap();
    let ended = "the runtime on which the client was started has ended";
    second.block_on(async {
        let error = client.connection().get::<_, Option<i64>>("key").await.unwrap_err();
        assert!(error.to_string().contains(ended), "{error}");
        let error = client.pubsub().await.unwrap_err();
        assert!(error.to_string().contains(ended), "{error}");
        let error = client.dedicated().await.unwrap_err();
        assert!(error.to_string().contains(ended), "{error}");
        while events.next().await.is_some() {}
    });
}
