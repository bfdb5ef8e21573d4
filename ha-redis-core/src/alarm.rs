//! Timers of no runtime, which a thread of the process keeps: for what has to happen also where the client's runtime is
//! blocked, or nobody drives it.

use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::thread::{self, Thread};
use std::time::Instant;

use crate::runtime::Timer;
use crate::sync::{Mutex, lock, wake};

/// When an alarm rings, and its number, since several may ring at once.
type Key = (Instant, u64);

/// The alarms that are waited for.
static ALARMS: Mutex<BTreeMap<Key, Waker>> = Mutex::new(BTreeMap::new());
static NUMBERS: AtomicU64 = AtomicU64::new(0);

/// Sleeps until the next alarm. `None` where the system has no thread to give.
static THREAD: LazyLock<Option<Thread>> = LazyLock::new(|| {
    let thread = thread::Builder::new().name("ha-redis-alarms".to_owned()).spawn(keep_time);
    if let Err(error) = &thread {
        tracing::warn!(%error, "no thread for alarms: bounds are kept by the client's runtime alone");
    }
    thread.ok().map(|handle| handle.thread().clone())
});

/// A timer that fires also where no runtime is driven.
#[derive(Debug)]
pub(crate) struct Alarm {
    key: Key,
}

impl Alarm {
    pub(crate) fn new(at: Instant) -> Self {
        Self { key: (at, NUMBERS.fetch_add(1, Ordering::Relaxed)) }
    }

    /// A waker is not dropped under the lock: with it may go a task that holds an alarm.
    fn forget(&self) {
        let waker = lock(&ALARMS).remove(&self.key);
        drop(waker);
    }
}

impl Timer for Alarm {
    fn reset(&mut self, at: Instant) {
        self.forget();
        self.key.0 = at;
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.key.0 <= Instant::now() {
            self.forget();
            return Poll::Ready(());
        }
        let waker = cx.waker().clone();
        let mut alarms = lock(&ALARMS);
        let is_next = alarms.first_key_value().is_none_or(|(first, _)| self.key < *first);
        let before = alarms.insert(self.key, waker);
        drop(alarms);
        drop(before);
        if let Some(thread) = is_next.then(|| THREAD.as_ref()).flatten() {
            thread.unpark();
        }
        Poll::Pending
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        self.forget();
    }
}

fn keep_time() {
    loop {
        let next = lock(&ALARMS).first_key_value().map(|((at, _), _)| *at);
        match next {
            Some(at) => thread::park_timeout(at.saturating_duration_since(Instant::now())),
            None => thread::park(),
        }
        let mut alarms = lock(&ALARMS);
        let later = alarms.split_off(&(Instant::now(), u64::MAX));
        let due = std::mem::replace(&mut *alarms, later);
        drop(alarms);
        due.into_values().for_each(wake);
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Duration;

    use futures_lite::future::{block_on, poll_once};

    use super::*;

    #[test]
    fn alarm_rings_without_a_runtime() {
        let start = Instant::now();
        let mut later = Alarm::new(start + Duration::from_secs(3600));
        assert!(block_on(poll_once(poll_fn(|cx| later.poll(cx)))).is_none());
        let mut soon = Alarm::new(start + Duration::from_millis(20));
        block_on(poll_fn(|cx| soon.poll(cx)));
        assert!(start.elapsed() >= Duration::from_millis(20));
        later.reset(start);
        block_on(poll_fn(|cx| later.poll(cx)));
    }
}
