//! Making connections: the handshake, errors, sharing, closing.

use std::collections::BTreeSet;
use std::time::Duration;

use super::kit::{Kit, calls, config, connections, settings};
use crate::{Direction, Proxy, Server};
use futures_lite::future::block_on;
use ha_redis_core::{Outcome, RedisErrorExt, Role};
use redis::AsyncCommands;

tests![
    a_refused_connection_names_the_address_and_who_gave_it,
    a_server_that_does_not_answer_is_given_up_in_time,
    initializing_from_many_tasks_makes_one_connection,
    handles_spread_over_shared_connections_and_each_keeps_its_own,
    a_client_connects_with_its_first_command,
    a_client_that_could_not_connect_recovers_by_itself,
    the_handshake_says_who_where_and_in_what_protocol,
    a_server_without_hello_is_spoken_to_in_resp2,
    a_wrong_password_is_told_apart_and_told_at_once,
    a_unix_socket_will_do,
    a_closed_client_says_so_and_leaves_nothing_behind,
    closing_lets_calls_in_flight_finish,
    dropping_the_last_handle_ends_everything,
    the_health_check_tells_whether_the_server_answers,
    the_topology_of_a_single_server,
    a_server_that_turns_clients_away_says_why,
    nothing_that_callers_send_is_shown_by_debug,
];

async fn a_refused_connection_names_the_address_and_who_gave_it(kit: Kit) {
    let error = kit.connect(config("redis://127.0.0.1:1")).await.unwrap_err();
    assert!(error.is_connection());
    let text = error.to_string();
    assert!(text.contains("127.0.0.1:1") && text.contains("configuration"), "{text}");
}

async fn a_server_that_does_not_answer_is_given_up_in_time(kit: Kit) {
    let server = Server::start().unwrap();
    server.hang().unwrap();
    let patient = settings(server.port()).socket_connect_timeout(Duration::from_millis(200));
    let error = kit.connect(patient.build().unwrap()).await.unwrap_err();
    assert!(error.is_timeout(), "{error}");
    assert!(error.to_string().contains(&server.address().to_string()), "{error}");
}

async fn initializing_from_many_tasks_makes_one_connection(kit: Kit) {
    let server = Server::start().unwrap();
    let client = kit.client(config(&server.url()));
    let tasks = (0..50).map(|_| {
        let client = client.clone();
        kit.spawn(async move { client.initialize().await })
    });
    kit.all(tasks).await.into_iter().for_each(|initialized| initialized.unwrap());
    client.initialize().await.unwrap();
    assert_eq!(connections(&server), 1);
}

async fn handles_spread_over_shared_connections_and_each_keeps_its_own(kit: Kit) {
    let server = Server::start().unwrap();
    let client = kit.connect(settings(server.port()).shared_connections(3).build().unwrap()).await.unwrap();
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

async fn a_client_connects_with_its_first_command(kit: Kit) {
    let server = Server::start().unwrap();
    let client = kit.client(config(&server.url()));
    assert_eq!(connections(&server), 0);
    assert_eq!(client.connection().incr::<_, _, i64>("n", 1).await.unwrap(), 1);
}

async fn a_client_that_could_not_connect_recovers_by_itself(kit: Kit) {
    let server = Server::start().unwrap();
    server.kill().unwrap();
    let client = kit.client(config(&server.url()));
    client.initialize().await.unwrap_err();
    server.restart().unwrap();
    client.connection().set::<_, _, ()>("key", 1).await.unwrap();
    client.initialize().await.unwrap();
}

async fn the_handshake_says_who_where_and_in_what_protocol(kit: Kit) {
    let server = Server::builder().user("ann", "on >s3cret~!@ ~* &* +@all").start().unwrap();
    let settings = settings(server.port()).username("ann").password("s3cret~!@").client_name("billing").db(3);
    let client = kit.connect(settings.build().unwrap()).await.unwrap();
    let mut redis = client.connection();
    let info: String = redis::cmd("CLIENT").arg("INFO").query_async(&mut redis).await.unwrap();
    for expected in ["user=ann", "name=billing", "db=3", "resp=3"] {
        assert!(info.split_whitespace().any(|field| field == expected), "{expected} in {info}");
    }
}

async fn a_server_without_hello_is_spoken_to_in_resp2(kit: Kit) {
    let server = Server::builder().password("pw").config("rename-command HELLO \"\"").start().unwrap();
    let settings = settings(server.port()).password("pw").client_name("old").db(1);
    let client = kit.connect(settings.build().unwrap()).await.unwrap();
    let mut redis = client.connection();
    let info: String = redis::cmd("CLIENT").arg("INFO").query_async(&mut redis).await.unwrap();
    for expected in ["name=old", "db=1", "resp=2"] {
        assert!(info.split_whitespace().any(|field| field == expected), "{expected} in {info}");
    }
    redis.hset::<_, _, _, ()>("hash", "field", 1).await.unwrap();
    assert_eq!(redis.hgetall::<_, Vec<(String, i64)>>("hash").await.unwrap(), [("field".to_owned(), 1)]);
}

async fn a_wrong_password_is_told_apart_and_told_at_once(kit: Kit) {
    let server = Server::builder().password("right").start().unwrap();
    let settings = settings(server.port()).password("wrong");
    let client = kit.client(settings.build().unwrap());
    let error = client.initialize().await.unwrap_err();
    assert!(error.is_authentication(), "{error}");
    assert!(!error.to_string().contains("wrong"), "{error}");
    // A call does not wait for what cannot come, and tells the same.
    let error = client.connection().get::<_, Option<String>>("key").await.unwrap_err();
    assert!(error.client_error().is_some_and(|error| error.is_authentication()), "{error}");
    assert_eq!(error.outcome(), Outcome::NotSent);
    // Once the password is right, nothing remembers that it was not.
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

async fn a_unix_socket_will_do(kit: Kit) {
    let server = Server::builder().unix_socket().start().unwrap();
    let client = kit.connect(config(&format!("unix://{}", server.unix_socket().display())));
    client.await.unwrap().connection().set::<_, _, ()>("key", 1).await.unwrap();
}

async fn a_closed_client_says_so_and_leaves_nothing_behind(kit: Kit) {
    let server = Server::start().unwrap();
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

async fn closing_lets_calls_in_flight_finish(kit: Kit) {
    let server = Server::start().unwrap();
    let proxy = Proxy::before(&server).unwrap();
    let client = kit.connect(config(&proxy.url())).await.unwrap();
    let mut redis = client.connection();
    proxy.delay(Direction::ToClient, Duration::from_millis(300));
    let slow = kit.spawn(async move { redis.incr::<_, _, i64>("n", 1).await });
    kit.until("the call has arrived", || calls(&server, "incrby") == 1).await;
    assert!(client.close().await.is_clean());
    assert_eq!(slow.end().await.unwrap(), 1);
}

async fn dropping_the_last_handle_ends_everything(kit: Kit) {
    let server = Server::start().unwrap();
    let client = kit.client_of(&server).await;
    let mut redis = client.connection();
    drop(client);
    redis.set::<_, _, ()>("key", 1).await.unwrap();
    assert_eq!(connections(&server), 1, "a connection keeps its client going");
    drop(redis);
    kit.until("the connection is gone", || connections(&server) == 0).await;
}

async fn the_health_check_tells_whether_the_server_answers(kit: Kit) {
    let server = Server::start().unwrap();
    let settings = settings(server.port()).socket_timeout(Duration::from_millis(300));
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

async fn the_topology_of_a_single_server(kit: Kit) {
    let server = Server::start().unwrap();
    let replica = Server::builder().replica_of(&server).start().unwrap();
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

async fn a_server_that_turns_clients_away_says_why(kit: Kit) {
    let server = Server::builder().config("maxclients 1").start().unwrap();
    let _taken = std::net::TcpStream::connect(server.address()).unwrap();
    let error = kit.connect(config(&server.url())).await.unwrap_err();
    assert!(error.to_string().contains("max number of clients reached"), "{error}");
}

async fn nothing_that_callers_send_is_shown_by_debug(kit: Kit) {
    let server = Server::start().unwrap();
    let client = kit.client_of(&server).await;
    let mut redis = client.connection();
    let call = redis.set::<_, _, ()>("key", "confidential");
    drop(futures_lite::future::poll_once(call).await);
    let shown = format!("{client:?} {redis:?}");
    assert!(!shown.contains("confidential") && !shown.contains("99, 111, 110"), "{shown}");
}
