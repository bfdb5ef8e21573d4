//! Servers whose TLS is not in order: each is refused at once, with what mends it.

use std::time::{Duration, Instant};

use redis::AsyncCommands;

use super::kit::{Kit, config, peak_memory};
use crate::Server;
use crate::certificates::{Certificates, LOCAL};

tests![
    an_expired_certificate_is_refused,
    a_certificate_that_expires_is_found_at_the_next_connection,
    a_long_chain_of_certificates_is_read,
    an_endless_chain_of_certificates_is_refused,
    names_of_a_certificate_are_escaped_and_cut,
    an_old_protocol_is_refused,
    each_protocol_of_today_is_spoken,
];

fn names() -> Vec<String> {
    LOCAL.map(str::to_owned).to_vec()
}

/// What is told of this server, at once although a failover is waited for long.
async fn refusal(kit: &Kit, server: &Server) -> String {
    let patient = config(&server.url()).to_builder().socket_connect_timeout(Duration::from_secs(20));
    let client = kit.client(patient.failover_wait(Duration::from_secs(600)).build().unwrap());
    let asked = Instant::now();
    let error = client.connection().get::<_, Option<i64>>("key").await.unwrap_err();
    assert!(asked.elapsed() < Duration::from_secs(15), "{error}");
    error.to_string()
}

fn holds(text: &str, expected: &[&str]) {
    expected.iter().for_each(|expected| assert!(text.contains(expected), "{expected} in: {text}"));
}

async fn an_expired_certificate_is_refused(kit: Kit) {
    let server = Server::builder().tls_with(&Certificates::expired(&names()).unwrap()).start().unwrap();
    holds(&refusal(&kit, &server).await, &[&server.address().to_string(), "expired", "renew it"]);
}

async fn a_certificate_that_expires_is_found_at_the_next_connection(kit: Kit) {
    let valid = Certificates::of_server(&names()).unwrap();
    let server = Server::builder().tls_with(&valid).start().unwrap();
    let settings = config(&server.url()).to_builder().failover_wait(Duration::from_millis(500));
    let client = kit.connect(settings.build().unwrap()).await.unwrap();
    let mut redis = client.connection();
    redis.set::<_, _, ()>("key", 1).await.unwrap();
    Certificates::expired(&names()).unwrap().write(server.folder()).unwrap();
    server.restart().unwrap();
    // The connection before may still have been there for the first call.
    let refused = kit.error_that(&client, |text| text.contains("TLS")).await;
    assert!(refused.contains("certificate"), "{refused}");
    valid.write(server.folder()).unwrap();
    server.restart().unwrap();
    kit.until_master(&client, &server).await;
    redis.set::<_, _, ()>("key", 2).await.unwrap();
}

async fn a_long_chain_of_certificates_is_read(kit: Kit) {
    let long = Certificates::of_server(&names()).unwrap().with_chain(20);
    let server = Server::builder().tls_with(&long).start().unwrap();
    kit.client_of(&server).await.connection().set::<_, _, ()>("key", 1).await.unwrap();
}

async fn an_endless_chain_of_certificates_is_refused(kit: Kit) {
    for length in [300, 3000] {
        let endless = Certificates::of_server(&names()).unwrap().with_chain(length);
        let server = Server::builder().tls_with(&endless).start().unwrap();
        let before = peak_memory();
        holds(&refusal(&kit, &server).await, &[&server.address().to_string(), "TLS", "chain"]);
        assert!(peak_memory().saturating_sub(before) < 16 << 20);
    }
}

async fn names_of_a_certificate_are_escaped_and_cut(kit: Kit) {
    let many: Vec<_> = (0..500).map(|number| format!("{}.{number}.example", "x".repeat(60))).collect();
    let odd = "a\r\n2026 INFO all is well \u{1b}[2J\u{7}".to_owned();
    for names in [many, vec![odd]] {
        let server = Server::builder().tls_with(&Certificates::of_server(&names).unwrap()).start().unwrap();
        let refused = refusal(&kit, &server).await;
        holds(&refused, &[&server.address().to_string(), "not valid for name", "`ssl_server_name`"]);
        assert!(!refused.contains(char::is_control) && refused.len() < 1000, "{} bytes", refused.len());
    }
}

async fn an_old_protocol_is_refused(kit: Kit) {
    for old in ["TLSv1", "TLSv1.1"] {
        // Builds of OpenSSL without these end here, as they should.
        let Ok(server) = Server::builder().tls().config(format!("tls-protocols {old}")).start() else {
            continue;
        };
        holds(&refusal(&kit, &server).await, &[&server.address().to_string(), "TLS"]);
    }
}

async fn each_protocol_of_today_is_spoken(kit: Kit) {
    for protocol in ["TLSv1.2", "TLSv1.3"] {
        let server = Server::builder().tls().config(format!("tls-protocols {protocol}")).start().unwrap();
        kit.client_of(&server).await.connection().set::<_, _, ()>("key", 1).await.unwrap();
    }
}
