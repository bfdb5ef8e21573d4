//! The connections of a handle that reads from replicas.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_lite::future;

use crate::command::Scan;
use crate::conn::link::Link;
use crate::error::{Error, Kind};
use crate::generation::Generation;
use crate::node::core::Core;
use crate::node::shard::{Readable, Shard};
use crate::replica_choice::ReplicaChoice;
use crate::sync::Seen;
use crate::time::{Elapsed, until};

/// How long a client's first read waits for all replicas to be probed.
const FIRST_PROBE_WAIT: Duration = Duration::from_millis(100);

/// The state of such a handle between calls.
#[derive(Debug)]
pub(crate) struct ReplicaRoute {
    choice: Arc<dyn ReplicaChoice>,
    /// The replicas that were readable at the last call.
    readable: Seen<Readable>,
    /// The connection on which an attempt of this call failed.
    failed: Option<Arc<Link>>,
    /// Whether this call is a step of a scan.
    scan: Option<Scan>,
    /// The connection of the scan so far: a cursor is valid only on the server that returned it.
    scanned: Option<Arc<Link>>,
}

impl ReplicaRoute {
    pub(crate) fn new(choice: Arc<dyn ReplicaChoice>, shard: &Shard) -> Self {
        Self { choice, readable: shard.readable(), failed: None, scan: None, scanned: None }
    }

    /// Returns a route with the same choice for another handle.
    pub(crate) fn fork(&self, shard: &Shard) -> Self {
        Self::new(Arc::clone(&self.choice), shard)
    }

    /// Returns the connection for the next call, if there is one. The last call used `last`.
    pub(crate) fn choose(
        &mut self,
        shard: &Shard,
        last: Option<Arc<Link>>,
        scan: Option<Scan>,
    ) -> Option<Arc<Link>> {
        if std::mem::replace(&mut self.scan, scan).is_some() {
            self.scanned = last;
        }
        self.failed = None;
        match (scan, self.origin(shard)) {
            (Some(_), Some(link)) => Some(Arc::clone(link)),
            (Some(Scan::Continues), None) => None,
            _ => shard.choose_replica(&mut self.readable, &*self.choice, None),
        }
    }

    /// Returns the connection to the server that returned the scan's cursor, while it is readable.
    fn origin(&self, shard: &Shard) -> Option<&Arc<Link>> {
        let usable = |link: &&Arc<Link>| link.is_open() && (is_master(link) || shard.is_readable(link));
        self.scanned.as_ref().filter(usable)
    }

    /// Avoids `link`, on which an attempt has failed, for the rest of this call.
    pub(crate) fn avoid(&mut self, link: Option<Arc<Link>>) {
        self.failed = link.or_else(|| self.failed.take());
    }

    /// Returns true if another server can take the next attempt now.
    pub(crate) fn can_move_on(&mut self, core: &Core, shard: &Shard) -> bool {
        if self.scan == Some(Scan::Continues) {
            return false;
        }
        let another = shard.choose_replica(&mut self.readable, &*self.choice, self.failed.as_ref());
        another.is_some()
            || (core.config().replica_fallback() && !self.failed.as_ref().is_some_and(is_master))
    }

    /// Waits until `bound` for a connection to a replica, or to the master if that is the fallback.
    pub(crate) async fn link(
        &mut self,
        core: &Core,
        shard: &Shard,
        shared_index: usize,
        bound: Instant,
    ) -> Result<Arc<Link>, Error> {
        shard.check_open()?;
        if self.scan == Some(Scan::Continues) {
            return self.origin(shard).cloned().ok_or_else(cursor_lost);
        }
        let runtime = &*core.runtime;
        if self.failed.is_none() {
            // A client's first reads should choose among all replicas.
            let bound = bound.min(runtime.now() + FIRST_PROBE_WAIT);
            let _ = until(runtime, bound, shard.replicas_judged()).await;
        }
        if let Some(link) = shard.choose_replica(&mut self.readable, &*self.choice, self.failed.as_ref()) {
            return Ok(link);
        }
        let replica = shard.replica(&*self.choice);
        if !core.config().replica_fallback() {
            return until(runtime, bound, replica).await.unwrap_or_else(|Elapsed| {
                Err(Error::new(
                    Kind::Timeout,
                    format!("no replica could be read from: {}", shard.replica_account()),
                ))
            });
        }
        let judged = bound.min(runtime.now() + core.config().socket_connect_timeout());
        let master = async {
            // The first answers of replicas that were never probed are worth a wait.
            let _ = until(runtime, judged, shard.replicas_judged()).await;
            shard.link(shared_index, runtime, bound).await
        };
        let link = match &self.failed {
            Some(_) => future::or(master, replica).await,
            None => future::or(replica, master).await,
        };
        link.map_err(|error| match error.is_closed() {
            true => error,
            false => error.during(format!("no replica could be read from ({})", shard.replica_account())),
        })
    }
}

/// On another server the cursor would stand for other keys, and the scan would silently miss some.
fn cursor_lost() -> Error {
    let message = "the scan cannot continue: the server that returned its cursor is no longer available for reads; \
                   begin again with cursor 0";
    Error::new(Kind::Refused, message)
}

/// Connections to replicas have no generation.
fn is_master(link: &Arc<Link>) -> bool {
    link.generation != Generation::default()
}
