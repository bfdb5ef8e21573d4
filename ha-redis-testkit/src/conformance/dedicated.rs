//! Tests dedicated connections: blocking commands, WATCH, and the limit on their number.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use futures_lite::future::{block_on, poll_once};
use redis::{AsyncCommands, Direction};

use super::kit::{BOUND, Kit, blocked_clients, calls, connections, settings};
use super::scripted::Sentinels;
use crate::Server;
use ha_redis_core::{Client, Outcome, RedisErrorExt};

tests! {
    everywhere: [
        blocking_command_delays_no_other_call,
        blocking_command_with_hex_timeout_delays_no_other_call,
        blocking_command_uses_its_own_timeout,
        dropped_blocking_call_pops_nothing,
        watch_and_multi_on_dedicated_connection,
        changed_connection_not_reused,
        connection_not_reused_after_unknown_subcommand,
        connection_limit_enforced,
        busy_caller_does_not_starve_waiters,
        waiters_served_in_order,
        unpolled_waiter_does_not_block_connection,
        many_unpolled_waiters_do_not_block_connection,
        unpolled_waiter_does_not_block_queue,
        connection_of_cancelled_caller_reused,
        blocking_call_ends_when_server_dead,
        connection_with_pending_reply_not_reused,
        health_checks_stay_out_of_transaction,
        close_waits_for_blocking_call,
    ],
    plain: [
        permanent_refusal_fails_all_waiters,
        connect_error_returned_to_waiter,
        opening_restarts_at_new_master,
    ],
}

async fn blocking_command_delays_no_other_call(kit: Kit) {
    let server = kit.server();
    let client = kit.client_of(&server).await;
    let mut redis = client.connection();
    let popping = kit.spawn({
        let mut redis = redis.clone();
        async move { redis.blpop::<_, (String, String)>("queue", 0.0).await }
    });
    kit.until("BLPOP waits", || blocked_clients(&server) == 1).await;
    redis.rpush::<_, _, ()>("queue", "job").await.unwrap();
    assert_eq!(popping.end().await.unwrap().1, "job");
    assert_eq!(connections(&server), 2, "one shared connection, and one idle dedicated connection");
}

async fn blocking_command_with_hex_timeout_delays_no_other_call(kit: Kit) {
    let server = kit.server();
    let client = kit.client_of(&server).await;
    let mut redis = client.connection();
    let popping = kit.spawn({
        let mut redis = redis.clone();
        // 0x708 is half an hour in hexadecimal.
        async move { redis::cmd("BLPOP").arg("queue").arg("0x708").query_async(&mut redis).await }
    });
    kit.until("BLPOP waits", || blocked_clients(&server) == 1).await;
    kit.within("the shared connection is free", redis.rpush::<_, _, ()>("queue", "job")).await.unwrap();
    let popped: redis::RedisResult<(String, String)> = popping.end().await;
    assert_eq!(popped.unwrap().1, "job");
}

async fn blocking_command_uses_its_own_timeout(kit: Kit) {
    let server = kit.server();
    let settings = settings(&server.url()).socket_timeout(Duration::from_millis(200));
    let client = kit.connect(settings.build().unwrap()).await.unwrap();
    let mut redis = client.connection();
    let nothing: Option<(String, String)> = redis.blpop("queue", 0.6).await.unwrap();
    assert_eq!(nothing, None, "the server ended the wait, not the client");
    server.hang().unwrap();
    let error = redis.blpop::<_, Option<(String, String)>>("queue", 0.1).await.unwrap_err();
    assert!(error.client_error().is_some_and(|error| error.is_timeout()), "{error}");
    server.resume().unwrap();
}

async fn dropped_blocking_call_pops_nothing(kit: Kit) {
    let server = kit.server();
    let client = kit.client_of(&server).await;
    let mut redis = client.connection();
    let popping = kit.spawn({
        let mut redis = redis.clone();
        async move { redis.blpop::<_, (String, String)>("queue", 0.0).await }
    });
    kit.until("BLPOP waits", || blocked_clients(&server) == 1).await;
    popping.abort();
    kit.until("BLPOP is gone", || blocked_clients(&server) == 0).await;
    redis.rpush::<_, _, ()>("queue", "job").await.unwrap();
    assert_eq!(redis.llen::<_, usize>("queue").await.unwrap(), 1);
}

async fn watch_and_multi_on_dedicated_connection(kit: Kit) {
    let server = kit.server();
    let client = kit.client_of(&server).await;
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

async fn changed_connection_not_reused(kit: Kit) {
    let server = kit.server();
    let client = kit.client_of(&server).await;
    let mut own = client.dedicated().await.unwrap();
    redis::cmd("SELECT").arg(1).exec_async(&mut own).await.unwrap();
    own.set::<_, _, ()>("key", 1).await.unwrap();
    drop(own);
    let mut other = client.dedicated().await.unwrap();
    assert_eq!(other.get::<_, Option<i64>>("key").await.unwrap(), None);
    kit.until("the changed connection is gone", || connections(&server) == 2).await;
}

async fn connection_not_reused_after_unknown_subcommand(kit: Kit) {
    let server = kit.server();
    let client = kit.client_of(&server).await;
    for (subcommand, changes) in [("INFO", false), ("CAPA", true), ("NEWER-THAN-THIS", true)] {
        let mut own = client.dedicated().await.unwrap();
        let id: u64 = redis::cmd("CLIENT").arg("ID").query_async(&mut own).await.unwrap();
        let _ = redis::cmd("CLIENT").arg(subcommand).arg("redirect").exec_async(&mut own).await;
        drop(own);
        let mut next = client.dedicated().await.unwrap();
        let next: u64 = redis::cmd("CLIENT").arg("ID").query_async(&mut next).await.unwrap();
        assert_eq!(next != id, changes, "CLIENT {subcommand}");
    }
}

async fn connection_limit_enforced(kit: Kit) {
    let server = kit.server();
    let settings = settings(&server.url()).max_connections(3).failover_wait(Duration::from_millis(200));
    let client = kit.connect(settings.build().unwrap()).await.unwrap();
    let first = client.dedicated().await.unwrap();
    let _second = client.dedicated().await.unwrap();
    assert_eq!(connections(&server), 3);
    let error = client.dedicated().await.unwrap_err();
    assert!(error.is_overloaded(), "{error}");
    let waiting = kit.spawn({
        let client = client.clone();
        async move { client.dedicated().await }
    });
    drop(first);
    waiting.end().await.unwrap();
    assert_eq!(connections(&server), 3, "the returned connection was reused");
}

/// Returns a client that is allowed one dedicated connection.
async fn client_with_one_dedicated(kit: &Kit, server: &Server) -> Client {
    let settings = settings(&server.url()).max_connections(2);
    kit.connect(settings.build().unwrap()).await.unwrap()
}

async fn busy_caller_does_not_starve_waiters(kit: Kit) {
    let server = kit.server();
    let client = client_with_one_dedicated(&kit, &server).await;
    let mut redis = client.connection();
    redis.rpush::<_, _, ()>("ring", 1).await.unwrap();
    let moved = Arc::new(AtomicUsize::new(0));
    let busy = kit.spawn({
        let (mut redis, moved) = (redis.clone(), Arc::clone(&moved));
        async move {
            loop {
                let (left, right) = (Direction::Left, Direction::Right);
                redis.blmove::<_, _, i64>("ring", "ring", left, right, 0.0).await.unwrap();
                moved.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    for job in 0..10 {
        kit.until("the loop runs", || moved.load(Ordering::Relaxed) > 10).await;
        redis.rpush::<_, _, ()>("queue", job).await.unwrap();
        // On the runtime of the loop: on another thread, turns would count while the system has suspended that thread.
        let waiting = kit.spawn({
            let (mut redis, moved) = (redis.clone(), Arc::clone(&moved));
            async move {
                let mut call = Box::pin(redis.blpop::<_, (String, i32)>("queue", 0.0));
                let first = poll_once(&mut call).await;
                let before = moved.load(Ordering::Relaxed);
                let (_, popped) = match first {
                    Some(popped) => popped,
                    None => call.await,
                }
                .unwrap();
                (popped, moved.load(Ordering::Relaxed) - before)
            }
        });
        let (popped, passed_by) = kit.within("the call is served", waiting.end()).await;
        assert_eq!(popped, job);
        assert!(passed_by < 10, "the busy loop ran {passed_by} calls while this call waited");
        moved.store(0, Ordering::Relaxed);
    }
    busy.abort();
}

async fn waiters_served_in_order(kit: Kit) {
    let server = kit.server();
    let client = client_with_one_dedicated(&kit, &server).await;
    let own = client.dedicated().await.unwrap();
    let mut waiting: Vec<_> = (0..20).map(|number| (number, Box::pin(client.dedicated()))).collect();
    for (_, caller) in &mut waiting {
        assert!(poll_once(caller).await.is_none());
    }
    drop(own);
    let mut served = Vec::new();
    let all_served = poll_fn(|cx| {
        // Polls the last waiters first.
        for index in (0..waiting.len()).rev() {
            if let Poll::Ready(own) = waiting[index].1.as_mut().poll(cx) {
                served.push(waiting.remove(index).0);
                drop(own.unwrap());
            }
        }
        if waiting.is_empty() { Poll::Ready(()) } else { Poll::Pending }
    });
    kit.within("all are served", all_served).await;
    assert_eq!(served, (0..20).collect::<Vec<_>>());
}

async fn unpolled_waiter_does_not_block_connection(kit: Kit) {
    let server = kit.server();
    let client = client_with_one_dedicated(&kit, &server).await;
    let own = client.dedicated().await.unwrap();
    let mut parked = Box::pin(client.dedicated());
    assert!(poll_once(&mut parked).await.is_none());
    let mut next = pin!(client.dedicated());
    assert!(poll_once(&mut next).await.is_none());
    drop(own);
    let next = kit.within("the second in the queue is served", next).await.unwrap();
    drop(next);
    kit.within("the first is served when it is polled again", parked).await.unwrap();
    assert_eq!(connections(&server), 2, "one connection has served them all");
}

async fn many_unpolled_waiters_do_not_block_connection(kit: Kit) {
    let server = kit.server();
    let client = client_with_one_dedicated(&kit, &server).await;
    let own = client.dedicated().await.unwrap();
    let mut parked: Vec<_> = (0..100).map(|_| Box::pin(client.dedicated())).collect();
    for caller in &mut parked {
        assert!(poll_once(caller).await.is_none());
    }
    let mut next = pin!(client.dedicated());
    assert!(poll_once(&mut next).await.is_none());
    drop(own);
    kit.within("the polled waiter gets the connection", next).await.unwrap();
}

async fn unpolled_waiter_does_not_block_queue(kit: Kit) {
    let server = kit.server();
    let settings = settings(&server.url()).max_in_flight(1);
    let client = kit.connect(settings.build().unwrap()).await.unwrap();
    server.hang().unwrap();
    let call = || {
        let mut redis = client.connection();
        Box::pin(async move { redis.incr::<_, _, i64>("n", 1).await })
    };
    let (mut first, mut parked, mut next) = (call(), call(), call());
    for call in [&mut first, &mut parked, &mut next] {
        assert!(poll_once(call).await.is_none());
    }
    server.resume().unwrap();
    assert_eq!(kit.within("the call in flight is answered", first).await.unwrap(), 1);
    assert_eq!(kit.within("the second in the queue is sent", next).await.unwrap(), 2);
    assert_eq!(kit.within("the first is sent when it is polled again", parked).await.unwrap(), 3);
}

async fn connection_of_cancelled_caller_reused(kit: Kit) {
    let server = kit.server();
    // If the thread of the test is suspended, the connection may be there at the end of the first poll.
    for _ in 0..100 {
        let client = client_with_one_dedicated(&kit, &server).await;
        let mut cancelled = Box::pin(client.dedicated());
        let was_waiting = poll_once(&mut cancelled).await.is_none();
        drop(cancelled);
        let mut own = client.dedicated().await.unwrap();
        own.incr::<_, _, i64>("n", 1).await.unwrap();
        assert_eq!(connections(&server), 2);
        drop(own);
        client.close().await;
        kit.until("the connections are closed", || connections(&server) == 0).await;
        if was_waiting {
            return;
        }
    }
    panic!("no caller was cancelled while it waited");
}

async fn permanent_refusal_fails_all_waiters(kit: Kit) {
    let server = kit.server();
    let settings = settings(&server.url()).max_connections(3).failover_wait(2 * BOUND);
    let client = kit.connect(settings.build().unwrap()).await.unwrap();
    let mut redis = client.connection();
    let set_password =
        |password: &'static str| redis::cmd("CONFIG").arg("SET").arg("requirepass").arg(password).take();
    set_password("pw").exec_async(&mut redis).await.unwrap();
    let waiting = (0..10).map(|_| {
        let client = client.clone();
        kit.spawn(async move { client.dedicated().await })
    });
    for refused in kit.all(waiting).await {
        let error = refused.unwrap_err();
        assert!(error.is_authentication(), "{error}");
    }
    set_password("").exec_async(&mut redis).await.unwrap();
    kit.until("a connection can be made", || block_on(client.dedicated()).is_ok()).await;
}

async fn connect_error_returned_to_waiter(kit: Kit) {
    let server = kit.server();
    let settings = settings(&server.url()).failover_wait(Duration::from_millis(500));
    let client = kit.connect(settings.build().unwrap()).await.unwrap();
    let mut full = redis::cmd("CONFIG");
    full.arg("SET").arg("maxclients").arg(1);
    full.exec_async(&mut client.connection()).await.unwrap();
    let error = client.dedicated().await.unwrap_err();
    assert!(error.to_string().contains("max number of clients"), "{error}");
}

async fn opening_restarts_at_new_master(kit: Kit) {
    let (old, new) = (kit.server(), kit.server());
    let sentinels = Sentinels::naming(&old, 3);
    // No client timeout ends the attempt to reach the old master.
    let long = 2 * BOUND;
    let settings = sentinels.settings().socket_connect_timeout(long).socket_timeout(long).failover_wait(long);
    let client = kit.connect(settings.build().unwrap()).await.unwrap();
    old.hang().unwrap();
    let waiting = kit.spawn({
        let client = client.clone();
        async move { client.dedicated().await }
    });
    (0..3).for_each(|number| {
        sentinels.change(number, |replies| (replies.master, replies.epoch) = (Some(new.port()), 2));
    });
    let mut own = kit.within("the client is connected to the new master", waiting.end()).await.unwrap();
    own.set::<_, _, ()>("key", 1).await.unwrap();
    assert_eq!(calls(&new, "set"), 1);
    old.resume().unwrap();
}

async fn blocking_call_ends_when_server_dead(kit: Kit) {
    let server = kit.server();
    let short_wait = Duration::from_millis(200);
    let settings = settings(&server.url()).socket_timeout(short_wait).socket_connect_timeout(short_wait);
    let settings = settings.health_check_interval(short_wait).retry_attempts(0);
    let client = kit.connect(settings.build().unwrap()).await.unwrap();
    let popping = kit.spawn({
        let mut redis = client.connection();
        async move { redis.blpop::<_, (String, String)>("queue", 0.0).await }
    });
    kit.until("BLPOP waits", || blocked_clients(&server) == 1).await;
    server.hang().unwrap();
    let error = kit.within("the call ends", popping.end()).await.unwrap_err();
    assert_eq!(error.outcome(), Outcome::MaybeApplied, "{error}");
    server.resume().unwrap();
}

async fn connection_with_pending_reply_not_reused(kit: Kit) {
    let server = kit.server();
    // The timeout is long, so that the server's silence does not end the connection.
    let settings = settings(&server.url()).max_in_flight(1).socket_timeout(Duration::from_secs(120));
    let settings = settings.call_timeout(Duration::from_millis(300));
    let client = kit.connect(settings.build().unwrap()).await.unwrap();
    let mut own = client.dedicated().await.unwrap();
    let popping = own.blpop::<_, (String, String)>("queue", 0.0).await;
    assert_eq!(popping.unwrap_err().outcome(), Outcome::MaybeApplied, "the server still blocks it");
    let next = own.ping::<()>().await;
    assert_eq!(next.unwrap_err().outcome(), Outcome::NotSent, "the connection limit is reached");
    drop(own);
    kit.until("the connection is ended", || blocked_clients(&server) == 0).await;
    client.connection().rpush::<_, _, ()>("queue", "job").await.unwrap();
    assert_eq!(client.connection().llen::<_, usize>("queue").await.unwrap(), 1, "nothing popped it");
}

async fn health_checks_stay_out_of_transaction(kit: Kit) {
    let server = kit.server();
    let settings = settings(&server.url()).health_check_interval(Duration::from_millis(20));
    let client = kit.connect(settings.build().unwrap()).await.unwrap();
    let mut own = client.dedicated().await.unwrap();
    redis::cmd("MULTI").exec_async(&mut own).await.unwrap();
    redis::cmd("INCR").arg("n").exec_async(&mut own).await.unwrap();
    let checks = calls(&server, "ping");
    kit.until("the shared connection is checked", || calls(&server, "ping") > checks + 3).await;
    let replies: Vec<i64> = redis::cmd("EXEC").query_async(&mut own).await.unwrap();
    assert_eq!(replies, [1]);
}

async fn close_waits_for_blocking_call(kit: Kit) {
    let server = kit.server();
    let client = kit.client_of(&server).await;
    let mut own = client.dedicated().await.unwrap();
    let popping = kit.spawn({
        let mut redis = client.connection();
        async move { redis.blpop::<_, (String, String)>("queue", 0.0).await }
    });
    kit.until("BLPOP waits", || blocked_clients(&server) == 1).await;
    let closing = kit.spawn({
        let client = client.clone();
        async move { client.close().await }
    });
    kit.until("the client refuses new calls", || connections(&server) == 1).await;
    server.query(&["RPUSH", "queue", "job"]).unwrap();
    assert_eq!(popping.end().await.unwrap().1, "job");
    closing.end().await;
    assert_eq!(connections(&server), 0, "all sockets are closed when close() returns");
    let error = own.get::<_, Option<i64>>("key").await.unwrap_err();
    assert!(error.client_error().is_some_and(|error| error.is_closed()), "{error}");
}
