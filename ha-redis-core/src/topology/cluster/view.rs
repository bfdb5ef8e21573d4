//! What one node says about the whole cluster.

mod nodes_text;
mod slots_reply;

use std::collections::BTreeMap;
use std::fmt;

use redis::{Cmd, Value, cmd};

use crate::address::Address;
use crate::error::{Error, printable_error};
use crate::peer_text::describe;
use crate::proto::Secrets;
use crate::topology::cluster::{NodeId, SlotRange};
use nodes_text::{ListedNode, read_nodes};
use slots_reply::{ServedRange, read_slots};

/// The maximum number of nodes in one view. Redis recommends no more.
pub(crate) const MAX_NODES: usize = 1_000;

/// What one node answers about the cluster, by the IDs of the nodes. Nodes in a handshake are left out: their IDs are
/// not known yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ClusterView {
    /// The node that answered, if it says which one it is.
    pub(crate) myself: Option<NodeId>,
    pub(crate) nodes: BTreeMap<NodeId, ViewedNode>,
}

/// One node in a view.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ViewedNode {
    /// Where clients reach it. `None` if the node that answered does not know.
    pub(crate) address: Option<Address>,
    pub(crate) role: NodeRole,
    pub(crate) health: NodeHealth,
    /// Whether it is configured to take no part in failovers, as a replica.
    pub(crate) is_barred: bool,
    /// The epoch of its claim to its slots; for a replica, that of its master. `None` without CLUSTER NODES.
    pub(crate) epoch: Option<u64>,
    /// Whether the node that answered has a connection to it.
    pub(crate) link_up: bool,
    /// The slots that it serves as a master.
    pub(crate) slots: Vec<SlotRange>,
    /// The slots that are on their way from or to this node, which only the node itself tells. They still belong to the
    /// one that they come from.
    pub(crate) migrating: Vec<u16>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum NodeRole {
    Master,
    /// It replicates this master, or one that is not known.
    Replica(Option<NodeId>),
    #[default]
    Unknown,
}

/// How the node that answered judges another one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum NodeHealth {
    #[default]
    Well,
    /// `fail?`: it does not reach the node.
    Suspected,
    /// `fail`: a majority of the masters does not reach it. A failover follows.
    Failed,
}

impl ViewedNode {
    pub(crate) fn is_master(&self) -> bool {
        self.role == NodeRole::Master
    }
}

impl ClusterView {
    /// Returns the node that answered, as it describes itself.
    pub(crate) fn own(&self) -> Option<(NodeId, &ViewedNode)> {
        let id = self.myself?;
        Some((id, self.nodes.get(&id)?))
    }

    /// Leaves out the addresses that contain a password.
    pub(crate) fn without_secrets(mut self, secrets: &Secrets) -> Self {
        for node in self.nodes.values_mut() {
            node.address.take_if(|address| secrets.are_in(address));
        }
        self
    }

    /// Returns true if the view says of any slot who serves it.
    pub(crate) fn serves_slots(&self) -> bool {
        self.nodes.values().any(|node| !node.slots.is_empty())
    }
}

/// Why there is no view of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ViewError {
    /// The server is no node of a cluster.
    ClusterDisabled,
    /// The server replied with this error.
    Refused(String),
    /// The answer is not a view.
    Invalid(String),
    /// There was no answer.
    Unreachable(String),
}

impl From<&Error> for ViewError {
    fn from(error: &Error) -> Self {
        Self::Unreachable(error.message().to_owned())
    }
}

impl fmt::Display for ViewError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ClusterDisabled => f.write_str("its server is not in cluster mode (cluster-enabled no)"),
            Self::Refused(text) | Self::Invalid(text) | Self::Unreachable(text) => f.write_str(text),
        }
    }
}

/// Returns the queries, to be sent as one transaction, so that both answers describe the same moment. Where that is
/// not allowed, they may be sent by themselves.
pub(crate) fn view_queries() -> [Cmd; 2] {
    ["NODES", "SLOTS"].map(|what| cmd("CLUSTER").arg(what).take())
}

/// Reads the answers of the node at `asked` to [`view_queries`]. One of them is enough.
///
/// Roles, epochs and slots come from CLUSTER NODES: its lines describe one moment even if the two answers do not.
/// CLUSTER SLOTS says where clients are meant to connect.
pub(crate) fn read_view(asked: &Address, nodes: &Value, slots: &Value) -> Result<ClusterView, ViewError> {
    match (answer(nodes, read_nodes), answer(slots, read_slots)) {
        (Ok(nodes), Ok(slots)) => Ok(join(asked, nodes, &slots)),
        (Ok(nodes), Err(_)) => Ok(join(asked, nodes, &[])),
        // An answer that is not understood may have said something else.
        (Err(error @ ViewError::Invalid(_)), _) => Err(error),
        (Err(_), Ok(slots)) => from_slots(asked, &slots),
        (Err(error), Err(_)) => Err(error),
    }
}

fn answer<T>(reply: &Value, read: fn(&Value) -> Result<T, String>) -> Result<T, ViewError> {
    match reply {
        Value::ServerError(error) if printable_error(error).contains("cluster support disabled") => {
            Err(ViewError::ClusterDisabled)
        }
        Value::ServerError(error) => Err(ViewError::Refused(printable_error(error))),
        reply => read(reply).map_err(ViewError::Invalid),
    }
}

/// What an answer says about where a node is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Host {
    /// The host that was asked, whatever that is.
    Asked,
    Unknown,
    Named(String),
}

impl Host {
    fn reached(&self, asked: &Address, port: u16) -> Option<Address> {
        match (self, asked) {
            (Self::Named(host), _) => Address::announced(host, &port.to_string()),
            (Self::Asked, Address::Tcp { host, .. }) if port != 0 => Some(Address::tcp(host.as_str(), port)),
            _ => None,
        }
    }
}

/// What kind of endpoints the cluster wants clients to use.
#[derive(Clone, Copy)]
enum Preferred {
    Ip,
    HostName,
    AskedHost,
}

/// Joins the answers. A node that CLUSTER SLOTS leaves out, such as a master without slots or a replica that is not in
/// sync, gets the kind of endpoint that the others have there.
fn join(asked: &Address, listed: BTreeMap<NodeId, ListedNode>, slots: &[ServedRange]) -> ClusterView {
    let endpoints = slots.iter().flat_map(|range| &range.nodes).map(|node| (node.id, node));
    let endpoints: BTreeMap<_, _> = endpoints.collect();
    let kind_of = |id: &NodeId, node: &ListedNode| match &endpoints.get(id)?.host {
        Host::Asked => Some(Preferred::AskedHost),
        Host::Named(host) if Some(host) == node.host_name.as_ref() => Some(Preferred::HostName),
        Host::Named(_) => Some(Preferred::Ip),
        Host::Unknown => None,
    };
    let preferred = listed.iter().find_map(|(id, node)| kind_of(id, node)).unwrap_or(Preferred::Ip);
    let mut view = ClusterView::default();
    for (id, node) in listed {
        let by_slots = endpoints.get(&id).and_then(|endpoint| endpoint.host.reached(asked, endpoint.port));
        let host_name = node.host_name.clone().map(Host::Named);
        let by_kind = match preferred {
            Preferred::Ip => &node.host,
            Preferred::HostName => host_name.as_ref().unwrap_or(&node.host),
            Preferred::AskedHost => &Host::Asked,
        };
        let address = by_slots.or_else(|| by_kind.reached(asked, node.port));
        let mut viewed = node.viewed;
        viewed.address = address.filter(|_| node.host != Host::Unknown);
        if node.is_myself {
            view.myself = Some(id);
            viewed.address.get_or_insert_with(|| asked.clone());
        }
        view.nodes.insert(id, viewed);
    }
    view
}

/// Makes a view of CLUSTER SLOTS alone, which knows no epochs.
fn from_slots(asked: &Address, ranges: &[ServedRange]) -> Result<ClusterView, ViewError> {
    let mut view = ClusterView::default();
    for range in ranges {
        let master = range.nodes.first().map(|node| node.id);
        for node in &range.nodes {
            let address = node.host.reached(asked, node.port);
            if address.as_ref() == Some(asked) {
                view.myself = Some(node.id);
            }
            let is_master = Some(node.id) == master;
            let viewed = view.nodes.entry(node.id).or_insert_with(|| ViewedNode {
                address,
                role: if is_master { NodeRole::Master } else { NodeRole::Replica(master) },
                link_up: true,
                ..ViewedNode::default()
            });
            if is_master {
                viewed.slots.push(range.slots);
            }
        }
        if view.nodes.len() > MAX_NODES {
            return Err(ViewError::Invalid(format!("CLUSTER SLOTS lists more than {MAX_NODES} nodes")));
        }
    }
    if view.nodes.values().all(|node| node.address.is_none()) {
        return Err(ViewError::Invalid("CLUSTER SLOTS lists no node that can be reached".to_owned()));
    }
    Ok(view)
}

/// Returns the bytes of a reply that is text.
fn bytes_of(reply: &Value) -> Option<&[u8]> {
    match reply {
        Value::BulkString(bytes) => Some(bytes),
        Value::SimpleString(text) | Value::VerbatimString { text, .. } => Some(text.as_bytes()),
        _ => None,
    }
}

fn unexpected(what: &str, reply: &Value) -> String {
    format!("{what} replied with {}", describe(reply))
}

#[cfg(test)]
#[path = "view_tests.rs"]
mod tests;
