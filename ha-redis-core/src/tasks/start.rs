//! Starts the tasks of a client, once.

use std::sync::Arc;
use std::time::Instant;

use crate::error::Error;
use crate::node::core::Core;
use crate::sync::lock;
use crate::tasks::topology_monitor::TopologyMonitor;
use crate::tasks::{replica_probe, shared_connection};

/// Starts the tasks that keep connections and monitor the topology. The files that they need are read first, until
/// `deadline` at the latest.
pub(crate) async fn start(core: &Arc<Core>, deadline: Option<Instant>) -> Result<(), Error> {
    if *lock(&core.started.connections) {
        return Ok(());
    }
    // Boxed, because it is rare and the futures of calls should be small.
    Box::pin(core.check_configuration(deadline)).await?;
    let mut started = lock(&core.started.connections);
    if *started {
        return Ok(());
    }
    let mut monitor = TopologyMonitor::new(core);
    monitor.start();
    if core.source.names_master() {
        core.spawn(Box::pin(async move { monitor.run().await }))?;
    }
    for shard in core.routing.load().shards() {
        for shared_index in 0..core.config.shared_connections() {
            core.spawn(Box::pin(shared_connection::keep(Arc::clone(core), Arc::clone(shard), shared_index)))?;
        }
    }
    *started = true;
    Ok(())
}

/// Starts the tasks for reads from replicas: clients that do not use them connect to none.
pub(crate) fn start_replica_probes(core: &Arc<Core>) -> Result<(), Error> {
    let mut started = lock(&core.started.replicas);
    if !*started {
        for shard in core.routing.load().shards() {
            core.spawn(Box::pin(replica_probe::run(Arc::clone(core), Arc::clone(shard))))?;
        }
        *started = true;
    }
    Ok(())
}
