//! The proxy: each fault acts on real connections to a real server, and heals.

#![allow(clippy::unwrap_used, reason = "in a test, a panic is the answer")]

mod client;

use std::io::{ErrorKind, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use client::{BOUND, Client, wait_until};
use ha_redis_testkit::Direction::{ToClient, ToServer};
use ha_redis_testkit::{Cut, Error, Proxy, Reply, Server};

const AN_HOUR: Duration = Duration::from_secs(3600);

fn start() -> (Server, Proxy, Client) {
    let server = Server::start().unwrap();
    let proxy = Proxy::before(&server).unwrap();
    let client = Client::open(proxy.address());
    (server, proxy, client)
}

fn get(server: &Server, key: &str) -> Option<String> {
    server.query(&["GET", key]).unwrap().text().map(str::to_owned)
}

/// Whether the server has no connection but the one that asks.
fn is_alone(server: &Server) -> bool {
    server.query(&["INFO", "clients"]).unwrap().field("connected_clients") == Some("1")
}

/// Plain forwarding works, for this client and for a new one.
fn assert_healthy(proxy: &Proxy, client: &mut Client) {
    assert_eq!(client.ask("PING").unwrap(), "+PONG");
    assert_eq!(Client::open(proxy.address()).ask("PING").unwrap(), "+PONG");
}

#[test]
fn bytes_are_forwarded_and_counted() {
    let server = Server::builder().password("a secret").start().unwrap();
    let proxy = Proxy::before(&server).unwrap();
    assert_eq!(proxy.url(), format!("redis://:a%20secret@127.0.0.1:{}", proxy.port()));
    assert!(!format!("{proxy:?}").contains("secret"));
    assert_ne!(proxy.port(), server.port());
    assert_eq!(proxy.connections(), 0);

    let mut client = Client::open(proxy.address());
    assert_eq!(client.ask("PING").unwrap(), "-NOAUTH Authentication required.");
    let length = "-NOAUTH Authentication required.\r\n".len() as u64;
    assert_eq!((proxy.bytes(ToServer), proxy.bytes(ToClient)), (14, length));
    assert_eq!((proxy.connections(), proxy.accepted()), (1, 1));
    drop(client);
    wait_until("the connection is over", || proxy.connections() == 0 && is_alone(&server));
    assert_eq!((proxy.accepted(), proxy.cuts()), (1, 0));
}

#[test]
fn a_large_value_survives_both_ways() {
    let (_server, _proxy, mut client) = start();
    let value: String = (0..16_000_000_u32).map(|i| char::from(b'a' + (i % 23) as u8)).collect();
    assert_eq!(client.ask(&format!("SET key {value}")).unwrap(), "+OK");
    assert_eq!(client.ask("GET key").unwrap(), "$16000000");
    assert!(client.line().unwrap() == value);
}

#[test]
fn the_moments_of_accepting_are_kept() {
    let (_server, proxy, mut first) = start();
    assert_eq!(first.ask("PING").unwrap(), "+PONG");
    let between = Instant::now();
    let _others: Vec<Client> = (0..9).map(|_| Client::open(proxy.address())).collect();
    assert_eq!((proxy.accepted(), proxy.connections()), (10, 10));
    let accepted = proxy.accepted_at();
    assert!(accepted.is_sorted());
    assert!(accepted[0] < between && accepted[1] > between && accepted.len() == 10);
}

#[test]
fn a_delay_makes_bytes_late_without_adding_up() {
    let (_server, proxy, mut client) = start();
    let delay = Duration::from_millis(500);
    proxy.delay(ToClient, delay);
    let start = Instant::now();
    for count in 1..=10 {
        client.send("PING").unwrap();
        // So that each reply is a chunk of its own.
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
    assert_eq!(client.ask("PING").unwrap(), "+PONG");
    assert!(start.elapsed() >= delay);
}

#[test]
fn what_is_delayed_is_released_by_heal() {
    let (_server, proxy, mut client) = start();
    proxy.delay(ToClient, AN_HOUR);
    client.send("PING").unwrap();
    wait_until("the request is through", || proxy.bytes(ToServer) == 14);
    assert_eq!(proxy.bytes(ToClient), 0);
    proxy.heal().unwrap();
    assert_eq!(client.line().unwrap(), "+PONG");
    assert_healthy(&proxy, &mut client);
}

#[test]
fn a_throttle_lets_so_many_bytes_pass_in_a_second() {
    let (_server, proxy, mut client) = start();
    client.ask(&format!("SET key {}", "x".repeat(10_000))).unwrap();
    proxy.throttle(ToClient, 20_000);
    let start = Instant::now();
    assert_eq!(client.ask("GET key").unwrap(), "$10000");
    assert_eq!(client.line().unwrap().len(), 10_000);
    // Half a second, less the part that goes at once.
    assert!(start.elapsed() > Duration::from_millis(450), "{:?}", start.elapsed());

    proxy.throttle(ToServer, 1);
    let before = proxy.bytes(ToServer);
    client.send("GET key").unwrap();
    wait_until("the second byte is through", || proxy.bytes(ToServer) > before + 1);
    let rest = before + 22 - proxy.bytes(ToServer);
    assert!(rest > 10, "{rest} of 22 bytes are left");
    proxy.heal().unwrap();
    assert_eq!(client.line().unwrap(), "$10000");
    assert_eq!(client.line().unwrap().len(), 10_000);
    assert_healthy(&proxy, &mut client);
}

#[test]
fn a_cut_ends_all_connections_on_both_sides() {
    let (server, proxy, mut first) = start();
    for (round, how) in [(1, Cut::Close), (2, Cut::Reset)] {
        let mut second = Client::open(proxy.address());
        assert_eq!(first.ask("PING").unwrap(), "+PONG");
        // The second may not have been accepted yet: the cut meets it even so.
        proxy.cut(how);
        assert_eq!((proxy.connections(), proxy.cuts()), (0, 2 * round));
        let error = (how == Cut::Reset).then_some(ErrorKind::ConnectionReset);
        assert_eq!(first.rest(), (String::new(), error));
        assert_eq!(second.rest(), (String::new(), error));
        wait_until("the server has noticed", || is_alone(&server));
        first = Client::open(proxy.address());
    }
    assert_healthy(&proxy, &mut first);
}

#[test]
fn a_cut_can_fall_in_the_middle_of_a_reply_and_of_a_request() {
    let (server, proxy, mut client) = start();
    client.ask("SET key 0123456789").unwrap();
    proxy.cut_after(ToClient, 7, Cut::Close);
    client.send("GET key").unwrap();
    assert_eq!(client.rest(), ("$10\r\n01".into(), None));
    assert_eq!(proxy.cuts(), 1);

    // It happens once.
    let mut client = Client::open(proxy.address());
    assert_eq!(client.ask("GET key").unwrap(), "$10");
    client.line().unwrap();
    proxy.cut_after(ToServer, 30, Cut::Reset);
    client.send("SET key 9876543210").unwrap();
    assert_eq!(client.rest().1, Some(ErrorKind::ConnectionReset));
    assert_eq!(get(&server, "key").as_deref(), Some("0123456789"));
    wait_until("the server has noticed", || is_alone(&server));

    // Heal takes it back.
    proxy.cut_after(ToClient, 0, Cut::Reset);
    proxy.heal().unwrap();
    assert_healthy(&proxy, &mut Client::open(proxy.address()));
    assert_eq!(proxy.cuts(), 2);
}

#[test]
fn ten_cuts_come_when_requests_were_carried_out_and_replies_are_under_way() {
    let (server, proxy, mut client) = start();
    for round in 1..=10 {
        let how = if round % 2 == 0 { Cut::Close } else { Cut::Reset };
        proxy.cut_after(ToClient, round % 3, how);
        client.send("INCR counter").unwrap();
        assert_eq!(client.rest().0.len() as u64, round % 3);
        assert_eq!(get(&server, "counter"), Some(round.to_string()));
        client = Client::open(proxy.address());
    }
    assert_eq!(proxy.cuts(), 10);
    assert_eq!(client.ask("INCR counter").unwrap(), ":11");
}

#[test]
fn ten_cuts_meet_a_client_that_never_rests() {
    let (server, proxy, mut client) = start();
    let start = Instant::now();
    let acknowledged = thread::scope(|scope| {
        let client = scope.spawn(|| {
            let mut acknowledged = 0;
            while proxy.cuts() < 10 && start.elapsed() < BOUND {
                match client.ask("INCR counter") {
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
fn lost_replies_vanish_while_requests_arrive_and_the_connection_stays() {
    let (server, proxy, mut client) = start();
    proxy.lose(ToClient);
    client.send("INCR counter").unwrap();
    wait_until("the reply is lost", || proxy.lost(ToClient) == 4);
    assert_eq!(get(&server, "counter").as_deref(), Some("1"));
    proxy.heal().unwrap();
    assert_eq!(client.ask("INCR counter").unwrap(), ":2");
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
fn in_a_black_hole_nothing_moves_until_heal() {
    let (server, proxy, mut client) = start();
    assert_eq!(client.ask("PING").unwrap(), "+PONG");
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
fn a_black_hole_can_be_cut() {
    for (how, error) in [(Cut::Close, None), (Cut::Reset, Some(ErrorKind::ConnectionReset))] {
        let (_server, proxy, mut client) = start();
        proxy.black_hole();
        // Nobody reads this, which does not make a close a reset.
        client.send("PING").unwrap();
        proxy.cut(how);
        assert_eq!(client.rest(), (String::new(), error));
    }
}

#[test]
fn the_end_of_one_side_is_passed_on_as_what_it_is() {
    let (server, proxy, _) = start();
    let outer = Proxy::start(proxy.address()).unwrap();
    for (how, error) in [(Cut::Close, None), (Cut::Reset, Some(ErrorKind::ConnectionReset))] {
        let mut client = Client::open(outer.address());
        assert_eq!(client.ask("PING").unwrap(), "+PONG");
        proxy.cut(how);
        assert_eq!(client.rest(), (String::new(), error));
    }
    assert_eq!(outer.cuts(), 0);
    wait_until("the server has noticed", || is_alone(&server));
}

#[test]
fn a_port_refuses_until_heal_and_is_nobody_elses() {
    let (_server, proxy, mut client) = start();
    assert_eq!(client.ask("PING").unwrap(), "+PONG");
    proxy.refuse();
    let refused = Client::try_open(proxy.address()).map(drop);
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    assert_eq!(client.ask("PING").unwrap(), "+PONG");
    let other = Server::builder().port(proxy.port()).start();
    assert!(matches!(other, Err(Error::PortTaken { port }) if port == proxy.port()));
    assert_eq!(proxy.accepted(), 1);
    proxy.heal().unwrap();
    assert_healthy(&proxy, &mut client);
}

#[test]
fn a_half_closed_connection_goes_on_the_other_way() {
    let (server, proxy, mut client) = start();
    assert_eq!(client.ask("PING").unwrap(), "+PONG");
    proxy.half_close(ToClient);
    assert_eq!(client.rest(), (String::new(), None));
    client.send("SET key value").unwrap();
    wait_until("the request has arrived", || get(&server, "key").is_some());
    assert_eq!(proxy.connections(), 1);
    client.stream.get_ref().shutdown(Shutdown::Write).unwrap();
    wait_until("the connection is over", || proxy.connections() == 0 && is_alone(&server));

    let mut client = Client::open(proxy.address());
    assert_eq!(client.ask("PING").unwrap(), "+PONG");
    proxy.half_close(ToServer);
    // Redis answers the end of the stream by its own.
    assert_eq!(client.rest(), (String::new(), None));
    wait_until("the connection is over", || proxy.connections() == 0);
    assert_healthy(&proxy, &mut Client::open(proxy.address()));
}

#[test]
fn corrupt_bytes_take_the_place_of_the_next_ones() {
    let (_server, proxy, mut client) = start();
    proxy.corrupt(ToClient, "?!\0");
    assert_eq!(client.ask("PING").unwrap(), "?!\0NG");
    assert_eq!(client.ask("PING").unwrap(), "+PONG");
    proxy.corrupt(ToClient, "$4294967296\r\n");
    client.send("PING").unwrap();
    client.send("PING").unwrap();
    assert_eq!(client.line().unwrap(), "$4294967296");
    // The last byte of the second reply.
    assert_eq!(client.line().unwrap(), "");

    proxy.corrupt(ToServer, "*1\r\n+");
    let error = client.ask("PING").unwrap();
    assert!(error.starts_with("-ERR Protocol error"), "{error}");
    proxy.corrupt(ToClient, "x".repeat(1000));
    proxy.heal().unwrap();
    assert_healthy(&proxy, &mut Client::open(proxy.address()));
}

#[test]
fn injected_bytes_go_to_all_connections() {
    let (server, proxy, mut first) = start();
    let mut second = Client::open(proxy.address());
    proxy.inject(ToClient, "+surprise\r\n");
    for client in [&mut first, &mut second] {
        assert_eq!(client.line().unwrap(), "+surprise");
        assert_eq!(client.ask("PING").unwrap(), "+PONG");
    }
    proxy.inject(ToServer, "INCR counter\r\n");
    let mut replies = [first.line().unwrap(), second.line().unwrap()];
    replies.sort();
    assert_eq!(replies, [":1", ":2"]);
    assert_eq!(get(&server, "counter").as_deref(), Some("2"));

    // In the place of the replies that are lost.
    proxy.lose(ToClient);
    first.send("PING").unwrap();
    wait_until("the reply is lost", || proxy.lost(ToClient) == 7);
    proxy.inject(ToClient, "-LOADING\r\n");
    assert_eq!(first.line().unwrap(), "-LOADING");
    proxy.heal().unwrap();
    assert_healthy(&proxy, &mut first);
}

#[test]
fn a_slow_receiver_holds_up_the_sender() {
    let server = Server::start().unwrap();
    let proxy = Proxy::before(&server).unwrap();
    let mut stream = TcpStream::connect(proxy.address()).unwrap();
    server.hang().unwrap();
    // Far more than all buffers on the way hold, so it can't be swallowed.
    stream.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
    let blocked = stream.write_all(&vec![b'x'; 100_000_000]).unwrap_err();
    assert_eq!(blocked.kind(), ErrorKind::WouldBlock);
    drop(stream);
    proxy.cut(Cut::Reset);
    server.resume().unwrap();
    wait_until("the server has noticed", || is_alone(&server));
}

#[test]
fn a_connection_is_reset_when_the_server_is_gone_and_works_when_it_is_back() {
    let (server, proxy, mut client) = start();
    assert_eq!(client.ask("PING").unwrap(), "+PONG");
    server.kill().unwrap();
    // It has ended, by one or the other sign.
    assert_eq!(client.rest().0, "");
    let mut client = Client::open(proxy.address());
    assert_eq!(client.rest().1, Some(ErrorKind::ConnectionReset));
    server.restart().unwrap();
    assert_healthy(&proxy, &mut Client::open(proxy.address()));
}

#[test]
fn all_ends_with_the_handle() {
    let (server, proxy, mut client) = start();
    assert_eq!(client.ask("PING").unwrap(), "+PONG");
    proxy.delay(ToClient, AN_HOUR);
    proxy.throttle(ToServer, 1);
    client.send("PING").unwrap();
    let port = proxy.port();
    // Returns when its thread has ended.
    drop(proxy);
    assert_eq!(client.rest().0, "");
    wait_until("the server has noticed", || is_alone(&server));
    let other = Server::builder().port(port).start().unwrap();
    assert_eq!(other.query(&["PING"]).unwrap(), Reply::Text("PONG".into()));
}

#[test]
fn a_partition_cuts_off_by_address() {
    let (server, proxy, mut client) = start();
    let far = Server::builder()
        .bind("127.0.1.9".parse().unwrap())
        .config("bind-source-addr 127.0.1.9")
        .config(format!("replicaof 127.0.0.1 {}", proxy.port()))
        .start()
        .unwrap();
    let link = || far.query(&["INFO", "replication"]).unwrap().field("master_link_status") == Some("up");
    wait_until("the replica follows", link);
    proxy.partition([far.address().ip()]);
    assert_eq!(client.ask("SET key 1").unwrap(), "+OK");
    assert_eq!(Client::open(proxy.address()).ask("SET key 2").unwrap(), "+OK");
    assert_eq!(get(&far, "key"), None);
    proxy.heal().unwrap();
    wait_until("the replica has caught up", || get(&far, "key").as_deref() == Some("2"));
    assert!(get(&server, "key").is_some());
    assert_healthy(&proxy, &mut client);
}
