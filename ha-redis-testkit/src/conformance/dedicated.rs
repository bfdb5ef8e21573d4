//! Connections for one caller: blocking commands, WATCH, and the bound on how many there are.

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

tests![
    a_blocking_command_holds_nobody_up,
    a_timeout_that_only_the_server_understands_holds_nobody_up,
    a_blocking_command_outlives_the_reply_timeout_and_keeps_its_own,
    a_dropped_blocking_call_takes_no_element,
    watch_and_multi_work_on_a_connection_of_ones_own,
    a_connection_whose_state_was_changed_serves_nobody_else,
    a_subcommand_that_is_not_known_may_have_changed_the_connection,
    there_are_no_more_connections_than_allowed,
    busy_caller_does_not_starve_those_who_wait,
    waiting_callers_are_served_in_order,
    caller_that_is_not_polled_keeps_no_connection_from_others,
    many_callers_that_are_not_polled_keep_no_connection_from_others,
    caller_that_is_not_polled_keeps_no_room_from_others,
    connection_whose_caller_went_away_serves_the_next,
    refusal_that_will_not_pass_is_told_to_all_who_wait,
    why_no_connection_could_be_made_is_told,
    switch_restarts_the_opening_at_the_new_master,
    blocking_call_ends_when_its_server_is_found_dead,
    a_connection_that_owes_a_reply_is_not_lent_again,
    nothing_is_slipped_into_a_callers_transaction,
    closing_waits_for_a_blocking_call_and_no_longer,
];

async fn a_blocking_command_holds_nobody_up(kit: Kit) {
    let server = Server::start().unwrap();
    let client = kit.client_of(&server).await;
    let mut redis = client.connection();
    let popping = kit.spawn({
        let mut redis = redis.clone();
        async move { redis.blpop::<_, (String, String)>("queue", 0.0).await }
    });
    kit.until("BLPOP waits", || blocked_clients(&server) == 1).await;
    redis.rpush::<_, _, ()>("queue", "job").await.unwrap();
    assert_eq!(popping.end().await.unwrap().1, "job");
    assert_eq!(connections(&server), 2, "one shared, and one kept for the next to block");
}

async fn a_timeout_that_only_the_server_understands_holds_nobody_up(kit: Kit) {
    let server = Server::start().unwrap();
    let client = kit.client_of(&server).await;
    let mut redis = client.connection();
    let popping = kit.spawn({
        let mut redis = redis.clone();
        // Hexadecimal, for half an hour.
        async move { redis::cmd("BLPOP").arg("queue").arg("0x708").query_async(&mut redis).await }
    });
    kit.until("BLPOP waits", || blocked_clients(&server) == 1).await;
    kit.within("the shared connection is free", redis.rpush::<_, _, ()>("queue", "job")).await.unwrap();
    let popped: redis::RedisResult<(String, String)> = popping.end().await;
    assert_eq!(popped.unwrap().1, "job");
}

async fn a_blocking_command_outlives_the_reply_timeout_and_keeps_its_own(kit: Kit) {
    let server = Server::start().unwrap();
    let settings = settings(server.port()).socket_timeout(Duration::from_millis(200));
    let client = kit.connect(settings.build().unwrap()).await.unwrap();
    let mut redis = client.connection();
    let nothing: Option<(String, String)> = redis.blpop("queue", 0.6).await.unwrap();
    assert_eq!(nothing, None, "the server ended the wait, not the client");
    server.hang().unwrap();
    let error = redis.blpop::<_, Option<(String, String)>>("queue", 0.1).await.unwrap_err();
    assert!(error.client_error().is_some_and(|error| error.is_timeout()), "{error}");
    server.resume().unwrap();
}

async fn a_dropped_blocking_call_takes_no_element(kit: Kit) {
    let server = Server::start().unwrap();
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

async fn watch_and_multi_work_on_a_connection_of_ones_own(kit: Kit) {
    let server = Server::start().unwrap();
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

async fn a_connection_whose_state_was_changed_serves_nobody_else(kit: Kit) {
    let server = Server::start().unwrap();
    let client = kit.client_of(&server).await;
    let mut own = client.dedicated().await.unwrap();
    redis::cmd("SELECT").arg(1).exec_async(&mut own).await.unwrap();
    own.set::<_, _, ()>("key", 1).await.unwrap();
    drop(own);
    let mut other = client.dedicated().await.unwrap();
    assert_eq!(other.get::<_, Option<i64>>("key").await.unwrap(), None);
    kit.until("the changed connection is gone", || connections(&server) == 2).await;
}

async fn a_subcommand_that_is_not_known_may_have_changed_the_connection(kit: Kit) {
    let server = Server::start().unwrap();
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

async fn there_are_no_more_connections_than_allowed(kit: Kit) {
    let server = Server::start().unwrap();
    let settings = settings(server.port()).max_connections(3).failover_wait(Duration::from_millis(200));
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
    assert_eq!(connections(&server), 3, "the connection that came back was used again");
}

/// A client that may have one connection for callers that block.
async fn client_with_one(kit: &Kit, server: &Server) -> Client {
    let settings = settings(server.port()).max_connections(2);
    kit.connect(settings.build().unwrap()).await.unwrap()
}

async fn busy_caller_does_not_starve_those_who_wait(kit: Kit) {
    let server = Server::start().unwrap();
    let client = client_with_one(&kit, &server).await;
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
        let before = moved.load(Ordering::Relaxed);
        let (_, popped): (String, i32) = redis.blpop("queue", 0.0).await.unwrap();
        let passed_by = moved.load(Ordering::Relaxed) - before;
        assert_eq!(popped, job);
        // Turns that the loop had before this call stood in the queue count as well.
        assert!(passed_by < 1000, "the loop had {passed_by} turns while this call waited for one");
        moved.store(0, Ordering::Relaxed);
    }
    busy.abort();
}

async fn waiting_callers_are_served_in_order(kit: Kit) {
    let server = Server::start().unwrap();
    let client = client_with_one(&kit, &server).await;
    let own = client.dedicated().await.unwrap();
    let mut waiting: Vec<_> = (0..20).map(|number| (number, Box::pin(client.dedicated()))).collect();
    for (_, caller) in &mut waiting {
        assert!(poll_once(caller).await.is_none());
    }
    drop(own);
    let mut served = Vec::new();
    let all_served = poll_fn(|cx| {
        // Those who came last are polled first.
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

async fn caller_that_is_not_polled_keeps_no_connection_from_others(kit: Kit) {
    let server = Server::start().unwrap();
    let client = client_with_one(&kit, &server).await;
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

async fn many_callers_that_are_not_polled_keep_no_connection_from_others(kit: Kit) {
    let server = Server::start().unwrap();
    let client = client_with_one(&kit, &server).await;
    let own = client.dedicated().await.unwrap();
    let mut parked: Vec<_> = (0..100).map(|_| Box::pin(client.dedicated())).collect();
    for caller in &mut parked {
        assert!(poll_once(caller).await.is_none());
    }
    let mut next = pin!(client.dedicated());
    assert!(poll_once(&mut next).await.is_none());
    drop(own);
    kit.within("whoever is polled is served", next).await.unwrap();
}

async fn caller_that_is_not_polled_keeps_no_room_from_others(kit: Kit) {
    let server = Server::start().unwrap();
    let settings = settings(server.port()).max_in_flight(1);
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

async fn connection_whose_caller_went_away_serves_the_next(kit: Kit) {
    let server = Server::start().unwrap();
    let client = client_with_one(&kit, &server).await;
    let mut impatient = Box::pin(client.dedicated());
    // On a busy machine the connection may be there before this returns; then it is given back.
    let _ = poll_once(&mut impatient).await;
    drop(impatient);
    let mut own = client.dedicated().await.unwrap();
    assert_eq!(own.incr::<_, _, i64>("n", 1).await.unwrap(), 1);
    assert_eq!(connections(&server), 2);
}

async fn refusal_that_will_not_pass_is_told_to_all_who_wait(kit: Kit) {
    let server = Server::start().unwrap();
    let settings = settings(server.port()).max_connections(3).failover_wait(2 * BOUND);
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

async fn why_no_connection_could_be_made_is_told(kit: Kit) {
    let server = Server::start().unwrap();
    let settings = settings(server.port()).failover_wait(Duration::from_millis(500));
    let client = kit.connect(settings.build().unwrap()).await.unwrap();
    let mut full = redis::cmd("CONFIG");
    full.arg("SET").arg("maxclients").arg(1);
    full.exec_async(&mut client.connection()).await.unwrap();
    let error = client.dedicated().await.unwrap_err();
    assert!(error.to_string().contains("max number of clients"), "{error}");
}

async fn switch_restarts_the_opening_at_the_new_master(kit: Kit) {
    let (old, new) = (Server::start().unwrap(), Server::start().unwrap());
    let sentinels = Sentinels::naming(&old, 3);
    // No bound of the client's own ends the attempt to reach the old master.
    let long = 2 * BOUND;
    let settings = sentinels.settings().socket_connect_timeout(long).socket_timeout(long).failover_wait(long);
    let client = kit.connect(settings.build().unwrap()).await.unwrap();
    old.hang().unwrap();
    let waiting = kit.spawn({
        let client = client.clone();
        async move { client.dedicated().await }
    });
    (0..3).for_each(|number| {
        sentinels.change(number, |says| (says.master, says.epoch) = (Some(new.port()), 2));
    });
    let mut own = kit.within("there is a connection to the new master", waiting.end()).await.unwrap();
    own.set::<_, _, ()>("key", 1).await.unwrap();
    assert_eq!(calls(&new, "set"), 1);
    old.resume().unwrap();
}

async fn blocking_call_ends_when_its_server_is_found_dead(kit: Kit) {
    let server = Server::start().unwrap();
    let brief = Duration::from_millis(200);
    let settings = settings(server.port()).socket_timeout(brief).socket_connect_timeout(brief);
    let settings = settings.health_check_interval(brief).retry_attempts(0);
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

async fn a_connection_that_owes_a_reply_is_not_lent_again(kit: Kit) {
    let server = Server::start().unwrap();
    // The server's silence is not what ends the connection.
    let settings = settings(server.port()).max_in_flight(1).socket_timeout(Duration::from_secs(120));
    let settings = settings.call_timeout(Duration::from_millis(300));
    let client = kit.connect(settings.build().unwrap()).await.unwrap();
    let mut own = client.dedicated().await.unwrap();
    let popping = own.blpop::<_, (String, String)>("queue", 0.0).await;
    assert_eq!(popping.unwrap_err().outcome(), Outcome::MaybeApplied, "the server still lets it wait");
    let next = own.ping::<()>().await;
    assert_eq!(next.unwrap_err().outcome(), Outcome::NotSent, "there is no room for another");
    drop(own);
    kit.until("the connection is ended", || blocked_clients(&server) == 0).await;
    client.connection().rpush::<_, _, ()>("queue", "job").await.unwrap();
    assert_eq!(client.connection().llen::<_, usize>("queue").await.unwrap(), 1, "nobody took it");
}

async fn nothing_is_slipped_into_a_callers_transaction(kit: Kit) {
    let server = Server::start().unwrap();
    let settings = settings(server.port()).health_check_interval(Duration::from_millis(20));
    let client = kit.connect(settings.build().unwrap()).await.unwrap();
    let mut own = client.dedicated().await.unwrap();
    redis::cmd("MULTI").exec_async(&mut own).await.unwrap();
    redis::cmd("INCR").arg("n").exec_async(&mut own).await.unwrap();
    let checks = calls(&server, "ping");
    kit.until("the shared connection is checked", || calls(&server, "ping") > checks + 3).await;
    let replies: Vec<i64> = redis::cmd("EXEC").query_async(&mut own).await.unwrap();
    assert_eq!(replies, [1]);
}

async fn closing_waits_for_a_blocking_call_and_no_longer(kit: Kit) {
    let server = Server::start().unwrap();
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
    kit.until("the client takes no more calls", || connections(&server) == 1).await;
    server.query(&["RPUSH", "queue", "job"]).unwrap();
    assert_eq!(popping.end().await.unwrap().1, "job");
    closing.end().await;
    assert_eq!(connections(&server), 0, "all sockets are closed when close() returns");
    let error = own.get::<_, Option<i64>>("key").await.unwrap_err();
    assert!(error.client_error().is_some_and(|error| error.is_closed()), "{error}");
}
