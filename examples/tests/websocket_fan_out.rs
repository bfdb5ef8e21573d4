//! Runs the example `websocket_fan_out` as a process, with WebSockets that watch its rooms.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use futures_lite::StreamExt;
use ha_redis_testkit::{Server, Topology};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

const BOUND: Duration = Duration::from_secs(40);

struct Service {
    process: Child,
    address: SocketAddr,
}

impl Service {
    fn start(url: &str) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_websocket_fan_out"));
        command.env("REDIS_URL", url).env("LISTEN", "127.0.0.1:0").stdout(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let line = BufReader::new(process.stdout.take().unwrap()).lines().next().unwrap().unwrap();
        let address = line.strip_prefix("listening on ").unwrap().parse().unwrap();
        Self { process, address }
    }

    fn room_url(&self, room: &str) -> String {
        format!("ws://{}/rooms/{room}", self.address)
    }

    async fn join(&self, room: &str) -> Socket {
        let mut socket = Socket(connect_async(self.room_url(room)).await.unwrap().0);
        assert_eq!(socket.next().await, format!(r#"{{"joined":"{room}"}}"#));
        socket
    }

    /// Publishes through the service, and returns the status of its answer.
    fn publish(&self, room: &str, text: &str) -> u16 {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(BOUND)).unwrap();
        let length = text.len();
        let request = format!(
            "POST /rooms/{room} HTTP/1.1\r\nHost: test\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{text}"
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer.strip_prefix("HTTP/1.1 ").unwrap()[..3].parse().unwrap()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

struct Socket(WebSocketStream<MaybeTlsStream<tokio::net::TcpStream>>);

impl Socket {
    /// Returns what the socket receives next.
    async fn next(&mut self) -> String {
        loop {
            let message = timeout(BOUND, self.0.next()).await.expect("a message comes");
            match message.expect("the socket stays open").unwrap() {
                Message::Text(text) => return text.to_string(),
                Message::Ping(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// Returns what the socket receives up to this, without it.
    async fn next_until(&mut self, last: &str) -> Vec<String> {
        let mut received = Vec::new();
        loop {
            match self.next().await {
                next if next == last => return received,
                next => received.push(next),
            }
        }
    }
}

fn message(text: impl std::fmt::Display) -> String {
    format!(r#"{{"message":"{text}"}}"#)
}

/// Waits until a room has this many subscribers at the server.
fn wait_for_subscribers(server: &Server, room: &str, expected: i64) {
    let start = Instant::now();
    loop {
        let reply = server.query(&["PUBSUB", "NUMSUB", &format!("room:{room}")]).unwrap();
        let subscribers = reply.items()[1].integer().unwrap();
        if subscribers == expected {
            return;
        }
        assert!(start.elapsed() < BOUND, "{subscribers} subscribers of {room}, not {expected}");
        thread::sleep(Duration::from_millis(10));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sockets_share_a_subscriber() {
    let server = Server::start().unwrap();
    let service = Service::start(&server.url());
    let (mut one, mut other, mut elsewhere) =
        (service.join("a").await, service.join("a").await, service.join("b").await);
    wait_for_subscribers(&server, "a", 1);
    wait_for_subscribers(&server, "b", 1);
    for number in 1..=10 {
        assert_eq!(service.publish("a", &number.to_string()), 204);
    }
    assert_eq!(service.publish("b", "only here"), 204);
    let expected: Vec<String> = (1..10).map(message).collect();
    for socket in [&mut one, &mut other] {
        assert_eq!(socket.next_until(&message(10)).await, expected);
    }
    assert_eq!(elsewhere.next().await, message("only here"));

    drop(one);
    drop(elsewhere);
    wait_for_subscribers(&server, "b", 0);
    assert_eq!(service.publish("a", "to the last"), 204);
    assert_eq!(other.next().await, message("to the last"));
    drop(other);
    wait_for_subscribers(&server, "a", 0);
    let mut again = service.join("a").await;
    wait_for_subscribers(&server, "a", 1);
    assert_eq!(service.publish("a", "again"), 204);
    assert_eq!(again.next().await, message("again"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gap_announced_at_failover() {
    let topology = Topology::start().unwrap();
    let service = Service::start(&topology.url());
    let mut socket = service.join("a").await;
    wait_for_subscribers(topology.master().unwrap(), "a", 1);
    for number in 1..=10 {
        assert_eq!(service.publish("a", &number.to_string()), 204);
    }
    let before = socket.next_until(&message(10)).await;
    assert_eq!(before, (1..10).map(message).collect::<Vec<_>>());

    let old = topology.kill_master().unwrap();
    // These wait for the new master. Whether the subscriber is there before them is open: the gap says so.
    for number in 11..=20 {
        assert_eq!(service.publish("a", &number.to_string()), 204);
    }
    assert_eq!(socket.next().await, r#"{"gap":"begins"}"#);
    assert_eq!(socket.next().await, r#"{"gap":"ends"}"#, "no message comes within a gap");
    let new = topology.wait_for_new_master(old).unwrap();
    wait_for_subscribers(new, "a", 1);
    for number in 21..=30 {
        assert_eq!(service.publish("a", &number.to_string()), 204);
    }
    let after = socket.next_until(&message(30)).await;
    // What the gap has left is a tail of all that was published, in its order.
    let all: Vec<String> = (11..30).map(message).collect();
    assert!(after.len() >= 9 && all.ends_with(&after), "{after:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gap_announced_to_late_socket() {
    let server = Server::start().unwrap();
    let service = Service::start(&server.url());
    let mut early = service.join("a").await;
    server.kill().unwrap();
    assert_eq!(early.next().await, r#"{"gap":"begins"}"#);
    let mut late = service.join("a").await;
    assert_eq!(late.next().await, r#"{"gap":"begins"}"#);
    server.restart().unwrap();
    for socket in [&mut early, &mut late] {
        assert_eq!(socket.next().await, r#"{"gap":"ends"}"#);
    }
    let mut after = service.join("a").await;
    assert_eq!(service.publish("a", "text"), 204);
    for socket in [&mut early, &mut late, &mut after] {
        assert_eq!(socket.next().await, message("text"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn socket_closed_without_subscription() {
    let server = Server::start().unwrap();
    let service = Service::start(&server.url());
    server.kill().unwrap();
    let mut early = Socket(connect_async(service.room_url("a")).await.unwrap().0);
    match timeout(BOUND, early.0.next()).await.expect("it does not wait without end") {
        Some(Ok(Message::Close(Some(frame)))) => assert_eq!(frame.code, CloseCode::Again),
        other => panic!("{other:?}"),
    }
    server.restart().unwrap();
    let mut socket = service.join("a").await;
    assert_eq!(service.publish("a", "text"), 204);
    // The subscriber may have noticed late that it was without a server.
    let gaps = socket.next_until(&message("text")).await;
    assert!(gaps.iter().all(|gap| gap.starts_with(r#"{"gap":"#)), "{gaps:?}");
    drop(socket);
    wait_for_subscribers(&server, "a", 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_socket_is_told_what_it_missed() {
    const PUBLISHED: u64 = 600;
    let server = Server::start().unwrap();
    let service = Service::start(&server.url());
    let (mut slow, mut fast) = (service.join("a").await, service.join("a").await);
    // More than the room and the buffers of the system hold.
    let large = "x".repeat(60 * 1024);
    for _ in 0..PUBLISHED {
        server.query(&["PUBLISH", "room:a", &large]).unwrap();
        // Both are in the same room. This one keeps up.
        assert_eq!(fast.next().await, message(&large));
    }
    assert_eq!(service.publish("a", "end"), 204);
    assert_eq!(fast.next().await, message("end"));

    let received = slow.next_until(&message("end")).await;
    let (notices, messages): (Vec<String>, Vec<String>) =
        received.into_iter().partition(|received| received.starts_with(r#"{"missed":"#));
    let missed: u64 = notices
        .iter()
        .map(|notice| {
            notice.trim_start_matches(r#"{"missed":"#).trim_end_matches('}').parse::<u64>().unwrap()
        })
        .sum();
    assert!(missed > 0, "the socket was slow");
    assert_eq!(messages.len() as u64 + missed, PUBLISHED);
}
