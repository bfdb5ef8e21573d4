//! Which shard a call goes to.

mod table;

pub(crate) use table::RoutingTable;
