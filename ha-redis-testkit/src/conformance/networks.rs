//! Names and their addresses, IPv6, and servers that announce addresses of which the client has no use.

use std::future::pending;
use std::io;
use std::iter::from_fn;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use ha_redis_core::runtime::{Endpoint, Runtime, Task, Timer, Transport};
use ha_redis_core::{Address, Client, RedisConfig, RedisConfigBuilder};
use redis::AsyncCommands;

use super::kit::{BOUND, Kit, config, rejected};
use crate::{Answer, Proxy, ScriptedServer, Server, Topology};

tests![
    sentinels_that_hand_out_host_names_are_followed,
    everything_can_be_on_ipv6,
    an_address_map_leads_to_servers_and_sentinels_behind_nat,
    without_a_map_the_announced_address_is_named_and_with_one_both_are,
    a_closed_client_says_so_also_where_connecting_fails_at_once,
    an_address_that_swallows_packets_does_not_hide_the_next,
    a_short_bound_leaves_time_for_the_next_address,
    an_address_that_refuses_leads_to_the_next,
    each_address_that_was_tried_is_named_with_what_it_said,
    an_address_that_takes_connections_and_is_no_redis_leads_to_the_next,
    a_server_that_hangs_leads_to_the_next_address,
    each_address_that_takes_connections_is_named_with_what_it_said,
    a_demoted_server_is_left_for_where_its_name_leads_now,
    a_write_waits_until_the_name_of_a_demoted_server_has_moved,
    a_name_that_is_not_resolved_in_time_is_told_apart,
    a_name_with_thousands_of_addresses_is_tried_at_a_few,
    a_sentinel_whose_name_is_never_resolved_holds_nothing_up,
];

/// Writes, lets the master be replaced, and writes again.
async fn follows_a_failover(kit: &Kit, topology: &Topology, client: &Client) {
    let mut redis = client.connection();
    redis.set::<_, _, ()>("key", 1).await.unwrap();
    let old = topology.planned_failover().unwrap();
    let new = topology.wait_for_new_master(old).unwrap();
    kit.until_master(client, new).await;
    redis.set::<_, _, ()>("key", 2).await.unwrap();
    assert_eq!(new.query(&["GET", "key"]).unwrap().text(), Some("2"));
}

async fn sentinels_that_hand_out_host_names_are_followed(kit: Kit) {
    let topology = Topology::builder().host_name("localhost").start().unwrap();
    let client = kit.client_of_topology(&topology).await;
    let master = Address::tcp("localhost", topology.master().unwrap().port());
    assert_eq!(client.discover_master().await.unwrap(), master, "the name, not what it stands for");
    let described = client.topology().await.unwrap();
    assert_eq!((described.replicas.len(), described.sentinel_states.len()), (2, 3), "{described:?}");
    follows_a_failover(&kit, &topology, &client).await;
}

async fn everything_can_be_on_ipv6(kit: Kit) {
    let topology = Topology::builder().bind(Ipv6Addr::LOCALHOST.into()).start().unwrap();
    assert!(topology.url().contains("[::1]:"));
    let client = kit.client_of_topology(&topology).await;
    assert_eq!(client.discover_replicas().await.unwrap().len(), 2);
    follows_a_failover(&kit, &topology, &client).await;
}

/// The servers' own network, in which they announce themselves.
const INSIDE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// The only name that is known outside of that network; others are looked up for ever.
const NAME: &str = "redis.test";

/// A runtime outside of that network.
#[derive(Debug)]
struct Outside {
    runtime: Arc<dyn Runtime>,
    /// What the name stands for.
    named: Names,
}

/// What the name stands for now.
type Names = Arc<Mutex<Vec<SocketAddr>>>;

impl Outside {
    fn client(kit: &Kit, config: RedisConfig) -> Client {
        Self::naming(Vec::new(), kit, config)
    }

    fn naming(named: Vec<SocketAddr>, kit: &Kit, config: RedisConfig) -> Client {
        Self::looking_up(&Arc::new(Mutex::new(named)), kit, config)
    }

    fn looking_up(named: &Names, kit: &Kit, config: RedisConfig) -> Client {
        Client::new(config, Arc::new(Self { runtime: Arc::clone(&kit.runtime), named: Arc::clone(named) }))
    }
}

#[async_trait]
impl Runtime for Outside {
    fn now(&self) -> Instant {
        self.runtime.now()
    }

    fn timer(&self, at: Instant) -> Box<dyn Timer> {
        self.runtime.timer(at)
    }

    fn spawn(&self, task: Task) -> io::Result<()> {
        self.runtime.spawn(task)
    }

    async fn resolve(&self, host: &str, _port: u16) -> io::Result<Vec<SocketAddr>> {
        if host == NAME { Ok(self.named.lock().unwrap().clone()) } else { pending().await }
    }

    async fn connect(&self, endpoint: Endpoint<'_>) -> io::Result<Box<dyn Transport>> {
        match endpoint {
            Endpoint::Tcp(address) if address.ip() == INSIDE => Err(io::ErrorKind::NetworkUnreachable.into()),
            _ => self.runtime.connect(endpoint).await,
        }
    }
}

async fn an_address_map_leads_to_servers_and_sentinels_behind_nat(kit: Kit) {
    let topology = Topology::builder().bind(INSIDE.into()).start().unwrap();
    let proxies = |servers: &[Server]| -> Vec<_> {
        servers.iter().map(|server| (server.address(), Proxy::before(server).unwrap())).collect()
    };
    let (servers, sentinels) = (proxies(topology.servers()), proxies(topology.sentinels()));
    let map = servers
        .iter()
        .chain(&sentinels)
        .map(|(inside, proxy)| (inside.to_string(), proxy.address().to_string()));
    let settings = config(&topology.url()).to_builder();
    // One Sentinel is configured as it is reached, and the others are learned as they announce themselves.
    let settings = settings.sentinel_hosts([("127.0.0.1", sentinels[0].1.port())]);
    let client = Outside::client(&kit, settings.address_map(map).build().unwrap());
    client.initialize().await.unwrap();
    let described = client.topology().await.unwrap();
    assert_eq!((described.sentinels, described.known_sentinels), (3, 3), "{described}");
    assert_eq!(described.sentinel_states.len(), 3, "each is asked at one address: {described:?}");
    follows_a_failover(&kit, &topology, &client).await;
}

async fn without_a_map_the_announced_address_is_named_and_with_one_both_are(kit: Kit) {
    let topology =
        Topology::builder().bind(INSIDE.into()).replicas(0).sentinels(1).quorum(1).start().unwrap();
    let proxy = Proxy::before(&topology.sentinels()[0]).unwrap();
    let settings = config(&topology.url()).to_builder().sentinel_hosts([("127.0.0.1", proxy.port())]);
    let settings = settings.failover_wait(Duration::from_millis(500));
    let client = Outside::client(&kit, settings.clone().build().unwrap());
    let announced: SocketAddr = topology.servers()[0].address();
    let error = client.initialize().await.unwrap_err().to_string();
    assert!(error.contains(&format!("cannot connect to {announced} (")), "{error}");

    let wrong = settings.address_map([(announced.to_string(), "127.0.0.1:1")]).build().unwrap();
    let error = kit.connect(wrong).await.unwrap_err().to_string();
    assert!(error.contains(&format!("127.0.0.1:1, for {announced} in the address_map")), "{error}");
}

async fn a_closed_client_says_so_also_where_connecting_fails_at_once(kit: Kit) {
    let settings = RedisConfig::builder().use_sentinel(true).sentinel_hosts([(INSIDE.to_string(), 26379)]);
    let client = Outside::client(&kit, settings.build().unwrap());
    assert!(client.sentinel_connection().await.unwrap_err().is_sentinel());
    client.close().await;
    let error = client.sentinel_connection().await.unwrap_err();
    assert!(error.is_closed(), "{error}");
}

/// An address at which nobody answers: the queue of its listener is full, and the system swallows what comes on top.
struct Silent {
    listener: TcpListener,
    _queued: Vec<TcpStream>,
}

impl Silent {
    fn listen() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        rustix::net::listen(&listener, 0).unwrap();
        let address = listener.local_addr().unwrap();
        let queued = from_fn(|| TcpStream::connect_timeout(&address, Duration::from_millis(200)).ok());
        Self { _queued: queued.collect(), listener }
    }

    fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }
}

/// Nothing listens there.
const REFUSING: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 1);

fn by_name() -> RedisConfigBuilder {
    RedisConfig::builder().host(NAME)
}

async fn an_address_that_swallows_packets_does_not_hide_the_next(kit: Kit) {
    let (silent, server) = (Silent::listen(), Server::start().unwrap());
    let bound = Duration::from_secs(10);
    let config = by_name().socket_connect_timeout(bound).build().unwrap();
    let client = Outside::naming(vec![silent.address(), server.address()], &kit, config);
    let began = Instant::now();
    client.initialize().await.unwrap();
    assert!(began.elapsed() < bound / 2, "{:?}", began.elapsed());
    client.connection().set::<_, _, ()>("key", 1).await.unwrap();
}

async fn a_short_bound_leaves_time_for_the_next_address(kit: Kit) {
    let (silent, server) = (Silent::listen(), Server::start().unwrap());
    // Shorter than what is waited for an address when there is time; several attempts, since the machine may be busy.
    let short = by_name().socket_connect_timeout(Duration::from_millis(240));
    let addresses = vec![silent.address(), REFUSING, server.address()];
    let client = Outside::naming(addresses, &kit, short.build().unwrap());
    client.connection().set::<_, _, ()>("key", 1).await.unwrap();
}

async fn an_address_that_refuses_leads_to_the_next(kit: Kit) {
    let server = Server::start().unwrap();
    let addresses = vec![REFUSING, REFUSING, server.address()];
    let client = Outside::naming(addresses, &kit, by_name().build().unwrap());
    client.initialize().await.unwrap();
    client.connection().set::<_, _, ()>("key", 1).await.unwrap();
}

async fn each_address_that_was_tried_is_named_with_what_it_said(kit: Kit) {
    let refusing_too = SocketAddr::from((Ipv6Addr::LOCALHOST, 1));
    let unreachable = SocketAddr::from((INSIDE, 6379));
    let client = Outside::naming(vec![REFUSING, unreachable, refusing_too], &kit, by_name().build().unwrap());
    let error = client.initialize().await.unwrap_err();
    assert!(error.is_connection(), "{error}");
    let text = error.to_string();
    let named = [NAME, "127.0.0.1:1: ", "[::1]:1: ", "127.0.0.2:6379: network unreachable"];
    let places = named.map(|name| text.find(name).unwrap_or_else(|| panic!("no {name} in {text}")));
    assert!(places.is_sorted(), "the families take turns: {text}");

    let silent = Silent::listen();
    let config = by_name().socket_connect_timeout(Duration::from_millis(200)).build().unwrap();
    let client = Outside::naming(vec![REFUSING, silent.address()], &kit, config);
    let error = client.initialize().await.unwrap_err();
    assert!(error.is_timeout(), "{error}");
    let text = error.to_string();
    assert!(
        text.contains("127.0.0.1:1: ") && text.contains(&format!("{}: no answer", silent.address())),
        "{text}"
    );
}

/// What takes connections and is no usable Redis: a tunnel without an end, a web server.
fn useless(answer: Answer) -> ScriptedServer {
    ScriptedServer::start_bare(move |_, _| answer.clone()).unwrap()
}

async fn an_address_that_takes_connections_and_is_no_redis_leads_to_the_next(kit: Kit) {
    let web = "HTTP/1.1 400 Bad Request\r\n\r\n";
    for answer in [Answer::Close(Vec::new()), Answer::from(web), Answer::from("-WRONGPASS not yours\r\n")] {
        let (useless, server) = (useless(answer), Server::start().unwrap());
        let config = by_name().max_connections(10).build().unwrap();
        let client = Outside::naming(vec![useless.address(), server.address()], &kit, config);
        client.initialize().await.unwrap();
        client.connection().set::<_, _, ()>("key", 1).await.unwrap();
        let before = useless.accepted();
        let mut all = Vec::new();
        for _ in 0..3 {
            all.push(client.dedicated().await.unwrap());
        }
        assert_eq!(useless.accepted(), before, "it is tried last from now on");
        // When the other one is gone it is tried again.
        server.kill().unwrap();
        kit.until("it is tried", || useless.accepted() > before).await;
    }
}

async fn a_server_that_hangs_leads_to_the_next_address(kit: Kit) {
    let (hung, server) = (Server::start().unwrap(), Server::start().unwrap());
    hung.hang().unwrap();
    let bound = Duration::from_secs(10);
    let config = by_name().socket_connect_timeout(bound).build().unwrap();
    let client = Outside::naming(vec![hung.address(), server.address()], &kit, config);
    client.initialize().await.unwrap();
    client.connection().set::<_, _, ()>("key", 1).await.unwrap();
    assert_eq!(server.query(&["GET", "key"]).unwrap().text(), Some("1"));
    hung.resume().unwrap();
}

async fn each_address_that_takes_connections_is_named_with_what_it_said(kit: Kit) {
    let (useless, hung) = (useless(Answer::Close(Vec::new())), Server::start().unwrap());
    hung.hang().unwrap();
    let config = by_name().socket_connect_timeout(Duration::from_millis(600)).build().unwrap();
    let client = Outside::naming(vec![useless.address(), REFUSING, hung.address()], &kit, config);
    let error = client.initialize().await.unwrap_err();
    assert!(error.is_timeout(), "{error}");
    let text = error.to_string();
    let closed = format!("{}: ", useless.address());
    let silent = format!("{}: connected, and no answer", hung.address());
    assert!([&closed, "127.0.0.1:1: ", &silent].iter().all(|said| text.contains(*said)), "{text}");
    // Also when there is one address alone.
    for address in [REFUSING, useless.address(), hung.address()] {
        let config = by_name().socket_connect_timeout(Duration::from_millis(300)).build().unwrap();
        let error = Outside::naming(vec![address], &kit, config).initialize().await.unwrap_err().to_string();
        assert!(error.contains(NAME) && error.contains(&address.to_string()), "{error}");
    }
    hung.resume().unwrap();
}

async fn a_demoted_server_is_left_for_where_its_name_leads_now(kit: Kit) {
    let (first, second) = (Server::start().unwrap(), Server::start().unwrap());
    let names: Names = Arc::new(Mutex::new(vec![first.address()]));
    let client = Outside::looking_up(&names, &kit, by_name().build().unwrap());
    let mut redis = client.connection();
    // Each of them has only just been connected to when it is demoted.
    for (round, (old, new)) in
        [(&first, &second), (&second, &first), (&first, &second)].into_iter().enumerate()
    {
        redis.set::<_, _, ()>("key", round).await.unwrap();
        new.query(&["REPLICAOF", "NO", "ONE"]).unwrap();
        old.query(&["REPLICAOF", "127.0.0.1", &new.port().to_string()]).unwrap();
        *names.lock().unwrap() = vec![new.address()];
        redis.set::<_, _, ()>("key", "moved").await.unwrap();
        assert_eq!(new.query(&["GET", "key"]).unwrap().text(), Some("moved"));
    }
}

async fn a_write_waits_until_the_name_of_a_demoted_server_has_moved(kit: Kit) {
    let (old, new) = (Server::start().unwrap(), Server::start().unwrap());
    let names: Names = Arc::new(Mutex::new(vec![old.address()]));
    let client = Outside::looking_up(&names, &kit, by_name().failover_wait(BOUND).build().unwrap());
    client.initialize().await.unwrap();
    old.query(&["REPLICAOF", "127.0.0.1", &new.port().to_string()]).unwrap();
    let mut redis = client.connection();
    let waiting = kit.spawn(async move { redis.set::<_, _, ()>("key", 1).await });
    kit.until("the write was refused", || rejected(&old, "set") >= 3).await;
    *names.lock().unwrap() = vec![new.address()];
    kit.within("it waits", waiting.end()).await.unwrap();
    assert_eq!(new.query(&["GET", "key"]).unwrap().text(), Some("1"));
}

async fn a_name_that_is_not_resolved_in_time_is_told_apart(kit: Kit) {
    let unknown = RedisConfig::builder().host("unknown.test");
    let config = unknown.socket_connect_timeout(Duration::from_millis(50)).build().unwrap();
    let error = Outside::client(&kit, config).initialize().await.unwrap_err();
    assert!(error.is_timeout() && error.to_string().contains("not resolved within 50ms"), "{error}");
}

async fn a_name_with_thousands_of_addresses_is_tried_at_a_few(kit: Kit) {
    let server = Server::start().unwrap();
    let refusing = (0..5000_u16).map(|n| SocketAddr::from((INSIDE, 1 + n)));
    let mut addresses: Vec<_> = refusing.collect();
    let client = Outside::naming(addresses.clone(), &kit, by_name().build().unwrap());
    let error = client.initialize().await.unwrap_err().to_string();
    assert_eq!(error.matches("network unreachable").count(), 16, "{error}");
    addresses.insert(10, server.address());
    let client = Outside::naming(addresses, &kit, by_name().build().unwrap());
    client.initialize().await.unwrap();
    client.connection().set::<_, _, ()>("key", 1).await.unwrap();
}

async fn a_sentinel_whose_name_is_never_resolved_holds_nothing_up(kit: Kit) {
    let topology = Topology::start().unwrap();
    let settings = config(&topology.url()).to_builder().sentinel_socket_connect_timeout(BOUND);
    let known = topology.sentinel_addresses().into_iter().map(|known| (known.ip().to_string(), known.port()));
    let hosts = [("unknown.test".to_owned(), 26379)].into_iter().chain(known);
    let client = Outside::client(&kit, settings.sentinel_hosts(hosts).build().unwrap());
    let began = Instant::now();
    client.initialize().await.unwrap();
    client.connection().set::<_, _, ()>("key", 1).await.unwrap();
    assert!(began.elapsed() < BOUND / 2, "{:?}", began.elapsed());
}
