//! Tests encrypted connections to a server and to Sentinels, and problems with certificates.

use std::time::{Duration, Instant};

use ha_redis_core::{RedisConfigBuilder, RetryPolicy};
use redis::AsyncCommands;

use super::kit::{self, BOUND, Kit, config};
use crate::{Server, Topology};

tests![
    commands_run_over_tls,
    certificate_name_checked,
    host_name_checked_as_configured,
    client_certificate_sent,
    file_errors_fail_fast_and_can_be_fixed,
    large_values_and_pipelines_over_tls,
    hung_server_times_out_and_recovers,
    restart_delays_calls,
    plain_port_is_an_error,
    tls_port_without_ssl_is_an_error,
    self_signed_certificate_error_explains,
    failover_followed_over_tls,
    sentinel_tls_settings_are_separate,
    shared_file_error_reported_once,
];

/// Returns settings for a server with TLS.
fn settings(server: &Server) -> RedisConfigBuilder {
    config(&server.url()).to_builder()
}

async fn refusal(kit: &Kit, settings: RedisConfigBuilder) -> String {
    let error = kit.connect(settings.build().unwrap()).await.unwrap_err();
    error.to_string()
}

fn assert_contains(text: &str, expected: &[&str]) {
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

async fn certificate_name_checked(kit: Kit) {
    let server = Server::builder().tls_for(&["redis.internal"]).start().unwrap();
    let refused = refusal(&kit, settings(&server)).await;
    let address = server.address().to_string();
    assert_contains(&refused, &[&address, "configuration", "redis.internal", "`ssl_server_name`"]);
    let refused = refusal(&kit, settings(&server).ssl_server_name("other.internal")).await;
    assert_contains(&refused, &["other.internal", "redis.internal"]);
    let right = settings(&server).ssl_server_name("redis.internal").build().unwrap();
    kit.connect(right).await.unwrap().connection().set::<_, _, ()>("key", 1).await.unwrap();
}

async fn host_name_checked_as_configured(kit: Kit) {
    let server = Server::builder().tls_for(&["localhost"]).start().unwrap();
    let by_name = settings(&server).host("localhost").build().unwrap();
    kit.connect(by_name).await.unwrap().connection().set::<_, _, ()>("key", 1).await.unwrap();
    assert_contains(
        &refusal(&kit, settings(&server)).await,
        &["127.0.0.1", "localhost", "`ssl_server_name`"],
    );
}

async fn client_certificate_sent(kit: Kit) {
    let server = Server::builder().mutual_tls().start().unwrap();
    let refused = refusal(&kit, settings(&server)).await;
    assert_contains(&refused, &[&server.address().to_string(), "`ssl_certfile`", "`ssl_keyfile`"]);

    let other_authority = Server::builder().mutual_tls().start().unwrap();
    let foreign = settings(&server)
        .ssl_certfile(other_authority.client_certificate())
        .ssl_keyfile(other_authority.client_key());
    assert_contains(&refusal(&kit, foreign).await, &["TLS", "alert", "`ssl_certfile`"]);

    let own = settings(&server).ssl_certfile(server.client_certificate()).ssl_keyfile(server.client_key());
    let client = kit.connect(own.build().unwrap()).await.unwrap();
    client.connection().set::<_, _, ()>("key", 1).await.unwrap();
}

async fn file_errors_fail_fast_and_can_be_fixed(kit: Kit) {
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
    assert_contains(&text, &["`ssl_ca_certs`", "`ssl_certfile`", "`ssl_keyfile`", "late.crt", "client.key"]);
    assert_eq!(text.lines().count(), 3, "{text}");
    let error = client.connection().get::<_, Option<i64>>("key").await.unwrap_err();
    assert!(error.to_string().contains("late.crt"), "{error}");

    let client = kit.client(settings(&server).ssl_ca_certs(&late).build().unwrap());
    client.initialize().await.unwrap_err();
    std::fs::copy(server.ca_file(), &late).unwrap();
    client.connection().set::<_, _, ()>("key", 1).await.unwrap();

    let other = Server::builder().tls().start().unwrap();
    let mixed = settings(&server).ssl_certfile(server.client_certificate()).ssl_keyfile(other.client_key());
    assert_contains(&refusal(&kit, mixed).await, &["`ssl_keyfile`", "the key of the certificate"]);
}

async fn large_values_and_pipelines_over_tls(kit: Kit) {
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

async fn hung_server_times_out_and_recovers(kit: Kit) {
    let server = Server::builder().tls().start().unwrap();
    let long_wait = settings(&server)
        .socket_timeout(Duration::from_millis(300))
        .socket_connect_timeout(Duration::from_millis(300))
        .retry_attempts(0)
        .failover_wait(Duration::from_millis(300));
    let client = kit.connect(long_wait.clone().build().unwrap()).await.unwrap();
    let mut redis = client.connection();
    server.hang().unwrap();
    let start = Instant::now();
    assert!(redis.get::<_, Option<i64>>("key").await.unwrap_err().is_timeout());
    // The value is larger than the system's buffers, so the write blocks as well.
    let large = vec![0_u8; 32 << 20];
    redis.set::<_, _, ()>("key", large).await.unwrap_err();
    let refused = kit.connect(long_wait.build().unwrap()).await.unwrap_err();
    assert!(refused.is_timeout(), "{refused}");
    assert_contains(&refused.to_string(), &["no answer", "`ssl`"]);
    assert!(start.elapsed() < BOUND);
    server.resume().unwrap();
    let again = || async { client.connection().set::<_, _, ()>("key", 1).await };
    ha_redis_core::retry(&*kit.runtime, RetryPolicy::new().max_retries(100), again).await.unwrap();
}

async fn restart_delays_calls(kit: Kit) {
    let server = Server::builder().tls().start().unwrap();
    let client = kit.client_of(&server).await;
    let mut redis = client.connection();
    for round in 0..3 {
        redis.set::<_, _, ()>("key", round).await.unwrap();
        server.restart().unwrap();
    }
    redis.set::<_, _, ()>("key", 3).await.unwrap();
}

async fn plain_port_is_an_error(kit: Kit) {
    let server = Server::start().unwrap();
    let plain = kit::settings(&format!("redis://{}", server.address()))
        .ssl(true)
        .socket_connect_timeout(Duration::from_millis(500));
    let address = server.address().to_string();
    assert_contains(&refusal(&kit, plain).await, &[&address, "configuration", "TLS", "`ssl`"]);
}

async fn tls_port_without_ssl_is_an_error(kit: Kit) {
    let server = Server::builder().tls().start().unwrap();
    let error = kit
        .connect(kit::settings(&format!("redis://{}", server.address())).build().unwrap())
        .await
        .unwrap_err();
    assert!(error.is_config(), "{error}");
    assert_contains(
        &error.to_string(),
        &[&server.address().to_string(), "configuration", "TLS", "`ssl`", "rediss://"],
    );

    let topology = Topology::builder().tls().start().unwrap();
    let own = config(&topology.url()).to_builder().sentinel_ssl(false);
    assert_contains(&refusal(&kit, own).await, &["TLS", "`sentinel_ssl`"]);
}

async fn self_signed_certificate_error_explains(kit: Kit) {
    let server = Server::builder().self_signed_tls().unwrap().start().unwrap();
    let refused = refusal(&kit, settings(&server)).await;
    assert_contains(&refused, &[&server.address().to_string(), "configuration", "authority", "CA:FALSE"]);
    assert!(!refused.contains("OtherError"), "{refused}");
}

async fn failover_followed_over_tls(kit: Kit) {
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

async fn sentinel_tls_settings_are_separate(kit: Kit) {
    let topology = Topology::builder().tls().start().unwrap();
    let other = Server::builder().tls().start().unwrap();
    let settings = || config(&topology.url()).to_builder();
    let mine = &topology.servers()[0];
    let own = settings().ssl_ca_certs(other.ca_file()).sentinel_ssl_ca_certs(mine.ca_file());
    let wrong_for_the_master = refusal(&kit, own.failover_wait(Duration::from_secs(1))).await;
    assert_contains(&wrong_for_the_master, &["`ssl_ca_certs`", "which the Sentinels name"]);
    let wrong_for_the_sentinels = refusal(&kit, settings().sentinel_ssl_ca_certs(other.ca_file())).await;
    assert_contains(&wrong_for_the_sentinels, &["`sentinel_ssl_ca_certs`"]);
    let right = settings().ssl_ca_certs(mine.ca_file()).sentinel_ssl_server_name("localhost");
    let client = kit.connect(right.build().unwrap()).await.unwrap();
    client.connection().set::<_, _, ()>("key", 1).await.unwrap();
}

async fn shared_file_error_reported_once(kit: Kit) {
    let url = "rediss+sentinel://127.0.0.1:1/mymaster?ssl_ca_certs=/nowhere/ca.crt";
    let error = kit.connect(config(url)).await.unwrap_err();
    assert_eq!(error.to_string().matches("/nowhere/ca.crt").count(), 1, "{error}");
}
