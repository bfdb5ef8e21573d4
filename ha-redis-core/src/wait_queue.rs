//! A fair queue for tasks that wait for one of several equal things: room on a connection, or a connection.
//!
//! Nothing is handed to a waiter. A waiter whose turn has come is woken, and takes what there is when its task is polled.
//! So one thing that becomes available wakes one waiter, and nobody who comes later is served before those who wait.
//!
//! A future that is not polled any more (it stands in a `join` beside one that blocks, say) must not keep the others
//! waiting. So every waiter looks from time to time whether the first in the queue was woken and has not been polled
//! since. If so, that one leaves the queue until it is polled again, and gets its old place back then.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::mem;
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};

use crate::runtime::{Runtime, Timer};
use crate::sync::{Mutex, lock, wake};
use crate::time::Elapsed;

/// How long a waiter that was woken may take to be polled. It doubles each time the waiter was late, and so does the
/// pause between two looks of a waiter at the first in the queue.
const PATIENCE: Duration = Duration::from_millis(50);
const MAX_PATIENCE: Duration = Duration::from_secs(1);

/// Those who wait, in order. It stands behind the same lock as what they wait for.
#[derive(Debug, Default)]
pub(crate) struct WaitQueue {
    waiters: VecDeque<Waiter>,
    next_number: u64,
    /// How many times a waiter was woken because its turn may have come.
    calls: u64,
}

#[derive(Debug)]
struct Waiter {
    number: u64,
    patience: Duration,
    state: WaiterState,
}

#[derive(Debug)]
enum WaiterState {
    Asleep(Waker),
    /// Woken, by this call, and not polled since.
    Called(u64),
}

impl WaitQueue {
    pub(crate) fn is_empty(&self) -> bool {
        self.waiters.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.waiters.len()
    }

    /// Returns the waker of the first waiter that can be served, with so many things available, and was not called yet:
    /// one call for each thing that becomes available.
    pub(crate) fn call(&mut self, available: usize) -> Option<Waker> {
        self.waiters.iter_mut().take(available).find_map(|waiter| waiter.call(&mut self.calls))
    }

    /// Returns the wakers of all who sleep: something has changed that concerns everybody.
    pub(crate) fn call_all(&mut self) -> Vec<Waker> {
        self.waiters.iter_mut().filter_map(|waiter| waiter.call(&mut self.calls)).collect()
    }

    /// Enters the queue, or stays in it, to be woken by a call. Returns how many are in front, and what it was before.
    fn wait(
        &mut self,
        number: u64,
        patience: &mut Duration,
        cx: &Context<'_>,
    ) -> (usize, Option<WaiterState>) {
        let state = WaiterState::Asleep(cx.waker().clone());
        match self.position(number) {
            Ok(index) => (index, Some(mem::replace(&mut self.waiters[index].state, state))),
            Err(index) => {
                *patience = (2 * *patience).clamp(PATIENCE, MAX_PATIENCE);
                self.waiters.insert(index, Waiter { number, patience: *patience, state });
                (index, None)
            }
        }
    }

    fn leave(&mut self, number: u64) -> Option<Waiter> {
        self.position(number).ok().and_then(|index| self.waiters.remove(index))
    }

    /// Takes out those in front of `number` who were called no later than `look.since` and have not come, if the first
    /// is one of them. Returns the wakers of the others in front: it turns out soon which of them come.
    fn pass_over(&mut self, number: u64, look: &Look, available: usize) -> Option<Vec<Waker>> {
        let is_late = |waiter: &Waiter| waiter.number < number && waiter.is_late(look);
        if !self.waiters.front().is_some_and(is_late) {
            return None;
        }
        self.waiters.retain(|waiter| !is_late(waiter));
        let in_front = self.position(number).unwrap_or_else(|index| index);
        let called = self.waiters.iter_mut().take(in_front.max(available));
        Some(called.filter_map(|waiter| waiter.call(&mut self.calls)).collect())
    }

    fn position(&self, number: u64) -> Result<usize, usize> {
        self.waiters.binary_search_by_key(&number, |waiter| waiter.number)
    }
}

impl Waiter {
    fn call(&mut self, calls: &mut u64) -> Option<Waker> {
        if let WaiterState::Called(_) = self.state {
            return None;
        }
        *calls += 1;
        match mem::replace(&mut self.state, WaiterState::Called(*calls)) {
            WaiterState::Asleep(waker) => Some(waker),
            WaiterState::Called(_) => None,
        }
    }

    fn is_late(&self, look: &Look) -> bool {
        matches!(self.state, WaiterState::Called(call) if call <= look.since) && self.patience <= look.pause
    }
}

/// Finds the queue behind the lock, and how many of those who wait can be served now.
type Find<S> = fn(&mut S) -> (&mut WaitQueue, usize);

/// A place in a [`WaitQueue`]. Dropping it leaves the queue, and calls the next who can be served.
pub(crate) struct Ticket<'a, S> {
    shared: &'a Mutex<S>,
    find: Find<S>,
    number: u64,
    /// How long the others wait for this one. It is zero before the first wait.
    patience: Duration,
}

impl<'a, S> Ticket<'a, S> {
    /// A place behind all who have one.
    pub(crate) fn new(shared: &'a Mutex<S>, find: Find<S>) -> Self {
        let number = {
            let mut shared = lock(shared);
            let (queue, _) = find(&mut shared);
            queue.next_number += 1;
            queue.next_number
        };
        Self { shared, find, number, patience: Duration::ZERO }
    }

    /// Waits until `attempt` returns something, or until `bound`. Whenever the task is polled, `attempt` is told
    /// whether the holder can be served now.
    pub(crate) async fn wait<T>(
        &mut self,
        runtime: &dyn Runtime,
        bound: Instant,
        mut attempt: impl FnMut(&mut S, bool, &mut Context<'_>) -> Option<T>,
    ) -> Result<T, Elapsed> {
        let mut look = None;
        poll_fn(|cx| {
            loop {
                // A waker is not dropped under the lock: with it may go a task that holds a ticket.
                let _before;
                let calls = {
                    let mut shared = lock(self.shared);
                    let (queue, available) = (self.find)(&mut shared);
                    let calls = queue.calls;
                    let (in_front, before) = queue.wait(self.number, &mut self.patience, cx);
                    _before = before;
                    let is_served = in_front < available;
                    if let Some(found) = attempt(&mut shared, is_served, cx) {
                        return Poll::Ready(Ok(found));
                    }
                    calls
                };
                let look = look.get_or_insert_with(|| Look::first(runtime, bound, calls));
                ready!(look.timer.poll(cx));
                if runtime.now() >= bound {
                    return Poll::Ready(Err(Elapsed));
                }
                self.look_again(look, runtime, bound);
            }
        })
        .await
    }

    /// Passes over those in front who were called and have not come, and sets the time of the next look.
    fn look_again(&self, look: &mut Look, runtime: &dyn Runtime, bound: Instant) {
        let mut shared = lock(self.shared);
        let (queue, available) = (self.find)(&mut shared);
        let called = queue.pass_over(self.number, look, available);
        look.since = queue.calls;
        drop(shared);
        // Where one does not come, others may not.
        look.pause = if called.is_some() { PATIENCE } else { (2 * look.pause).min(MAX_PATIENCE) };
        look.timer.reset(bound.min(runtime.now() + look.pause));
        called.into_iter().flatten().for_each(wake);
    }
}

impl<S> Drop for Ticket<'_, S> {
    fn drop(&mut self) {
        let mut shared = lock(self.shared);
        let (queue, available) = (self.find)(&mut shared);
        let left = queue.leave(self.number);
        let next = queue.call(available);
        drop(shared);
        // A waker is not dropped under the lock: with it may go a task that holds a ticket.
        drop(left);
        next.into_iter().for_each(wake);
    }
}

/// What a waiter remembers until it looks at the first in the queue again.
struct Look {
    timer: Box<dyn Timer>,
    pause: Duration,
    /// Whoever was called no later than this, and has not been polled when the timer fires, is late.
    since: u64,
}

impl Look {
    fn first(runtime: &dyn Runtime, bound: Instant, since: u64) -> Self {
        let timer = runtime.timer(bound.min(runtime.now() + PATIENCE));
        Self { timer, pause: PATIENCE, since }
    }
}

#[cfg(test)]
#[path = "wait_queue_tests.rs"]
mod tests;
