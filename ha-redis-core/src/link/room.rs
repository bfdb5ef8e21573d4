//! The queue of those who wait for room on a link, first come, first served.

use std::collections::VecDeque;
use std::task::{Context, Waker};

/// Who waits, in order.
#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: VecDeque<(Ticket, Option<Waker>)>,
    next: u64,
}

/// A place in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ticket(u64);

impl Queue {
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(super) fn join(&mut self) -> Ticket {
        let ticket = Ticket(self.next);
        self.next += 1;
        self.waiting.push_back((ticket, None));
        ticket
    }

    pub(super) fn is_first(&self, ticket: Ticket) -> bool {
        self.waiting.front().is_some_and(|(first, _)| *first == ticket)
    }

    /// Has the holder of `ticket` woken when it is its turn.
    pub(super) fn wait(&mut self, ticket: Ticket, cx: &Context<'_>) {
        if let Ok(index) = self.position(ticket) {
            self.waiting[index].1 = Some(cx.waker().clone());
        }
    }

    pub(super) fn leave(&mut self, ticket: Ticket) {
        if let Ok(index) = self.position(ticket) {
            self.waiting.remove(index);
        }
    }

    fn position(&self, ticket: Ticket) -> Result<usize, usize> {
        self.waiting.binary_search_by_key(&ticket, |(ticket, _)| *ticket)
    }

    /// Whoever is first, to be told to try.
    pub(super) fn first(&mut self) -> Option<Waker> {
        self.waiting.front_mut().and_then(|(_, waker)| waker.take())
    }

    /// Everybody, to be told that there will be no room.
    pub(super) fn everybody(&mut self) -> Vec<Waker> {
        self.waiting.iter_mut().filter_map(|(_, waker)| waker.take()).collect()
    }
}
