//! The background tasks, which keep connections, monitor the topology, and probe replicas.

pub(crate) mod credentials;
pub(crate) mod custom_source;
pub(crate) mod dedicated_connection;
#[cfg(feature = "sentinel")]
pub(crate) mod discovery;
pub(crate) mod membership;
pub(crate) mod outage_report;
pub(crate) mod reauthentication;
pub(crate) mod replica_probe;
#[cfg(feature = "sentinel")]
pub(crate) mod sentinel;
#[cfg(feature = "sentinel")]
pub(crate) mod sentinels;
pub(crate) mod shared_connection;
pub(crate) mod start;
pub(crate) mod subscriber;
pub(crate) mod topology_monitor;
pub(crate) mod watch_promotion;

use async_channel::Receiver;

/// Waits until the other end of the channel is dropped.
pub(crate) async fn dropped(channel: Receiver<()>) {
    let _ = channel.recv().await;
}
