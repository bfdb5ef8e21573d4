//! Tests errors that last until somebody changes a setting. Every call fails with them at once, also on a client
//! that has never connected.

use std::time::Duration;

use ha_redis_core::{Error, Outcome, Protocol, RedisConfig, RedisErrorExt};
use redis::AsyncCommands;

use super::kit::{Kit, config, settings};
use crate::{Answer, ScriptedServer, Server, Topology};

tests![
    wrong_password_fails_fast,
    missing_server_password_fails_fast,
    invalid_database_fails_fast,
    missing_permission_fails_fast,
    refused_protocol_fails_fast,
    sentinel_instead_of_server_fails_fast,
    tls_error_fails_fast,
    sentinel_password_refusal_fails_fast,
];

/// Returns the errors of every kind of call. Each call would be allowed to wait for ten minutes.
async fn errors_of_all_calls(kit: &Kit, config: RedisConfig) -> Error {
    let long = config.to_builder().failover_wait(Duration::from_secs(600)).build().unwrap();
    let ours = |error: redis::RedisError| {
        assert_eq!(error.outcome(), Outcome::NotSent, "{error}");
        error.client_error().unwrap().clone()
    };
    let mut errors = Vec::new();
    // Each call uses a client of its own that has not connected before.
    let call = kit.client(long.clone());
    let call = async { call.connection().get::<_, Option<String>>("key").await.unwrap_err() };
    errors.push(ours(kit.within("a call fails", call).await));
    let blocking = kit.client(long.clone());
    let blocking = async { blocking.connection().blpop::<_, Option<String>>("list", 0.0).await.unwrap_err() };
    errors.push(ours(kit.within("a blocking call fails", blocking).await));
    let dedicated = kit.client(long.clone());
    errors.push(kit.within("dedicated() fails", dedicated.dedicated()).await.unwrap_err());
    let subscriber = kit.client(long.clone());
    errors.push(kit.within("pubsub() fails", subscriber.pubsub()).await.unwrap_err());
    for fallback in [true, false] {
        let reader = kit.client(long.to_builder().replica_fallback(fallback).build().unwrap());
        let read = async { reader.replica_connection().get::<_, Option<String>>("key").await.unwrap_err() };
        errors.push(ours(kit.within("a read from a replica fails", read).await));
    }
    let health = kit.client(long);
    errors.extend(kit.within("a health check fails", health.health_check()).await.error);
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

fn all_contain(error: &Error, expected: &[&str]) {
    let text = error.to_string();
    expected.iter().for_each(|expected| assert!(text.contains(expected), "{expected} in: {text}"));
}

async fn wrong_password_fails_fast(kit: Kit) {
    let server = Server::builder().password("right").start().unwrap();
    let error = errors_of_all_calls(&kit, settings(&server.url()).password("wrong").build().unwrap()).await;
    assert!(error.is_authentication(), "{error}");
    all_contain(&error, &["refused the user name or password"]);
}

async fn missing_server_password_fails_fast(kit: Kit) {
    let server = Server::builder().password("right").start().unwrap();
    let url = format!("redis://{}", server.address());
    for protocol in [Protocol::Auto, Protocol::Resp2] {
        let error = errors_of_all_calls(&kit, settings(&url).protocol(protocol).build().unwrap()).await;
        assert!(error.is_authentication(), "{error}");
        all_contain(&error, &["requires a password", "`password`", "NOAUTH"]);
    }
}

async fn invalid_database_fails_fast(kit: Kit) {
    let server = Server::start().unwrap();
    let error = errors_of_all_calls(&kit, settings(&server.url()).db(99).build().unwrap()).await;
    assert!(error.is_config(), "{error}");
    all_contain(&error, &["`db` = 99", "out of range"]);
    let cluster = Server::builder().config("cluster-enabled yes").start().unwrap();
    let error = errors_of_all_calls(&kit, settings(&cluster.url()).db(1).build().unwrap()).await;
    all_contain(&error, &["`db` = 1", "cluster"]);
}

async fn missing_permission_fails_fast(kit: Kit) {
    let server = Server::builder().user("app", "on >pw ~* &* +@all -select").start().unwrap();
    let app = settings(&server.url()).username("app").password("pw").db(1);
    let error = errors_of_all_calls(&kit, app.build().unwrap()).await;
    assert!(error.is_permission_denied(), "{error}");
}

async fn refused_protocol_fails_fast(kit: Kit) {
    let old = ScriptedServer::start_bare(|_, _| Answer::from("-ERR unknown command\r\n")).unwrap();
    let error =
        errors_of_all_calls(&kit, settings(&old.url()).protocol(Protocol::Resp3).build().unwrap()).await;
    assert!(error.is_config(), "{error}");
    all_contain(&error, &["`protocol`", "resp3"]);
}

async fn sentinel_instead_of_server_fails_fast(kit: Kit) {
    let topology = Topology::builder().replicas(0).sentinels(1).quorum(1).start().unwrap();
    let sentinel = &topology.sentinels()[0];
    let error = errors_of_all_calls(&kit, settings(&sentinel.url()).build().unwrap()).await;
    assert!(error.is_config(), "{error}");
    all_contain(&error, &["Sentinel", "redis+sentinel://"]);
}

async fn tls_error_fails_fast(kit: Kit) {
    let server = Server::builder().tls().start().unwrap();
    let other = Server::builder().tls().start().unwrap();
    let foreign = settings(&server.url()).ssl_ca_certs(other.ca_file()).build().unwrap();
    all_contain(&errors_of_all_calls(&kit, foreign).await, &["`ssl_ca_certs`"]);
    let plain = config(&format!("redis://{}", server.address()));
    let error = errors_of_all_calls(&kit, plain).await;
    assert!(error.is_config(), "{error}");
    all_contain(&error, &["`ssl`"]);
    let mutual_tls = Server::builder().mutual_tls().start().unwrap();
    all_contain(&errors_of_all_calls(&kit, config(&mutual_tls.url())).await, &["`ssl_certfile`"]);
}

async fn sentinel_password_refusal_fails_fast(kit: Kit) {
    let topology = Topology::builder().sentinel_password("watch").start().unwrap();
    let wrong = settings(&topology.url()).sentinel_password("wrong").build().unwrap();
    let error = errors_of_all_calls(&kit, wrong).await;
    assert!(error.is_authentication(), "{error}");
    all_contain(&error, &["refused the user name or password"]);
}
