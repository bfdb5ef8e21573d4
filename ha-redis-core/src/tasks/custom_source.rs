//! The task that reads the topology from the application's source.

use std::sync::Arc;

use crate::error::{Error, Kind};
use crate::node::core::Core;
use crate::retry::Backoff;
use crate::time::sleep;
use crate::topology::{Input, MonitorEvent, TopologySource};

/// Passes on the updates of the source for as long as the client lives.
pub(crate) async fn run(core: Arc<Core>, mut source: Box<dyn TopologySource>) {
    let mut failures = 0;
    loop {
        match source.next_update().await {
            Ok(update) => {
                failures = 0;
                core.monitor.send(MonitorEvent::from(Input::Update(update)));
            }
            Err(error) => {
                let message = format!("cannot read the topology from its source: {error}");
                let error = Error::new(Kind::Connect, message);
                tracing::warn!(%error, "cannot read the topology from its source");
                let shard = core.first_shard();
                if shard.master().is_none() {
                    shard.fail(error);
                }
                sleep(&*core.runtime, Backoff::RECONNECT.delay(failures, core.runtime.random())).await;
                failures += 1;
            }
        }
    }
}
