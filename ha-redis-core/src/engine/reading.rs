//! Where a handle that reads from replicas gets its connections.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_lite::future;

use crate::engine::core::Core;
use crate::error::{Error, Kind};
use crate::link::{Generation, Link};
use crate::replica::ReplicaChoice;
use crate::time::{Elapsed, until};

/// How long a read waits for the rest of the replicas when some are known.
const FIRST_LOOK: Duration = Duration::from_millis(100);

/// What a handle for reads remembers from call to call.
#[derive(Debug)]
pub(crate) struct Reading {
    choice: Arc<dyn ReplicaChoice>,
    /// The connection on which an attempt of this call has failed.
    failed: Option<Arc<Link>>,
    /// Whether this call is a step of a scan.
    scans: bool,
    /// Where the scan was so far: a cursor means something only to the server that gave it.
    scanned: Option<Arc<Link>>,
}

impl Reading {
    pub(crate) fn new(choice: Arc<dyn ReplicaChoice>) -> Self {
        Self { choice, failed: None, scans: false, scanned: None }
    }

    /// The same choice for another handle.
    pub(crate) fn again(&self) -> Self {
        Self::new(Arc::clone(&self.choice))
    }

    /// The connection for the next call, if there is one; the last call went over `last`.
    pub(crate) fn turn(&mut self, core: &Core, last: Option<Arc<Link>>, scans: bool) -> Option<Arc<Link>> {
        if std::mem::replace(&mut self.scans, scans) {
            self.scanned = last;
        }
        self.failed = None;
        let goes_on = |link: &&Arc<Link>| is_master(link) || core.pool.is_readable(link);
        match self.scanned.as_ref().filter(|_| scans).filter(goes_on) {
            Some(link) => Some(Arc::clone(link)),
            None => core.pool.choose_replica(&*self.choice, None),
        }
    }

    /// An attempt has failed on `link`: this call goes elsewhere.
    pub(crate) fn avoid(&mut self, link: Option<Arc<Link>>) {
        self.failed = link.or_else(|| self.failed.take());
    }

    /// Whether there is another server for the next attempt, now.
    pub(crate) fn can_move_on(&self, core: &Core) -> bool {
        let another = core.pool.choose_replica(&*self.choice, self.failed.as_ref());
        another.is_some() || (core.config.replica_fallback() && !self.failed.as_ref().is_some_and(is_master))
    }

    /// Waits until `bound` for a connection to a replica; or to the master, where that may stand in.
    pub(crate) async fn link(&self, core: &Core, lane: usize, bound: Instant) -> Result<Arc<Link>, Error> {
        core.pool.check_open()?;
        let runtime = &*core.runtime;
        if self.failed.is_none() {
            // So that a client's first reads have all replicas to choose from.
            let bound = bound.min(runtime.now() + FIRST_LOOK);
            let _ = until(runtime, bound, core.pool.replicas_judged()).await;
        }
        if let Some(link) = core.pool.choose_replica(&*self.choice, self.failed.as_ref()) {
            return Ok(link);
        }
        let replica = core.pool.replica(&*self.choice);
        if !core.config.replica_fallback() {
            return until(runtime, bound, replica).await.unwrap_or_else(|Elapsed| {
                Err(Error::new(
                    Kind::Timeout,
                    format!("no replica could be read from: {}", core.pool.replica_account()),
                ))
            });
        }
        let judged = bound.min(runtime.now() + core.config.socket_connect_timeout());
        let master = async {
            // Of replicas that were never asked, the first answer is worth a wait.
            let _ = until(runtime, judged, core.pool.replicas_judged()).await;
            core.pool.link(lane, runtime, bound).await
        };
        let link = match &self.failed {
            Some(_) => future::or(master, replica).await,
            None => future::or(replica, master).await,
        };
        link.map_err(|error| match error.is_closed() {
            true => error,
            false => error.during(format!("no replica could be read from ({})", core.pool.replica_account())),
        })
    }
}

/// Connections to replicas are of no master's generation.
fn is_master(link: &Arc<Link>) -> bool {
    link.generation != Generation::default()
}
