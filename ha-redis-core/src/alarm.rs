//! Timers of no runtime, which a thread of the process keeps: for what has to happen also where the client's runtime is
//! blocked, or nobody drives it.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use crate::runtime::Timer;
use crate::sync::{Mutex, lock, wake};

/// When an alarm rings, and its number, since several may ring at once.
type Key = (Instant, u64);

/// The alarms that are waited for.
static ALARMS: Mutex<BTreeMap<Key, Waker>> = Mutex::new(BTreeMap::new());
static NUMBERS: AtomicU64 = AtomicU64::new(0);

/// Sleeps until the next alarm.
static THREAD: Mutex<ClientGuard> = Mutex::new(ClientGuard { thread: None, failed_at: None });
static HAS_THREAD: AtomicBool = AtomicBool::new(false);

/// When the system has no thread to give, it is asked again after this.
const START_AGAIN: Duration = Duration::from_secs(1);

/// Who keeps the time. There is nobody until it is needed, and while the system has no thread to give.
struct ClientGuard {
    thread: Option<Thread>,
    /// When it could not be started last.
    failed_at: Option<Instant>,
}

impl ClientGuard {
    /// Has the thread look at the alarms, and starts it if there is none. Whether there is one.
    fn rouse(&mut self, now: Instant, start: impl FnOnce() -> io::Result<Thread>) -> bool {
        if self.thread.is_none() && self.failed_at.is_none_or(|failed_at| now >= failed_at + START_AGAIN) {
            match start() {
                Ok(thread) => self.thread = Some(thread),
                Err(error) => {
                    if self.failed_at.replace(now).is_none() {
                        tracing::warn!(%error, "no thread for alarms: for now bounds are kept by the client's runtime alone");
                    }
                }
            }
        }
        self.thread.as_ref().map(Thread::unpark).is_some()
    }
}

fn start() -> io::Result<Thread> {
    let started = thread::Builder::new().name("ha-redis-alarms".to_owned()).spawn(keep_time);
    started.map(|handle| handle.thread().clone())
}

/// Whether alarms ring: not while there is no thread for them.
pub(crate) fn is_kept() -> bool {
    HAS_THREAD.load(Ordering::Relaxed)
}

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
        if is_next || !is_kept() {
            let is_kept = lock(&THREAD).rouse(Instant::now(), start);
            HAS_THREAD.store(is_kept, Ordering::Relaxed);
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

    use futures_lite::future::{block_on, poll_once};

    use super::*;

    #[test]
    fn thread_is_started_once_the_system_has_one_again() {
        let mut keeper = ClientGuard { thread: None, failed_at: None };
        let (now, no_thread) = (Instant::now(), || Err(io::ErrorKind::WouldBlock.into()));
        assert!(!keeper.rouse(now, no_thread));
        assert!(!keeper.rouse(now, || panic!("it is asked for again too early")));
        assert!(!keeper.rouse(now + START_AGAIN, no_thread));
        assert!(keeper.rouse(now + 2 * START_AGAIN, || Ok(thread::current())));
        assert!(keeper.rouse(now + 3 * START_AGAIN, || panic!("there is one")));
    }

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
