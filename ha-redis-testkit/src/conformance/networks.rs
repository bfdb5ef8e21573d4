//! Names, IPv6, and servers that announce addresses of which the client has no use.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use ha_redis_core::runtime::{Runtime, Task, Timer, Transport};
use ha_redis_core::{Address, Client, RedisConfig};
use redis::AsyncCommands;

use super::kit::{Kit, config};
use crate::{Proxy, Server, Topology};

tests![
    sentinels_that_hand_out_host_names_are_followed,
    everything_can_be_on_ipv6,
    an_address_map_leads_to_servers_and_sentinels_behind_nat,
    without_a_map_the_announced_address_is_named_and_with_one_both_are,
    a_closed_client_says_so_also_where_connecting_fails_at_once,
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

/// A runtime outside of that network.
#[derive(Debug)]
struct Outside(Arc<dyn Runtime>);

impl Outside {
    fn client(kit: &Kit, config: RedisConfig) -> Client {
        Client::new(config, Arc::new(Self(Arc::clone(&kit.runtime))))
    }
}

#[async_trait]
impl Runtime for Outside {
    fn now(&self) -> Instant {
        self.0.now()
    }

    fn timer(&self, at: Instant) -> Box<dyn Timer> {
        self.0.timer(at)
    }

    fn spawn(&self, task: Task) -> io::Result<()> {
        self.0.spawn(task)
    }

    async fn connect(&self, address: &Address) -> io::Result<Box<dyn Transport>> {
        match address {
            Address::Tcp { host, .. } if *host == INSIDE.to_string() => {
                Err(io::ErrorKind::NetworkUnreachable.into())
            }
            _ => self.0.connect(address).await,
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
