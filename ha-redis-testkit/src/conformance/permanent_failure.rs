//! What will not pass until somebody changes a setting is told to every call at once, also where nobody has waited for a
//! connection before.

use std::time::Duration;

use ha_redis_core::{Error, Outcome, Protocol, RedisConfig, RedisErrorExt};
use redis::AsyncCommands;

use super::kit::{Kit, config, settings};
use crate::{Answer, ScriptedServer, Server, Topology};

tests![
    a_wrong_password_is_told_at_once,
    a_password_that_is_not_set_is_told_at_once,
    a_database_that_there_is_not_is_told_at_once,
    a_missing_permission_is_told_at_once,
    a_protocol_that_is_refused_is_told_at_once,
    a_sentinel_in_place_of_a_server_is_told_at_once,
    trouble_with_tls_is_told_at_once,
    sentinels_that_refuse_the_password_are_told_of_at_once,
];

/// What every kind of call is told, although each might wait for ten minutes.
async fn told(kit: &Kit, config: RedisConfig) -> Error {
    let long = config.to_builder().failover_wait(Duration::from_secs(600)).build().unwrap();
    let ours = |error: redis::RedisError| {
        assert_eq!(error.outcome(), Outcome::NotSent, "{error}");
        error.client_error().unwrap().clone()
    };
    let mut errors = Vec::new();
    // Each of a client of its own, which has not connected before.
    let call = kit.client(long.clone());
    let call = async { call.connection().get::<_, Option<String>>("key").await.unwrap_err() };
    errors.push(ours(kit.within("a call is told", call).await));
    let blocking = kit.client(long.clone());
    let blocking = async { blocking.connection().blpop::<_, Option<String>>("list", 0.0).await.unwrap_err() };
    errors.push(ours(kit.within("a blocking call is told", blocking).await));
    let dedicated = kit.client(long.clone());
    errors.push(kit.within("dedicated() is told", dedicated.dedicated()).await.unwrap_err());
    let subscriber = kit.client(long.clone());
    errors.push(kit.within("pubsub() is told", subscriber.pubsub()).await.unwrap_err());
    for fallback in [true, false] {
        let reader = kit.client(long.to_builder().replica_fallback(fallback).build().unwrap());
        let read = async { reader.replica_connection().get::<_, Option<String>>("key").await.unwrap_err() };
        errors.push(ours(kit.within("a read from a replica is told", read).await));
    }
    let health = kit.client(long);
    errors.extend(kit.within("a health check is told", health.health_check()).await.error);
    assert_eq!(errors.len(), 7);
    let first = errors.swap_remove(0);
    for other in &errors {
        let same = [other.is_authentication(), other.is_permission_denied(), other.is_config()];
        assert_eq!(
            same,
            [first.is_authentication(), first.is_permission_denied(), first.is_config()],
            "{first}\n{other}"
        );
    }
    first
}

fn holds(error: &Error, expected: &[&str]) {
    let text = error.to_string();
    expected.iter().for_each(|expected| assert!(text.contains(expected), "{expected} in: {text}"));
}

async fn a_wrong_password_is_told_at_once(kit: Kit) {
    let server = Server::builder().password("right").start().unwrap();
    let error = told(&kit, settings(server.port()).password("wrong").build().unwrap()).await;
    assert!(error.is_authentication(), "{error}");
    holds(&error, &["refused the user name or password"]);
}

async fn a_password_that_is_not_set_is_told_at_once(kit: Kit) {
    let server = Server::builder().password("right").start().unwrap();
    for protocol in [Protocol::Auto, Protocol::Resp2] {
        let error = told(&kit, settings(server.port()).protocol(protocol).build().unwrap()).await;
        assert!(error.is_authentication(), "{error}");
        holds(&error, &["none is set", "`password`", "NOAUTH"]);
    }
}

async fn a_database_that_there_is_not_is_told_at_once(kit: Kit) {
    let server = Server::start().unwrap();
    let error = told(&kit, settings(server.port()).db(99).build().unwrap()).await;
    assert!(error.is_config(), "{error}");
    holds(&error, &["`db` = 99", "out of range"]);
    let cluster = Server::builder().config("cluster-enabled yes").start().unwrap();
    let error = told(&kit, settings(cluster.port()).db(1).build().unwrap()).await;
    holds(&error, &["`db` = 1", "cluster"]);
}

async fn a_missing_permission_is_told_at_once(kit: Kit) {
    let server = Server::builder().user("app", "on >pw ~* &* +@all -select").start().unwrap();
    let app = settings(server.port()).username("app").password("pw").db(1);
    let error = told(&kit, app.build().unwrap()).await;
    assert!(error.is_permission_denied(), "{error}");
}

async fn a_protocol_that_is_refused_is_told_at_once(kit: Kit) {
    let old = ScriptedServer::start_bare(|_, _| Answer::from("-ERR unknown command\r\n")).unwrap();
    let error = told(&kit, settings(old.port()).protocol(Protocol::Resp3).build().unwrap()).await;
    assert!(error.is_config(), "{error}");
    holds(&error, &["`protocol`", "resp3"]);
}

async fn a_sentinel_in_place_of_a_server_is_told_at_once(kit: Kit) {
    let topology = Topology::builder().replicas(0).sentinels(1).quorum(1).start().unwrap();
    let sentinel = topology.sentinel_addresses()[0];
    let error = told(&kit, settings(sentinel.port()).build().unwrap()).await;
    assert!(error.is_config(), "{error}");
    holds(&error, &["Sentinel", "redis+sentinel://"]);
}

async fn trouble_with_tls_is_told_at_once(kit: Kit) {
    let server = Server::builder().tls().start().unwrap();
    let other = Server::builder().tls().start().unwrap();
    let foreign = config(&server.url()).to_builder().ssl_ca_certs(other.ca_file()).build().unwrap();
    holds(&told(&kit, foreign).await, &["`ssl_ca_certs`"]);
    let error = told(&kit, settings(server.port()).build().unwrap()).await;
    assert!(error.is_config(), "{error}");
    holds(&error, &["`ssl`"]);
    let asking = Server::builder().mutual_tls().start().unwrap();
    holds(&told(&kit, config(&asking.url())).await, &["`ssl_certfile`"]);
}

async fn sentinels_that_refuse_the_password_are_told_of_at_once(kit: Kit) {
    let topology = Topology::builder().sentinel_password("watch").start().unwrap();
    let wrong = config(&topology.url()).to_builder().sentinel_password("wrong").build().unwrap();
    let error = told(&kit, wrong).await;
    assert!(error.is_authentication(), "{error}");
    holds(&error, &["refused the user name or password"]);
}
