//! Decides which node serves which slot, from what the nodes of a Redis Cluster say.
#![cfg_attr(not(test), expect(dead_code, unused_imports, reason = "the tasks of cluster mode use it"))]

#[cfg(test)]
mod any_view;
mod node_id;
mod slot_map;
mod view;

pub(crate) use node_id::NodeId;
pub(crate) use slot_map::{SLOTS, SlotMap, SlotRange};
pub(crate) use view::{
    ClusterView, MAX_NODES, NodeHealth, NodeRole, ViewError, ViewedNode, read_view, view_queries,
};
