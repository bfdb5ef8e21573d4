//! What needs a cargo feature that is off says which.

#![cfg(not(feature = "tls"))]

#[tokio::test]
async fn a_configuration_that_needs_tls_is_refused_and_not_sent_in_the_clear() {
    let config = "rediss://127.0.0.1:1".parse().expect("a URL");
    let error = ha_redis_tokio::RedisClient::connect(config).await.expect_err("refused");
    let text = error.to_string();
    assert!(
        error.is_config() && text.contains("ssl = true") && text.contains("cargo feature `tls`"),
        "{text}"
    );
}
