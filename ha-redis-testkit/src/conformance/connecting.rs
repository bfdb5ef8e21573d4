//! Tests making connections: the handshake, errors, sharing and closing.

use std::collections::BTreeSet;
use std::time::Duration;

use super::kit::{Kit, calls, config, connections, settings};
use crate::{Direction, Proxy, Server};
use futures_lite::future::block_on;
use ha_redis_core::{Outcome, RedisErrorExt, Role};
use redis::AsyncCommands;

tests! {
    everywhere: [
        refused_connection_names_address_and_source,
        connect_to_silent_server_times_out,
        concurrent_initialize_opens_one_connection,
        handles_spread_over_shared_connections,
        client_connects_on_first_command,
        client_recovers_after_failed_connect,
        closed_client_refuses_calls,
        close_finishes_calls_in_flight,
        dropping_last_handle_closes_client,
        health_check_reports_server_state,
        topology_of_single_server,
        debug_output_hides_call_arguments,
    ],
    plain: [
        max_clients_error_is_returned,
        calls_wait_while_server_is_full,
        handshake_sets_user_database_and_protocol,
        resp2_used_without_hello,
        wrong_password_fails_fast,
        unix_socket_connects,
    ],
}

async fn refused_connection_names_address_and_source(kit: Kit) {
    let error = kit.connect(config("redis://127.0.0.1:1")).await.unwrap_err();
    assert!(error.is_connection());
    let text = error.to_string();
    assert!(text.contains("127.0.0.1:1") && text.contains("configuration"), "{text}");
}

async fn connect_to_silent_server_times_out(kit: Kit) {
    let server = kit.server();
    server.hang().unwrap();
    let settings_with_timeout = settings(&server.url()).socket_connect_timeout(Duration::from_millis(200));
    let error = kit.connect(settings_with_timeout.build().unwrap()).await.unwrap_err();
    assert!(error.is_timeout(), "{error}");
    assert!(error.to_string().contains(&server.address().to_string()), "{error}");
}

async fn concurrent_initialize_opens_one_connection(kit: Kit) {
    let server = kit.server();
    let client = kit.client(config(&server.url()));
    let tasks = (0..50).map(|_| {
        let client = client.clone();
        kit.spawn(async move { client.initialize().await })
    });
    kit.all(tasks).await.into_iter().for_each(|initialized| initialized.unwrap());
    client.initialize().await.unwrap();
    assert_eq!(connections(&server), 1);
}

async fn handles_spread_over_shared_connections(kit: Kit) {
    let server = kit.server();
    let client = kit.connect(settings(&server.url()).shared_connections(3).build().unwrap()).await.unwrap();
    let mut all = BTreeSet::new();
    for mut redis in vec![client.connection(); 6] {
        let mut own = BTreeSet::new();
        for _ in 0..10 {
            own.insert(redis::cmd("CLIENT").arg("ID").query_async::<u64>(&mut redis).await.unwrap());
        }
        assert_eq!(own.len(), 1);
        all.append(&mut own);
    }
    assert_eq!(all.len(), 3);
}

async fn client_connects_on_first_command(kit: Kit) {
    let server = kit.server();
    let client = kit.client(config(&server.url()));
    assert_eq!(connections(&server), 0);
    assert_eq!(client.connection().incr::<_, _, i64>("n", 1).await.unwrap(), 1);
}

async fn client_recovers_after_failed_connect(kit: Kit) {
    let server = kit.server();
    server.kill().unwrap();
    let client = kit.client(config(&server.url()));
    client.initialize().await.unwrap_err();
    server.restart().unwrap();
    client.connection().set::<_, _, ()>("key", 1).await.unwrap();
    client.initialize().await.unwrap();
}

async fn handshake_sets_user_database_and_protocol(kit: Kit) {
    let server = kit.server_builder().user("ann", "on >s3cret~!@ ~* &* +@all").start().unwrap();
    let settings = settings(&server.url()).username("ann").password("s3cret~!@").client_name("billing").db(3);
    let client = kit.connect(settings.build().unwrap()).await.unwrap();
    let mut redis = client.connection();
    let info: String = redis::cmd("CLIENT").arg("INFO").query_async(&mut redis).await.unwrap();
    for expected in ["user=ann", "name=billing", "db=3", "resp=3"] {
        assert!(info.split_whitespace().any(|field| field == expected), "{expected} in {info}");
    }
}

async fn resp2_used_without_hello(kit: Kit) {
    let server = kit.server_builder().password("pw").config("rename-command HELLO \"\"").start().unwrap();
    let settings = settings(&server.url()).password("pw").client_name("old").db(1);
    let client = kit.connect(settings.build().unwrap()).await.unwrap();
    let mut redis = client.connection();
    let info: String = redis::cmd("CLIENT").arg("INFO").query_async(&mut redis).await.unwrap();
    for expected in ["name=old", "db=1", "resp=2"] {
        assert!(info.split_whitespace().any(|field| field == expected), "{expected} in {info}");
    }
    redis.hset::<_, _, _, ()>("hash", "field", 1).await.unwrap();
    assert_eq!(redis.hgetall::<_, Vec<(String, i64)>>("hash").await.unwrap(), [("field".to_owned(), 1)]);
}

async fn wrong_password_fails_fast(kit: Kit) {
    let server = kit.server_builder().password("right").start().unwrap();
    let settings = settings(&server.url()).password("wrong");
    let client = kit.client(settings.build().unwrap());
    let error = client.initialize().await.unwrap_err();
    assert!(error.is_authentication(), "{error}");
    assert!(!error.to_string().contains("wrong"), "{error}");
    // A call returns the same error without waiting for a connection.
    let error = client.connection().get::<_, Option<String>>("key").await.unwrap_err();
    assert!(error.client_error().is_some_and(|error| error.is_authentication()), "{error}");
    assert_eq!(error.outcome(), Outcome::NotSent);
    // The client connects once the password is right, without remembering the earlier refusal.
    server.query(&["CONFIG", "SET", "requirepass", "wrong"]).unwrap();
    kit.until("the password is accepted", || {
        block_on(client.connection().set::<_, _, ()>("key", 1)).is_ok()
            && connections_with(&server, "wrong") == 1
    })
    .await;
}

fn connections_with(server: &Server, password: &str) -> usize {
    let mut client = redis::Client::open(format!("redis://:{password}@{}", server.address())).unwrap();
    let list: String = redis::cmd("CLIENT").arg("LIST").query(&mut client).unwrap();
    list.lines().filter(|line| !line.contains("cmd=client")).count()
}

async fn unix_socket_connects(kit: Kit) {
    let server = kit.server_builder().unix_socket().start().unwrap();
    let client = kit.connect(config(&format!("unix://{}", server.unix_socket().display())));
    client.await.unwrap().connection().set::<_, _, ()>("key", 1).await.unwrap();
}

async fn closed_client_refuses_calls(kit: Kit) {
    let server = kit.server();
    let client = kit.client_of(&server).await;
    let mut redis = client.connection();
    redis.set::<_, _, ()>("key", 1).await.unwrap();
    client.close().await;
    client.close().await;
    let error = redis.get::<_, i64>("key").await.unwrap_err();
    assert!(error.client_error().is_some_and(|error| error.is_closed()), "{error}");
    assert_eq!(error.outcome(), Outcome::NotSent);
    assert!(client.initialize().await.unwrap_err().is_closed());
    kit.until("the connection is gone", || connections(&server) == 0).await;
}

async fn close_finishes_calls_in_flight(kit: Kit) {
    let server = kit.server();
    let proxy = Proxy::before(&server).unwrap();
    let client = kit.connect(config(&proxy.url())).await.unwrap();
    let mut redis = client.connection();
    proxy.delay(Direction::ToClient, Duration::from_millis(300));
    let slow = kit.spawn(async move { redis.incr::<_, _, i64>("n", 1).await });
    kit.until("the server has received the call", || calls(&server, "incrby") == 1).await;
    assert!(client.close().await.is_clean());
    assert_eq!(slow.end().await.unwrap(), 1);
}

async fn dropping_last_handle_closes_client(kit: Kit) {
    let server = kit.server();
    let client = kit.client_of(&server).await;
    let mut redis = client.connection();
    drop(client);
    redis.set::<_, _, ()>("key", 1).await.unwrap();
    assert_eq!(connections(&server), 1, "a connection handle keeps its client open");
    drop(redis);
    kit.until("the connection is gone", || connections(&server) == 0).await;
}

async fn health_check_reports_server_state(kit: Kit) {
    let server = kit.server();
    let settings = settings(&server.url()).socket_timeout(Duration::from_millis(300));
    let client = kit.connect(settings.build().unwrap()).await.unwrap();
    let health = client.health_check().await;
    assert!(
        health.is_healthy() && health.open_connections == 1 && health.role == Some(Role::Master),
        "{health:?}"
    );
    server.hang().unwrap();
    let health = client.health_check().await;
    assert!(!health.is_healthy() && health.error.is_some(), "{health:?}");
    server.resume().unwrap();
    client.connection().set::<_, _, ()>("key", 1).await.unwrap();
    assert!(client.health_check().await.is_healthy());
}

async fn topology_of_single_server(kit: Kit) {
    let server = kit.server();
    let replica = kit.server_builder().replica_of(&server).start().unwrap();
    let client = kit.client_of(&server).await;
    assert!(!client.is_sentinel_mode());
    assert_eq!(client.discover_master().await.unwrap().to_string(), server.address().to_string());
    kit.until("the replica is known", || {
        server.query(&["ROLE"]).unwrap().items().get(2).is_some_and(|list| !list.items().is_empty())
    })
    .await;
    let replicas = client.discover_replicas().await.unwrap();
    assert_eq!(replicas.len(), 1);
    assert_eq!(replicas[0].to_string(), replica.address().to_string());
}

async fn max_clients_error_is_returned(kit: Kit) {
    let server = kit.server_builder().config("maxclients 1").start().unwrap();
    let _taken = std::net::TcpStream::connect(server.address()).unwrap();
    let error = kit.connect(config(&server.url())).await.unwrap_err();
    assert!(error.to_string().contains("max number of clients reached"), "{error}");
}

async fn calls_wait_while_server_is_full(kit: Kit) {
    let server = kit.server_builder().config("maxclients 1").start().unwrap();
    let taken = std::net::TcpStream::connect(server.address()).unwrap();
    let short_wait = settings(&server.url()).failover_wait(Duration::from_millis(300));
    let error =
        kit.client(short_wait.build().unwrap()).connection().incr::<_, _, i64>("n", 1).await.unwrap_err();
    assert_eq!(error.outcome(), Outcome::NotSent, "{error}");
    assert!(error.to_string().contains("max number of clients reached"), "{error}");

    let client = kit.client(settings(&server.url()).failover_wait(super::kit::BOUND).build().unwrap());
    client.initialize().await.unwrap_err();
    let mut redis = client.connection();
    let waiting = kit.spawn(async move { redis.incr::<_, _, i64>("n", 1).await });
    drop(taken);
    assert_eq!(kit.within("the call ends", waiting.end()).await.unwrap(), 1);
}

async fn debug_output_hides_call_arguments(kit: Kit) {
    let server = kit.server();
    let client = kit.client_of(&server).await;
    let mut redis = client.connection();
    let call = redis.set::<_, _, ()>("key", "confidential");
    drop(futures_lite::future::poll_once(call).await);
    let shown = format!("{client:?} {redis:?}");
    assert!(!shown.contains("confidential") && !shown.contains("99, 111, 110"), "{shown}");
}
