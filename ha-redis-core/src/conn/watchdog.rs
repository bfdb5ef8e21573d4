//! Enforces the timeouts of calls if the client's runtime does not.
//!
//! Deadlines and lateness are tracked by the [driver](super::driver) of each connection, a task on the client's
//! runtime. If that runtime is blocked, or nobody drives it, a caller on another runtime would wait forever. So the
//! thread of the [alarms](crate::alarm) checks all drivers while replies are pending, and does what they should have
//! done some time ago. On a healthy runtime there is nothing to do, and the checks stop while no reply is pending.

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

/// How often the drivers are checked.
const INTERVAL: Duration = Duration::from_millis(100);
/// How late a driver may be: it comes first, since the replies may have arrived by now.
const GRACE: Duration = Duration::from_millis(200);
/// If the watchdog's own alarm is this late, the whole process was held up, and the drivers come first.
const MAX_ALARM_DELAY: Duration = Duration::from_millis(100);
/// After this many checks without pending replies the watchdog stops.
const MAX_IDLE_CHECKS: u32 = 10;

/// True while the watchdog is stopped, until the next request.
static STOPPED: AtomicBool = AtomicBool::new(true);

static WATCHDOG: LazyLock<Arc<Watchdog>> = LazyLock::new(Arc::default);

#[derive(Default)]
struct Watchdog {
    drivers: Mutex<Vec<Weak<Mutex<Driver>>>>,
    schedule: Mutex<Schedule>,
}

#[derive(Default)]
struct Schedule {
    next: Option<(Instant, Alarm)>,
    /// Consecutive checks without pending replies.
    idle: u32,
}

/// A driver that its task polls and the watchdog checks.
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
        // The watchdog may be checking the driver now, and drops the rest later.
        lock(&self.0).drop_connection();
    }
}

/// Starts the watchdog, since a reply is pending. If it runs already, this only reads one byte.
#[inline]
pub(crate) fn wake() {
    // Its thread is not among those that the tests permute.
    if !cfg!(shuttle) && STOPPED.load(Ordering::Relaxed) {
        start();
    }
}

#[cold]
fn start() {
    if STOPPED.swap(false, Ordering::Relaxed) {
        let mut schedule = lock(&WATCHDOG.schedule);
        schedule.idle = 0;
        schedule.next_check(&WATCHDOG);
        if !alarm::is_running() {
            // Alarms do not fire now, so the next request tries again.
            STOPPED.store(true, Ordering::Relaxed);
        }
    }
}

impl Watchdog {
    /// Checks all drivers. Returns how many have pending replies.
    fn check(&self, now: Instant) -> usize {
        let drivers = lock(&self.drivers).iter().filter_map(Weak::upgrade).collect::<Vec<_>>();
        drivers.iter().filter(|driver| check_driver(driver, now)).count()
    }
}

impl Wake for Watchdog {
    /// Called when the alarm fires.
    fn wake(self: Arc<Self>) {
        let now = Instant::now();
        let mut schedule = lock(&self.schedule);
        if schedule.next.take().is_some_and(|(at, _)| now > at + MAX_ALARM_DELAY) {
            return schedule.next_check(&self);
        }
        drop(schedule);
        let busy = self.check(now);
        let mut schedule = lock(&self.schedule);
        schedule.idle = if busy > 0 { 0 } else { schedule.idle + 1 };
        if schedule.idle < MAX_IDLE_CHECKS {
            return schedule.next_check(&self);
        }
        drop(schedule);
        // A request from here on either sees this and starts the watchdog, or is seen by the check below.
        STOPPED.store(true, Ordering::Relaxed);
        if self.check(now) > 0 {
            start();
        }
    }
}

impl Schedule {
    fn next_check(&mut self, watchdog: &Arc<Watchdog>) {
        let at = Instant::now() + INTERVAL;
        let mut alarm = Alarm::new(at);
        // The alarm is in the future, so polling it registers the waker.
        let _ = alarm.poll(&mut Context::from_waker(&Waker::from(Arc::clone(watchdog))));
        self.next = Some((at, alarm));
    }
}

/// Does what a driver should have done. Returns true if replies are pending on its connection.
fn check_driver(driver: &Mutex<Driver>, now: Instant) -> bool {
    match driver.try_lock() {
        // The driver runs at this moment.
        Err(TryLockError::WouldBlock) => true,
        Err(TryLockError::Poisoned(_)) => false,
        Ok(mut driver) => driver.keep_bounds(now, now.checked_sub(GRACE).unwrap_or(now)),
    }
}
