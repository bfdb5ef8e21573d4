//! Tests servers with broken TLS: each is refused at once, with an error that names the fix.

use std::time::{Duration, Instant};

use redis::AsyncCommands;

use super::kit::{Kit, config, peak_memory};
use crate::Server;
use crate::certificates::{Certificates, LOCAL};

tests![
    expired_certificate_refused,
    certificate_expiry_checked_on_reconnect,
    long_certificate_chain_accepted,
    endless_certificate_chain_refused,
    certificate_names_escaped_and_truncated,
    old_tls_version_refused,
    current_tls_versions_accepted,
];

fn names() -> Vec<String> {
    LOCAL.map(str::to_owned).to_vec()
}

/// Returns the error for this server. The call fails at once, although its failover wait is long.
async fn refusal(kit: &Kit, server: &Server) -> String {
    let long_connect = config(&server.url()).to_builder().socket_connect_timeout(Duration::from_secs(20));
    let client = kit.client(long_connect.failover_wait(Duration::from_secs(600)).build().unwrap());
    let start = Instant::now();
    let error = client.connection().get::<_, Option<i64>>("key").await.unwrap_err();
    assert!(start.elapsed() < Duration::from_secs(15), "{error}");
    error.to_string()
}

fn assert_contains(text: &str, expected: &[&str]) {
    expected.iter().for_each(|expected| assert!(text.contains(expected), "{expected} in: {text}"));
}

async fn expired_certificate_refused(kit: Kit) {
    let server = Server::builder().tls_with(&Certificates::expired(&names()).unwrap()).start().unwrap();
    assert_contains(&refusal(&kit, &server).await, &[&server.address().to_string(), "expired", "renew it"]);
}

async fn certificate_expiry_checked_on_reconnect(kit: Kit) {
    let valid = Certificates::of_server(&names()).unwrap();
    let server = Server::builder().tls_with(&valid).start().unwrap();
    let settings = config(&server.url()).to_builder().failover_wait(Duration::from_millis(500));
    let client = kit.connect(settings.build().unwrap()).await.unwrap();
    let mut redis = client.connection();
    redis.set::<_, _, ()>("key", 1).await.unwrap();
    Certificates::expired(&names()).unwrap().write(server.folder()).unwrap();
    server.restart().unwrap();
    // The first call may still use the previous connection.
    let refused = kit.error_that(&client, |text| text.contains("TLS")).await;
    assert!(refused.contains("certificate"), "{refused}");
    valid.write(server.folder()).unwrap();
    server.restart().unwrap();
    kit.until_master(&client, &server).await;
    redis.set::<_, _, ()>("key", 2).await.unwrap();
}

async fn long_certificate_chain_accepted(kit: Kit) {
    let long = Certificates::of_server(&names()).unwrap().with_chain(20);
    let server = Server::builder().tls_with(&long).start().unwrap();
    kit.client_of(&server).await.connection().set::<_, _, ()>("key", 1).await.unwrap();
}

async fn endless_certificate_chain_refused(kit: Kit) {
    for length in [300, 3000] {
        let endless = Certificates::of_server(&names()).unwrap().with_chain(length);
        let server = Server::builder().tls_with(&endless).start().unwrap();
        let before = peak_memory();
        assert_contains(&refusal(&kit, &server).await, &[&server.address().to_string(), "TLS", "chain"]);
        assert!(peak_memory().saturating_sub(before) < 16 << 20);
    }
}

async fn certificate_names_escaped_and_truncated(kit: Kit) {
    let many: Vec<_> = (0..500).map(|number| format!("{}.{number}.example", "x".repeat(60))).collect();
    let odd = "a\r\n2026 INFO all is well \u{1b}[2J\u{7}".to_owned();
    for names in [many, vec![odd]] {
        let server = Server::builder().tls_with(&Certificates::of_server(&names).unwrap()).start().unwrap();
        let refused = refusal(&kit, &server).await;
        assert_contains(
            &refused,
            &[&server.address().to_string(), "not valid for the name", "`ssl_server_name`"],
        );
        assert!(!refused.contains(char::is_control) && refused.len() < 1000, "{} bytes", refused.len());
    }
}

async fn old_tls_version_refused(kit: Kit) {
    for old in ["TLSv1", "TLSv1.1"] {
        // Builds of OpenSSL without these versions fail to start the server, which is correct as well.
        let Ok(server) = Server::builder().tls().config(format!("tls-protocols {old}")).start() else {
            continue;
        };
        assert_contains(&refusal(&kit, &server).await, &[&server.address().to_string(), "TLS"]);
    }
}

async fn current_tls_versions_accepted(kit: Kit) {
    for protocol in ["TLSv1.2", "TLSv1.3"] {
        let server = Server::builder().tls().config(format!("tls-protocols {protocol}")).start().unwrap();
        kit.client_of(&server).await.connection().set::<_, _, ()>("key", 1).await.unwrap();
    }
}
