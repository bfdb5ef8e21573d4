//! Tests `RedisClient` on async-std, in a process without Tokio.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use async_std::task;
use ha_redis_async_std::redis::{self, AsyncCommands};
use ha_redis_async_std::{RedisClient, RedisConfig, RetryPolicy};
use ha_redis_testkit::Server;

fn config(url: &str) -> RedisConfig {
    url.parse().unwrap()
}

#[test]
fn commands_and_pipelines_run() {
    let server = Server::start().unwrap();
    task::block_on(async {
        let client = RedisClient::connect(config(&server.url())).await.unwrap();
        let mut redis = client.connection();
        redis.set::<_, _, ()>("key", "value").await.unwrap();
        assert_eq!(redis.get::<_, String>("key").await.unwrap(), "value");
        let mut pipeline = redis::pipe();
        pipeline.atomic().incr("n", 1).ignore().incr("n", 2);
        assert_eq!(pipeline.query_async::<Vec<i64>>(&mut redis).await.unwrap(), [3]);
        assert!(client.close().await.is_clean());
    });
}

#[test]
fn many_tasks_share_connection() {
    let server = Server::start().unwrap();
    task::block_on(async {
        let client = RedisClient::connect(config(&server.url())).await.unwrap();
        let tasks = (0..100).map(|_| {
            let mut redis = client.connection();
            task::spawn(async move { redis.incr::<_, _, i64>("n", 1).await })
        });
        for task in tasks.collect::<Vec<_>>() {
            task.await.unwrap();
        }
        assert_eq!(client.connection().get::<_, i64>("n").await.unwrap(), 100);
    });
}

#[test]
fn hung_server_times_out() {
    let server = Server::start().unwrap();
    let url = format!("{}?socket_timeout=200ms&retry_attempts=0&failover_wait=0", server.url());
    task::block_on(async {
        let client = RedisClient::connect(config(&url)).await.unwrap();
        let mut redis = client.connection();
        server.hang().unwrap();
        assert!(redis.get::<_, Option<i64>>("key").await.unwrap_err().is_timeout());
        server.resume().unwrap();
        let policy = RetryPolicy::new().max_retries(100);
        ha_redis_async_std::retry(policy, || async { client.connection().set::<_, _, ()>("key", 1).await })
            .await
            .unwrap();
    });
}

#[test]
fn host_names_resolved() {
    let server = Server::start().unwrap();
    let url = format!("redis://localhost:{}", server.port());
    let client = task::block_on(RedisClient::connect(config(&url))).unwrap();
    task::block_on(client.connection().set::<_, _, ()>("key", 1)).unwrap();
}
