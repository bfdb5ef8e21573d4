//! The task that reads the topology from the application's source.

use std::sync::Arc;
use std::time::Duration;

use crate::error::{Error, Kind};
use crate::node::core::Core;
use crate::retry::Backoff;
use crate::time::sleep;
use crate::topology::{Input, MonitorEvent, TopologySource};

/// The pause between two updates. A source that never waits costs a bounded amount of work, and its updates do not pile
/// up.
const PAUSE: Duration = Duration::from_millis(10);

/// Passes on the updates of the source for as long as the client lives.
pub(crate) async fn run(core: Arc<Core>, mut source: Box<dyn TopologySource>) {
    let mut failures = 0;
    loop {
        let pause = match source.next_update().await {
            Ok(update) => {
                failures = 0;
                core.monitor.send(MonitorEvent::from(Input::Update(update)));
                PAUSE
            }
            Err(error) => {
                let message = format!("cannot read the topology from its source: {error}");
                let error = Error::new(Kind::Connect, message);
                tracing::warn!(%error, "topology source failed");
                let shard = core.first_shard();
                if shard.master().is_none() {
                    shard.fail(error);
                }
                let pause = Backoff::RECONNECT.delay(failures, core.runtime.random());
                failures += 1;
                pause
            }
        };
        sleep(&*core.runtime, pause).await;
    }
}
