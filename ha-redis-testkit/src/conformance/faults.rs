//! One server that fails: every call ends, and tells what became of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::kit::{Kit, calls, connections, settings};
use crate::{Answer, Direction, Proxy, ScriptedServer, Server};
use ha_redis_core::{Client, Outcome, RedisErrorExt};
use redis::AsyncCommands;

tests![
    calls_wait_while_the_server_restarts,
    a_call_without_a_server_ends_with_the_wait_for_one,
    a_read_that_a_hanging_server_never_answers_is_sent_again,
    a_server_that_hangs_costs_a_call_no_more_than_its_time,
    an_idle_connection_is_checked_and_kept,
    an_idle_connection_to_a_silent_server_is_replaced,
    a_loading_server_is_waited_for,
    a_closure_is_retried_as_a_whole,
    a_replica_that_stays_one_refuses_writes,
    a_read_whose_reply_is_always_lost_is_sent_four_times,
    a_demoted_server_is_looked_up_anew_whatever_else_was_in_the_pipeline,
    a_script_that_returns_an_error_of_its_own_is_not_repeated,
];

async fn impatient(kit: &Kit, server: &Server, reply: Duration) -> Client {
    let settings = settings(server.port()).socket_timeout(reply);
    kit.connect(settings.build().unwrap()).await.unwrap()
}

async fn calls_wait_while_the_server_restarts(kit: Kit) {
    let server = Server::builder().appendonly().start().unwrap();
    let client = kit.client_of(&server).await;
    let mut redis = client.connection();
    redis.set::<_, _, ()>("key", "value").await.unwrap();
    server.terminate().unwrap();
    let waiting = kit.spawn(async move { redis.get::<_, String>("key").await });
    server.restart().unwrap();
    assert_eq!(waiting.end().await.unwrap(), "value");
}

async fn a_call_without_a_server_ends_with_the_wait_for_one(kit: Kit) {
    let server = Server::start().unwrap();
    let settings = settings(server.port()).failover_wait(Duration::from_millis(300));
    let client = kit.connect(settings.build().unwrap()).await.unwrap();
    server.kill().unwrap();
    // The first call may be written before the client learns that the server is gone.
    let _ = client.connection().get::<_, i64>("n").await;
    let error = client.connection().incr::<_, _, i64>("n", 1).await.unwrap_err();
    assert_eq!(error.outcome(), Outcome::NotSent);
    let text = error.to_string();
    assert!(text.contains(&server.address().to_string()), "{text}");
}

async fn a_read_that_a_hanging_server_never_answers_is_sent_again(kit: Kit) {
    let server = Server::builder().appendonly().start().unwrap();
    let client = impatient(&kit, &server, Duration::from_secs(2)).await;
    let mut redis = client.connection();
    redis.set::<_, _, ()>("key", "value").await.unwrap();
    server.hang().unwrap();
    let mut reading = std::pin::pin!(redis.get::<_, String>("key"));
    assert!(futures_lite::future::poll_once(&mut reading).await.is_none());
    server.restart().unwrap();
    assert_eq!(reading.await.unwrap(), "value");
}

async fn a_server_that_hangs_costs_a_call_no_more_than_its_time(kit: Kit) {
    let server = Server::start().unwrap();
    let client = impatient(&kit, &server, Duration::from_millis(300)).await;
    server.hang().unwrap();
    let error = client.connection().incr::<_, _, i64>("n", 1).await.unwrap_err();
    assert!(error.is_timeout(), "{error}");
    assert_eq!(error.outcome(), Outcome::MaybeApplied);
    server.resume().unwrap();
    // The old connection was given up; calls go on as soon as the server does.
    client.connection().set::<_, _, ()>("key", 1).await.unwrap();
}

async fn an_idle_connection_is_checked_and_kept(kit: Kit) {
    let server = Server::start().unwrap();
    let settings = settings(server.port()).health_check_interval(Duration::from_millis(50));
    let client = kit.connect(settings.build().unwrap()).await.unwrap();
    let before = calls(&server, "ping");
    kit.until("the idle connection is checked", || calls(&server, "ping") >= before + 3).await;
    assert_eq!(connections(&server), 1);
    drop(client);
}

async fn an_idle_connection_to_a_silent_server_is_replaced(kit: Kit) {
    let server = Server::start().unwrap();
    let proxy = Proxy::before(&server).unwrap();
    let soon = Duration::from_millis(50);
    let settings = settings(proxy.port()).socket_timeout(soon).health_check_interval(soon);
    let client = kit.connect(settings.build().unwrap()).await.unwrap();
    proxy.lose(Direction::ToClient);
    // No caller asks anything; only the check can find out.
    kit.until("another connection is made", || proxy.accepted() >= 2).await;
    drop(client);
}

async fn a_loading_server_is_waited_for(kit: Kit) {
    let server = Server::builder().appendonly().config("key-load-delay 2000").start().unwrap();
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

async fn a_closure_is_retried_as_a_whole(kit: Kit) {
    let server = Server::start().unwrap();
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
    assert_eq!((attempts, value), (3, 3), "the increment ran each time: its caller asked for that");
    let refused = client.retry(|mut redis| async move { redis.lpush::<_, _, i64>("n", 1).await }).await;
    assert_eq!(refused.unwrap_err().code(), Some("WRONGTYPE"));
    assert_eq!(calls(&server, "lpush"), 1, "an answer is not retried");
}

async fn a_replica_that_stays_one_refuses_writes(kit: Kit) {
    let master = Server::start().unwrap();
    let replica = Server::builder().replica_of(&master).start().unwrap();
    let settings = settings(replica.port()).failover_wait(Duration::from_millis(300));
    let client = kit.connect(settings.build().unwrap()).await.unwrap();
    let error = client.connection().incr::<_, _, i64>("n", 1).await.unwrap_err();
    assert_eq!(error.code(), Some("READONLY"));
    assert_eq!(error.outcome(), Outcome::NotApplied);
}

async fn a_read_whose_reply_is_always_lost_is_sent_four_times(kit: Kit) {
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&asked);
    let server = ScriptedServer::start(move |_, _: &[String]| {
        counter.fetch_add(1, Ordering::SeqCst);
        Answer::Close(Vec::new())
    });
    let client = kit.connect(settings(server.as_ref().unwrap().port()).build().unwrap()).await.unwrap();
    let error = client.connection().get::<_, ()>("key").await.unwrap_err();
    assert_eq!(error.outcome(), Outcome::MaybeApplied);
    assert_eq!(asked.load(Ordering::SeqCst), 4, "one attempt and three retries");
}

async fn a_demoted_server_is_looked_up_anew_whatever_else_was_in_the_pipeline(kit: Kit) {
    let server = Server::start().unwrap();
    let other = Server::start().unwrap();
    let client = kit.client_of(&server).await;
    let id = |server: &Server| {
        let list = server.query(&["CLIENT", "LIST", "TYPE", "NORMAL"]).unwrap();
        list.text().unwrap().lines().find(|line| !line.contains("cmd=client")).map(first_word)
    };
    let first = id(&server);
    server.query(&["REPLICAOF", "127.0.0.1", &other.port().to_string()]).unwrap();
    kit.until("the refused pipeline has the connection made anew", || {
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

async fn a_script_that_returns_an_error_of_its_own_is_not_repeated(kit: Kit) {
    let server = Server::start().unwrap();
    let mut redis = kit.client_of(&server).await.connection();
    let script = "redis.call('INCR', KEYS[1]) return redis.error_reply('TRYAGAIN later')";
    let answer = redis::cmd("EVAL").arg(script).arg(1).arg("n").exec_async(&mut redis).await;
    assert_eq!(answer.unwrap_err().code(), Some("TRYAGAIN"));
    assert_eq!(redis.get::<_, i64>("n").await.unwrap(), 1);
}
