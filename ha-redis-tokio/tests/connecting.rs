//! Tests connecting where it depends on Tokio.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod common;

use common::config;
use ha_redis_testkit::Server;
use ha_redis_tokio::redis::AsyncCommands;
use ha_redis_tokio::{RedisClient, RedisConfig};

#[test]
fn client_outside_runtime_is_an_error() {
    let client = RedisClient::new(RedisConfig::default());
    let error = futures_lite::future::block_on(client.initialize()).unwrap_err();
    assert!(error.is_config(), "{error}");
}

#[test]
fn client_of_ended_runtime_is_an_error() {
    let server = Server::start().unwrap();
    let client = RedisClient::new(config(&server.url()));
    let first = tokio::runtime::Runtime::new().unwrap();
    first.block_on(client.initialize()).unwrap();
    drop(first);
    let second = tokio::runtime::Runtime::new().unwrap();
    let error = second.block_on(client.connection().get::<_, Option<i64>>("key")).unwrap_err();
    assert!(error.to_string().contains("the runtime on which the client was started has ended"), "{error}");
}

/// A client in a `static` is often created in one test and used in the next, and each test has a runtime of its
/// own.
#[test]
fn client_of_runtime_ended_before_first_poll_is_an_error() {
    let server = Server::start().unwrap();
    let first = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let client = first.block_on(async {
        let client = RedisClient::new(config(&server.url()));
        // The future is dropped after one poll, before the client's tasks have been polled.
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
