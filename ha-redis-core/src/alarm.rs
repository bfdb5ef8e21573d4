//! Timers that do not depend on a runtime. A thread of the process fires them, even if the client's runtime is
//! blocked or not driven.

use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use futures_lite::future;

use crate::runtime::Timer;
use crate::sync::{Mutex, lock, wake};
use crate::time::Elapsed;

/// When an alarm fires, and its number, since several may fire at the same time.
type Key = (Instant, u64);

/// The pending alarms.
static ALARMS: Mutex<BTreeMap<Key, Waker>> = Mutex::new(BTreeMap::new());
static NUMBERS: AtomicU64 = AtomicU64::new(0);

/// The thread sleeps until the next alarm.
static THREAD: Mutex<AlarmThread> = Mutex::new(AlarmThread { thread: None, failed_at: None });
static HAS_THREAD: AtomicBool = AtomicBool::new(false);

/// How long to wait before starting the thread is tried again.
const RESTART_DELAY: Duration = Duration::from_secs(1);

/// The thread that fires the alarms. It does not exist until it is needed, nor while the system cannot start one.
struct AlarmThread {
    thread: Option<Thread>,
    /// When starting it failed last.
    failed_at: Option<Instant>,
}

impl AlarmThread {
    /// Wakes the thread to check the alarms, and starts it if necessary. Returns true if it runs.
    fn notify(&mut self, now: Instant, start: impl FnOnce() -> io::Result<Thread>) -> bool {
        let may_start = self.failed_at.is_none_or(|failed_at| now >= failed_at + RESTART_DELAY);
        if self.thread.is_none() && may_start {
            match start() {
                Ok(thread) => self.thread = Some(thread),
                Err(error) => {
                    if self.failed_at.replace(now).is_none() {
                        tracing::warn!(%error, "cannot start the alarm thread; until then only the runtime enforces timeouts");
                    }
                }
            }
        }
        self.thread.as_ref().map(Thread::unpark).is_some()
    }
}

fn start() -> io::Result<Thread> {
    let started = thread::Builder::new().name("ha-redis-alarms".to_owned()).spawn(run);
    started.map(|handle| handle.thread().clone())
}

/// Returns true if alarms fire: false while their thread does not run.
pub(crate) fn is_running() -> bool {
    HAS_THREAD.load(Ordering::Relaxed)
}

/// A timer that fires even if no runtime is driven.
#[derive(Debug)]
pub(crate) struct Alarm {
    key: Key,
}

impl Alarm {
    pub(crate) fn new(at: Instant) -> Self {
        Self { key: (at, NUMBERS.fetch_add(1, Ordering::Relaxed)) }
    }

    /// Removes the alarm. The waker is not dropped under the lock: it may own a task that holds an alarm.
    fn remove(&self) {
        let waker = lock(&ALARMS).remove(&self.key);
        drop(waker);
    }
}

impl Timer for Alarm {
    fn reset(&mut self, at: Instant) {
        self.remove();
        self.key.0 = at;
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.key.0 <= Instant::now() {
            self.remove();
            return Poll::Ready(());
        }
        let waker = cx.waker().clone();
        let mut alarms = lock(&ALARMS);
        let is_next = alarms.first_key_value().is_none_or(|(first, _)| self.key < *first);
        let before = alarms.insert(self.key, waker);
        drop(alarms);
        drop(before);
        if is_next || !is_running() {
            let mut thread = lock(&THREAD);
            let is_running = thread.notify(Instant::now(), start);
            HAS_THREAD.store(is_running, Ordering::Relaxed);
        }
        Poll::Pending
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        self.remove();
    }
}

/// Waits, independently of any runtime.
pub(crate) async fn sleep(time: Duration) {
    let mut alarm = Alarm::new(Instant::now() + time);
    poll_fn(|cx| alarm.poll(cx)).await;
}

/// Runs `work` for at most `time`, independently of any runtime.
pub(crate) async fn timeout<T>(time: Duration, work: impl Future<Output = T>) -> Result<T, Elapsed> {
    let late = async {
        sleep(time).await;
        Err(Elapsed)
    };
    future::or(async { Ok(work.await) }, late).await
}

fn run() {
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
    use std::future::pending;

    use futures_lite::future::{block_on, poll_once};

    use super::*;

    #[test]
    fn thread_restarted_after_delay() {
        let mut alarms = AlarmThread { thread: None, failed_at: None };
        let (now, no_thread) = (Instant::now(), || Err(io::ErrorKind::WouldBlock.into()));
        assert!(!alarms.notify(now, no_thread));
        assert!(!alarms.notify(now, || panic!("restarted too early")));
        assert!(!alarms.notify(now + RESTART_DELAY, no_thread));
        assert!(alarms.notify(now + 2 * RESTART_DELAY, || Ok(thread::current())));
        assert!(alarms.notify(now + 3 * RESTART_DELAY, || panic!("it runs already")));
    }

    #[test]
    fn alarm_fires_without_runtime() {
        let start = Instant::now();
        let mut later = Alarm::new(start + Duration::from_secs(3600));
        assert!(block_on(poll_once(poll_fn(|cx| later.poll(cx)))).is_none());
        let mut soon = Alarm::new(start + Duration::from_millis(20));
        block_on(poll_fn(|cx| soon.poll(cx)));
        assert!(start.elapsed() >= Duration::from_millis(20));
        later.reset(start);
        block_on(poll_fn(|cx| later.poll(cx)));
    }

    #[test]
    fn timeout_ends_work_that_hangs() {
        assert_eq!(block_on(timeout(Duration::from_millis(1), pending::<()>())), Err(Elapsed));
        assert_eq!(block_on(timeout(Duration::ZERO, async { 7 })), Ok(7), "a result that is ready counts");
    }
}
