//! Tests servers with TLS.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::io::{Read, Write};
use std::net::TcpStream;

use ha_redis_testkit::Server;

#[test]
fn tls_server_refuses_plain_text() {
    let server = Server::builder().tls().start().unwrap();
    assert_eq!(server.query(&["PING"]).unwrap().text(), Some("PONG"));
    let ca = server.ca_file();
    assert_eq!(server.url(), format!("rediss://{}?ssl_ca_certs={}", server.address(), encoded(&ca)));
    assert!(ca.exists() && server.client_certificate().exists() && server.client_key().exists());
    let mut plain = TcpStream::connect(server.address()).unwrap();
    plain.write_all(b"PING\r\n").unwrap();
    let mut answer = Vec::new();
    // The server closes the connection, with or without a TLS alert.
    let _ = plain.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"+PONG"), "{answer:?}");
    server.restart().unwrap();
    assert_eq!(server.query(&["PING"]).unwrap().text(), Some("PONG"));
}

fn encoded(path: &std::path::Path) -> String {
    path.display().to_string().replace('/', "%2F")
}
