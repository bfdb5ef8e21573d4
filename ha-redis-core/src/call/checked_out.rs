//! A connection that one caller has to itself for a while.

use std::sync::Arc;
use std::time::Instant;

use crate::conn::link::Link;
use crate::error::{Error, Kind};
use crate::node::core::Core;
use crate::node::shard::{Offer, Shard};
use crate::tasks::dedicated_connection::{self, Permit};

/// A borrowed connection: dropping it gives it back, or ends it when it is not fit for another caller.
#[derive(Debug)]
pub(crate) struct CheckedOut {
    shard: Arc<Shard>,
    link: Arc<Link>,
    /// Whether a caller has changed the connection's own state: its database, say.
    pub(crate) tainted: bool,
    /// Whether a call is under way, or ended without its reply.
    pub(crate) busy: bool,
    /// Whether replies are owed that nobody waits for, to calls that are to run nevertheless.
    pub(crate) owes_to_nobody: bool,
}

impl CheckedOut {
    fn new(shard: &Arc<Shard>, link: Arc<Link>) -> Self {
        Self { shard: Arc::clone(shard), link, tainted: false, busy: false, owes_to_nobody: false }
    }

    pub(crate) fn link(&self) -> &Arc<Link> {
        &self.link
    }
}

impl Drop for CheckedOut {
    fn drop(&mut self) {
        let owed = self.owes_to_nobody && self.link.owes_replies();
        if owed && !self.busy {
            // What was sent without a wait for its reply is to run: the connection ends behind that.
            self.link.drain(Error::new(Kind::Lost, "the caller gave its connection up"));
        } else if self.tainted || self.busy {
            // A reply is still owed: the caller went away while the server let it wait. Ending the connection
            // ends that wait, before the server hands an element to nobody.
            self.link.shut(Error::new(Kind::Closed, "the caller gave its connection up"));
        } else {
            self.shard.check_in(Arc::clone(&self.link));
        }
    }
}

/// Borrows a connection to the master, waiting until `bound` for a free one or for one to be made. For a repeat it is one
/// that was fenced behind so many give-ups.
pub(crate) async fn borrow(
    core: &Arc<Core>,
    shard: &Arc<Shard>,
    bound: Instant,
    fences: u64,
) -> Result<CheckedOut, Error> {
    match shard.check_out(fences) {
        Some(link) => Ok(CheckedOut::new(shard, link)),
        // Boxed, so that those who find a free one do not carry it about.
        None => Box::pin(borrow_in_turn(core, shard, bound, fences)).await,
    }
}

/// The caller itself only waits. What a connection needs of a runtime is made in a task of the client, since the caller
/// may be on another runtime, and goes away when it likes.
async fn borrow_in_turn(
    core: &Arc<Core>,
    shard: &Arc<Shard>,
    bound: Instant,
    fences: u64,
) -> Result<CheckedOut, Error> {
    let mut ticket = shard.queue_for_dedicated();
    loop {
        match shard.dedicated_in_turn(&mut ticket, &*core.runtime, bound, fences).await? {
            Offer::Connection(link) => return Ok(CheckedOut::new(shard, link)),
            Offer::Permit => core.spawn(Box::pin(dedicated_connection::run(Permit::new(core, shard))))?,
        }
    }
}
