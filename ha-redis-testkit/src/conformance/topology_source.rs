//! A source of the topology that a user brings: it names the master and the replicas, and the client follows it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use async_channel::Receiver;
use async_trait::async_trait;
use ha_redis_core::{
    Address, Client, ClientOptions, Event, Events, RedisConfig, RedisErrorExt, TopologySource, TopologyUpdate,
};
use redis::{AsyncCommands, RedisResult};

use super::kit::{BOUND, Kit, settings};
use crate::Server;

tests![
    follows_the_source_to_another_master,
    waits_until_the_named_master_is_one,
    reads_from_the_listed_replicas,
    reports_why_the_source_fails,
    source_that_never_waits_delays_nobody,
    source_beside_sentinels_is_refused,
];

type Answer = Result<TopologyUpdate, String>;

/// A source that the test feeds.
#[derive(Debug)]
struct Fed(Receiver<Answer>);

#[async_trait]
impl TopologySource for Fed {
    async fn next_update(&mut self) -> Result<TopologyUpdate, Box<dyn std::error::Error + Send + Sync>> {
        match self.0.recv().await {
            Ok(answer) => Ok(answer?),
            Err(_) => std::future::pending().await,
        }
    }
}

fn address(server: &Server) -> Address {
    Address::tcp("127.0.0.1", server.port())
}

fn names(master: &Server) -> Answer {
    Ok(TopologyUpdate::new(address(master)))
}

fn patient() -> RedisConfig {
    RedisConfig::builder().failover_wait(BOUND).build().unwrap()
}

fn fed(kit: &Kit, config: RedisConfig) -> (async_channel::Sender<Answer>, Client) {
    let (feed, answers) = async_channel::unbounded();
    (
        feed,
        Client::with_options(config, kit.runtime.clone(), ClientOptions::new().topology_source(Fed(answers))),
    )
}

fn replicate(replica: &Server, master: Option<&Server>) {
    let port = master.map(|master| master.port().to_string());
    let command = match &port {
        Some(port) => ["REPLICAOF", "127.0.0.1", port],
        None => ["REPLICAOF", "NO", "ONE"],
    };
    replica.query(&command).unwrap();
}

/// Waits for the next switch.
async fn switched(kit: &Kit, events: &mut Events) -> (Option<Address>, Address) {
    kit.within("a switch", async {
        loop {
            if let Some(Event::Switched { from, to, .. }) = events.next().await {
                return (from, to);
            }
        }
    })
    .await
}

async fn follows_the_source_to_another_master(kit: Kit) -> RedisResult<()> {
    let (old, new) = (Server::start().unwrap(), Server::start().unwrap());
    replicate(&new, Some(&old));
    let (feed, client) = fed(&kit, patient());
    let mut events = client.events();
    feed.try_send(names(&old)).unwrap();
    client.initialize().await.unwrap();
    assert_eq!(switched(&kit, &mut events).await, (None, address(&old)));
    let mut redis = client.connection();
    redis.set::<_, _, ()>("key", "before").await?;

    replicate(&new, None);
    replicate(&old, Some(&new));
    feed.try_send(names(&new)).unwrap();
    // The call waits until the client has found the new master.
    redis.set::<_, _, ()>("key", "after").await?;
    assert_eq!(switched(&kit, &mut events).await, (Some(address(&old)), address(&new)));
    assert_eq!(redis.get::<_, String>("key").await?, "after");
    assert_eq!(client.topology().await.unwrap().master, address(&new));
    Ok(())
}

async fn waits_until_the_named_master_is_one(kit: Kit) -> RedisResult<()> {
    let (old, new) = (Server::start().unwrap(), Server::start().unwrap());
    replicate(&new, Some(&old));
    let (feed, client) = fed(&kit, patient());
    feed.try_send(names(&new)).unwrap();
    let writing = kit.spawn({
        let mut redis = client.connection();
        async move { redis.incr::<_, _, i64>("n", 1).await }
    });
    let is_refused = |error: &str| error.contains("found a replica");
    let impatient = settings(&new.url()).failover_wait(Duration::from_millis(300)).build().unwrap();
    let (other, bystander) = fed(&kit, impatient);
    other.try_send(names(&new)).unwrap();
    let error = kit.error_that(&bystander, is_refused).await;
    assert!(error.contains("which the topology source names as the master"), "{error}");
    assert!(!writing.has_ended(), "a replica takes no write");
    replicate(&new, None);
    assert_eq!(writing.end().await?, 1);
    Ok(())
}

async fn reads_from_the_listed_replicas(kit: Kit) -> RedisResult<()> {
    let (master, replica) = (Server::start().unwrap(), Server::start().unwrap());
    replicate(&replica, Some(&master));
    let config = patient().to_builder().replica_fallback(false).build().unwrap();
    let (feed, client) = fed(&kit, config);
    let update = TopologyUpdate::new(address(&master)).with_replicas([address(&replica)]);
    feed.try_send(Ok(update)).unwrap();
    client.connection().set::<_, _, ()>("key", "value").await?;
    let mut reader = client.replica_connection();
    let read = async {
        while reader.get::<_, Option<String>>("key").await?.as_deref() != Some("value") {
            kit.sleep(Duration::from_millis(10)).await;
        }
        RedisResult::Ok(())
    };
    kit.within("the replica has the value", read).await?;
    assert_eq!(client.discover_replicas().await.unwrap(), [address(&replica)]);
    Ok(())
}

async fn reports_why_the_source_fails(kit: Kit) {
    let server = Server::start().unwrap();
    let config = settings("redis://127.0.0.1:1").failover_wait(Duration::from_millis(300)).build().unwrap();
    let (feed, client) = fed(&kit, config);
    feed.try_send(Err("no quorum in the registry".to_owned())).unwrap();
    let error = kit.error_that(&client, |error| error.contains("no quorum in the registry")).await;
    assert!(error.contains("cannot read the topology from its source"), "{error}");
    // It goes on to ask.
    feed.try_send(names(&server)).unwrap();
    kit.until_master(&client, &server).await;
    client.close().await;
    let error = client.connection().get::<_, Option<String>>("key").await.unwrap_err();
    assert!(error.client_error().is_some_and(|error| error.is_closed()), "{error}");
}

/// A source that returns the same servers again at once, and counts how often it is asked.
#[derive(Debug)]
struct Eager(TopologyUpdate, Arc<AtomicUsize>);

#[async_trait]
impl TopologySource for Eager {
    async fn next_update(&mut self) -> Result<TopologyUpdate, Box<dyn std::error::Error + Send + Sync>> {
        self.1.fetch_add(1, Ordering::Relaxed);
        Ok(self.0.clone())
    }
}

async fn source_that_never_waits_delays_nobody(kit: Kit) -> RedisResult<()> {
    let master = Server::start().unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let source = Eager(TopologyUpdate::new(address(&master)), Arc::clone(&asked));
    let started = Instant::now();
    let client =
        Client::with_options(patient(), kit.runtime.clone(), ClientOptions::new().topology_source(source));
    let mut redis = client.connection();
    while asked.load(Ordering::Relaxed) < 20 {
        kit.within("a call ends", redis.incr::<_, _, i64>("n", 1)).await?;
    }
    // Every 10 ms, and once more at each end.
    let most = 2 + started.elapsed().as_millis() / 10;
    let asked = asked.load(Ordering::Relaxed) as u128;
    assert!(asked <= most, "asked {asked} times, expected {most} at most");
    kit.within("the client closes", client.close()).await;
    Ok(())
}

async fn source_beside_sentinels_is_refused(kit: Kit) {
    let config = RedisConfig::builder().use_sentinel(true).sentinel_hosts([("127.0.0.1", 1)]);
    let (_feed, client) = fed(&kit, config.sentinel_master_name("mymaster").build().unwrap());
    let error = client.initialize().await.unwrap_err();
    assert!(error.to_string().contains("topology source"), "{error}");
}
