//! A fair queue for tasks that wait for one of several equal resources: capacity of a connection, or a connection.
//!
//! Resources are not handed to waiters. A waiter whose turn has come is woken, and takes a resource when its task is
//! polled. So one resource that becomes available wakes one waiter, and nobody who comes later is served before the
//! waiters.
//!
//! A future that is no longer polled (in a `join` next to one that blocks, for example) must not block the others. So
//! every waiter checks from time to time whether the first in the queue was woken and has not been polled since. If
//! so, that one leaves the queue until it is polled again, and then gets its old place back.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::mem;
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};

use crate::runtime::{Runtime, Timer};
use crate::sync::{Mutex, lock, wake};
use crate::time::Elapsed;

/// How long a woken waiter may take to be polled. It doubles each time the waiter was late, and so does the pause
/// between two checks of a waiter.
const GRACE: Duration = Duration::from_millis(50);
const MAX_GRACE: Duration = Duration::from_secs(1);

/// The waiters, in order. The queue is protected by the same lock as the resources.
#[derive(Debug, Default)]
pub(crate) struct WaitQueue {
    waiters: VecDeque<Waiter>,
    next_number: u64,
    /// How many times a waiter was woken because its turn may have come.
    notifications: u64,
}

#[derive(Debug)]
struct Waiter {
    number: u64,
    grace: Duration,
    state: WaiterState,
}

#[derive(Debug)]
enum WaiterState {
    Asleep(Waker),
    /// Woken by this notification, and not polled since.
    Notified(u64),
}

impl WaitQueue {
    pub(crate) fn is_empty(&self) -> bool {
        self.waiters.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.waiters.len()
    }

    /// Returns the waker of the first waiter that can be served with `available` resources and was not notified yet:
    /// one notification for each resource that becomes available.
    pub(crate) fn notify_one(&mut self, available: usize) -> Option<Waker> {
        self.waiters.iter_mut().take(available).find_map(|waiter| waiter.notify(&mut self.notifications))
    }

    /// Returns the wakers of all sleeping waiters, after a change that affects all of them.
    pub(crate) fn notify_all(&mut self) -> Vec<Waker> {
        self.waiters.iter_mut().filter_map(|waiter| waiter.notify(&mut self.notifications)).collect()
    }

    /// Enters the queue or stays in it, to be woken by a notification. Returns how many are in front, and the
    /// previous state.
    fn wait(&mut self, number: u64, grace: &mut Duration, cx: &Context<'_>) -> (usize, Option<WaiterState>) {
        let state = WaiterState::Asleep(cx.waker().clone());
        match self.position(number) {
            Ok(index) => (index, Some(mem::replace(&mut self.waiters[index].state, state))),
            Err(index) => {
                *grace = (2 * *grace).clamp(GRACE, MAX_GRACE);
                self.waiters.insert(index, Waiter { number, grace: *grace, state });
                (index, None)
            }
        }
    }

    fn leave(&mut self, number: u64) -> Option<Waiter> {
        self.position(number).ok().and_then(|index| self.waiters.remove(index))
    }

    /// Removes the waiters in front of `number` that were notified no later than `check.since` and not polled, if the
    /// first is one of them. Returns the wakers of the others in front, to find out which of them are polled.
    fn remove_late(&mut self, number: u64, check: &LateCheck, available: usize) -> Option<Vec<Waker>> {
        let is_late = |waiter: &Waiter| waiter.number < number && waiter.is_late(check);
        if !self.waiters.front().is_some_and(is_late) {
            return None;
        }
        self.waiters.retain(|waiter| !is_late(waiter));
        let in_front = self.position(number).unwrap_or_else(|index| index);
        let notified = self.waiters.iter_mut().take(in_front.max(available));
        Some(notified.filter_map(|waiter| waiter.notify(&mut self.notifications)).collect())
    }

    fn position(&self, number: u64) -> Result<usize, usize> {
        self.waiters.binary_search_by_key(&number, |waiter| waiter.number)
    }
}

impl Waiter {
    fn notify(&mut self, notifications: &mut u64) -> Option<Waker> {
        if let WaiterState::Notified(_) = self.state {
            return None;
        }
        *notifications += 1;
        match mem::replace(&mut self.state, WaiterState::Notified(*notifications)) {
            WaiterState::Asleep(waker) => Some(waker),
            WaiterState::Notified(_) => None,
        }
    }

    fn is_late(&self, check: &LateCheck) -> bool {
        matches!(self.state, WaiterState::Notified(number) if number <= check.since)
            && self.grace <= check.pause
    }
}

/// Returns the queue behind the lock, and how many waiters can be served now.
type Find<S> = fn(&mut S) -> (&mut WaitQueue, usize);

/// A place in a [`WaitQueue`]. Dropping it leaves the queue, and wakes the next waiter that can be served.
pub(crate) struct Ticket<'a, S> {
    shared: &'a Mutex<S>,
    find: Find<S>,
    number: u64,
    /// How long the others wait for this one. Zero before the first wait.
    grace: Duration,
}

impl<'a, S> Ticket<'a, S> {
    /// Takes the last place in the queue.
    pub(crate) fn new(shared: &'a Mutex<S>, find: Find<S>) -> Self {
        let number = {
            let mut shared = lock(shared);
            let (queue, _) = find(&mut shared);
            queue.next_number += 1;
            queue.next_number
        };
        Self { shared, find, number, grace: Duration::ZERO }
    }

    /// Waits until `attempt` returns a value, or until `bound`. `attempt` runs whenever the task is polled; its
    /// second argument is true if the waiter can be served now.
    pub(crate) async fn wait<T>(
        &mut self,
        runtime: &dyn Runtime,
        bound: Instant,
        mut attempt: impl FnMut(&mut S, bool, &mut Context<'_>) -> Option<T>,
    ) -> Result<T, Elapsed> {
        let mut check = None;
        poll_fn(|cx| {
            loop {
                // The previous waker is not dropped under the lock: it may own a task that holds a ticket.
                let _before;
                let notifications = {
                    let mut shared = lock(self.shared);
                    let (queue, available) = (self.find)(&mut shared);
                    let notifications = queue.notifications;
                    let (in_front, before) = queue.wait(self.number, &mut self.grace, cx);
                    _before = before;
                    let is_served = in_front < available;
                    if let Some(found) = attempt(&mut shared, is_served, cx) {
                        return Poll::Ready(Ok(found));
                    }
                    notifications
                };
                let check = check.get_or_insert_with(|| LateCheck::first(runtime, bound, notifications));
                ready!(check.timer.poll(cx));
                if runtime.now() >= bound {
                    return Poll::Ready(Err(Elapsed));
                }
                self.check_late(check, runtime, bound);
            }
        })
        .await
    }

    /// Removes late waiters in front, and schedules the next check.
    fn check_late(&self, check: &mut LateCheck, runtime: &dyn Runtime, bound: Instant) {
        let mut shared = lock(self.shared);
        let (queue, available) = (self.find)(&mut shared);
        let notified = queue.remove_late(self.number, check, available);
        check.since = queue.notifications;
        drop(shared);
        // If one waiter is late, others may be too.
        check.pause = if notified.is_some() { GRACE } else { (2 * check.pause).min(MAX_GRACE) };
        check.timer.reset(bound.min(runtime.now() + check.pause));
        notified.into_iter().flatten().for_each(wake);
    }
}

impl<S> Drop for Ticket<'_, S> {
    fn drop(&mut self) {
        let mut shared = lock(self.shared);
        let (queue, available) = (self.find)(&mut shared);
        let left = queue.leave(self.number);
        let next = queue.notify_one(available);
        drop(shared);
        // The waker is not dropped under the lock: it may own a task that holds a ticket.
        drop(left);
        next.into_iter().for_each(wake);
    }
}

/// The state of a waiter between two checks of the first in the queue.
struct LateCheck {
    timer: Box<dyn Timer>,
    pause: Duration,
    /// Waiters that were notified no later than this, and not polled when the timer fires, are late.
    since: u64,
}

impl LateCheck {
    fn first(runtime: &dyn Runtime, bound: Instant, since: u64) -> Self {
        let timer = runtime.timer(bound.min(runtime.now() + GRACE));
        Self { timer, pause: GRACE, since }
    }
}

#[cfg(test)]
#[path = "wait_queue_tests.rs"]
mod tests;
