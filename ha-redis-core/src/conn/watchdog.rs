//! Keeps the bounds of calls where the client's runtime does not.
//!
//! Deadlines and lateness are kept by the [driver](super::driver) of each connection, a task on the client's runtime. When
//! that is blocked, or nobody drives it, a caller on another runtime would wait for ever. So the thread of the
//! [alarms](crate::alarm) looks at all drivers while replies are owed, and does what they should have done some time
//! ago. On a runtime that is well there is nothing to do, and while nothing is owed it does not look.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, TryLockError, Weak};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use crate::alarm::{self, Alarm};
use crate::conn::driver::Driver;
use crate::error::Error;
use crate::runtime::Timer;
use crate::sync::{Mutex, lock};

/// How often it looks.
const INTERVAL: Duration = Duration::from_millis(100);
/// How late a driver may be: it has the first word, since the replies may have come by now.
const GRACE: Duration = Duration::from_millis(200);
/// When its own alarm comes so late, everything was held up, and the drivers come first.
const HELD_UP: Duration = Duration::from_millis(100);
/// After so many looks at connections that owe nothing it rests.
const IDLE_LOOKS: u32 = 10;

/// Whether it looks no more, until a request is staged.
static RESTING: AtomicBool = AtomicBool::new(true);

static WATCHDOG: LazyLock<Arc<Watchdog>> = LazyLock::new(Arc::default);

#[derive(Default)]
struct Watchdog {
    drivers: Mutex<Vec<Weak<Mutex<Driver>>>>,
    rounds: Mutex<Rounds>,
}

#[derive(Default)]
struct Rounds {
    next: Option<(Instant, Alarm)>,
    /// Looks in a row at which nothing was owed.
    idle: u32,
}

/// A driver as its task polls it, watched meanwhile.
pub(crate) struct Watched(Arc<Mutex<Driver>>);

impl Watched {
    pub(crate) fn new(driver: Driver) -> Self {
        let watch = !driver.is_simulated();
        let driver = Arc::new(Mutex::new(driver));
        if watch {
            let mut drivers = lock(&WATCHDOG.drivers);
            drivers.retain(|driver| driver.strong_count() > 0);
            drivers.push(Arc::downgrade(&driver));
        }
        Self(driver)
    }
}

impl Future for Watched {
    type Output = Error;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Error> {
        Pin::new(&mut *lock(&self.0)).poll(cx)
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        // The watchdog may be looking at it, and drop the rest later.
        lock(&self.0).drop_connection();
    }
}

/// Looks again, since a connection owes a reply. While it does not rest this costs a look at one byte.
#[inline]
pub(crate) fn wake() {
    // Its thread is not one of those that tests permute.
    if !cfg!(shuttle) && RESTING.load(Ordering::Relaxed) {
        begin();
    }
}

#[cold]
fn begin() {
    if RESTING.swap(false, Ordering::Relaxed) {
        let mut rounds = lock(&WATCHDOG.rounds);
        rounds.idle = 0;
        rounds.look_again(&WATCHDOG);
        if !alarm::is_kept() {
            // Nothing rings, so the next request tries again.
            RESTING.store(true, Ordering::Relaxed);
        }
    }
}

impl Watchdog {
    /// How many connections owe replies.
    fn look(&self, now: Instant) -> usize {
        let drivers = lock(&self.drivers).iter().filter_map(Weak::upgrade).collect::<Vec<_>>();
        drivers.iter().filter(|driver| look_at(driver, now)).count()
    }
}

impl Wake for Watchdog {
    /// Its alarm has rung.
    fn wake(self: Arc<Self>) {
        let now = Instant::now();
        let mut rounds = lock(&self.rounds);
        if rounds.next.take().is_some_and(|(at, _)| now > at + HELD_UP) {
            return rounds.look_again(&self);
        }
        drop(rounds);
        let owing = self.look(now);
        let mut rounds = lock(&self.rounds);
        rounds.idle = if owing > 0 { 0 } else { rounds.idle + 1 };
        if rounds.idle < IDLE_LOOKS {
            return rounds.look_again(&self);
        }
        drop(rounds);
        // Whoever stages a request from here on sees this, or is seen by one more look.
        RESTING.store(true, Ordering::Relaxed);
        if self.look(now) > 0 {
            begin();
        }
    }
}

impl Rounds {
    fn look_again(&mut self, watchdog: &Arc<Watchdog>) {
        let at = Instant::now() + INTERVAL;
        let mut alarm = Alarm::new(at);
        // It lies ahead, so that this sets it.
        let _ = alarm.poll(&mut Context::from_waker(&Waker::from(Arc::clone(watchdog))));
        self.next = Some((at, alarm));
    }
}

/// Does what a driver should have done. Whether replies are owed on its connection.
fn look_at(driver: &Mutex<Driver>, now: Instant) -> bool {
    match driver.try_lock() {
        // It runs just now.
        Err(TryLockError::WouldBlock) => true,
        Err(TryLockError::Poisoned(_)) => false,
        Ok(mut driver) => driver.keep_bounds(now, now.checked_sub(GRACE).unwrap_or(now)),
    }
}
