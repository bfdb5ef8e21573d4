//! Which part of a cluster a call goes to.

mod slot;
mod table;

pub use slot::Slot;
pub(crate) use table::RoutingTable;
