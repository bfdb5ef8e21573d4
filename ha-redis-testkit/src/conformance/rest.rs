//! Tests connections that have carried large values, have become idle and released their memory, and then end.

use std::time::Duration;

use ha_redis_core::{Client, Connection, DedicatedConnection, PubSub, PubSubEvent, SentinelConnection};
use redis::AsyncCommands;

use super::kit::Kit;
use crate::{Server, Topology};

tests! {
    everywhere: [
        client_closes_after_idle,
        killed_connections_replaced_after_idle,
        killed_master_replaced_after_idle,
        planned_failover_followed_after_idle,
    ],
}

/// An idle connection releases its memory after a second. This cannot be observed, and a real server's time cannot
/// be moved, so the tests wait for it.
const IDLE_TIME: Duration = Duration::from_secs(2);

const LARGE: usize = 300_000;
const TIMES: usize = 5;

/// One connection of each kind.
pub(super) struct IdleConnections {
    kit: Kit,
    client: Client,
    shared: Connection,
    replica: Connection,
    dedicated: DedicatedConnection,
    subscriber: PubSub,
    sentinel: Option<SentinelConnection>,
}

impl IdleConnections {
    /// Opens the connections, carries large values on each, and waits until they are idle.
    pub(super) async fn open_and_idle(kit: &Kit, client: Client) -> Self {
        let (dedicated, subscriber) = (client.dedicated().await.unwrap(), client.pubsub().await.unwrap());
        subscriber.subscribe("news").await.unwrap();
        let sentinel = match client.is_sentinel_mode() {
            true => Some(client.sentinel_connection().await.unwrap()),
            false => None,
        };
        let (shared, replica) = (client.connection(), client.replica_connection());
        let mut connections =
            Self { kit: kit.clone(), client, shared, replica, dedicated, subscriber, sentinel };
        connections.carry_large_values().await;
        kit.sleep(IDLE_TIME).await;
        connections
    }

    async fn carry_large_values(&mut self) {
        let large = "x".repeat(LARGE);
        self.shared.set::<_, _, ()>("key", &large).await.unwrap();
        while self.replica.strlen::<_, usize>("key").await.unwrap() < LARGE {
            self.kit.sleep(Duration::from_millis(10)).await;
        }
        let mut replicas = redis::pipe();
        (0..100).for_each(|_| _ = replicas.cmd("SENTINEL").arg("REPLICAS").arg("mymaster"));
        for _ in 0..TIMES {
            assert_eq!(self.shared.get::<_, String>("key").await.unwrap(), large);
            assert_eq!(self.replica.get::<_, String>("key").await.unwrap(), large);
            assert_eq!(self.dedicated.get::<_, String>("key").await.unwrap(), large);
            self.shared.publish::<_, _, ()>("news", &large).await.unwrap();
            self.until_message(LARGE).await;
            if let Some(sentinel) = &mut self.sentinel {
                assert_eq!(sentinel.request_pipeline(&replicas).await.unwrap().len(), 100);
            }
        }
    }

    /// Reads up to the next message of this length.
    async fn until_message(&mut self, length: usize) {
        loop {
            match self.kit.within("a message", self.subscriber.next()).await {
                Some(PubSubEvent::Message(message)) if message.get_payload_bytes().len() == length => return,
                Some(_) => {}
                None => panic!("the subscriber's stream has ended"),
            }
        }
    }

    /// Checks that the client works, even if its connections were lost.
    pub(super) async fn check_all_work(self) {
        let Self { kit, client, mut shared, mut replica, dedicated, mut subscriber, .. } = self;
        drop(dedicated);
        let works = async {
            shared.set::<_, _, ()>("key", "small").await.unwrap();
            assert_eq!(shared.get::<_, String>("key").await.unwrap(), "small");
            replica.exists::<_, bool>("key").await.unwrap();
            let mut dedicated = client.dedicated().await.unwrap();
            assert_eq!(dedicated.get::<_, String>("key").await.unwrap(), "small");
            if client.is_sentinel_mode() {
                let mut sentinel = client.sentinel_connection().await.unwrap();
                sentinel.request(redis::cmd("SENTINEL").arg("MASTERS")).await.unwrap();
            }
        };
        kit.within("the client works", works).await;
        let news = async {
            // The subscriber may still be reconnecting.
            while shared.publish::<_, _, usize>("news", "after").await.unwrap() == 0 {
                kit.sleep(Duration::from_millis(10)).await;
            }
            loop {
                match subscriber.next().await.expect("the stream ended") {
                    PubSubEvent::Message(message) if message.get_payload_bytes() == b"after" => return,
                    _ => {}
                }
            }
        };
        kit.within("the subscriber receives the message", news).await;
        client.close().await;
    }

    /// Checks that calls fail and that the client can be closed when there is no server.
    pub(super) async fn check_calls_fail(self) {
        let mut shared = self.shared.with_timeout(Duration::from_secs(1));
        self.kit.within("a call ends", shared.get::<_, String>("key")).await.unwrap_err();
        self.kit.within("the client closes", self.client.close()).await;
    }

    /// Closes the client, and checks that every handle reports it.
    pub(super) async fn check_close(mut self) {
        let report = self.kit.within("the client closes", self.client.close()).await;
        assert!(report.is_clean(), "{report}");
        for error in [
            self.shared.get::<_, String>("key").await.unwrap_err(),
            self.replica.get::<_, String>("key").await.unwrap_err(),
            self.dedicated.get::<_, String>("key").await.unwrap_err(),
        ] {
            assert!(error.to_string().contains("closed"), "{error}");
        }
        while self.kit.within("the stream ends", self.subscriber.next()).await.is_some() {}
    }
}

async fn of_topology(kit: &Kit) -> (Topology, IdleConnections) {
    let topology = kit.topology_builder().demote_after(Duration::from_secs(1)).start().unwrap();
    let client = kit.client_of_topology(&topology).await;
    let connections = IdleConnections::open_and_idle(kit, client).await;
    (topology, connections)
}

async fn client_closes_after_idle(kit: Kit) {
    let (_topology, connections) = of_topology(&kit).await;
    connections.check_close().await;
}

async fn killed_connections_replaced_after_idle(kit: Kit) {
    let (topology, connections) = of_topology(&kit).await;
    kill_connections(topology.servers().iter().chain(topology.sentinels()));
    connections.check_all_work().await;
}

/// Closes the connections of all clients on these servers.
pub(super) fn kill_connections<'a>(servers: impl IntoIterator<Item = &'a Server>) {
    for server in servers {
        server.query(&["CLIENT", "KILL", "TYPE", "normal"]).unwrap();
        server.query(&["CLIENT", "KILL", "TYPE", "pubsub"]).unwrap();
    }
}

async fn killed_master_replaced_after_idle(kit: Kit) {
    let (topology, connections) = of_topology(&kit).await;
    let old = topology.kill_master().unwrap();
    topology.wait_for_new_master(old).unwrap();
    connections.check_all_work().await;
}

async fn planned_failover_followed_after_idle(kit: Kit) {
    let (topology, connections) = of_topology(&kit).await;
    let old = topology.planned_failover().unwrap();
    topology.wait_for_new_master(old).unwrap();
    connections.check_all_work().await;
}
