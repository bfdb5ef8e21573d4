//! The settings, inputs, actions and the result of the cluster monitor.

use std::time::{Duration, Instant};

use crate::address::Address;
use crate::topology::cluster::{ClusterView, NodeId, SlotMap, ViewError};
use crate::topology::{Replica, ShardId};

/// The settings of the monitor.
#[derive(Clone, Debug)]
pub(crate) struct ClusterConfig {
    /// The addresses in the configuration.
    pub(crate) seeds: Vec<Address>,
    /// How long a query may take. Every query must be answered, if only by an error; one that is not counts as lost
    /// after twice this time.
    pub(crate) query_timeout: Duration,
    /// How long the commands of a shard are held at most, because its master is about to be replaced.
    pub(crate) hold: Duration,
    /// A random number, by which clients spread their queries over nodes and time.
    pub(crate) spread: u64,
}

/// An input of the monitor.
#[derive(Clone, Debug)]
pub(crate) enum ClusterInput {
    /// The answer to the query that was sent to `asked` at `asked_at`, or why there was none.
    View { asked: Address, asked_at: Instant, view: Result<ClusterView, ViewError> },
    /// The server that is followed at `from` redirected a caller to the node at `to`: where there is no host, at the host of
    /// `from`. `None` if the node is unknown.
    Moved { slot: u16, to: Option<Address>, from: Address },
    /// A connection to the master of the shard is up, or replies again.
    Connected { shard: ShardId },
    /// The master owes replies and sends nothing, on a connection that is still there.
    Silent { shard: ShardId },
    /// The connection to the master was lost, or none could be made.
    Lost { shard: ShardId },
    /// The master replied that it is not the master.
    NotMaster { shard: ShardId },
    /// The master replied CLUSTERDOWN.
    Down { shard: ShardId },
    /// A watched replica replied that it is a master.
    RoleMaster { node: Address },
    /// The time of a tick has come.
    Tick,
}

/// An action that the monitor asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ClusterAction {
    /// Connect to this master only; the shard may be new. Ends a hold.
    Follow { shard: ShardId, address: Address },
    /// Use this table from now on. All its shards are followed.
    Table(SlotTable),
    /// The shard is gone. It is not in the last table.
    RemoveShard { shard: ShardId },
    /// Hold all commands to the shard for now.
    Hold { shard: ShardId },
    /// End the hold.
    Release { shard: ShardId },
    /// Ask these replicas for their roles until one is master, the first one first. Replaces an earlier list.
    Watch { shard: ShardId, replicas: Vec<Address> },
    /// Stop asking.
    Unwatch { shard: ShardId },
    /// Ask this node for its view. A host name is resolved anew.
    Query(Address),
    /// Log a warning.
    Warn(String),
    /// Fail the calls that wait for any shard, with this cause.
    Fail { kind: FailureKind, reason: String },
}

/// What is wrong when no node of the cluster can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FailureKind {
    /// No node answers.
    Unreachable,
    /// A server answers and is not in cluster mode: the configuration names the wrong mode or server.
    NotACluster,
}

/// Which shard serves which slot, as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SlotTable {
    /// All shards, by ID. Some may have no slots: new masters, from which slots are about to be asked.
    pub(crate) shards: Vec<TableShard>,
    /// The index in `shards` of the owner of each slot.
    pub(crate) slots: SlotMap,
}

/// A master and its replicas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TableShard {
    pub(crate) id: ShardId,
    pub(crate) node: NodeId,
    pub(crate) master: Address,
    pub(crate) replicas: Vec<Replica>,
}

impl SlotTable {
    /// Returns the shard that serves a slot.
    pub(crate) fn shard_of(&self, slot: u16) -> Option<&TableShard> {
        self.shards.get(self.slots.owner(slot)?)
    }
}
