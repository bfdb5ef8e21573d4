//! What runs by itself: tasks that keep connections, watch the topology, and probe replicas.

pub(crate) mod dedicated_connection;
#[cfg(feature = "sentinel")]
pub(crate) mod discovery;
#[cfg(feature = "sentinel")]
pub(crate) mod membership;
pub(crate) mod replica_probe;
#[cfg(feature = "sentinel")]
pub(crate) mod sentinel;
pub(crate) mod shared_connection;
pub(crate) mod subscriber;
#[cfg(feature = "sentinel")]
pub(crate) mod topology_monitor;
