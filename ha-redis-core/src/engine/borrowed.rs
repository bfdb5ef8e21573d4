//! A connection that one caller has to itself for a while.

use std::sync::Arc;
use std::time::Instant;

use futures_lite::future;

use crate::engine::core::Core;
use crate::engine::driver::OnSilence;
use crate::engine::lane;
use crate::error::{Error, Kind};
use crate::link::Link;
use crate::pool::{Followed, Seat, is_hopeless};
use crate::retry::Backoff;
use crate::time::{Elapsed, sleep, until};

/// A borrowed connection: dropping it gives it back, or ends it when it is not fit for another caller.
#[derive(Debug)]
pub(crate) struct Borrowed {
    core: Arc<Core>,
    link: Arc<Link>,
    /// Whether a caller has changed the connection's own state: its database, say.
    pub(crate) tainted: bool,
    /// Whether a call is under way, or ended without its reply.
    pub(crate) busy: bool,
}

impl Borrowed {
    fn new(core: &Arc<Core>, link: Arc<Link>) -> Self {
        Self { core: Arc::clone(core), link, tainted: false, busy: false }
    }

    pub(crate) fn link(&self) -> &Arc<Link> {
        &self.link
    }
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        if self.tainted || self.busy {
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
            let followed = match core.pool.seat(core.runtime.now()).await? {
                Seat::Free(link) => return Ok(Borrowed::new(core, link)),
                Seat::Place(followed) => followed,
            };
            let place = Place { core: Arc::clone(core), link: None };
            let switched = async {
                core.pool.superseded(followed.generation).await;
                None
            };
            match future::or(async { Some(open(place, &followed).await) }, switched).await {
                None => continue,
                Some(Ok(borrowed)) => return Ok(borrowed),
                Some(Err(error)) if is_hopeless(&error) => {
                    let pause = Backoff::HOPELESS.delay(3, core.runtime.random());
                    core.pool.refuse_seats(core.runtime.now() + pause, error.clone());
                    return Err(error);
                }
                Some(Err(error)) => last = Some(error),
            }
            let pause = Backoff::RECONNECT.delay(failures, core.runtime.random());
            future::or(sleep(&*core.runtime, pause), core.pool.superseded(followed.generation)).await;
            failures += 1;
        }
    };
    match until(&*core.runtime, bound, borrowing).await {
        Ok(borrowed) => borrowed,
        Err(Elapsed) => Err(last.unwrap_or_else(|| match core.pool.is_following() {
            true => Error::new(
                Kind::Overloaded,
                "all connections for one caller were taken (see max_connections)",
            ),
            false => core.pool.nothing_usable(),
        })),
    }
}

/// The right to have a connection, given back when it is not opened or has ended.
struct Place {
    core: Arc<Core>,
    link: Option<Arc<Link>>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.core.pool.vacate(self.link.as_ref());
    }
}

async fn open(mut place: Place, followed: &Followed) -> Result<Borrowed, Error> {
    let core = Arc::clone(&place.core);
    let parts = lane::open(&core, followed).await?;
    let (link, driver) = core.link(followed, parts, OnSilence::End);
    if !core.pool.enlist(&link) {
        return Err(Error::new(Kind::NotMaster, format!("{} is no master any more", followed.address)));
    }
    place.link = Some(Arc::clone(&link));
    let borrowed = Borrowed::new(&core, link);
    core.spawn(Box::pin(async move {
        let why = driver.await;
        tracing::debug!(address = ?place.link.as_ref().map(|link| &link.address), %why, "a connection ended");
    }))?;
    Ok(borrowed)
}
