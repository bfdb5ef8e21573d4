//! What happens among the servers, seen from beside the client: when a replica turns master, and what the
//! Sentinels announce.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use ha_redis_testkit::{Server, Topology};
use ha_redis_tokio::redis::{self, RedisResult, Value};
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};

/// How often a replica is asked for its role.
const EVERY: Duration = Duration::from_millis(1);
const PATIENCE: Duration = Duration::from_secs(1);

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

/// Something that was seen.
#[derive(Debug)]
pub(crate) struct Sighting {
    pub(crate) at: Instant,
    pub(crate) what: Sight,
}

#[derive(Debug)]
pub(crate) enum Sight {
    /// A replica says that it is master; at `still_replica` it was not.
    Turned { server: SocketAddr, still_replica: Instant },
    /// A Sentinel published something about the master.
    Published { sentinel: SocketAddr, channel: String },
}

/// Watches until the receiver or the topology is gone, on threads and connections of its own, so that neither the
/// client nor the callers' runtime has a part in it.
pub(crate) fn watch(topology: &Topology) -> Result<UnboundedReceiver<Sighting>, String> {
    let (sender, sightings) = mpsc::unbounded_channel();
    for replica in topology.replicas().map_err(|error| error.to_string())? {
        let (sender, server) = (sender.clone(), replica.address());
        let client = client(replica)?;
        spawn(move || watch_role(&client, server, &sender))?;
    }
    for sentinel in topology.sentinels() {
        let (sender, address) = (sender.clone(), sentinel.address());
        let client = client(sentinel)?;
        // The end of the connection is the end of the Sentinel.
        spawn(move || drop(hear(&client, address, &sender)))?;
    }
    Ok(sightings)
}

fn client(server: &Server) -> Result<redis::Client, String> {
    redis::Client::open(server.url()).map_err(|error| error.to_string())
}

fn spawn(watcher: impl FnOnce() + Send + 'static) -> Result<(), String> {
    let thread = thread::Builder::new().name("observer".into()).spawn(watcher);
    thread.map(drop).map_err(|error| format!("cannot start a thread: {error}"))
}

/// Asks a replica for its role until it is master.
fn watch_role(client: &redis::Client, server: SocketAddr, sender: &UnboundedSender<Sighting>) {
    let mut still_replica = Instant::now();
    while !sender.is_closed() {
        let Ok(mut connection) = connect(client) else {
            thread::sleep(EVERY);
            continue;
        };
        loop {
            let asked = Instant::now();
            match is_master(&mut connection) {
                Ok(true) => {
                    let what = Sight::Turned { server, still_replica };
                    // Nobody listens any more at the end of a run.
                    let _ = sender.send(Sighting { at: Instant::now(), what });
                    return;
                }
                Ok(false) if sender.is_closed() => return,
                Ok(false) => still_replica = asked,
                Err(_) => break,
            }
            thread::sleep(EVERY);
        }
    }
}

fn connect(client: &redis::Client) -> RedisResult<redis::Connection> {
    let connection = client.get_connection_with_timeout(PATIENCE)?;
    connection.set_read_timeout(Some(PATIENCE))?;
    Ok(connection)
}

fn is_master(connection: &mut redis::Connection) -> RedisResult<bool> {
    let role: Vec<Value> = redis::cmd("ROLE").query(connection)?;
    Ok(role.first() == Some(&Value::BulkString(b"master".to_vec())))
}

/// Passes on what a Sentinel publishes, in the order in which it does.
fn hear(client: &redis::Client, sentinel: SocketAddr, sender: &UnboundedSender<Sighting>) -> RedisResult<()> {
    let mut connection = client.get_connection_with_timeout(PATIENCE)?;
    let mut subscription = connection.as_pubsub();
    subscription.subscribe(&CHANNELS[..])?;
    while !sender.is_closed() {
        let message = subscription.get_message()?;
        let what = Sight::Published { sentinel, channel: message.get_channel_name().to_owned() };
        let _ = sender.send(Sighting { at: Instant::now(), what });
    }
    Ok(())
}
