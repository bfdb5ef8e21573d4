//! The topology of a deployment: where it is read from, and what is known about the servers.

// No task uses it yet.
#[cfg(test)]
pub(crate) mod cluster;
mod current_master;
mod mailbox;
mod messages;
#[cfg(any(test, feature = "sentinel"))]
mod rate_limit;
#[cfg(feature = "sentinel")]
pub(crate) mod sentinel;
mod snapshot;
mod source;

pub(crate) use current_master::{AddressSource, CurrentMaster, Naming};
#[cfg(feature = "sentinel")]
pub(crate) use mailbox::Share;
pub(crate) use mailbox::{MonitorEvent, MonitorMailbox};
pub(crate) use messages::{Action, Input, ShardId};
pub(crate) use snapshot::MAX_REPLICAS;
pub use snapshot::{Replica, SentinelState, Topology};
pub(crate) use source::{Source, SourceKind};
pub use source::{TopologySource, TopologyUpdate};
