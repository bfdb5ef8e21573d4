//! Observes failovers: independently of the client, by the servers' roles and the Sentinels' events; or by the client's own
//! events, where the servers are external.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use ha_redis_testkit::{Server, Topology};
use ha_redis_tokio::redis::{self, RedisResult, Value};
use ha_redis_tokio::{Client, Event};
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};

/// How often a replica is queried for its role.
const ROLE_INTERVAL: Duration = Duration::from_millis(1);
const TIMEOUT: Duration = Duration::from_secs(1);

/// The steps of a failover, as Sentinels publish them.
const CHANNELS: [&str; 10] = [
    "+odown",
    "-odown",
    "+try-failover",
    "+elected-leader",
    "+selected-slave",
    "+failover-state-send-slaveof-noone",
    "+promoted-slave",
    "-failover-abort-no-good-slave",
    "-failover-abort-slave-timeout",
    "+switch-master",
];

/// An observed event.
#[derive(Debug)]
pub(crate) struct Observation {
    pub(crate) at: Instant,
    pub(crate) what: ObservedEvent,
}

#[derive(Debug)]
pub(crate) enum ObservedEvent {
    /// A replica reports the master role. At `still_replica` it did not.
    Promoted { server: SocketAddr, still_replica: Instant },
    /// The client has switched to this master.
    Switched { master: String },
    /// A Sentinel published a message about the master.
    Published { sentinel: SocketAddr, channel: String },
}

/// Observes until the receiver or the topology is gone, on separate threads and connections, so that it affects
/// neither the client nor the callers' runtime.
pub(crate) fn watch(topology: &Topology) -> Result<UnboundedReceiver<Observation>, String> {
    let (sender, sightings) = mpsc::unbounded_channel();
    for replica in topology.replicas().map_err(|error| error.to_string())? {
        let (sender, server) = (sender.clone(), replica.address());
        let client = client(replica)?;
        spawn(move || watch_role(&client, server, &sender))?;
    }
    for sentinel in topology.sentinels() {
        let (sender, address) = (sender.clone(), sentinel.address());
        let client = client(sentinel)?;
        // The connection ends when the Sentinel ends.
        spawn(move || drop(forward_events(&client, address, &sender)))?;
    }
    Ok(sightings)
}

/// Observes the client itself until the receiver is gone, where the servers cannot be observed.
pub(crate) fn watch_client(client: &Client) -> UnboundedReceiver<Observation> {
    let (sender, sightings) = mpsc::unbounded_channel();
    let mut events = client.events();
    tokio::spawn(async move {
        while let Some(event) = events.next().await {
            let Event::Switched { from: Some(_), to, .. } = event else { continue };
            let what = ObservedEvent::Switched { master: to.to_string() };
            if sender.send(Observation { at: Instant::now(), what }).is_err() {
                return;
            }
        }
    });
    sightings
}

fn client(server: &Server) -> Result<redis::Client, String> {
    redis::Client::open(server.url()).map_err(|error| error.to_string())
}

fn spawn(watcher: impl FnOnce() + Send + 'static) -> Result<(), String> {
    let thread = thread::Builder::new().name("observer".into()).spawn(watcher);
    thread.map(drop).map_err(|error| format!("cannot start a thread: {error}"))
}

/// Queries a replica for its role until it is master.
fn watch_role(client: &redis::Client, server: SocketAddr, sender: &UnboundedSender<Observation>) {
    let mut still_replica = Instant::now();
    while !sender.is_closed() {
        let Ok(mut connection) = connect(client) else {
            thread::sleep(ROLE_INTERVAL);
            continue;
        };
        loop {
            let query_start = Instant::now();
            match is_master(&mut connection) {
                Ok(true) => {
                    let what = ObservedEvent::Promoted { server, still_replica };
                    // At the end of a run the receiver is gone.
                    let _ = sender.send(Observation { at: Instant::now(), what });
                    return;
                }
                Ok(false) if sender.is_closed() => return,
                Ok(false) => still_replica = query_start,
                Err(_) => break,
            }
            thread::sleep(ROLE_INTERVAL);
        }
    }
}

fn connect(client: &redis::Client) -> RedisResult<redis::Connection> {
    let connection = client.get_connection_with_timeout(TIMEOUT)?;
    connection.set_read_timeout(Some(TIMEOUT))?;
    Ok(connection)
}

fn is_master(connection: &mut redis::Connection) -> RedisResult<bool> {
    let role: Vec<Value> = redis::cmd("ROLE").query(connection)?;
    Ok(role.first() == Some(&Value::BulkString(b"master".to_vec())))
}

/// Sends on what a Sentinel publishes, in order.
fn forward_events(
    client: &redis::Client,
    sentinel: SocketAddr,
    sender: &UnboundedSender<Observation>,
) -> RedisResult<()> {
    let mut connection = client.get_connection_with_timeout(TIMEOUT)?;
    let mut subscription = connection.as_pubsub();
    subscription.subscribe(&CHANNELS[..])?;
    while !sender.is_closed() {
        let message = subscription.get_message()?;
        let what = ObservedEvent::Published { sentinel, channel: message.get_channel_name().to_owned() };
        let _ = sender.send(Observation { at: Instant::now(), what });
    }
    Ok(())
}
