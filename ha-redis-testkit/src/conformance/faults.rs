//! Tests one failing server: every call ends and reports its outcome.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::kit::{BOUND, Kit, Spawned, blocked_clients, calls, connections, settings};
use crate::{Answer, Direction, Proxy, ScriptedServer, Server};
use ha_redis_core::{Client, Outcome, RedisErrorExt};
use redis::{AsyncCommands, RedisResult};

tests! {
    everywhere: [
        calls_wait_during_restart,
        call_ends_after_failover_wait,
        read_retried_when_server_hangs,
        hung_server_delays_call_by_timeout_only,
        idle_connection_checked_and_kept,
        idle_connection_to_silent_server_replaced,
        call_waits_for_loading_server,
        short_client_pause_delays_call,
        long_client_pause_ends_unrepeatable_call,
        closure_retried_as_a_whole,
        permanent_replica_refuses_writes,
        readonly_in_pipeline_triggers_rediscovery,
        script_error_not_retried,
    ],
    plain: [
        read_sent_four_times_when_replies_lost,
    ],
}

async fn client_with_reply_timeout(kit: &Kit, server: &Server, reply: Duration) -> Client {
    let settings = settings(&server.url()).socket_timeout(reply);
    kit.connect(settings.build().unwrap()).await.unwrap()
}

async fn calls_wait_during_restart(kit: Kit) {
    let server = kit.server_builder().appendonly().start().unwrap();
    let client = kit.client_of(&server).await;
    let mut redis = client.connection();
    redis.set::<_, _, ()>("key", "value").await.unwrap();
    server.terminate().unwrap();
    let waiting = kit.spawn(async move { redis.get::<_, String>("key").await });
    server.restart().unwrap();
    assert_eq!(waiting.end().await.unwrap(), "value");
}

async fn call_ends_after_failover_wait(kit: Kit) {
    let server = kit.server();
    let settings = settings(&server.url()).failover_wait(Duration::from_millis(300));
    let client = kit.connect(settings.build().unwrap()).await.unwrap();
    server.kill().unwrap();
    // The first call may be written before the client notices that the server is gone.
    let _ = client.connection().get::<_, i64>("n").await;
    let error = client.connection().incr::<_, _, i64>("n", 1).await.unwrap_err();
    assert_eq!(error.outcome(), Outcome::NotSent);
    let text = error.to_string();
    assert!(text.contains(&server.address().to_string()), "{text}");
}

async fn read_retried_when_server_hangs(kit: Kit) {
    let server = kit.server_builder().appendonly().start().unwrap();
    let client = client_with_reply_timeout(&kit, &server, Duration::from_secs(2)).await;
    let mut redis = client.connection();
    redis.set::<_, _, ()>("key", "value").await.unwrap();
    server.hang().unwrap();
    let mut reading = std::pin::pin!(redis.get::<_, String>("key"));
    assert!(futures_lite::future::poll_once(&mut reading).await.is_none());
    server.restart().unwrap();
    assert_eq!(reading.await.unwrap(), "value");
}

async fn hung_server_delays_call_by_timeout_only(kit: Kit) {
    let server = kit.server();
    let client = client_with_reply_timeout(&kit, &server, Duration::from_millis(300)).await;
    server.hang().unwrap();
    let error = client.connection().incr::<_, _, i64>("n", 1).await.unwrap_err();
    assert!(error.is_timeout(), "{error}");
    assert_eq!(error.outcome(), Outcome::MaybeApplied);
    server.resume().unwrap();
    // The client gave the old connection up. Calls succeed as soon as the server resumes.
    client.connection().set::<_, _, ()>("key", 1).await.unwrap();
}

async fn idle_connection_checked_and_kept(kit: Kit) {
    let server = kit.server();
    let settings = settings(&server.url()).health_check_interval(Duration::from_millis(50));
    let client = kit.connect(settings.build().unwrap()).await.unwrap();
    let before = calls(&server, "ping");
    kit.until("the idle connection is checked", || calls(&server, "ping") >= before + 3).await;
    assert_eq!(connections(&server), 1);
    drop(client);
}

async fn idle_connection_to_silent_server_replaced(kit: Kit) {
    let server = kit.server();
    let proxy = Proxy::before(&server).unwrap();
    let soon = Duration::from_millis(50);
    let settings = settings(&proxy.url()).socket_timeout(soon).health_check_interval(soon);
    let client = kit.connect(settings.build().unwrap()).await.unwrap();
    proxy.lose(Direction::ToClient);
    // No caller sends anything, so only the health check can detect the failure.
    kit.until("another connection is made", || proxy.accepted() >= 2).await;
    drop(client);
}

async fn call_waits_for_loading_server(kit: Kit) {
    let server = kit.server_builder().appendonly().config("key-load-delay 2000").start().unwrap();
    let client = kit.client_of(&server).await;
    let mut redis = client.connection();
    let mut fill = redis::pipe();
    (0..1_000).for_each(|number| _ = fill.set(format!("key:{number}"), number).ignore());
    fill.exec_async(&mut redis).await.unwrap();
    server.query(&["BGREWRITEAOF"]).unwrap();
    kit.until("the file is rewritten", || {
        let info = server.query(&["INFO", "persistence"]).unwrap();
        info.text().unwrap().contains("aof_rewrite_in_progress:0")
            && info.text().unwrap().contains("aof_rewrite_scheduled:0")
    })
    .await;
    server.kill().unwrap();
    let waiting = kit.spawn(async move { redis.get::<_, i64>("key:999").await });
    server.restart().unwrap();
    assert_eq!(waiting.end().await.unwrap(), 999);
}

/// Pauses writes, and starts an INCR that the server has read but does not run.
async fn paused_increment(kit: &Kit, client: &Client, server: &Server) -> Spawned<RedisResult<i64>> {
    server.query(&["CLIENT", "PAUSE", "600000", "WRITE"]).unwrap();
    let mut redis = client.connection();
    let call = kit.spawn(async move { redis.incr("n", 1).await });
    kit.until("the server holds the INCR", || blocked_clients(server) == 1).await;
    call
}

async fn short_client_pause_delays_call(kit: Kit) {
    let server = kit.server();
    let client = client_with_reply_timeout(&kit, &server, BOUND).await;
    let call = paused_increment(&kit, &client, &server).await;
    server.query(&["CLIENT", "UNPAUSE"]).unwrap();
    assert_eq!(call.end().await.unwrap(), 1);
}

async fn long_client_pause_ends_unrepeatable_call(kit: Kit) {
    let server = kit.server();
    let client = client_with_reply_timeout(&kit, &server, Duration::from_millis(500)).await;
    let call = paused_increment(&kit, &client, &server).await;
    let error = kit.within("the INCR ends", call.end()).await.unwrap_err();
    assert_eq!(error.outcome(), Outcome::MaybeApplied, "{error}");
    // Only writes are paused, so the second connection serves reads.
    let read = client.connection().get::<_, Option<i64>>("n").await.unwrap();
    assert_eq!(read, None);
    server.query(&["CLIENT", "UNPAUSE"]).unwrap();
    // The client has ended the connection whose INCR the server held.
    assert_eq!(client.connection().incr::<_, _, i64>("n", 1).await.unwrap(), 1);
}

async fn closure_retried_as_a_whole(kit: Kit) {
    let server = kit.server();
    let client = kit.client_of(&server).await;
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
    assert_eq!((attempts, value), (3, 3), "every attempt incremented, as the caller allowed");
    let refused = client.retry(|mut redis| async move { redis.lpush::<_, _, i64>("n", 1).await }).await;
    assert_eq!(refused.unwrap_err().code(), Some("WRONGTYPE"));
    assert_eq!(calls(&server, "lpush"), 1, "a reply is not retried");
}

async fn permanent_replica_refuses_writes(kit: Kit) {
    let master = kit.server();
    let replica = kit.server_builder().replica_of(&master).start().unwrap();
    let settings = settings(&replica.url()).failover_wait(Duration::from_millis(300));
    let client = kit.connect(settings.build().unwrap()).await.unwrap();
    let error = client.connection().incr::<_, _, i64>("n", 1).await.unwrap_err();
    assert_eq!(error.code(), Some("READONLY"));
    assert_eq!(error.outcome(), Outcome::NotApplied);
}

async fn read_sent_four_times_when_replies_lost(kit: Kit) {
    let attempts = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&attempts);
    let server = ScriptedServer::start(move |_, _: &[String]| {
        counter.fetch_add(1, Ordering::SeqCst);
        Answer::Close(Vec::new())
    });
    let client = kit.connect(settings(&server.as_ref().unwrap().url()).build().unwrap()).await.unwrap();
    let error = client.connection().get::<_, ()>("key").await.unwrap_err();
    assert_eq!(error.outcome(), Outcome::MaybeApplied);
    assert_eq!(attempts.load(Ordering::SeqCst), 4, "one attempt and three retries");
}

async fn readonly_in_pipeline_triggers_rediscovery(kit: Kit) {
    let server = kit.server();
    let other = kit.server();
    let client = kit.client_of(&server).await;
    let id = |server: &Server| {
        let list = server.query(&["CLIENT", "LIST", "TYPE", "NORMAL"]).unwrap();
        list.text().unwrap().lines().find(|line| !line.contains("cmd=client")).map(first_word)
    };
    let first = id(&server);
    server.query(&["REPLICAOF", "127.0.0.1", &other.port().to_string()]).unwrap();
    kit.until("the client reconnects after the refused pipeline", || {
        let mut redis = client.connection();
        let mut pipeline = redis::pipe();
        pipeline.cmd("PUBLISH").arg("news").arg(1).set("key", 1);
        drop(kit.spawn(async move { pipeline.exec_async(&mut redis).await }));
        id(&server).is_some_and(|now| Some(now) != first)
    })
    .await;
}

fn first_word(line: &str) -> String {
    line.split(' ').next().unwrap_or_default().to_owned()
}

async fn script_error_not_retried(kit: Kit) {
    let server = kit.server();
    let mut redis = kit.client_of(&server).await.connection();
    let script = "redis.call('INCR', KEYS[1]) return redis.error_reply('TRYAGAIN later')";
    let answer = redis::cmd("EVAL").arg(script).arg(1).arg("n").exec_async(&mut redis).await;
    assert_eq!(answer.unwrap_err().code(), Some("TRYAGAIN"));
    assert_eq!(redis.get::<_, i64>("n").await.unwrap(), 1);
}
