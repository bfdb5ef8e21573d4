//! Tests the proxy: each fault affects real connections to a real server, and can be healed.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod client;

use std::io::{ErrorKind, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use client::{BOUND, Client, wait_until};
use ha_redis_testkit::Direction::{ToClient, ToServer};
use ha_redis_testkit::{Cut, Error, Proxy, Reply, Server};

const HOUR: Duration = Duration::from_secs(3600);

fn start() -> (Server, Proxy, Client) {
    let server = Server::start().unwrap();
    let proxy = Proxy::before(&server).unwrap();
    let client = Client::open(proxy.address());
    (server, proxy, client)
}

fn get(server: &Server, key: &str) -> Option<String> {
    server.query(&["GET", key]).unwrap().text().map(str::to_owned)
}

/// Returns true if the server has no connection other than the one of this query.
fn has_no_other_connection(server: &Server) -> bool {
    server.query(&["INFO", "clients"]).unwrap().field("connected_clients") == Some("1")
}

/// Asserts that forwarding works, for this client and for a new one.
fn assert_healthy(proxy: &Proxy, client: &mut Client) {
    assert_eq!(client.query("PING").unwrap(), "+PONG");
    assert_eq!(Client::open(proxy.address()).query("PING").unwrap(), "+PONG");
}

#[test]
fn bytes_forwarded_and_counted() {
    let server = Server::builder().password("a secret").start().unwrap();
    let proxy = Proxy::before(&server).unwrap();
    assert_eq!(proxy.url(), format!("redis://:a%20secret@127.0.0.1:{}", proxy.port()));
    assert!(!format!("{proxy:?}").contains("secret"));
    assert_ne!(proxy.port(), server.port());
    assert_eq!(proxy.connections(), 0);

    let mut client = Client::open(proxy.address());
    assert_eq!(client.query("PING").unwrap(), "-NOAUTH Authentication required.");
    let length = "-NOAUTH Authentication required.\r\n".len() as u64;
    assert_eq!((proxy.bytes(ToServer), proxy.bytes(ToClient)), (14, length));
    assert_eq!((proxy.connections(), proxy.accepted()), (1, 1));
    drop(client);
    wait_until("the connection has ended", || proxy.connections() == 0 && has_no_other_connection(&server));
    assert_eq!((proxy.accepted(), proxy.cuts()), (1, 0));
}

#[test]
fn large_value_forwarded_both_ways() {
    let (_server, _proxy, mut client) = start();
    let value: String = (0..16_000_000_u32).map(|i| char::from(b'a' + (i % 23) as u8)).collect();
    assert_eq!(client.query(&format!("SET key {value}")).unwrap(), "+OK");
    assert_eq!(client.query("GET key").unwrap(), "$16000000");
    assert!(client.line().unwrap() == value);
}

#[test]
fn accept_times_recorded() {
    let (_server, proxy, mut first) = start();
    assert_eq!(first.query("PING").unwrap(), "+PONG");
    let between = Instant::now();
    let _others: Vec<Client> = (0..9).map(|_| Client::open(proxy.address())).collect();
    assert_eq!((proxy.accepted(), proxy.connections()), (10, 10));
    let accepted = proxy.accepted_at();
    assert!(accepted.is_sorted());
    assert!(accepted[0] < between && accepted[1] > between && accepted.len() == 10);
}

#[test]
fn delays_do_not_add_up() {
    let (_server, proxy, mut client) = start();
    let delay = Duration::from_millis(500);
    proxy.delay(ToClient, delay);
    let start = Instant::now();
    for count in 1..=10 {
        client.send("PING").unwrap();
        // This makes each reply a chunk of its own.
        wait_until("the request is through", || proxy.bytes(ToServer) == 14 * count);
    }
    assert_eq!(client.line().unwrap(), "+PONG");
    assert!(start.elapsed() >= delay);
    for _ in 1..10 {
        assert_eq!(client.line().unwrap(), "+PONG");
    }
    assert!(start.elapsed() < delay * 8, "the delays add up: {:?}", start.elapsed());

    proxy.heal().unwrap();
    proxy.delay(ToServer, delay);
    let start = Instant::now();
    assert_eq!(client.query("PING").unwrap(), "+PONG");
    assert!(start.elapsed() >= delay);
}

#[test]
fn heal_releases_delayed_bytes() {
    let (_server, proxy, mut client) = start();
    proxy.delay(ToClient, HOUR);
    client.send("PING").unwrap();
    wait_until("the request is through", || proxy.bytes(ToServer) == 14);
    assert_eq!(proxy.bytes(ToClient), 0);
    proxy.heal().unwrap();
    assert_eq!(client.line().unwrap(), "+PONG");
    assert_healthy(&proxy, &mut client);
}

#[test]
fn throttle_limits_bytes_per_second() {
    let (_server, proxy, mut client) = start();
    client.query(&format!("SET key {}", "x".repeat(10_000))).unwrap();
    proxy.throttle(ToClient, 20_000);
    let start = Instant::now();
    assert_eq!(client.query("GET key").unwrap(), "$10000");
    assert_eq!(client.line().unwrap().len(), 10_000);
    // Half a second, less the part that is sent at once.
    assert!(start.elapsed() > Duration::from_millis(450), "{:?}", start.elapsed());

    proxy.throttle(ToServer, 1);
    let before = proxy.bytes(ToServer);
    client.send("GET key").unwrap();
    wait_until("the second byte is through", || proxy.bytes(ToServer) > before + 1);
    let read_to_end = before + 22 - proxy.bytes(ToServer);
    assert!(read_to_end > 10, "{read_to_end} of 22 bytes are left");
    proxy.heal().unwrap();
    assert_eq!(client.line().unwrap(), "$10000");
    assert_eq!(client.line().unwrap().len(), 10_000);
    assert_healthy(&proxy, &mut client);
}

#[test]
fn cut_ends_all_connections() {
    let (server, proxy, mut first) = start();
    for (round, how) in [(1, Cut::Close), (2, Cut::Reset)] {
        let mut second = Client::open(proxy.address());
        assert_eq!(first.query("PING").unwrap(), "+PONG");
        // The second connection may not have been accepted yet. The cut affects it all the same.
        proxy.cut(how);
        assert_eq!((proxy.connections(), proxy.cuts()), (0, 2 * round));
        let error = (how == Cut::Reset).then_some(ErrorKind::ConnectionReset);
        assert_eq!(first.read_to_end(), (String::new(), error));
        assert_eq!(second.read_to_end(), (String::new(), error));
        wait_until("the server has noticed", || has_no_other_connection(&server));
        first = Client::open(proxy.address());
    }
    assert_healthy(&proxy, &mut first);
}

#[test]
fn cut_inside_reply_and_request() {
    let (server, proxy, mut client) = start();
    client.query("SET key 0123456789").unwrap();
    proxy.cut_after(ToClient, 7, Cut::Close);
    client.send("GET key").unwrap();
    assert_eq!(client.read_to_end(), ("$10\r\n01".into(), None));
    assert_eq!(proxy.cuts(), 1);

    // The cut happens once.
    let mut client = Client::open(proxy.address());
    assert_eq!(client.query("GET key").unwrap(), "$10");
    client.line().unwrap();
    proxy.cut_after(ToServer, 30, Cut::Reset);
    client.send("SET key 9876543210").unwrap();
    assert_eq!(client.read_to_end().1, Some(ErrorKind::ConnectionReset));
    assert_eq!(get(&server, "key").as_deref(), Some("0123456789"));
    wait_until("the server has noticed", || has_no_other_connection(&server));

    // Healing cancels the cut.
    proxy.cut_after(ToClient, 0, Cut::Reset);
    proxy.heal().unwrap();
    assert_healthy(&proxy, &mut Client::open(proxy.address()));
    assert_eq!(proxy.cuts(), 2);
}

#[test]
fn ten_cuts_during_replies() {
    let (server, proxy, mut client) = start();
    for round in 1..=10 {
        let how = if round % 2 == 0 { Cut::Close } else { Cut::Reset };
        proxy.cut_after(ToClient, round % 3, how);
        client.send("INCR counter").unwrap();
        assert_eq!(client.read_to_end().0.len() as u64, round % 3);
        assert_eq!(get(&server, "counter"), Some(round.to_string()));
        client = Client::open(proxy.address());
    }
    assert_eq!(proxy.cuts(), 10);
    assert_eq!(client.query("INCR counter").unwrap(), ":11");
}

#[test]
fn ten_cuts_of_busy_client() {
    let (server, proxy, mut client) = start();
    let start = Instant::now();
    let acknowledged = thread::scope(|scope| {
        let client = scope.spawn(|| {
            let mut acknowledged = 0;
            while proxy.cuts() < 10 && start.elapsed() < BOUND {
                match client.query("INCR counter") {
                    Ok(reply) if reply.starts_with(':') => acknowledged += 1,
                    _ => client = Client::open(proxy.address()),
                }
            }
            acknowledged
        });
        for cuts in 1..=10 {
            proxy.cut_after(ToClient, 0, Cut::Close);
            wait_until("a reply has come to the cut", || proxy.cuts() == cuts);
        }
        client.join().unwrap()
    });
    assert_eq!(get(&server, "counter"), Some((acknowledged + 10).to_string()));
}

#[test]
fn lost_replies_keep_connection_open() {
    let (server, proxy, mut client) = start();
    proxy.lose(ToClient);
    client.send("INCR counter").unwrap();
    wait_until("the reply is lost", || proxy.lost(ToClient) == 4);
    assert_eq!(get(&server, "counter").as_deref(), Some("1"));
    proxy.heal().unwrap();
    assert_eq!(client.query("INCR counter").unwrap(), ":2");
    assert_eq!((proxy.accepted(), proxy.bytes(ToClient)), (1, 4));
    assert_healthy(&proxy, &mut client);
}

#[test]
fn lost_requests_never_arrive() {
    let (server, proxy, mut client) = start();
    proxy.lose(ToServer);
    client.send("SET key value").unwrap();
    wait_until("the request is lost", || proxy.lost(ToServer) == 33);
    proxy.heal().unwrap();
    assert_healthy(&proxy, &mut client);
    assert_eq!(get(&server, "key"), None);
}

#[test]
fn black_hole_stops_traffic_until_heal() {
    let (server, proxy, mut client) = start();
    assert_eq!(client.query("PING").unwrap(), "+PONG");
    let before = [ToServer, ToClient].map(|direction| proxy.bytes(direction));
    proxy.black_hole();
    client.send("INCR counter").unwrap();
    let mut second = Client::open(proxy.address());
    second.send("INCR counter").unwrap();
    wait_until("the new connection is accepted", || proxy.connections() == 2);
    for client in [&mut client, &mut second] {
        client.stream.get_ref().set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        assert_eq!(client.line().unwrap_err().kind(), ErrorKind::WouldBlock);
        client.stream.get_ref().set_read_timeout(Some(BOUND)).unwrap();
    }
    assert_eq!([ToServer, ToClient].map(|direction| proxy.bytes(direction)), before);
    assert_eq!(get(&server, "counter"), None);

    proxy.heal().unwrap();
    let mut replies = [client.line().unwrap(), second.line().unwrap()];
    replies.sort();
    assert_eq!(replies, [":1", ":2"]);
    assert_healthy(&proxy, &mut client);
}

#[test]
fn black_hole_can_be_cut() {
    for (how, error) in [(Cut::Close, None), (Cut::Reset, Some(ErrorKind::ConnectionReset))] {
        let (_server, proxy, mut client) = start();
        proxy.black_hole();
        // Unread data must not turn the close into a reset.
        client.send("PING").unwrap();
        proxy.cut(how);
        assert_eq!(client.read_to_end(), (String::new(), error));
    }
}

#[test]
fn close_and_reset_forwarded() {
    let (server, proxy, _) = start();
    let outer = Proxy::start(proxy.address()).unwrap();
    for (how, error) in [(Cut::Close, None), (Cut::Reset, Some(ErrorKind::ConnectionReset))] {
        let mut client = Client::open(outer.address());
        assert_eq!(client.query("PING").unwrap(), "+PONG");
        proxy.cut(how);
        assert_eq!(client.read_to_end(), (String::new(), error));
    }
    assert_eq!(outer.cuts(), 0);
    wait_until("the server has noticed", || has_no_other_connection(&server));
}

#[test]
fn refusing_port_stays_reserved_until_heal() {
    let (_server, proxy, mut client) = start();
    assert_eq!(client.query("PING").unwrap(), "+PONG");
    proxy.refuse();
    let refused = Client::try_open(proxy.address()).map(drop);
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    assert_eq!(client.query("PING").unwrap(), "+PONG");
    let other = Server::builder().port(proxy.port()).start();
    assert!(matches!(other, Err(Error::PortTaken { port }) if port == proxy.port()));
    assert_eq!(proxy.accepted(), 1);
    proxy.heal().unwrap();
    assert_healthy(&proxy, &mut client);
}

#[test]
fn half_close_keeps_other_direction() {
    let (server, proxy, mut client) = start();
    assert_eq!(client.query("PING").unwrap(), "+PONG");
    proxy.half_close(ToClient);
    assert_eq!(client.read_to_end(), (String::new(), None));
    client.send("SET key value").unwrap();
    wait_until("the request has arrived", || get(&server, "key").is_some());
    assert_eq!(proxy.connections(), 1);
    client.stream.get_ref().shutdown(Shutdown::Write).unwrap();
    wait_until("the connection has ended", || proxy.connections() == 0 && has_no_other_connection(&server));

    let mut client = Client::open(proxy.address());
    assert_eq!(client.query("PING").unwrap(), "+PONG");
    proxy.half_close(ToServer);
    // Redis replies to the end of the stream by closing the connection.
    assert_eq!(client.read_to_end(), (String::new(), None));
    wait_until("the connection has ended", || proxy.connections() == 0);
    assert_healthy(&proxy, &mut Client::open(proxy.address()));
}

#[test]
fn corrupt_replaces_next_bytes() {
    let (_server, proxy, mut client) = start();
    proxy.corrupt(ToClient, "?!\0");
    assert_eq!(client.query("PING").unwrap(), "?!\0NG");
    assert_eq!(client.query("PING").unwrap(), "+PONG");
    proxy.corrupt(ToClient, "$4294967296\r\n");
    client.send("PING").unwrap();
    client.send("PING").unwrap();
    assert_eq!(client.line().unwrap(), "$4294967296");
    // The last byte of the second reply.
    assert_eq!(client.line().unwrap(), "");

    proxy.corrupt(ToServer, "*1\r\n+");
    let error = client.query("PING").unwrap();
    assert!(error.starts_with("-ERR Protocol error"), "{error}");
    proxy.corrupt(ToClient, "x".repeat(1000));
    proxy.heal().unwrap();
    assert_healthy(&proxy, &mut Client::open(proxy.address()));
}

#[test]
fn inject_reaches_all_connections() {
    let (server, proxy, mut first) = start();
    let mut second = Client::open(proxy.address());
    proxy.inject(ToClient, "+surprise\r\n");
    for client in [&mut first, &mut second] {
        assert_eq!(client.line().unwrap(), "+surprise");
        assert_eq!(client.query("PING").unwrap(), "+PONG");
    }
    proxy.inject(ToServer, "INCR counter\r\n");
    let mut replies = [first.line().unwrap(), second.line().unwrap()];
    replies.sort();
    assert_eq!(replies, [":1", ":2"]);
    assert_eq!(get(&server, "counter").as_deref(), Some("2"));

    // The bytes replace the lost replies.
    proxy.lose(ToClient);
    first.send("PING").unwrap();
    wait_until("the reply is lost", || proxy.lost(ToClient) == 7);
    proxy.inject(ToClient, "-LOADING\r\n");
    assert_eq!(first.line().unwrap(), "-LOADING");
    proxy.heal().unwrap();
    assert_healthy(&proxy, &mut first);
}

#[test]
fn slow_receiver_slows_sender() {
    let server = Server::start().unwrap();
    let proxy = Proxy::before(&server).unwrap();
    let mut stream = TcpStream::connect(proxy.address()).unwrap();
    server.hang().unwrap();
    // Far more than all buffers on the way hold.
    stream.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
    let blocked = stream.write_all(&vec![b'x'; 100_000_000]).unwrap_err();
    assert_eq!(blocked.kind(), ErrorKind::WouldBlock);
    drop(stream);
    proxy.cut(Cut::Reset);
    server.resume().unwrap();
    wait_until("the server has noticed", || has_no_other_connection(&server));
}

#[test]
fn connections_reset_while_server_down() {
    let (server, proxy, mut client) = start();
    assert_eq!(client.query("PING").unwrap(), "+PONG");
    server.kill().unwrap();
    // The connection has ended with a close or a reset.
    assert_eq!(client.read_to_end().0, "");
    let mut client = Client::open(proxy.address());
    assert_eq!(client.read_to_end().1, Some(ErrorKind::ConnectionReset));
    server.restart().unwrap();
    assert_healthy(&proxy, &mut Client::open(proxy.address()));
}

#[test]
fn drop_ends_everything() {
    let (server, proxy, mut client) = start();
    assert_eq!(client.query("PING").unwrap(), "+PONG");
    proxy.delay(ToClient, HOUR);
    proxy.throttle(ToServer, 1);
    client.send("PING").unwrap();
    let port = proxy.port();
    // This returns when the thread has ended.
    drop(proxy);
    assert_eq!(client.read_to_end().0, "");
    wait_until("the server has noticed", || has_no_other_connection(&server));
    let other = Server::builder().port(port).start().unwrap();
    assert_eq!(other.query(&["PING"]).unwrap(), Reply::Text("PONG".into()));
}

#[test]
fn partition_selects_by_address() {
    let (server, proxy, mut client) = start();
    let far = Server::builder()
        .bind("127.0.1.9".parse().unwrap())
        .config("bind-source-addr 127.0.1.9")
        .config(format!("replicaof 127.0.0.1 {}", proxy.port()))
        .start()
        .unwrap();
    let link = || far.query(&["INFO", "replication"]).unwrap().field("master_link_status") == Some("up");
    wait_until("the replica is connected to its master", link);
    proxy.partition([far.address().ip()]);
    assert_eq!(client.query("SET key 1").unwrap(), "+OK");
    assert_eq!(Client::open(proxy.address()).query("SET key 2").unwrap(), "+OK");
    assert_eq!(get(&far, "key"), None);
    proxy.heal().unwrap();
    wait_until("the replica has caught up", || get(&far, "key").as_deref() == Some("2"));
    assert!(get(&server, "key").is_some());
    assert_healthy(&proxy, &mut client);
}
