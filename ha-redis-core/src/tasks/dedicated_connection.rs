//! The tasks of dedicated connections: each opens a connection for the first waiting caller, and drives it until it
//! ends.

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
use crate::tasks::shared_connection::{self, is_outdated_refusal};
use crate::time::sleep;
use crate::topology::CurrentMaster;

/// A permit for one connection, returned when it is dropped.
pub(crate) struct Permit {
    core: Arc<Core>,
    shard: Arc<Shard>,
    /// The open connection.
    link: Option<Arc<Link>>,
}

impl Permit {
    /// Takes over a permit that the shard offered.
    pub(crate) fn new(core: &Arc<Core>, shard: &Arc<Shard>) -> Self {
        Self { core: Arc::clone(core), shard: Arc::clone(shard), link: None }
    }

    /// Drives a connection for callers until it ends. Returns `None` if the master has changed since.
    async fn drive(&mut self, master: &CurrentMaster, parts: ConnectionParts) -> Option<Error> {
        let (link, driver) = self.core.link(master, parts, OnSilence::End);
        if !self.shard.register_dedicated(&link) {
            return None;
        }
        self.link = Some(link);
        let why = driver.await;
        self.link
            .iter()
            .filter(|link| link.ended_with_pending_replies())
            .for_each(|link| self.core.fences.add(link));
        tracing::debug!(address = %master.address, %why, "dedicated connection ended");
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
    /// Also runs when the runtime drops the task.
    fn drop(&mut self) {
        self.close();
        self.shard.release_permit();
    }
}

/// Opens a connection and drives it, and repeats that while callers wait for one.
pub(crate) async fn run(mut permit: Permit) {
    let (core, shard) = (Arc::clone(&permit.core), Arc::clone(&permit.shard));
    let mut reconnect = ReconnectBackoff::default();
    while let Some(master) = shard.wanted_dedicated().await {
        let login_version = core.data.login.version();
        let attempt = Box::pin(shared_connection::open(&core, &shard, &master));
        match shard.until_master_changes(master.generation, attempt).await {
            None => {
                reconnect.switched();
                continue;
            }
            Some(Ok(parts)) => {
                let opened = core.runtime.now();
                match permit.drive(&master, parts).await {
                    None => reconnect.switched(),
                    // The client itself ended it. A caller that waits asks for another.
                    Some(why) if why.is_closed() => return,
                    Some(_) => reconnect.lost(core.runtime.now() - opened),
                }
            }
            Some(Err(error)) if is_outdated_refusal(&core, &error, login_version) => continue,
            Some(Err(error)) if error.is_permanent() => {
                // A script ends by itself or is killed; other permanent errors need a change of settings.
                let (backoff, step) = match error.kind() {
                    Kind::Busy => (Backoff::RECONNECT, 0),
                    _ => (Backoff::PERMANENT_FAILURE, 3),
                };
                let pause = backoff.delay(step, core.runtime.random());
                shard.fail_dedicated(error, Some(core.runtime.now() + pause));
                return;
            }
            Some(Err(error)) => {
                tracing::debug!(%error, "cannot open a dedicated connection");
                reconnect.failed(&error);
                shard.fail_dedicated(error, None);
            }
        }
        let pause = reconnect.pause(core.runtime.random());
        future::or(sleep(&*core.runtime, pause), shard.master_changed(master.generation)).await;
    }
}
