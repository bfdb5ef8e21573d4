//! Connections for one caller: blocking commands, WATCH, and the bound on how many there are.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod common;

use std::time::Duration;

use common::{blocked_clients, client_of, connections, until};
use ha_redis_testkit::Server;
use ha_redis_tokio::redis::{self, AsyncCommands};
use ha_redis_tokio::{RedisClient, RedisErrorExt};

#[tokio::test]
async fn a_blocking_command_holds_nobody_up() {
    let server = Server::start().unwrap();
    let client = client_of(&server).await;
    let mut redis = client.connection();
    let popping = tokio::spawn({
        let mut redis = redis.clone();
        async move { redis.blpop::<_, (String, String)>("queue", 0.0).await }
    });
    until("BLPOP waits", || blocked_clients(&server) == 1).await;
    redis.rpush::<_, _, ()>("queue", "job").await.unwrap();
    assert_eq!(popping.await.unwrap().unwrap().1, "job");
    assert_eq!(connections(&server), 2, "one shared, and one kept for the next to block");
}

#[tokio::test]
async fn a_blocking_command_outlives_the_reply_timeout_and_keeps_its_own() {
    let server = Server::start().unwrap();
    let settings = common::settings(server.port()).socket_timeout(Duration::from_millis(200));
    let client = RedisClient::connect(settings.build().unwrap()).await.unwrap();
    let mut redis = client.connection();
    let nothing: Option<(String, String)> = redis.blpop("queue", 0.6).await.unwrap();
    assert_eq!(nothing, None, "the server ended the wait, not the client");
    server.hang().unwrap();
    let error = redis.blpop::<_, Option<(String, String)>>("queue", 0.1).await.unwrap_err();
    assert!(error.client_error().is_some_and(|error| error.is_timeout()), "{error}");
    server.resume().unwrap();
}

#[tokio::test]
async fn a_dropped_blocking_call_takes_no_element() {
    let server = Server::start().unwrap();
    let client = client_of(&server).await;
    let mut redis = client.connection();
    let popping = tokio::spawn({
        let mut redis = redis.clone();
        async move { redis.blpop::<_, (String, String)>("queue", 0.0).await }
    });
    until("BLPOP waits", || blocked_clients(&server) == 1).await;
    popping.abort();
    until("BLPOP is gone", || blocked_clients(&server) == 0).await;
    redis.rpush::<_, _, ()>("queue", "job").await.unwrap();
    assert_eq!(redis.llen::<_, usize>("queue").await.unwrap(), 1);
}

#[tokio::test]
async fn watch_and_multi_work_on_a_connection_of_ones_own() {
    let server = Server::start().unwrap();
    let client = client_of(&server).await;
    let mut own = client.dedicated().await.unwrap();
    redis::cmd("WATCH").arg("n").exec_async(&mut own).await.unwrap();
    client.connection().set::<_, _, ()>("n", 5).await.unwrap();
    let mut transaction = redis::pipe();
    transaction.atomic().incr("n", 1);
    let aborted: Option<(i64,)> = transaction.query_async(&mut own).await.unwrap();
    assert_eq!(aborted, None, "the watched key was changed");
    let done: Option<(i64,)> = transaction.query_async(&mut own).await.unwrap();
    assert_eq!(done, Some((6,)));
}

#[tokio::test]
async fn a_connection_whose_state_was_changed_serves_nobody_else() {
    let server = Server::start().unwrap();
    let client = client_of(&server).await;
    let mut own = client.dedicated().await.unwrap();
    redis::cmd("SELECT").arg(1).exec_async(&mut own).await.unwrap();
    own.set::<_, _, ()>("key", 1).await.unwrap();
    drop(own);
    let mut other = client.dedicated().await.unwrap();
    assert_eq!(other.get::<_, Option<i64>>("key").await.unwrap(), None);
    until("the changed connection is gone", || connections(&server) == 2).await;
}

#[tokio::test]
async fn there_are_no_more_connections_than_allowed() {
    let server = Server::start().unwrap();
    let settings =
        common::settings(server.port()).max_connections(3).failover_wait(Duration::from_millis(200));
    let client = RedisClient::connect(settings.build().unwrap()).await.unwrap();
    let first = client.dedicated().await.unwrap();
    let _second = client.dedicated().await.unwrap();
    assert_eq!(connections(&server), 3);
    let error = client.dedicated().await.unwrap_err();
    assert!(error.is_overloaded(), "{error}");
    let waiting = tokio::spawn({
        let client = client.clone();
        async move { client.dedicated().await }
    });
    drop(first);
    waiting.await.unwrap().unwrap();
    assert_eq!(connections(&server), 3, "the connection that came back was used again");
}

#[tokio::test]
async fn nothing_is_slipped_into_a_callers_transaction() {
    let server = Server::start().unwrap();
    let settings = common::settings(server.port()).health_check_interval(Duration::from_millis(20));
    let client = RedisClient::connect(settings.build().unwrap()).await.unwrap();
    let mut own = client.dedicated().await.unwrap();
    redis::cmd("MULTI").exec_async(&mut own).await.unwrap();
    redis::cmd("INCR").arg("n").exec_async(&mut own).await.unwrap();
    let checks = common::calls(&server, "ping");
    until("the shared connection is checked", || common::calls(&server, "ping") > checks + 3).await;
    let replies: Vec<i64> = redis::cmd("EXEC").query_async(&mut own).await.unwrap();
    assert_eq!(replies, [1]);
}

#[tokio::test]
async fn closing_waits_for_a_blocking_call_and_no_longer() {
    let server = Server::start().unwrap();
    let client = client_of(&server).await;
    let mut own = client.dedicated().await.unwrap();
    let popping = tokio::spawn({
        let mut redis = client.connection();
        async move { redis.blpop::<_, (String, String)>("queue", 0.0).await }
    });
    until("BLPOP waits", || blocked_clients(&server) == 1).await;
    let closing = tokio::spawn({
        let client = client.clone();
        async move { client.close().await }
    });
    until("the client takes no more calls", || connections(&server) == 1).await;
    server.query(&["RPUSH", "queue", "job"]).unwrap();
    assert_eq!(popping.await.unwrap().unwrap().1, "job");
    closing.await.unwrap();
    assert_eq!(connections(&server), 0, "all sockets are closed when close() returns");
    let error = own.get::<_, Option<i64>>("key").await.unwrap_err();
    assert!(error.client_error().is_some_and(|error| error.is_closed()), "{error}");
}
