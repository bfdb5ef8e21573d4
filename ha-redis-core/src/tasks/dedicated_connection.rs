//! The tasks behind connections that serve one caller at a time: each opens a connection for whoever waits first, and
//! carries it to its end.

use std::sync::Arc;

use futures_lite::future;

use crate::conn::driver::OnSilence;
use crate::conn::link::Link;
use crate::conn::raw_connection::ConnectionParts;
use crate::conn::reconnect_backoff::ReconnectBackoff;
use crate::error::{Error, Kind};
use crate::node::core::Core;
use crate::node::shard::Shard;
use crate::retry::Backoff;
use crate::tasks::shared_connection;
use crate::time::sleep;
use crate::topology::CurrentMaster;

/// The right to have one connection, given back when it is dropped.
pub(crate) struct Permit {
    core: Arc<Core>,
    shard: Arc<Shard>,
    /// The connection that is open.
    link: Option<Arc<Link>>,
}

impl Permit {
    /// A permit that the pool has offered.
    pub(crate) fn new(core: &Arc<Core>, shard: &Arc<Shard>) -> Self {
        Self { core: Arc::clone(core), shard: Arc::clone(shard), link: None }
    }

    /// Serves callers over a connection until it ends. `None` when another master is followed by now.
    async fn carry(&mut self, followed: &CurrentMaster, parts: ConnectionParts) -> Option<Error> {
        let (link, driver) = self.core.link(followed, parts, OnSilence::End);
        if !self.shard.register_dedicated(&link) {
            return None;
        }
        self.link = Some(link);
        let why = driver.await;
        self.link.iter().filter(|link| link.ended_owing()).for_each(|link| self.core.fences.add(link));
        tracing::debug!(address = %followed.address, %why, "a connection for one caller ended");
        self.close();
        Some(why)
    }

    fn close(&mut self) {
        if let Some(link) = self.link.take() {
            self.shard.unregister_dedicated(&link);
        }
    }
}

impl Drop for Permit {
    /// Also when the runtime drops the task.
    fn drop(&mut self) {
        self.close();
        self.shard.release_permit();
    }
}

/// Opens a connection and carries it, again and again while callers wait for one.
pub(crate) async fn run(mut permit: Permit) {
    let (core, shard) = (Arc::clone(&permit.core), Arc::clone(&permit.shard));
    let mut reconnect = ReconnectBackoff::default();
    while let Some(followed) = shard.wanted_dedicated().await {
        let attempt = Box::pin(async { Some(shared_connection::open(&core, &shard, &followed).await) });
        let switched = async {
            shard.master_changed(followed.generation).await;
            None
        };
        match future::or(attempt, switched).await {
            None => {
                reconnect.switched();
                continue;
            }
            Some(Ok(parts)) => {
                let opened = core.runtime.now();
                match permit.carry(&followed, parts).await {
                    None => reconnect.switched(),
                    // By the client itself. Whoever waits asks for another.
                    Some(why) if why.is_closed() => return,
                    Some(_) => reconnect.lost(core.runtime.now() - opened),
                }
            }
            Some(Err(error)) if error.is_permanent() => {
                // A script ends, or is ended; what else is wrong somebody has to mend.
                let (backoff, step) = match error.kind() {
                    Kind::Busy => (Backoff::RECONNECT, 0),
                    _ => (Backoff::PERMANENT_FAILURE, 3),
                };
                let pause = backoff.delay(step, core.runtime.random());
                shard.fail_dedicated(error, Some(core.runtime.now() + pause));
                return;
            }
            Some(Err(error)) => {
                tracing::debug!(%error, "no connection for one caller");
                reconnect.failed(&error);
                shard.fail_dedicated(error, None);
            }
        }
        let pause = reconnect.pause(core.runtime.random());
        future::or(sleep(&*core.runtime, pause), shard.master_changed(followed.generation)).await;
    }
}
