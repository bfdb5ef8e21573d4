//! The task behind a lane: it keeps one connection to the master that is followed, for as long as the client
//! lives.

use std::sync::Arc;
use std::time::Duration;

use futures_lite::future;

use crate::engine::core::Core;
use crate::engine::dialog::Parts;
use crate::error::{Error, Kind};
use crate::pool::{Followed, is_hopeless};
use crate::proto::Role;
use crate::retry::Backoff;
use crate::time::sleep;

/// A connection that has lived for so long says that the server is well: the next attempt comes at once.
const PROVEN: Duration = Duration::from_secs(1);

pub(crate) async fn keep(core: Arc<Core>, lane: usize) {
    let _ends_pool = EndsPool(&core);
    let mut failures = 0;
    let mut backoff = Backoff::RECONNECT;
    while let Some(followed) = core.pool.followed().await {
        let attempt = async { Some(open(&core, &followed).await) };
        let switched = async {
            core.pool.superseded(followed.generation).await;
            None
        };
        match future::or(attempt, switched).await {
            None => {
                failures = 0;
                continue;
            }
            Some(Ok(parts)) => {
                let opened = core.runtime.now();
                carry(&core, lane, &followed, parts).await;
                failures = if core.runtime.now() >= opened + PROVEN { 0 } else { failures + 1 };
            }
            Some(Err(error)) => {
                tracing::debug!(lane, %error, "no connection");
                failures += 1;
                backoff = if is_hopeless(&error) { Backoff::HOPELESS } else { Backoff::RECONNECT };
                if error.kind() == Kind::Timeout {
                    // Whoever waited for an answer has waited enough, but not all clients to the same instant.
                    backoff = Backoff::AFTER_A_WAIT;
                }
                core.pool.fail(error);
            }
        }
        let random = core.runtime.random();
        let pause = match failures {
            0 => Backoff::AFTER_A_LOSS.delay(0, random),
            failures => backoff.delay(failures - 1, random),
        };
        future::or(sleep(&*core.runtime, pause), core.pool.superseded(followed.generation)).await;
    }
}

/// Closes the client when the runtime drops its lane, since it ends itself.
struct EndsPool<'a>(&'a Core);

impl Drop for EndsPool<'_> {
    fn drop(&mut self) {
        let pool = &self.0.pool;
        if pool.check_open().is_ok() {
            pool.shut(Error::new(Kind::Closed, "the runtime on which the client was started has ended"));
        }
    }
}

/// Connects, and makes sure that the server is what it is taken for, on the very connection that is kept.
pub(crate) async fn open(core: &Core, followed: &Followed) -> Result<Parts, Error> {
    let (dialog, role) = core.data.connect(&followed.address, &followed.given_by).await?;
    match role {
        None | Some(Role::Master) => {
            core.confirmed().await;
            dialog.into_parts()
        }
        Some(role) => {
            core.on_wrong_role(followed.generation);
            let message = format!("{} ({}) is no master but a {role}", followed.address, followed.given_by);
            Err(Error::new(Kind::NotMaster, message))
        }
    }
}

/// Serves callers over the connection until it ends.
async fn carry(core: &Arc<Core>, lane: usize, followed: &Followed, parts: Parts) {
    let (link, driver) = core.link(followed, parts);
    if !core.pool.install(lane, &link) {
        return;
    }
    tracing::info!(lane, address = %followed.address, generation = %followed.generation, "connected");
    core.on_connected(followed);
    let why = driver.await;
    tracing::info!(lane, address = %followed.address, generation = %followed.generation, %why, "disconnected");
    core.pool.remove(lane, &link, why.clone());
    core.on_lost(followed, why);
}
