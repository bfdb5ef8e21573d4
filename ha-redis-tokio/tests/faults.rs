//! One server that fails: every call ends, and tells what became of it.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod common;

use std::time::Duration;

use common::{calls, client_of, connections, until};
use ha_redis_testkit::Server;
use ha_redis_tokio::redis::{self, AsyncCommands};
use ha_redis_tokio::{Outcome, RedisClient, RedisConfig, RedisErrorExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

async fn impatient(server: &Server, reply: Duration) -> RedisClient {
    let settings = common::settings(server.port()).socket_timeout(reply);
    RedisClient::connect(settings.build().unwrap()).await.unwrap()
}

#[tokio::test]
async fn calls_wait_while_the_server_restarts() {
    let server = Server::builder().appendonly().start().unwrap();
    let client = client_of(&server).await;
    let mut redis = client.connection();
    redis.set::<_, _, ()>("key", "value").await.unwrap();
    server.terminate().unwrap();
    let waiting = tokio::spawn(async move { redis.get::<_, String>("key").await });
    server.restart().unwrap();
    assert_eq!(waiting.await.unwrap().unwrap(), "value");
}

#[tokio::test]
async fn a_call_without_a_server_ends_with_the_wait_for_one() {
    let server = Server::start().unwrap();
    let settings = common::settings(server.port()).failover_wait(Duration::from_millis(300));
    let client = RedisClient::connect(settings.build().unwrap()).await.unwrap();
    server.kill().unwrap();
    // The first call may be written before the client learns that the server is gone.
    let _ = client.connection().get::<_, i64>("n").await;
    let error = client.connection().incr::<_, _, i64>("n", 1).await.unwrap_err();
    assert_eq!(error.outcome(), Outcome::NotSent);
    let text = error.to_string();
    assert!(text.contains(&server.address().to_string()), "{text}");
}

#[tokio::test]
async fn a_read_that_a_hanging_server_never_answers_is_sent_again() {
    let server = Server::builder().appendonly().start().unwrap();
    let client = impatient(&server, Duration::from_secs(2)).await;
    let mut redis = client.connection();
    redis.set::<_, _, ()>("key", "value").await.unwrap();
    server.hang().unwrap();
    let mut reading = std::pin::pin!(redis.get::<_, String>("key"));
    assert!(futures_lite::future::poll_once(&mut reading).await.is_none());
    server.restart().unwrap();
    assert_eq!(reading.await.unwrap(), "value");
}

#[tokio::test]
async fn a_server_that_hangs_costs_a_call_no_more_than_its_time() {
    let server = Server::start().unwrap();
    let client = impatient(&server, Duration::from_millis(300)).await;
    server.hang().unwrap();
    let error = client.connection().incr::<_, _, i64>("n", 1).await.unwrap_err();
    assert!(error.is_timeout(), "{error}");
    assert_eq!(error.outcome(), Outcome::MaybeApplied);
    server.resume().unwrap();
    // The old connection was given up; calls go on as soon as the server does.
    client.connection().set::<_, _, ()>("key", 1).await.unwrap();
}

#[tokio::test]
async fn an_idle_connection_is_checked_and_kept() {
    let server = Server::start().unwrap();
    let settings = common::settings(server.port()).health_check_interval(Duration::from_millis(50));
    let client = RedisClient::connect(settings.build().unwrap()).await.unwrap();
    let before = calls(&server, "ping");
    until("the idle connection is checked", || calls(&server, "ping") >= before + 3).await;
    assert_eq!(connections(&server), 1);
    drop(client);
}

#[tokio::test]
async fn an_idle_connection_to_a_silent_server_is_replaced() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let settings = RedisConfig::builder()
        .host("127.0.0.1")
        .port(listener.local_addr().unwrap().port())
        .socket_timeout(Duration::from_millis(50))
        .health_check_interval(Duration::from_millis(50));
    let client = RedisClient::new(settings.build().unwrap());
    let (connected, first) = tokio::join!(client.initialize(), greet(&listener));
    connected.unwrap();
    // No caller asks anything; only the check can find out.
    let second = greet(&listener).await;
    drop((first, second));
}

/// Answers the handshake, and then nothing more.
async fn greet(listener: &tokio::net::TcpListener) -> tokio::net::TcpStream {
    let (mut stream, _) = tokio::time::timeout(common::BOUND, listener.accept()).await.unwrap().unwrap();
    let mut hello = [0; 1024];
    assert!(stream.read(&mut hello).await.unwrap() > 0);
    stream.write_all(b"%0\r\n+PONG\r\n").await.unwrap();
    stream
}

#[tokio::test]
async fn a_loading_server_is_waited_for() {
    let server = Server::builder().appendonly().config("key-load-delay 2000").start().unwrap();
    let client = client_of(&server).await;
    let mut redis = client.connection();
    let mut fill = redis::pipe();
    (0..1_000).for_each(|number| _ = fill.set(format!("key:{number}"), number).ignore());
    fill.exec_async(&mut redis).await.unwrap();
    server.query(&["BGREWRITEAOF"]).unwrap();
    until("the file is rewritten", || {
        let info = server.query(&["INFO", "persistence"]).unwrap();
        info.text().unwrap().contains("aof_rewrite_in_progress:0")
            && info.text().unwrap().contains("aof_rewrite_scheduled:0")
    })
    .await;
    server.kill().unwrap();
    let waiting = tokio::spawn(async move { redis.get::<_, i64>("key:999").await });
    server.restart().unwrap();
    assert_eq!(waiting.await.unwrap().unwrap(), 999);
}

#[tokio::test]
async fn a_closure_is_retried_as_a_whole() {
    let server = Server::start().unwrap();
    let client = client_of(&server).await;
    let mut attempts = 0;
    let value: i64 = client
        .retry(|mut redis| {
            attempts += 1;
            let fails = attempts < 3;
            async move {
                let value = redis.incr("n", 1).await?;
                if fails {
                    return Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset).into());
                }
                Ok(value)
            }
        })
        .await
        .unwrap();
    assert_eq!((attempts, value), (3, 3), "the increment ran each time: its caller asked for that");
    let refused = client.retry(|mut redis| async move { redis.lpush::<_, _, i64>("n", 1).await }).await;
    assert_eq!(refused.unwrap_err().code(), Some("WRONGTYPE"));
    assert_eq!(calls(&server, "lpush"), 1, "an answer is not retried");
}

#[tokio::test]
async fn a_replica_refuses_writes_and_the_schedule_is_kept() {
    let master = Server::start().unwrap();
    let replica = Server::builder().replica_of(&master).start().unwrap();
    let client = client_of(&replica).await;
    let error = client.connection().incr::<_, _, i64>("n", 1).await.unwrap_err();
    assert_eq!(error.code(), Some("READONLY"));
    assert_eq!(error.outcome(), Outcome::NotApplied);
    let stats = replica.query(&["INFO", "commandstats"]).unwrap();
    let rejected =
        stats.text().unwrap().lines().find(|line| line.starts_with("cmdstat_incrby:")).map(str::to_owned);
    let rejected = rejected.unwrap();
    assert!(rejected.contains("rejected_calls=4"), "one attempt and three retries: {rejected}");
}

#[tokio::test]
async fn a_demoted_server_is_looked_up_anew_whatever_else_was_in_the_pipeline() {
    let server = Server::start().unwrap();
    let other = Server::start().unwrap();
    let client = client_of(&server).await;
    let id = |server: &Server| {
        let list = server.query(&["CLIENT", "LIST", "TYPE", "NORMAL"]).unwrap();
        list.text().unwrap().lines().find(|line| !line.contains("cmd=client")).map(first_word)
    };
    let first = id(&server);
    server.query(&["REPLICAOF", "127.0.0.1", &other.port().to_string()]).unwrap();
    until("the refused pipeline has the connection made anew", || {
        let mut redis = client.connection();
        let mut pipeline = redis::pipe();
        pipeline.cmd("PUBLISH").arg("news").arg(1).set("key", 1);
        drop(tokio::spawn(async move { pipeline.exec_async(&mut redis).await }));
        id(&server).is_some_and(|now| Some(now) != first)
    })
    .await;
}

fn first_word(line: &str) -> String {
    line.split(' ').next().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn a_script_that_returns_an_error_of_its_own_is_not_repeated() {
    let server = Server::start().unwrap();
    let mut redis = client_of(&server).await.connection();
    let script = "redis.call('INCR', KEYS[1]) return redis.error_reply('TRYAGAIN later')";
    let answer = redis::cmd("EVAL").arg(script).arg(1).arg("n").exec_async(&mut redis).await;
    assert_eq!(answer.unwrap_err().code(), Some("TRYAGAIN"));
    assert_eq!(redis.get::<_, i64>("n").await.unwrap(), 1);
}
