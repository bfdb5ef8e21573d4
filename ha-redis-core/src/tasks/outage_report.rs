//! The task that reports an outage once it is over.

use std::sync::Arc;
use std::time::Duration;

use futures_lite::future;

use crate::events::Event;
use crate::node::core::Core;
use crate::node::shard::Shard;
use crate::time::sleep;
use crate::topology::CurrentMaster;

/// How long the waiting calls have to be served before the report.
const REPORT_DELAY: Duration = Duration::from_secs(1);

/// Handles a connection to the master: if it ends an outage, reports the outage once the waiting calls are served.
pub(crate) fn on_connected(core: &Arc<Core>, shard: &Arc<Shard>, master: &CurrentMaster) {
    if !shard.on_connected(master, core.runtime.now()) {
        return;
    }
    let (owner, shard) = (Arc::clone(core), Arc::clone(shard));
    let task = async move { future::or(report(&owner, &shard), owner.lifecycle.closing()).await };
    if let Err(error) = core.spawn(Box::pin(task)) {
        tracing::warn!(%error, "cannot report the failover");
    }
}

async fn report(core: &Core, shard: &Shard) {
    sleep(&*core.runtime, REPORT_DELAY).await;
    if let Some(report) = shard.outage_report() {
        tracing::info!(%report, "reconnected to the master");
        core.events.send(Event::Failover(report));
    }
}
