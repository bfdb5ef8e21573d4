//! A dedicated connection that one caller has checked out.

use std::sync::Arc;
use std::time::Instant;

use crate::conn::link::Link;
use crate::error::{Error, Kind};
use crate::node::core::Core;
use crate::node::shard::{Offer, Shard};
use crate::tasks::dedicated_connection::{self, Permit};
use crate::tasks::reauthentication;

/// A dedicated connection. Dropping it checks it in, or ends it if another caller could not use it.
#[derive(Debug)]
pub(crate) struct CheckedOut {
    core: Arc<Core>,
    shard: Arc<Shard>,
    link: Arc<Link>,
    /// Whether a caller has changed the connection's own state, such as its database.
    pub(crate) tainted: bool,
    /// Whether a call is under way, or has ended without its reply.
    pub(crate) busy: bool,
    /// Whether the server owes replies to calls that must run although nobody waits for the reply.
    pub(crate) has_unread_replies: bool,
}

impl CheckedOut {
    fn new(core: &Arc<Core>, shard: &Arc<Shard>, link: Arc<Link>) -> Self {
        let (core, shard) = (Arc::clone(core), Arc::clone(shard));
        Self { core, shard, link, tainted: false, busy: false, has_unread_replies: false }
    }

    pub(crate) fn link(&self) -> &Arc<Link> {
        &self.link
    }
}

impl Drop for CheckedOut {
    fn drop(&mut self) {
        let owed = self.has_unread_replies && self.link.has_pending_replies();
        if owed && !self.busy {
            // Calls without a response must run: the connection ends after them.
            self.link.drain(Error::new(Kind::Lost, "the caller dropped its connection"));
        } else if self.tainted || self.busy {
            // The caller went away while the server let it wait. Ending the connection ends that wait, before the
            // server pops an element for nobody.
            self.link.shut(Error::new(Kind::Closed, "the caller dropped its connection"));
        } else {
            reauthentication::log_in_before_return(&self.core, &self.link);
            self.shard.check_in(Arc::clone(&self.link));
            reauthentication::look_after_return(&self.core, &self.link);
        }
    }
}

/// Checks out a dedicated connection to the master. Waits until `bound` for a free one, or for a new one. The connection
/// was fenced behind at least `fences` given-up ones.
pub(crate) async fn check_out(
    core: &Arc<Core>,
    shard: &Arc<Shard>,
    bound: Instant,
    fences: u64,
) -> Result<CheckedOut, Error> {
    match shard.check_out(fences) {
        Some(link) => Ok(CheckedOut::new(core, shard, link)),
        // Boxed, so that the future stays small where a connection is free.
        None => Box::pin(check_out_in_turn(core, shard, bound, fences)).await,
    }
}

/// Waits in turn. A task of the client opens the connection: the caller may be on another runtime, and may be dropped at
/// any time.
async fn check_out_in_turn(
    core: &Arc<Core>,
    shard: &Arc<Shard>,
    bound: Instant,
    fences: u64,
) -> Result<CheckedOut, Error> {
    let mut ticket = shard.queue_for_dedicated();
    loop {
        match shard.dedicated_in_turn(&mut ticket, &*core.runtime, bound, fences).await? {
            Offer::Connection(link) => return Ok(CheckedOut::new(core, shard, link)),
            Offer::Permit => core.spawn(Box::pin(dedicated_connection::run(Permit::new(core, shard))))?,
        }
    }
}
