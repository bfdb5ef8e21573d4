//! Encrypted connections on smol.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
#![cfg(feature = "tls")]

use std::time::Duration;

use ha_redis_smol::redis::AsyncCommands;
use ha_redis_smol::{RedisClient, RedisConfig};
use ha_redis_testkit::Server;

fn config(url: &str) -> RedisConfig {
    url.parse().unwrap()
}

#[test]
fn large_values_pass() {
    let server = Server::builder().tls().start().unwrap();
    smol::block_on(async {
        let client = RedisClient::connect(config(&server.url())).await.unwrap();
        let mut redis = client.connection();
        let value: Vec<u8> = (0..1 << 20).map(|at: u32| at as u8).collect();
        redis.set::<_, _, ()>("key", &value).await.unwrap();
        assert!(redis.get::<_, Vec<u8>>("key").await.unwrap() == value);
        assert!(client.close().await.is_clean());
    });
}

#[test]
fn a_client_has_a_certificate() {
    let server = Server::builder().mutual_tls().start().unwrap();
    smol::block_on(async {
        let refused = RedisClient::connect(config(&server.url())).await.unwrap_err().to_string();
        assert!(refused.contains("`ssl_certfile`"), "{refused}");
        let certified = config(&server.url())
            .to_builder()
            .ssl_certfile(server.client_certificate())
            .ssl_keyfile(server.client_key());
        let client = RedisClient::connect(certified.build().unwrap()).await.unwrap();
        client.connection().set::<_, _, ()>("key", 1).await.unwrap();
    });
}

#[test]
fn an_unknown_authority_is_refused() {
    let server = Server::builder().tls().start().unwrap();
    let other = Server::builder().tls().start().unwrap();
    let wrong = config(&server.url()).to_builder().ssl_ca_certs(other.ca_file()).build().unwrap();
    let refused = smol::block_on(RedisClient::connect(wrong)).unwrap_err().to_string();
    assert!(refused.contains("`ssl_ca_certs`"), "{refused}");
}

#[cfg(feature = "sentinel")]
#[test]
fn a_failover_is_followed() {
    let topology = ha_redis_testkit::Topology::builder().tls().start().unwrap();
    smol::block_on(async {
        // On a busy machine the Sentinels may need a second attempt.
        let patient = config(&topology.url()).to_builder().failover_wait(Duration::from_secs(30));
        let client = RedisClient::connect(patient.build().unwrap()).await.unwrap();
        let mut redis = client.connection();
        redis.set::<_, _, ()>("key", 1).await.unwrap();
        let old = topology.kill_master().unwrap();
        redis.set::<_, _, ()>("key", 2).await.unwrap();
        let new = topology.wait_for_new_master(old).unwrap();
        assert_eq!(new.query(&["GET", "key"]).unwrap().text(), Some("2"));
    });
}
