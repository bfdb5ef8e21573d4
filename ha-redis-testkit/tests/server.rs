//! Tests a single server: its options and its faults.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::net::UnixStream;
use std::thread;

use ha_redis_testkit::{Error, Reply, Server};

fn get(server: &Server, key: &str) -> Reply {
    server.query(&["GET", key]).unwrap()
}

#[test]
fn server_ready_after_start_and_gone_after_drop() {
    let server = Server::start().unwrap();
    let (address, folder) = (server.address(), server.folder().to_owned());
    assert_eq!(server.url(), format!("redis://{address}"));
    assert_eq!(address.port(), server.port());
    assert_eq!(server.query(&["PING"]).unwrap().text(), Some("PONG"));
    let info = server.query(&["INFO", "server"]).unwrap();
    assert_eq!(info.field("process_id"), Some(server.pid().to_string().as_str()));
    assert!(server.is_running() && folder.exists());
    drop(server);
    assert!(TcpStream::connect(address).is_err());
    assert!(!folder.exists());
}

#[test]
fn concurrent_servers_have_distinct_ports() {
    let starts: Vec<_> = (0..8).map(|_| thread::spawn(|| Server::start().unwrap())).collect();
    let servers: Vec<Server> = starts.into_iter().map(|start| start.join().unwrap()).collect();
    let mut ports: Vec<u16> = servers.iter().map(Server::port).collect();
    ports.sort_unstable();
    ports.dedup();
    assert_eq!(ports.len(), servers.len());
}

#[test]
fn killed_server_restarts_with_same_port_and_data() {
    let server = Server::builder().appendonly().start().unwrap();
    let pid = server.pid();
    server.query(&["SET", "key", "value"]).unwrap();
    server.kill().unwrap();
    assert!(!server.is_running());
    assert!(matches!(server.query(&["PING"]), Err(Error::Io { .. })));
    let other = Server::builder().port(server.port()).start();
    assert!(matches!(other, Err(Error::PortTaken { port }) if port == server.port()));

    server.restart().unwrap();
    assert_ne!(server.pid(), pid);
    assert_eq!(get(&server, "key").text(), Some("value"));
}

#[test]
fn server_without_persistence_restarts_empty() {
    let server = Server::start().unwrap();
    server.query(&["SET", "key", "value"]).unwrap();
    server.restart().unwrap();
    assert_eq!(get(&server, "key"), Reply::Nil);
}

#[test]
fn terminate_waits_for_first_append_only_file() {
    // With 20 ms per key, writing the file takes a while.
    let server = Server::builder().config("rdb-key-save-delay 20000").start().unwrap();
    (0..30).for_each(|key| _ = server.query(&["SET", &key.to_string(), "value"]).unwrap());
    server.query(&["CONFIG", "SET", "appendonly", "yes"]).unwrap();
    server.terminate().unwrap();
    assert!(server.log().contains("Writing initial AOF, can't exit"), "{}", server.log());
}

#[test]
fn hung_server_terminates_cleanly() {
    for hangs in [false, true] {
        let server = Server::start().unwrap();
        if hangs {
            server.hang().unwrap();
        }
        server.terminate().unwrap();
        assert!(!server.is_running());
        assert!(server.log().contains("Redis is now ready to exit"), "{}", server.log());
    }
}

#[test]
fn hung_server_accepts_connections_and_answers_after_resume() {
    let server = Server::start().unwrap();
    server.hang().unwrap();
    assert!(server.is_running() && server.is_hanging());
    TcpStream::connect(server.address()).unwrap();
    assert!(matches!(server.query(&["PING"]), Err(Error::Io { .. })));
    server.resume().unwrap();
    assert!(!server.is_hanging());
    assert_eq!(server.query(&["PING"]).unwrap().text(), Some("PONG"));
}

#[test]
fn hung_server_can_be_killed() {
    let server = Server::start().unwrap();
    server.hang().unwrap();
    server.kill().unwrap();
    assert!(!server.is_running());
    assert!(matches!(server.hang(), Err(Error::NotReady(_))));
    server.kill().unwrap();
    server.resume().unwrap();
}

#[test]
fn password_required() {
    let server = Server::builder().password(r#"a "b" \c"#).start().unwrap();
    assert_eq!(server.url(), format!("redis://:a%20%22b%22%20%5Cc@{}", server.address()));
    assert_eq!(server.query(&["PING"]).unwrap().text(), Some("PONG"));
    assert!(!format!("{server:?}").contains(r#"a "b"#));
    let wrong = server.query(&["AUTH", "wrong"]);
    assert!(matches!(wrong, Err(Error::Refused { message, .. }) if message.starts_with("WRONGPASS")));
}

#[test]
fn acl_rules_applied() {
    let builder = Server::builder().user("alice", "on >secret ~a:* +get").user("default", "off");
    let server = builder.start().unwrap();
    let rules = server.query(&["ACL", "LIST"]).unwrap();
    let has = |part: &str| rules.items().iter().any(|rule| rule.text().unwrap().starts_with(part));
    assert!(has("user alice on") && has("user default off"));
    assert_eq!(server.query(&["AUTH", "alice", "secret"]).unwrap().text(), Some("OK"));
}

#[test]
fn server_listens_on_configured_address() {
    let server = Server::builder().bind(Ipv4Addr::UNSPECIFIED.into()).unix_socket().start().unwrap();
    assert_eq!(server.address().ip(), Ipv4Addr::LOCALHOST);
    UnixStream::connect(server.unix_socket()).unwrap();
}

#[test]
fn replica_copies_data_of_master_with_password() {
    let master = Server::builder().password("secret").start().unwrap();
    let replica = Server::builder().replica_of(&master).start().unwrap();
    master.query(&["SET", "key", "value"]).unwrap();
    // WAIT returns when the replica has acknowledged the write.
    let acknowledged = master.query(&["WAIT", "1", "1900"]).unwrap();
    assert_eq!(acknowledged.integer(), Some(1), "{}", replica.log());
    assert_eq!(get(&replica, "key").text(), Some("value"));
}

#[test]
fn invalid_configuration_shown_in_error() {
    let error = Server::builder().config("no-such-setting yes").start().unwrap_err();
    assert!(matches!(&error, Error::Ended { log, .. } if log.contains("no-such-setting")), "{error}");
}
