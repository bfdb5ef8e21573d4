//! Conditions that a cluster reaches some time after it was started or changed.

use super::view::{Member, SLOTS, View};
use crate::error::Error;
use crate::replication;
use crate::server::Server;

/// Returns an error unless all nodes agree, own all slots, serve them, and all replicas have all data.
pub(super) fn health(nodes: &[Server]) -> Result<(), Error> {
    let views = agreement(nodes)?;
    let covered = views.first().map(View::covered).unwrap_or_default();
    if covered != usize::from(SLOTS) {
        return Err(Error::NotReady(format!("{covered} of {SLOTS} slots have an owner")));
    }
    nodes.iter().try_for_each(serves)?;
    for (master, _) in nodes.iter().zip(&views).filter(|(_, view)| view.myself().is_master()) {
        let replicas = nodes.iter().zip(&views).filter(|(_, view)| view.my_master() == Some(master.port()));
        replication::check(master, replicas.map(|(replica, _)| replica))?;
    }
    Ok(())
}

/// Returns the nodes' views, or an error unless every node knows all others, believes that they are well, and sees
/// the same masters, replicas and owners of slots.
pub(super) fn agreement(nodes: &[Server]) -> Result<Vec<View>, Error> {
    let views = nodes.iter().map(View::of).collect::<Result<Vec<_>, _>>()?;
    for (node, view) in nodes.iter().zip(&views) {
        let port = node.port();
        let well = |other: &&Server| view.on_port(other.port()).is_some_and(Member::is_healthy);
        if let Some(other) = nodes.iter().find(|other| !well(other)) {
            return Err(Error::NotReady(format!("node {port} does not see node {} well", other.port())));
        }
        if view.members().len() != nodes.len() {
            return Err(Error::NotReady(format!("node {port} knows nodes that are not in the cluster")));
        }
        if !view.agrees_with(&views[0]) {
            return Err(Error::NotReady(format!(
                "nodes {port} and {} see different roles or owners of slots",
                nodes[0].port()
            )));
        }
    }
    Ok(views)
}

/// Returns an error unless the nodes know each other.
pub(super) fn acquaintance(node: &Server, other: &Server) -> Result<(), Error> {
    for (one, another) in [(node, other), (other, node)] {
        if View::of(one)?.on_port(another.port()).is_none() {
            return Err(Error::NotReady(format!(
                "node {} does not know node {}",
                one.port(),
                another.port()
            )));
        }
    }
    Ok(())
}

/// Returns an error unless the node serves the slots that it owns.
fn serves(node: &Server) -> Result<(), Error> {
    let info = node.query(&["CLUSTER", "INFO"])?;
    match info.field("cluster_state") {
        Some("ok") => Ok(()),
        state => Err(Error::NotReady(format!("node {} reports the cluster state {state:?}", node.port()))),
    }
}
