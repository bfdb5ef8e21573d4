//! The task behind a lane: it keeps one connection to the master that is followed, for as long as the client
//! lives.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_lite::future;

use crate::engine::core::Core;
use crate::engine::dialog::Parts;
use crate::engine::driver::Driver;
use crate::engine::link::Link;
use crate::engine::time::sleep;
use crate::error::{Error, Kind};
use crate::pool::Followed;
use crate::proto::Role;
use crate::retry::Backoff;

/// Reconnects are no further apart than this; callers wait for them.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// A connection that has lived for so long says that the server is well: the next attempt comes at once.
const PROVEN: Duration = Duration::from_secs(1);

pub(crate) async fn keep(core: Arc<Core>, lane: usize) {
    let backoff = Backoff { base: core.config.retry_base_delay(), cap: LONGEST_PAUSE };
    let mut failures = 0;
    while let Some(followed) = core.pool.followed().await {
        let attempt = async { Some(open(&core, &followed).await) };
        let switched = async {
            core.pool.superseded(followed.generation).await;
            None
        };
        match future::or(attempt, switched).await {
            None => failures = 0,
            Some(Ok(parts)) => {
                let opened = core.runtime.now();
                carry(&core, lane, &followed, parts, opened).await;
                failures = if core.runtime.now() >= opened + PROVEN { 0 } else { failures + 1 };
            }
            Some(Err(error)) => {
                tracing::debug!(lane, %error, "no connection");
                failures += 1;
                // An attempt that ended by its time limit has waited enough.
                let waited = error.kind() == Kind::Timeout;
                core.pool.fail(error);
                if waited {
                    continue;
                }
            }
        }
        if failures > 0 {
            let pause = backoff.jittered(failures - 1, core.runtime.random());
            future::or(sleep(&*core.runtime, pause), core.pool.superseded(followed.generation)).await;
        }
    }
}

/// Connects, and makes sure that the server is what it is taken for, on the very connection that is kept.
pub(crate) async fn open(core: &Core, followed: &Followed) -> Result<Parts, Error> {
    let (dialog, role) = core.data.connect(&followed.address, &followed.given_by).await?;
    match role {
        None | Some(Role::Master) => dialog.into_parts(),
        Some(role) => {
            core.on_not_master(followed.generation);
            let message = format!("{} ({}) is no master but a {role}", followed.address, followed.given_by);
            Err(Error::new(Kind::NotMaster, message))
        }
    }
}

/// Serves callers over the connection until it ends.
async fn carry(core: &Core, lane: usize, followed: &Followed, parts: Parts, opened: Instant) {
    let link = Arc::new(Link::new(followed.generation, followed.address.clone(), opened));
    let driver = Driver::new(Arc::clone(&link), parts, Arc::clone(&core.runtime), core.patience());
    if !core.pool.install(lane, &link) {
        return;
    }
    tracing::info!(lane, address = %followed.address, generation = %followed.generation, "connected");
    core.on_connected(followed.generation);
    let why = driver.await;
    tracing::info!(lane, address = %followed.address, generation = %followed.generation, %why, "disconnected");
    core.pool.remove(lane, &link, why);
    core.on_lost(followed.generation);
}
