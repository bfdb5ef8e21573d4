//! Nodes that join and leave a cluster.

use super::view::View;
use super::{BOUND, Cluster, check, formation};
use crate::error::{Error, wait_for};
use crate::server::{Server, retry_taken_ports};

impl Cluster {
    /// Starts a node and adds it to the cluster as a master without slots. Returns it when it and all nodes that
    /// answer know each other.
    ///
    /// # Errors
    ///
    /// The same as for [`ServerBuilder::start`](crate::ServerBuilder::start); [`Error::TimedOut`] after 40 s.
    pub fn add_node(&mut self) -> Result<&Server, Error> {
        let added = retry_taken_ports(|| {
            let node = self.launch_node()?;
            node.wait_until_ready()?;
            Ok(node)
        })?;
        self.nodes.push(added);
        let (added, others) = self.nodes.split_last().expect("a node was added");
        let answering = || others.iter().filter(|other| other.is_running() && !other.is_hanging());
        wait_for(BOUND, || {
            formation::meet_unknown(added, answering())?;
            answering().try_for_each(|other| check::acquaintance(added, other))
        })?;
        Ok(added)
    }

    /// Makes a node a replica of `master`. The node owns no slots, or is a replica already. Returns when the node has
    /// accepted this: [`Cluster::wait_until_healthy`] waits for the data.
    ///
    /// # Errors
    ///
    /// The same as for [`Server::query`].
    pub fn replicate(&self, node: &Server, master: &Server) -> Result<(), Error> {
        formation::replicate(node, master)
    }

    /// Makes the other nodes forget a node, and the node all others, if it answers. Returns the node, which may still
    /// run, when no node that answers knows it. The numbers of the nodes behind it change.
    ///
    /// # Errors
    ///
    /// [`Error::NotReady`] if the node owns slots or has replicas, according to the first other node that answers;
    /// [`Error::TimedOut`] after 40 s; otherwise the same as for [`Server::query`].
    ///
    /// # Panics
    ///
    /// If there is no node with this number.
    pub fn forget_node(&mut self, number: usize) -> Result<Server, Error> {
        let node = &self.nodes[number];
        let port = node.port();
        let others = || self.views().filter(|(other, _)| other.port() != port);
        let unknown = || Error::NotReady(format!("no other node knows node {port}"));
        let (_, view) = others().next().ok_or_else(unknown)?;
        let id = removable(&view, port)?.ok_or_else(unknown)?;
        for (other, _) in others().filter(|(_, view)| view.on_port(port).is_some()) {
            other.query(&["CLUSTER", "FORGET", &id])?;
        }
        if node.is_running() && !node.is_hanging() {
            node.query(&["CLUSTER", "RESET"])?;
        }
        wait_for(BOUND, || match others().find(|(_, view)| view.on_port(port).is_some()) {
            Some((other, _)) => Err(Error::NotReady(format!("node {} knows node {port}", other.port()))),
            None => Ok(()),
        })?;
        Ok(self.nodes.remove(number))
    }
}

/// Returns the id of the node on this port, or an error if other nodes depend on it.
fn removable(view: &View, port: u16) -> Result<Option<String>, Error> {
    let Some(member) = view.on_port(port) else { return Ok(None) };
    if !member.slots.is_empty() {
        return Err(Error::NotReady(format!("node {port} owns slots; migrate them first")));
    }
    if view.members().iter().any(|other| other.master.as_ref() == Some(&member.id)) {
        return Err(Error::NotReady(format!("node {port} has replicas; give them another master first")));
    }
    Ok(Some(member.id.clone()))
}
