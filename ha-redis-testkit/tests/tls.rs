//! Servers with TLS.

#![allow(clippy::unwrap_used, reason = "in a test, a panic is the answer")]

use std::io::{Read, Write};
use std::net::TcpStream;

use ha_redis_testkit::Server;

#[test]
fn a_server_with_tls_speaks_nothing_else_on_its_port() {
    let server = Server::builder().tls().start().unwrap();
    assert_eq!(server.query(&["PING"]).unwrap().text(), Some("PONG"));
    let ca = server.ca_file();
    assert_eq!(server.url(), format!("rediss://{}?ssl_ca_certs={}", server.address(), encoded(&ca)));
    assert!(ca.exists() && server.client_certificate().exists() && server.client_key().exists());
    let mut plain = TcpStream::connect(server.address()).unwrap();
    plain.write_all(b"PING\r\n").unwrap();
    let mut answer = Vec::new();
    // It hangs up, with or without a TLS alert.
    let _ = plain.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"+PONG"), "{answer:?}");
    server.restart().unwrap();
    assert_eq!(server.query(&["PING"]).unwrap().text(), Some("PONG"));
}

fn encoded(path: &std::path::Path) -> String {
    path.display().to_string().replace('/', "%2F")
}
