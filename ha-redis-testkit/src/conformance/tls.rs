//! Encrypted connections: to a server, to Sentinels, and what goes wrong with certificates.

use std::time::{Duration, Instant};

use ha_redis_core::{RedisConfigBuilder, RetryPolicy};
use redis::AsyncCommands;

use super::kit::{self, BOUND, Kit, config};
use crate::{Server, Topology};

tests![
    commands_run_over_tls,
    a_name_of_the_certificate_is_needed,
    a_host_name_is_checked_as_it_was_given,
    an_unknown_authority_is_refused,
    a_client_has_the_certificate_that_the_server_asks_for,
    everything_wrong_with_the_files_is_told_at_once_and_may_be_mended,
    large_values_and_pipelines_pass,
    a_hung_server_is_given_up_in_time_and_used_again,
    a_server_that_restarts_is_a_slow_call,
    a_port_without_tls_is_told_of,
    a_port_with_tls_is_told_of,
    a_certificate_that_the_server_has_made_itself_is_told_of_in_words,
    a_failover_is_followed_over_tls,
    sentinels_have_settings_of_their_own,
    files_in_common_are_complained_of_once,
];

/// Settings for a server with TLS, to add to.
fn settings(server: &Server) -> RedisConfigBuilder {
    config(&server.url()).to_builder()
}

async fn refusal(kit: &Kit, settings: RedisConfigBuilder) -> String {
    let error = kit.connect(settings.build().unwrap()).await.unwrap_err();
    error.to_string()
}

fn holds(text: &str, expected: &[&str]) {
    expected.iter().for_each(|expected| assert!(text.contains(expected), "{expected} in: {text}"));
}

async fn commands_run_over_tls(kit: Kit) {
    let server = Server::builder().tls().password("pw").start().unwrap();
    let client = kit.client_of(&server).await;
    let mut redis = client.connection();
    redis.set::<_, _, ()>("key", "value").await.unwrap();
    assert_eq!(redis.get::<_, String>("key").await.unwrap(), "value");
    assert_eq!(server.query(&["GET", "key"]).unwrap().text(), Some("value"));
    let mut own = client.dedicated().await.unwrap();
    assert_eq!(own.get::<_, String>("key").await.unwrap(), "value");
    assert!(client.close().await.is_clean());
}

async fn a_name_of_the_certificate_is_needed(kit: Kit) {
    let server = Server::builder().tls_for(&["redis.internal"]).start().unwrap();
    let refused = refusal(&kit, settings(&server)).await;
    let address = server.address().to_string();
    holds(&refused, &[&address, "configuration", "redis.internal", "`ssl_server_name`"]);
    let refused = refusal(&kit, settings(&server).ssl_server_name("other.internal")).await;
    holds(&refused, &["other.internal", "redis.internal"]);
    let right = settings(&server).ssl_server_name("redis.internal").build().unwrap();
    kit.connect(right).await.unwrap().connection().set::<_, _, ()>("key", 1).await.unwrap();
}

async fn a_host_name_is_checked_as_it_was_given(kit: Kit) {
    let server = Server::builder().tls_for(&["localhost"]).start().unwrap();
    let by_name = settings(&server).host("localhost").build().unwrap();
    kit.connect(by_name).await.unwrap().connection().set::<_, _, ()>("key", 1).await.unwrap();
    holds(&refusal(&kit, settings(&server)).await, &["127.0.0.1", "localhost", "`ssl_server_name`"]);
}

async fn an_unknown_authority_is_refused(kit: Kit) {
    let server = Server::builder().tls().start().unwrap();
    let other = Server::builder().tls().start().unwrap();
    let refused = refusal(&kit, settings(&server).ssl_ca_certs(other.ca_file())).await;
    holds(&refused, &[&server.address().to_string(), "configuration", "issue", "`ssl_ca_certs`"]);
}

async fn a_client_has_the_certificate_that_the_server_asks_for(kit: Kit) {
    let server = Server::builder().mutual_tls().start().unwrap();
    let refused = refusal(&kit, settings(&server)).await;
    holds(&refused, &[&server.address().to_string(), "`ssl_certfile`", "`ssl_keyfile`"]);

    let stranger = Server::builder().mutual_tls().start().unwrap();
    let foreign =
        settings(&server).ssl_certfile(stranger.client_certificate()).ssl_keyfile(stranger.client_key());
    holds(&refusal(&kit, foreign).await, &["TLS", "alert", "`ssl_certfile`"]);

    let own = settings(&server).ssl_certfile(server.client_certificate()).ssl_keyfile(server.client_key());
    let client = kit.connect(own.build().unwrap()).await.unwrap();
    client.connection().set::<_, _, ()>("key", 1).await.unwrap();
}

async fn everything_wrong_with_the_files_is_told_at_once_and_may_be_mended(kit: Kit) {
    let server = Server::builder().tls().start().unwrap();
    let late = server.folder().join("late.crt");
    let wrong = settings(&server)
        .ssl_ca_certs(&late)
        .ssl_certfile(server.client_key())
        .ssl_keyfile(server.client_certificate());
    let client = kit.client(wrong.build().unwrap());
    let error = client.initialize().await.unwrap_err();
    assert!(error.is_config(), "{error}");
    let text = error.to_string();
    holds(&text, &["`ssl_ca_certs`", "`ssl_certfile`", "`ssl_keyfile`", "late.crt", "client.key"]);
    assert_eq!(text.lines().count(), 3, "{text}");
    let error = client.connection().get::<_, Option<i64>>("key").await.unwrap_err();
    assert!(error.to_string().contains("late.crt"), "{error}");

    let client = kit.client(settings(&server).ssl_ca_certs(&late).build().unwrap());
    client.initialize().await.unwrap_err();
    std::fs::copy(server.ca_file(), &late).unwrap();
    client.connection().set::<_, _, ()>("key", 1).await.unwrap();

    let other = Server::builder().tls().start().unwrap();
    let mixed = settings(&server).ssl_certfile(server.client_certificate()).ssl_keyfile(other.client_key());
    holds(&refusal(&kit, mixed).await, &["`ssl_keyfile`", "the key of the certificate"]);
}

async fn large_values_and_pipelines_pass(kit: Kit) {
    let server = Server::builder().tls().start().unwrap();
    let client = kit.client_of(&server).await;
    let values = (0..4_u8).map(|seed| (0..1 << 20).map(|at: u32| (at as u8) ^ seed).collect::<Vec<u8>>());
    let tasks = values.enumerate().map(|(at, value)| {
        let mut redis = client.connection();
        kit.spawn(async move {
            let key = format!("large:{at}");
            redis.set::<_, _, ()>(&key, &value).await.unwrap();
            assert!(redis.get::<_, Vec<u8>>(&key).await.unwrap() == value);
        })
    });
    kit.all(tasks).await;
    let mut pipeline = redis::pipe();
    (0..1000).for_each(|n| {
        pipeline.set(n, vec![b'x'; 1000]).ignore().get(n);
    });
    let read: Vec<Vec<u8>> = pipeline.query_async(&mut client.connection()).await.unwrap();
    assert!(read.len() == 1000 && read.iter().all(|value| value.len() == 1000));
}

async fn a_hung_server_is_given_up_in_time_and_used_again(kit: Kit) {
    let server = Server::builder().tls().start().unwrap();
    let patient = settings(&server)
        .socket_timeout(Duration::from_millis(300))
        .socket_connect_timeout(Duration::from_millis(300))
        .retry_attempts(0)
        .failover_wait(Duration::from_millis(300));
    let client = kit.connect(patient.clone().build().unwrap()).await.unwrap();
    let mut redis = client.connection();
    server.hang().unwrap();
    let asked = Instant::now();
    assert!(redis.get::<_, Option<i64>>("key").await.unwrap_err().is_timeout());
    // More than the system's buffers take: the write is stuck as well.
    let large = vec![0_u8; 32 << 20];
    redis.set::<_, _, ()>("key", large).await.unwrap_err();
    let refused = kit.connect(patient.build().unwrap()).await.unwrap_err();
    assert!(refused.is_timeout(), "{refused}");
    holds(&refused.to_string(), &["no answer", "`ssl`"]);
    assert!(asked.elapsed() < BOUND);
    server.resume().unwrap();
    let again = || async { client.connection().set::<_, _, ()>("key", 1).await };
    ha_redis_core::retry(&*kit.runtime, RetryPolicy::new().max_retries(100), again).await.unwrap();
}

async fn a_server_that_restarts_is_a_slow_call(kit: Kit) {
    let server = Server::builder().tls().start().unwrap();
    let client = kit.client_of(&server).await;
    let mut redis = client.connection();
    for round in 0..3 {
        redis.set::<_, _, ()>("key", round).await.unwrap();
        server.restart().unwrap();
    }
    redis.set::<_, _, ()>("key", 3).await.unwrap();
}

async fn a_port_without_tls_is_told_of(kit: Kit) {
    let server = Server::start().unwrap();
    let plain = kit::settings(server.port()).ssl(true).socket_connect_timeout(Duration::from_millis(500));
    let address = server.address().to_string();
    holds(&refusal(&kit, plain).await, &[&address, "configuration", "TLS", "`ssl`"]);
}

async fn a_port_with_tls_is_told_of(kit: Kit) {
    let server = Server::builder().tls().start().unwrap();
    let error = kit.connect(kit::settings(server.port()).build().unwrap()).await.unwrap_err();
    assert!(error.is_config(), "{error}");
    holds(&error.to_string(), &[&server.address().to_string(), "configuration", "TLS", "`ssl`", "rediss://"]);

    let topology = Topology::builder().tls().start().unwrap();
    let own = config(&topology.url()).to_builder().sentinel_ssl(false);
    holds(&refusal(&kit, own).await, &["TLS", "`sentinel_ssl`"]);
}

async fn a_certificate_that_the_server_has_made_itself_is_told_of_in_words(kit: Kit) {
    let server = Server::builder().self_signed_tls().unwrap().start().unwrap();
    let refused = refusal(&kit, settings(&server)).await;
    holds(&refused, &[&server.address().to_string(), "configuration", "authority", "CA:FALSE"]);
    assert!(!refused.contains("OtherError"), "{refused}");
}

async fn a_failover_is_followed_over_tls(kit: Kit) {
    let topology = Topology::builder().tls().password("pw").sentinel_password("watch").start().unwrap();
    let client = kit.client_of_topology(&topology).await;
    let mut redis = client.connection();
    redis.set::<_, _, ()>("key", 1).await.unwrap();
    let described = client.topology().await.unwrap();
    assert!(described.is_healthy(), "{described}");
    let old = topology.kill_master().unwrap();
    redis.set::<_, _, ()>("key", 2).await.unwrap();
    let new = topology.wait_for_new_master(old).unwrap();
    assert_eq!(new.query(&["GET", "key"]).unwrap().text(), Some("2"));
}

async fn sentinels_have_settings_of_their_own(kit: Kit) {
    let topology = Topology::builder().tls().start().unwrap();
    let other = Server::builder().tls().start().unwrap();
    let settings = || config(&topology.url()).to_builder();
    let mine = &topology.servers()[0];
    let own = settings().ssl_ca_certs(other.ca_file()).sentinel_ssl_ca_certs(mine.ca_file());
    let wrong_for_the_master = refusal(&kit, own.failover_wait(Duration::from_secs(1))).await;
    holds(&wrong_for_the_master, &["`ssl_ca_certs`", "which the Sentinels name"]);
    let wrong_for_the_sentinels = refusal(&kit, settings().sentinel_ssl_ca_certs(other.ca_file())).await;
    holds(&wrong_for_the_sentinels, &["`sentinel_ssl_ca_certs`"]);
    let right = settings().ssl_ca_certs(mine.ca_file()).sentinel_ssl_server_name("localhost");
    let client = kit.connect(right.build().unwrap()).await.unwrap();
    client.connection().set::<_, _, ()>("key", 1).await.unwrap();
}

async fn files_in_common_are_complained_of_once(kit: Kit) {
    let url = "rediss+sentinel://127.0.0.1:1/mymaster?ssl_ca_certs=/nowhere/ca.crt";
    let error = kit.connect(config(url)).await.unwrap_err();
    assert_eq!(error.to_string().matches("/nowhere/ca.crt").count(), 1, "{error}");
}
