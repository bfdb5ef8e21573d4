//! Connections for one caller: blocking commands, WATCH, and the bound on how many there are.

use std::time::Duration;

use super::kit::{Kit, blocked_clients, calls, connections, settings};
use crate::Server;
use ha_redis_core::{Outcome, RedisErrorExt};
use redis::AsyncCommands;

tests![
    a_blocking_command_holds_nobody_up,
    a_timeout_that_only_the_server_understands_holds_nobody_up,
    a_blocking_command_outlives_the_reply_timeout_and_keeps_its_own,
    a_dropped_blocking_call_takes_no_element,
    watch_and_multi_work_on_a_connection_of_ones_own,
    a_connection_whose_state_was_changed_serves_nobody_else,
    a_subcommand_that_is_not_known_may_have_changed_the_connection,
    there_are_no_more_connections_than_allowed,
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
