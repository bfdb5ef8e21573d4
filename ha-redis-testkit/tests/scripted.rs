//! Tests the scripted server: clients can connect, and the test determines what follows.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod client;

use std::io::Write;

use client::{Client, wait_until};
use ha_redis_testkit::{Answer, Direction, Proxy, ScriptedServer};

fn lines(client: &mut Client, count: usize) -> Vec<String> {
    (0..count).map(|_| client.line().unwrap()).collect()
}

#[test]
fn handshake_answered_as_master() {
    let server = ScriptedServer::start(|_, _| Answer::Silence).unwrap();
    assert_eq!(server.url(), format!("redis://127.0.0.1:{}", server.port()));
    let mut client = Client::open(server.address());
    // Clients send these commands at once.
    for command in ["HELLO 3 AUTH ann secret", "CLIENT SETNAME test", "select 1", "ROLE", "PING"] {
        client.send(command).unwrap();
    }
    assert_eq!(client.line().unwrap(), "%6");
    let hello = lines(&mut client, 22);
    let proto = hello.iter().position(|line| line == "proto").unwrap();
    assert_eq!((hello[proto + 1].as_str(), hello.last().map(String::as_str)), (":3", Some("*0")));
    assert_eq!(lines(&mut client, 2), ["+OK", "+OK"]);
    assert_eq!(lines(&mut client, 5), ["*3", "$6", "master", ":0", "*0"]);
    assert_eq!(client.line().unwrap(), "+PONG");
    assert_eq!(client.query("HELLO 2").unwrap(), "*12");
    assert_eq!(server.accepted(), 1);
}

#[test]
fn script_answers_other_commands() {
    let mut calls = 0;
    let server = ScriptedServer::start(move |connection, command| {
        calls += 1;
        match command[0].as_str() {
            "WHO" => format!("+{connection} {calls} {}\r\n", command[1]).as_str().into(),
            "HALF" => Answer::Close(b"$10\r\nab".to_vec()),
            "CLOSE" => Answer::Close(Vec::new()),
            "LONG" => Answer::from("$4294967296\r\n"),
            "NEST" => Answer::from(b"*1\r\n".repeat(1000)),
            _ => Answer::Silence,
        }
    })
    .unwrap();
    let mut first = Client::open(server.address());
    assert_eq!(first.query("WHO me").unwrap(), "+0 1 me");
    let mut second = Client::open(server.address());
    assert_eq!(second.query("WHO me").unwrap(), "+1 2 me");
    second.send("NOTHING").unwrap();
    assert_eq!(second.query("LONG").unwrap(), "$4294967296");
    assert_eq!(second.query("NEST").unwrap(), "*1");
    assert_eq!(lines(&mut second, 999), vec!["*1"; 999]);

    first.send("HALF").unwrap();
    assert_eq!(first.read_to_end(), ("$10\r\nab".into(), None));
    second.send("CLOSE").unwrap();
    assert_eq!(second.read_to_end(), (String::new(), None));
    assert_eq!(server.accepted(), 2);
}

#[test]
fn invalid_input_closes_only_its_connection() {
    let server = ScriptedServer::start(|_, _| "+OK\r\n").unwrap();
    let mut client = Client::open(server.address());
    let mut other = Client::open(server.address());
    client.stream.get_mut().write_all(b"GET / HTTP/1.1\r\n").unwrap();
    assert_eq!(client.read_to_end().0, "");
    assert_eq!(other.query("GET key").unwrap(), "+OK");
}

#[test]
fn drop_ends_everything() {
    // More than a socket buffer holds, for a client that does not read.
    let server = ScriptedServer::start(|_, _| vec![b'x'; 100_000_000]).unwrap();
    let address = server.address();
    let proxy = Proxy::start(address).unwrap();
    let mut idle = Client::open(address);
    assert_eq!(idle.query("PING").unwrap(), "+PONG");
    let mut busy = Client::open(proxy.address());
    busy.send("GET key").unwrap();
    wait_until("the answer is under way", || proxy.bytes(Direction::ToClient) > 0);
    drop(server);
    assert_eq!(idle.read_to_end().0, "");
    assert!(Client::try_open(address).is_err());
}
