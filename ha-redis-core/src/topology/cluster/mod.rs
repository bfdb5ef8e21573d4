//! Decides which node serves which slot, from what the nodes of a Redis Cluster say.
//!
//! Nothing here does I/O, reads a clock or draws random numbers: [`ClusterMonitor`] takes an input with its time and
//! returns the actions to take. The files in `scenarios/` describe what happens to a cluster line by line; a test runs
//! each against the monitor.

mod any_view;
mod members;
mod messages;
mod monitor;
mod node_id;
mod owners;
mod queries;
mod scenario;
mod scenarios;
mod shard;
mod slot_map;
mod view;

pub(crate) use messages::{ClusterAction, ClusterConfig, ClusterInput, FailureKind, SlotTable, TableShard};
pub(crate) use monitor::ClusterMonitor;
pub(crate) use node_id::NodeId;
pub(crate) use slot_map::{SLOTS, SlotMap, SlotRange};
pub(crate) use view::{
    ClusterView, MAX_NODES, NodeHealth, NodeRole, ViewError, ViewedNode, read_view, view_queries,
};
