//! A Redis Cluster: masters that share all slots, and their replicas.

mod builder;
mod check;
mod failover;
mod formation;
mod membership;
mod migration;
mod view;

use std::fmt;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::error::{Error, wait_for};
use crate::network::Network;
use crate::server::Server;
use builder::HOST;
use view::View;

pub use builder::ClusterBuilder;
pub use failover::Failover;
pub use migration::Migration;

/// How long nodes may take to agree, or to replace a master. With the default node timeout they take a second or two.
const BOUND: Duration = Duration::from_secs(40);

/// A running Redis Cluster. Dropping this value ends all nodes.
///
/// Nodes are [`Server`]s, with the same faults: [`Server::kill`], [`Server::hang`], [`Server::resume`] and
/// [`Server::restart`]. A node that restarts remembers the cluster, but its keys only if `appendonly` is on. A master that
/// restarts before it is replaced stays the master, so that its replicas lose the keys as well.
///
/// Each node reserves its port and the port of its cluster bus, which is higher by 10,000.
///
/// ```
/// use ha_redis_testkit::Cluster;
///
/// # fn main() -> Result<(), ha_redis_testkit::Error> {
/// let cluster = Cluster::start()?;
/// let slot = cluster.slot_of("key")?;
/// let old = cluster.master_of(slot)?;
/// old.kill()?;
/// let new = cluster.wait_for_new_master(slot, old)?;
/// assert_ne!(new.port(), old.port());
/// # Ok(())
/// # }
/// ```
pub struct Cluster {
    nodes: Vec<Server>,
    /// `None` if the nodes reach each other directly.
    network: Option<Network>,
    settings: ClusterBuilder,
    /// How many nodes have been started, also if they are no longer part of the cluster.
    started: usize,
}

impl Cluster {
    /// Starts three masters with one replica each.
    ///
    /// # Errors
    ///
    /// The same as for [`ClusterBuilder::start`].
    pub fn start() -> Result<Self, Error> {
        Self::builder().start()
    }

    /// Returns a builder for a cluster.
    pub fn builder() -> ClusterBuilder {
        ClusterBuilder::new()
    }

    /// Returns all nodes, whatever their role and state: the initial masters in the order of their slots, their first
    /// replicas in the same order, their second ones, and at last the nodes that were added.
    pub fn nodes(&self) -> &[Server] {
        &self.nodes
    }

    /// Returns one of [`Cluster::nodes`].
    ///
    /// # Panics
    ///
    /// If there is no node with this number.
    pub fn node(&self, number: usize) -> &Server {
        &self.nodes[number]
    }

    /// Returns the addresses on which clients reach the nodes.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.nodes.iter().map(|node| SocketAddr::new(HOST, node.port())).collect()
    }

    /// Returns the URL for clients with all nodes: `redis+cluster://127.0.0.1:15001,127.0.0.1:15002`. It contains the
    /// user, the password, and the TLS authority and certificates as in [`Server::url`].
    pub fn url(&self) -> String {
        let addresses: Vec<String> = self.addresses().iter().map(ToString::to_string).collect();
        let access = self.nodes.first().map(Server::access).unwrap_or_default();
        access.url("+cluster", addresses.join(","))
    }

    /// Returns the slot of a key, as a node computes it.
    ///
    /// # Errors
    ///
    /// [`Error::NotReady`] if no node answers.
    pub fn slot_of(&self, key: &str) -> Result<u16, Error> {
        let replies = self.answering().filter_map(|node| node.query(&["CLUSTER", "KEYSLOT", key]).ok());
        let slots = replies.filter_map(|reply| u16::try_from(reply.integer()?).ok());
        slots.into_iter().next().ok_or_else(|| Error::NotReady("no node answers".into()))
    }

    /// Returns the master that owns a slot and answers. If several believe that they own it, because one was just
    /// replaced and has not noticed, this is the one with the highest configuration epoch. Hanging nodes are not
    /// queried.
    ///
    /// # Errors
    ///
    /// [`Error::NotReady`] if no master that answers owns the slot, as in the middle of a failover.
    pub fn master_of(&self, slot: u16) -> Result<&Server, Error> {
        let owners = self.views().filter(|(_, view)| view.myself().is_master() && view.myself().owns(slot));
        let owner = owners.max_by_key(|(_, view)| view.myself().config_epoch);
        let missing = || Error::NotReady(format!("no master that answers owns slot {slot}"));
        owner.map(|(node, _)| node).ok_or_else(missing)
    }

    /// Returns the nodes that answer and report that they are replicas of `master`, which may be down.
    pub fn replicas_of(&self, master: &Server) -> Vec<&Server> {
        let replicas = self.views().filter(|(_, view)| view.my_master() == Some(master.port()));
        replicas.map(|(node, _)| node).collect()
    }

    /// Returns the slots in order, with their owners, as one node sees them.
    ///
    /// # Errors
    ///
    /// The same as for [`Server::query`].
    pub fn slots(&self, seen_by: &Server) -> Result<Vec<(RangeInclusive<u16>, &Server)>, Error> {
        let view = View::of(seen_by)?;
        let mut slots = Vec::new();
        for node in &self.nodes {
            let owned = view.on_port(node.port()).into_iter().flat_map(|member| member.slots.clone());
            slots.extend(owned.map(|range| (range, node)));
        }
        slots.sort_unstable_by_key(|(range, _)| *range.start());
        Ok(slots)
    }

    /// Blocks all traffic between the nodes of `one` side and those of the `other`, as a cut cable does: connections
    /// stay open and are silent. Clients still reach all nodes. Partitions add up.
    ///
    /// # Errors
    ///
    /// [`Error::NotReady`] if the cluster was not started as [`ClusterBuilder::partitionable`].
    pub fn partition(&self, one: &[&Server], other: &[&Server]) -> Result<(), Error> {
        self.network()?.partition(one, other);
        Ok(())
    }

    /// Ends all partitions. Data that was sent meanwhile is delivered.
    ///
    /// # Errors
    ///
    /// The same as for [`Cluster::partition`].
    pub fn heal(&self) -> Result<(), Error> {
        self.network()?.heal()
    }

    fn network(&self) -> Result<&Network, Error> {
        let missing = || Error::NotReady("the cluster was not started as partitionable".into());
        self.network.as_ref().ok_or_else(missing)
    }

    /// Waits until a node other than `old` owns the slot and reports the master role. This is the earliest time at
    /// which a client can use it. Other nodes learn of it later.
    ///
    /// # Errors
    ///
    /// [`Error::TimedOut`] after 40 s.
    pub fn wait_for_new_master(&self, slot: u16, old: &Server) -> Result<&Server, Error> {
        wait_for(BOUND, || {
            let owner = self.master_of(slot)?;
            match owner.port() == old.port() {
                true => Err(Error::NotReady(format!("node {} still owns slot {slot}", old.port()))),
                false => Ok(owner),
            }
        })
    }

    /// Waits for the state after the start: all nodes run, know each other and no others, and agree on roles and
    /// owners of slots; every slot has an owner, every node serves, and the replicas have all data of their masters.
    ///
    /// # Errors
    ///
    /// [`Error::TimedOut`] after 40 s, with the condition that is not met.
    pub fn wait_until_healthy(&self) -> Result<(), Error> {
        wait_for(BOUND, || check::health(&self.nodes))
    }

    /// Starts one more node, without waiting until it answers.
    fn launch_node(&mut self) -> Result<Server, Error> {
        let node = self.settings.launch(self.started, &mut self.network)?;
        self.started += 1;
        Ok(node)
    }

    /// Returns the nodes that are expected to answer. Asking a hanging one takes two seconds.
    fn answering(&self) -> impl Iterator<Item = &Server> {
        self.nodes.iter().filter(|node| !node.is_hanging())
    }

    /// Returns the nodes that answer, with their views.
    fn views(&self) -> impl Iterator<Item = (&Server, View)> {
        self.answering().filter_map(|node| Some((node, View::of(node).ok()?)))
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster").field("nodes", &self.nodes).finish_non_exhaustive()
    }
}
