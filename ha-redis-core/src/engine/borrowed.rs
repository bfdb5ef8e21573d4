//! A connection that one caller has to itself for a while.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::engine::core::Core;
use crate::engine::driver::Driver;
use crate::engine::lane;
use crate::engine::link::Link;
use crate::engine::time::{Elapsed, sleep, until};
use crate::error::{Error, Kind};
use crate::pool::{Followed, Seat};
use crate::retry::Backoff;

const RECONNECT: Backoff = Backoff { base: Duration::from_millis(50), cap: Duration::from_secs(1) };

/// A borrowed connection: dropping it gives it back, or ends it when it is not fit for another caller.
#[derive(Debug)]
pub(crate) struct Borrowed {
    core: Arc<Core>,
    link: Arc<Link>,
    /// Whether a caller has changed the connection's own state: its database, say.
    pub(crate) tainted: bool,
}

impl Borrowed {
    pub(crate) fn link(&self) -> &Arc<Link> {
        &self.link
    }
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        if self.tainted || !self.link.is_quiet() {
            // A reply is still owed: the caller went away while the server let it wait. Ending the connection
            // ends that wait, before the server hands an element to nobody.
            self.link.shut(Error::new(Kind::Lost, "the caller gave its connection up"));
        } else {
            self.core.pool.give_back(Arc::clone(&self.link));
        }
    }
}

/// Borrows a connection to the master, waiting until `bound` for a free one or for one to be made.
pub(crate) async fn borrow(core: &Arc<Core>, bound: Instant) -> Result<Borrowed, Error> {
    let mut last = None;
    let borrowing = async {
        let mut failures = 0;
        loop {
            let followed = match core.pool.seat().await? {
                Seat::Free(link) => return Ok(Borrowed { core: Arc::clone(core), link, tainted: false }),
                Seat::Place(followed) => followed,
            };
            let place = Place { core, kept: false };
            match open(place, &followed).await {
                Ok(borrowed) => return Ok(borrowed),
                Err(error) if error.is_authentication() || error.is_config() => return Err(error),
                Err(error) => last = Some(error),
            }
            sleep(&*core.runtime, RECONNECT.jittered(failures, core.runtime.random())).await;
            failures += 1;
        }
    };
    match until(&*core.runtime, bound, borrowing).await {
        Ok(borrowed) => borrowed,
        Err(Elapsed) => Err(match last {
            Some(error) => error,
            None => Error::new(
                Kind::Overloaded,
                "all connections of their own were taken, or there was no master (see max_connections)",
            ),
        }),
    }
}

/// The right to open a connection, given back unless it is used.
struct Place<'a> {
    core: &'a Arc<Core>,
    kept: bool,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if !self.kept {
            self.core.pool.vacate(None);
        }
    }
}

async fn open(mut place: Place<'_>, followed: &Followed) -> Result<Borrowed, Error> {
    let core = place.core;
    let parts = lane::open(core, followed).await?;
    let link = Arc::new(Link::new(followed.generation, followed.address.clone(), core.runtime.now()));
    let driver = Driver::new(Arc::clone(&link), parts, Arc::clone(&core.runtime), core.patience());
    if !core.pool.enlist(&link) {
        return Err(Error::new(Kind::NotMaster, format!("{} is no master any more", followed.address)));
    }
    let (pool_of, carried) = (Arc::clone(core), Arc::clone(&link));
    place.kept = true;
    let carry = async move {
        let why = driver.await;
        tracing::debug!(address = %carried.address, %why, "a dedicated connection ended");
        pool_of.pool.vacate(Some(&carried));
    };
    if let Err(error) = core.spawn(Box::pin(carry)) {
        core.pool.vacate(Some(&link));
        return Err(error);
    }
    Ok(Borrowed { core: Arc::clone(core), link, tainted: false })
}
