//! Connections that serve one caller at a time: how many there are, and which are free.

use std::sync::Arc;
use std::time::Instant;

use crate::error::Error;
use crate::link::Link;
use crate::pool::{Followed, Phase, Pool, State, is_hopeless, wait_for};
use crate::sync::lock;

/// The connections outside the lanes. Every one, free or borrowed, takes a place.
#[derive(Debug, Default)]
pub(super) struct Dedicated {
    /// How many there may be, and how many there are or are being made.
    pub(super) limit: usize,
    pub(super) taken: usize,
    /// All that are open, to end them together.
    pub(super) open: Vec<Arc<Link>>,
    /// Those of them that nobody uses.
    pub(super) free: Vec<Arc<Link>>,
    /// The server refuses new connections for a reason that only a setting mends: not asked again before this.
    pub(super) refused: Option<(Instant, Error)>,
}

/// What a caller gets who asks for a connection of its own.
#[derive(Debug)]
pub(crate) enum Seat {
    /// One that is open.
    Free(Arc<Link>),
    /// The right to open one to this master. It is given back with [`Pool::vacate`].
    Place(Arc<Followed>),
}

impl Pool {
    pub(crate) fn dedicated_connections(&self) -> usize {
        lock(&self.state).dedicated.open.len()
    }

    /// Waits for a free connection or the right to open one.
    pub(crate) async fn seat(&self, now: Instant) -> Result<Seat, Error> {
        wait_for(&self.state, &self.seats, |state| state.seat(now)).await
    }

    /// Opens no more connections for one caller before `until`.
    pub(crate) fn refuse_seats(&self, until: Instant, why: Error) {
        lock(&self.state).dedicated.refused = Some((until, why));
    }

    /// Counts a connection that was opened on a place. False when its generation is not the one followed now.
    pub(crate) fn enlist(&self, link: &Arc<Link>) -> bool {
        let mut state = lock(&self.state);
        if !state.admits(link) {
            return false;
        }
        link.lend(true);
        state.alive += 1;
        state.dedicated.open.push(Arc::clone(link));
        true
    }

    /// Takes a connection back from its borrower. One that is not fit for another is ended by the borrower.
    pub(crate) fn give_back(&self, link: Arc<Link>) {
        link.lend(false);
        let mut state = lock(&self.state);
        if state.dedicated.open.iter().any(|open| Arc::ptr_eq(open, &link)) {
            state.dedicated.free.push(link);
        }
        drop(state);
        self.seats.notify_additional(1);
    }

    /// The place of a connection that was not opened, or has ended, is free.
    pub(crate) fn vacate(&self, ended: Option<&Arc<Link>>) {
        let mut state = lock(&self.state);
        let dedicated = &mut state.dedicated;
        dedicated.taken -= 1;
        if let Some(link) = ended {
            dedicated.open.retain(|open| !Arc::ptr_eq(open, link));
            dedicated.free.retain(|free| !Arc::ptr_eq(free, link));
            state.ended(link);
        }
        drop(state);
        self.seats.notify_additional(1);
        self.changed.notify(usize::MAX);
    }
}

impl State {
    fn seat(&mut self, now: Instant) -> Option<Result<Seat, Error>> {
        if let Phase::Closed(why) = &self.phase {
            return Some(Err(why.clone()));
        }
        let followed = self.followed.clone()?;
        if self.held {
            return None;
        }
        let dedicated = &mut self.dedicated;
        while let Some(link) = dedicated.free.pop() {
            link.lend(true);
            if link.is_open() {
                return Some(Ok(Seat::Free(link)));
            }
        }
        // A lane that cannot connect has found out what a new connection would.
        if let Some(hopeless) = self.failure.clone().filter(is_hopeless) {
            return Some(Err(hopeless));
        }
        match &dedicated.refused {
            Some((until, why)) if now < *until => return Some(Err(why.clone())),
            _ => dedicated.refused = None,
        }
        (dedicated.taken < dedicated.limit).then(|| {
            dedicated.taken += 1;
            Ok(Seat::Place(followed))
        })
    }
}
