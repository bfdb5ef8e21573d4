//! Tests host names and their addresses, IPv6, and servers that announce addresses that the client cannot reach.

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

use super::kit::{BOUND, Kit, rejected, settings};
use crate::{Answer, Proxy, ScriptedServer, Server, Topology};

tests![
    sentinel_host_names_resolved,
    ipv6_topology,
    address_map_reaches_servers_behind_nat,
    error_names_announced_and_mapped_address,
    closed_client_error_when_connect_fails,
    unresponsive_address_falls_back_to_next,
    short_timeout_leaves_time_for_next_address,
    refusing_address_falls_back_to_next,
    error_lists_each_tried_address,
    non_redis_address_falls_back_to_next,
    hung_server_falls_back_to_next_address,
    error_lists_each_failed_handshake,
    demoted_server_name_resolved_again,
    write_waits_for_name_to_move,
    name_resolution_timeout_error,
    addresses_per_name_are_capped,
    unresolvable_sentinel_does_not_delay,
];

/// Writes, fails the master over, and writes again.
async fn check_failover(kit: &Kit, topology: &Topology, client: &Client) {
    let mut redis = client.connection();
    redis.set::<_, _, ()>("key", 1).await.unwrap();
    let old = topology.planned_failover().unwrap();
    let new = topology.wait_for_new_master(old).unwrap();
    kit.until_master(client, new).await;
    redis.set::<_, _, ()>("key", 2).await.unwrap();
    assert_eq!(new.query(&["GET", "key"]).unwrap().text(), Some("2"));
}

async fn sentinel_host_names_resolved(kit: Kit) {
    let topology = Topology::builder().host_name("localhost").start().unwrap();
    let client = kit.client_of_topology(&topology).await;
    let master = Address::tcp("localhost", topology.master().unwrap().port());
    assert_eq!(client.discover_master().await.unwrap(), master, "the name, not the address it resolves to");
    let described = client.topology().await.unwrap();
    assert_eq!((described.replicas.len(), described.sentinel_states.len()), (2, 3), "{described:?}");
    check_failover(&kit, &topology, &client).await;
}

async fn ipv6_topology(kit: Kit) {
    let topology = Topology::builder().bind(Ipv6Addr::LOCALHOST.into()).start().unwrap();
    assert!(topology.url().contains("[::1]:"));
    let client = kit.client_of_topology(&topology).await;
    assert_eq!(client.discover_replicas().await.unwrap().len(), 2);
    check_failover(&kit, &topology, &client).await;
}

/// The host of the servers' own network, which they announce.
const INTERNAL_HOST: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// The only name that resolves outside of the servers' network. Looking up any other name never ends.
const NAME: &str = "redis.test";

/// A runtime outside of the servers' network.
#[derive(Debug)]
struct ExternalRuntime {
    runtime: Arc<dyn Runtime>,
    /// The addresses that the name resolves to.
    addresses: SharedAddresses,
}

/// The addresses that the name currently resolves to.
type SharedAddresses = Arc<Mutex<Vec<SocketAddr>>>;

impl ExternalRuntime {
    fn client(kit: &Kit, config: RedisConfig) -> Client {
        Self::with_addresses(Vec::new(), kit, config)
    }

    fn with_addresses(addresses: Vec<SocketAddr>, kit: &Kit, config: RedisConfig) -> Client {
        Self::with_shared_addresses(&Arc::new(Mutex::new(addresses)), kit, config)
    }

    fn with_shared_addresses(addresses: &SharedAddresses, kit: &Kit, config: RedisConfig) -> Client {
        Client::new(
            config,
            Arc::new(Self { runtime: Arc::clone(&kit.runtime), addresses: Arc::clone(addresses) }),
        )
    }
}

#[async_trait]
impl Runtime for ExternalRuntime {
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
        if host == NAME { Ok(self.addresses.lock().unwrap().clone()) } else { pending().await }
    }

    async fn connect(&self, endpoint: Endpoint<'_>) -> io::Result<Box<dyn Transport>> {
        match endpoint {
            Endpoint::Tcp(address) if address.ip() == INTERNAL_HOST => {
                Err(io::ErrorKind::NetworkUnreachable.into())
            }
            _ => self.runtime.connect(endpoint).await,
        }
    }
}

async fn address_map_reaches_servers_behind_nat(kit: Kit) {
    let topology = Topology::builder().bind(INTERNAL_HOST.into()).start().unwrap();
    let proxies = |servers: &[Server]| -> Vec<_> {
        servers.iter().map(|server| (server.address(), Proxy::before(server).unwrap())).collect()
    };
    let (servers, sentinels) = (proxies(topology.servers()), proxies(topology.sentinels()));
    let map = servers
        .iter()
        .chain(&sentinels)
        .map(|(inside, proxy)| (inside.to_string(), proxy.address().to_string()));
    let settings = settings(&topology.url());
    // One Sentinel is configured by its reachable address. The client learns the others by their announced
    // addresses.
    let settings = settings.sentinel_hosts([("127.0.0.1", sentinels[0].1.port())]);
    let client = ExternalRuntime::client(&kit, settings.address_map(map).build().unwrap());
    client.initialize().await.unwrap();
    let described = client.topology().await.unwrap();
    assert_eq!((described.sentinels, described.known_sentinels), (3, 3), "{described}");
    assert_eq!(described.sentinel_states.len(), 3, "each Sentinel is queried at one address: {described:?}");
    check_failover(&kit, &topology, &client).await;
}

async fn error_names_announced_and_mapped_address(kit: Kit) {
    let topology =
        Topology::builder().bind(INTERNAL_HOST.into()).replicas(0).sentinels(1).quorum(1).start().unwrap();
    let proxy = Proxy::before(&topology.sentinels()[0]).unwrap();
    let settings = settings(&topology.url()).sentinel_hosts([("127.0.0.1", proxy.port())]);
    let settings = settings.failover_wait(Duration::from_millis(500));
    let client = ExternalRuntime::client(&kit, settings.clone().build().unwrap());
    let announced: SocketAddr = topology.servers()[0].address();
    let error = client.initialize().await.unwrap_err().to_string();
    assert!(error.contains(&format!("cannot connect to {announced} (")), "{error}");

    let config = settings.address_map([(announced.to_string(), "127.0.0.1:1")]).build().unwrap();
    let error = kit.connect(config).await.unwrap_err().to_string();
    assert!(error.contains(&format!("127.0.0.1:1, for {announced} in the address_map")), "{error}");
}

async fn closed_client_error_when_connect_fails(kit: Kit) {
    let settings =
        RedisConfig::builder().use_sentinel(true).sentinel_hosts([(INTERNAL_HOST.to_string(), 26379)]);
    let client = ExternalRuntime::client(&kit, settings.build().unwrap());
    assert!(client.sentinel_connection().await.unwrap_err().is_sentinel());
    client.close().await;
    let error = client.sentinel_connection().await.unwrap_err();
    assert!(error.is_closed(), "{error}");
}

/// An address that never completes a connection: the listener's queue is full, and the system drops further
/// attempts.
struct UnansweredListener {
    listener: TcpListener,
    _queued: Vec<TcpStream>,
}

impl UnansweredListener {
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

/// An address on which nothing listens.
const CLOSED_PORT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 1);

fn by_name() -> RedisConfigBuilder {
    RedisConfig::builder().host(NAME)
}

async fn unresponsive_address_falls_back_to_next(kit: Kit) {
    let (silent, server) = (UnansweredListener::listen(), Server::start().unwrap());
    let bound = Duration::from_secs(10);
    let config = by_name().socket_connect_timeout(bound).build().unwrap();
    let client = ExternalRuntime::with_addresses(vec![silent.address(), server.address()], &kit, config);
    let began = Instant::now();
    client.initialize().await.unwrap();
    assert!(began.elapsed() < bound / 2, "{:?}", began.elapsed());
    client.connection().set::<_, _, ()>("key", 1).await.unwrap();
}

async fn short_timeout_leaves_time_for_next_address(kit: Kit) {
    let (silent, server) = (UnansweredListener::listen(), Server::start().unwrap());
    // The timeout is shorter than the usual delay before the next address is tried. Several attempts are made,
    // because the machine may be busy.
    let short = by_name().socket_connect_timeout(Duration::from_millis(240));
    let addresses = vec![silent.address(), CLOSED_PORT, server.address()];
    let client = ExternalRuntime::with_addresses(addresses, &kit, short.build().unwrap());
    client.connection().set::<_, _, ()>("key", 1).await.unwrap();
}

async fn refusing_address_falls_back_to_next(kit: Kit) {
    let server = Server::start().unwrap();
    let addresses = vec![CLOSED_PORT, CLOSED_PORT, server.address()];
    let client = ExternalRuntime::with_addresses(addresses, &kit, by_name().build().unwrap());
    client.initialize().await.unwrap();
    client.connection().set::<_, _, ()>("key", 1).await.unwrap();
}

async fn error_lists_each_tried_address(kit: Kit) {
    let refusing_too = SocketAddr::from((Ipv6Addr::LOCALHOST, 1));
    let unreachable = SocketAddr::from((INTERNAL_HOST, 6379));
    let client = ExternalRuntime::with_addresses(
        vec![CLOSED_PORT, unreachable, refusing_too],
        &kit,
        by_name().build().unwrap(),
    );
    let error = client.initialize().await.unwrap_err();
    assert!(error.is_connection(), "{error}");
    let text = error.to_string();
    let addresses = [NAME, "127.0.0.1:1: ", "[::1]:1: ", "127.0.0.2:6379: network unreachable"];
    let places = addresses.map(|name| text.find(name).unwrap_or_else(|| panic!("no {name} in {text}")));
    assert!(places.is_sorted(), "address families alternate: {text}");

    let silent = UnansweredListener::listen();
    let config = by_name().socket_connect_timeout(Duration::from_millis(200)).build().unwrap();
    let client = ExternalRuntime::with_addresses(vec![CLOSED_PORT, silent.address()], &kit, config);
    let error = client.initialize().await.unwrap_err();
    assert!(error.is_timeout(), "{error}");
    let text = error.to_string();
    assert!(
        text.contains("127.0.0.1:1: ") && text.contains(&format!("{}: no answer", silent.address())),
        "{text}"
    );
}

/// Starts a server that accepts connections but is no usable Redis, such as a tunnel without a peer or a web
/// server.
fn unusable_server(answer: Answer) -> ScriptedServer {
    ScriptedServer::start_bare(move |_, _| answer.clone()).unwrap()
}

async fn non_redis_address_falls_back_to_next(kit: Kit) {
    let web = "HTTP/1.1 400 Bad Request\r\n\r\n";
    for answer in [Answer::Close(Vec::new()), Answer::from(web), Answer::from("-WRONGPASS not yours\r\n")] {
        let (useless, server) = (unusable_server(answer), Server::start().unwrap());
        let config = by_name().max_connections(10).build().unwrap();
        let client = ExternalRuntime::with_addresses(vec![useless.address(), server.address()], &kit, config);
        client.initialize().await.unwrap();
        client.connection().set::<_, _, ()>("key", 1).await.unwrap();
        let before = useless.accepted();
        let mut all = Vec::new();
        for _ in 0..3 {
            all.push(client.dedicated().await.unwrap());
        }
        assert_eq!(useless.accepted(), before, "the failed address is tried last");
        // The client tries it again when the other server is gone.
        server.kill().unwrap();
        kit.until("the address is tried", || useless.accepted() > before).await;
    }
}

async fn hung_server_falls_back_to_next_address(kit: Kit) {
    let (hung, server) = (Server::start().unwrap(), Server::start().unwrap());
    hung.hang().unwrap();
    let bound = Duration::from_secs(10);
    let config = by_name().socket_connect_timeout(bound).build().unwrap();
    let client = ExternalRuntime::with_addresses(vec![hung.address(), server.address()], &kit, config);
    client.initialize().await.unwrap();
    client.connection().set::<_, _, ()>("key", 1).await.unwrap();
    assert_eq!(server.query(&["GET", "key"]).unwrap().text(), Some("1"));
    hung.resume().unwrap();
}

async fn error_lists_each_failed_handshake(kit: Kit) {
    let (useless, hung) = (unusable_server(Answer::Close(Vec::new())), Server::start().unwrap());
    hung.hang().unwrap();
    let config = by_name().socket_connect_timeout(Duration::from_millis(600)).build().unwrap();
    let client =
        ExternalRuntime::with_addresses(vec![useless.address(), CLOSED_PORT, hung.address()], &kit, config);
    let error = client.initialize().await.unwrap_err();
    assert!(error.is_timeout(), "{error}");
    let text = error.to_string();
    let closed = format!("{}: ", useless.address());
    let silent = format!("{}: connected, no answer", hung.address());
    assert!([&closed, "127.0.0.1:1: ", &silent].iter().all(|part| text.contains(*part)), "{text}");
    // Each address on its own fails as well.
    for address in [CLOSED_PORT, useless.address(), hung.address()] {
        let config = by_name().socket_connect_timeout(Duration::from_millis(300)).build().unwrap();
        let error = ExternalRuntime::with_addresses(vec![address], &kit, config)
            .initialize()
            .await
            .unwrap_err()
            .to_string();
        assert!(error.contains(NAME) && error.contains(&address.to_string()), "{error}");
    }
    hung.resume().unwrap();
}

async fn demoted_server_name_resolved_again(kit: Kit) {
    let (first, second) = (Server::start().unwrap(), Server::start().unwrap());
    let names: SharedAddresses = Arc::new(Mutex::new(vec![first.address()]));
    let client = ExternalRuntime::with_shared_addresses(&names, &kit, by_name().build().unwrap());
    let mut redis = client.connection();
    // Each server is demoted right after the client connects to it.
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

async fn write_waits_for_name_to_move(kit: Kit) {
    let (old, new) = (Server::start().unwrap(), Server::start().unwrap());
    let names: SharedAddresses = Arc::new(Mutex::new(vec![old.address()]));
    let client =
        ExternalRuntime::with_shared_addresses(&names, &kit, by_name().failover_wait(BOUND).build().unwrap());
    client.initialize().await.unwrap();
    old.query(&["REPLICAOF", "127.0.0.1", &new.port().to_string()]).unwrap();
    let mut redis = client.connection();
    let waiting = kit.spawn(async move { redis.set::<_, _, ()>("key", 1).await });
    kit.until("the write was refused", || rejected(&old, "set") >= 3).await;
    *names.lock().unwrap() = vec![new.address()];
    kit.within("the call waits", waiting.end()).await.unwrap();
    assert_eq!(new.query(&["GET", "key"]).unwrap().text(), Some("1"));
}

async fn name_resolution_timeout_error(kit: Kit) {
    let unknown = RedisConfig::builder().host("unknown.test");
    let config = unknown.socket_connect_timeout(Duration::from_millis(50)).build().unwrap();
    let error = ExternalRuntime::client(&kit, config).initialize().await.unwrap_err();
    assert!(error.is_timeout() && error.to_string().contains("not resolved within 50ms"), "{error}");
}

async fn addresses_per_name_are_capped(kit: Kit) {
    let server = Server::start().unwrap();
    let refusing = (0..5000_u16).map(|n| SocketAddr::from((INTERNAL_HOST, 1 + n)));
    let mut addresses: Vec<_> = refusing.collect();
    let client = ExternalRuntime::with_addresses(addresses.clone(), &kit, by_name().build().unwrap());
    let error = client.initialize().await.unwrap_err().to_string();
    assert_eq!(error.matches("network unreachable").count(), 16, "{error}");
    addresses.insert(10, server.address());
    let client = ExternalRuntime::with_addresses(addresses, &kit, by_name().build().unwrap());
    client.initialize().await.unwrap();
    client.connection().set::<_, _, ()>("key", 1).await.unwrap();
}

async fn unresolvable_sentinel_does_not_delay(kit: Kit) {
    let topology = Topology::start().unwrap();
    let settings = settings(&topology.url()).sentinel_socket_connect_timeout(BOUND);
    let reachable = topology
        .sentinel_addresses()
        .into_iter()
        .map(|reachable| (reachable.ip().to_string(), reachable.port()));
    let hosts = [("unknown.test".to_owned(), 26379)].into_iter().chain(reachable);
    let client = ExternalRuntime::client(&kit, settings.sentinel_hosts(hosts).build().unwrap());
    let began = Instant::now();
    client.initialize().await.unwrap();
    client.connection().set::<_, _, ()>("key", 1).await.unwrap();
    assert!(began.elapsed() < BOUND / 2, "{:?}", began.elapsed());
}
