//! Tests a configuration that is replaced while the client runs.

use std::time::{Duration, Instant};

use ha_redis_core::{Client, Event};
use redis::AsyncCommands;

use super::credentials::{add_user, named, next, until_all_are, users};
use super::kit::{BOUND, Kit, calls, settings};
use super::load::{Load, none_failed};
use crate::Server;

tests! {
    everywhere: [
        handles_follow_new_timeouts,
        idle_connection_follows_new_health_checks,
        replicas_are_judged_by_new_limit,
        fixed_settings_are_refused_by_name,
    ],
    plain: [
        new_password_fails_no_call,
        moved_server_is_reached_by_new_address_map,
        unstarted_client_is_reconfigured,
    ],
}

async fn new_password_fails_no_call(kit: Kit) {
    let server = Server::start().unwrap();
    (1..=2).for_each(|number| add_user(&server, &format!("app-{number}"), "zulu-4711"));
    let config = named(settings(&server.url()).username("app-1").password("zulu-4711").build().unwrap());
    let client = kit.connect(config).await.unwrap();
    let mut events = client.events();
    let load = Load::start(&kit, &client);
    load.progress(100).await;
    let before = users(&server);
    let config = client.config().to_builder().username("app-2").build().unwrap();
    assert_eq!(client.reconfigure(config).await.unwrap(), ["username"]);
    let settings = next(&kit, &mut events, |event| match event {
        Event::Reconfigured { settings } => Some(settings),
        _ => None,
    });
    assert_eq!(settings.await, ["username"]);
    until_all_are(&kit, &server, "app-2").await;
    server.query(&["ACL", "DELUSER", "app-1"]).unwrap();
    load.progress(100).await;
    assert!(users(&server).into_keys().eq(before.into_keys()));
    none_failed(&load.finish().await);
    let config = client.config().to_builder().username("app-1").build().unwrap();
    client.reconfigure(config).await.unwrap();
    next(&kit, &mut events, |event| matches!(event, Event::LoginRefused { .. }).then_some(())).await;
    client.connection().set::<_, _, ()>("key", 1).await.unwrap();
}

async fn handles_follow_new_timeouts(kit: Kit) {
    let server = kit.server();
    let config = settings(&server.url()).socket_timeout(BOUND).failover_wait(BOUND).build().unwrap();
    let client = kit.connect(config).await.unwrap();
    let (mut follows, mut own) = (client.connection(), client.connection().with_timeout(BOUND));
    follows.set::<_, _, ()>("key", 1).await.unwrap();
    own.set::<_, _, ()>("key", 1).await.unwrap();
    let brief = client.config().to_builder().call_timeout(Duration::from_millis(100)).build().unwrap();
    assert_eq!(client.reconfigure(brief).await.unwrap(), ["call_timeout"]);
    server.hang().unwrap();
    let call = kit.spawn(async move { own.get::<_, i64>("key").await });
    let asked = Instant::now();
    let error = follows.get::<_, i64>("key").await.unwrap_err();
    assert!(error.to_string().contains("in time") && asked.elapsed() < BOUND, "{error}");
    server.resume().unwrap();
    assert_eq!(kit.within("the call with its own timeout", call.end()).await.unwrap(), 1);
}

async fn idle_connection_follows_new_health_checks(kit: Kit) {
    let server = kit.server();
    let config = settings(&server.url()).health_check_interval(Duration::ZERO).build().unwrap();
    let client = kit.connect(config).await.unwrap();
    client.connection().get::<_, Option<i64>>("key").await.unwrap();
    let config =
        client.config().to_builder().health_check_interval(Duration::from_millis(20)).build().unwrap();
    let pings = calls(&server, "ping");
    assert_eq!(client.reconfigure(config).await.unwrap(), ["health_check_interval"]);
    kit.until("the connection is checked", || calls(&server, "ping") > pings + 3).await;
}

async fn moved_server_is_reached_by_new_address_map(kit: Kit) {
    let (old, new) = (Server::start().unwrap(), Server::start().unwrap());
    let config = settings(&old.url()).failover_wait(BOUND).build().unwrap();
    let client = kit.connect(config).await.unwrap();
    let map = [(old.address().to_string(), new.address().to_string())];
    let config = client.config().to_builder().address_map(map).build().unwrap();
    assert_eq!(client.reconfigure(config).await.unwrap(), ["address_map"]);
    old.kill().unwrap();
    client.connection().set::<_, _, ()>("key", "moved").await.unwrap();
    assert_eq!(new.query(&["GET", "key"]).unwrap().text().unwrap(), "moved");
}

async fn replicas_are_judged_by_new_limit(kit: Kit) {
    let topology = kit.topology();
    let client = kit.client_of_topology(&topology).await;
    client.replica_connection().get::<_, Option<i64>>("key").await.unwrap();
    let port = topology.replicas().unwrap()[1].port();
    let config = client.config().to_builder().preferred_replicas([format!("127.0.0.1:{port}")]);
    let changed = client.reconfigure(config.replica_fallback(false).build().unwrap()).await.unwrap();
    assert_eq!(changed, ["preferred_replicas", "replica_fallback"]);
    let preferred = topology.servers().iter().find(|server| server.port() == port).unwrap();
    let (mut replicas, before) = (client.replica_connection(), calls(preferred, "get"));
    for _ in 0..10 {
        replicas.get::<_, Option<i64>>("key").await.unwrap();
    }
    assert_eq!(calls(preferred, "get"), before + 10);
}

async fn fixed_settings_are_refused_by_name(kit: Kit) {
    let server = kit.server();
    let client = kit.client_of(&server).await;
    let config = client.config().to_builder().db(3).max_connections(7).retry_attempts(9).build().unwrap();
    let error = client.reconfigure(config).await.unwrap_err();
    assert!(error.is_config());
    let expected = "cannot change db, max_connections while the client runs; create another client, or leave them as \
                    they are";
    assert!(error.to_string().starts_with(expected), "{error}");
    assert_eq!(client.config().retry_attempts(), 3, "the old configuration is in use as a whole");
    assert!(client.reconfigure((*client.config()).clone()).await.unwrap().is_empty());
}

async fn unstarted_client_is_reconfigured(kit: Kit) {
    let server = Server::start().unwrap();
    add_user(&server, "app", "zulu-4711");
    let client = Client::new(settings(&server.url()).password("wrong").build().unwrap(), kit.runtime.clone());
    let config = settings(&server.url()).username("app").password("zulu-4711").build().unwrap();
    assert_eq!(client.reconfigure(config).await.unwrap(), ["username", "password"]);
    client.connection().set::<_, _, ()>("key", 1).await.unwrap();
}
