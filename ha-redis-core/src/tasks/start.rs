//! Starts the tasks of a client, once.

use std::sync::Arc;
use std::time::Instant;

use crate::error::Error;
use crate::node::core::Core;
use crate::sync::lock;
use crate::tasks::topology_monitor::TopologyMonitor;
use crate::tasks::{credentials, reauthentication, replica_probe, shared_connection};

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
    start_credentials(core)?;
    let mut monitor = TopologyMonitor::new(core);
    monitor.start();
    if core.source.names_master() {
        core.spawn(Box::pin(async move { monitor.run().await }))?;
    }
    for shard in core.routing.load().shards() {
        for shared_index in 0..core.config().shared_connections() {
            core.spawn(Box::pin(shared_connection::keep(Arc::clone(core), Arc::clone(shard), shared_index)))?;
        }
    }
    *started = true;
    Ok(())
}

/// Returns true if the client has started.
pub(crate) fn is_started(core: &Core) -> bool {
    *lock(&core.started.connections)
}

/// Starts the tasks that read credentials from the application's providers. The tasks take the providers themselves: if
/// the runtime refuses to start them, the next call starts the client.
fn start_credentials(core: &Arc<Core>) -> Result<(), Error> {
    if core.has_credentials_provider() {
        start_reauthentication(core)?;
        core.spawn(Box::pin(credentials::run(Arc::clone(core))))?;
    }
    #[cfg(feature = "sentinel")]
    if core.has_sentinel_credentials_provider() {
        core.spawn(Box::pin(credentials::run_for_sentinels(Arc::clone(core))))?;
    }
    Ok(())
}

/// Starts the task that logs live connections in again. Clients whose credentials never change need none.
pub(crate) fn start_reauthentication(core: &Arc<Core>) -> Result<(), Error> {
    let mut started = lock(&core.started.reauthentication);
    if !*started {
        core.spawn(Box::pin(reauthentication::run(Arc::clone(core))))?;
        *started = true;
    }
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

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use futures_lite::future::block_on;

    use super::*;
    use crate::address::Address;
    use crate::config::RedisConfig;
    use crate::manual_runtime::ManualRuntime;
    use crate::node::client_options::ClientOptions;
    use crate::topology::{TopologySource, TopologyUpdate};

    #[derive(Debug)]
    struct Fixed;

    #[async_trait]
    impl TopologySource for Fixed {
        async fn next_update(&mut self) -> Result<TopologyUpdate, Box<dyn std::error::Error + Send + Sync>> {
            Ok(TopologyUpdate::new(Address::tcp("10.0.0.1", 6379)))
        }
    }

    /// Its runtime starts no tasks, like Tokio's when a client is first used outside of it.
    #[test]
    fn refused_start_leaves_everything_for_the_next() {
        let config = RedisConfig::builder().build().unwrap();
        let options = ClientOptions::new().topology_source(Fixed);
        let core = Core::new(config, Arc::new(ManualRuntime::new()), options);
        let core = Arc::new(core);
        let error = block_on(start(&core, None)).unwrap_err();
        assert!(error.to_string().contains("cannot start a task"), "{error}");
        assert!(core.take_custom_source().is_some());
        assert!(core.first_shard().permanent_failure().is_none());
    }

    #[cfg(feature = "sentinel")]
    #[test]
    fn refused_start_fails_no_later_call() {
        let config = RedisConfig::builder().use_sentinel(true).sentinel_hosts([("10.0.0.1", 26379)]);
        let config = config.sentinel_master_name("mymaster").build().unwrap();
        let core = Arc::new(Core::new(config, Arc::new(ManualRuntime::new()), ClientOptions::new()));
        assert!(block_on(start(&core, None)).is_err());
        assert!(core.first_shard().permanent_failure().is_none());
    }
}
