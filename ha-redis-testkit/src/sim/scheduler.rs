//! One thread's tasks in virtual time. Which of the ready tasks runs next is drawn from the seed; when none is
//! ready, the clock jumps to the next timer.

use std::any::Any;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use fastrand::Rng;

/// A task on the scheduler.
pub(super) type Task = Pin<Box<dyn Future<Output = ()> + Send + 'static>>;

/// Who started a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// The client, through its runtime.
    Client,
    /// The simulation: callers, and who directs them.
    Workload,
}

/// A step of a task takes up to so much virtual time, so that the network may come between two of them.
const LONGEST_STEP: u64 = 3_000;

/// The tasks. What they themselves reach of it is the [`Clock`].
pub(super) struct Scheduler {
    clock: Arc<Clock>,
    tasks: Vec<Option<Running>>,
    /// How many tasks of the client have not ended.
    clients: usize,
    /// What tasks that panicked have said.
    panics: Vec<String>,
    rng: Rng,
}

struct Running {
    owner: Owner,
    task: Task,
    alarm: Arc<Alarm>,
    waker: Waker,
}

impl Scheduler {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            clock: Arc::default(),
            tasks: Vec::new(),
            clients: 0,
            panics: Vec::new(),
            rng: Rng::with_seed(seed),
        }
    }

    pub(super) fn clock(&self) -> &Arc<Clock> {
        &self.clock
    }

    /// Runs one of the ready tasks; its number, or `None` when none is ready.
    pub(super) fn run_one(&mut self) -> Option<usize> {
        self.admit();
        let number = {
            let mut ready = lock(&self.clock.ready);
            if ready.is_empty() {
                return None;
            }
            let chosen = self.rng.usize(..ready.len());
            ready.swap_remove(chosen)
        };
        // A task may be woken after its end.
        let Some(running) = &mut self.tasks[number] else { return Some(number) };
        running.alarm.rung.store(false, Ordering::Relaxed);
        let mut cx = Context::from_waker(&running.waker);
        // As runtimes do: a task that panics is gone, and the others go on.
        let polled = catch_unwind(AssertUnwindSafe(|| running.task.as_mut().poll(&mut cx)));
        if !matches!(polled, Ok(Poll::Pending)) {
            self.clients -= usize::from(running.owner == Owner::Client);
            self.tasks[number] = None;
        }
        if let Err(panic) = polled {
            self.panics.push(text_of(&*panic));
        }
        self.clock.pass(Duration::from_nanos(self.rng.u64(..LONGEST_STEP)));
        Some(number)
    }

    /// Takes in the tasks that were spawned.
    fn admit(&mut self) {
        for (owner, task) in lock(&self.clock.spawned).drain(..) {
            let number = self.tasks.len();
            self.clients += usize::from(owner == Owner::Client);
            let alarm =
                Arc::new(Alarm { number, rung: AtomicBool::new(true), clock: Arc::clone(&self.clock) });
            let waker = Waker::from(Arc::clone(&alarm));
            self.tasks.push(Some(Running { owner, task, alarm, waker }));
            lock(&self.clock.ready).push(number);
        }
    }

    /// What tasks that panicked have said.
    pub(super) fn panics(&self) -> &[String] {
        &self.panics
    }

    /// How many tasks of the client have not ended.
    pub(super) fn client_tasks(&self) -> usize {
        let spawned = lock(&self.clock.spawned);
        self.clients + spawned.iter().filter(|(owner, _)| *owner == Owner::Client).count()
    }
}

fn text_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("no text").to_owned()
}

/// Wakes one task.
struct Alarm {
    number: usize,
    rung: AtomicBool,
    clock: Arc<Clock>,
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.rung.swap(true, Ordering::Relaxed) {
            lock(&self.clock.ready).push(self.number);
        }
    }
}

/// The virtual time since the beginning, its timers, and the tasks that it wakes.
#[derive(Default)]
pub(super) struct Clock {
    nanos: AtomicU64,
    timers: Mutex<Timers>,
    ready: Mutex<Vec<usize>>,
    spawned: Mutex<Vec<(Owner, Task)>>,
}

#[derive(Default)]
struct Timers {
    waiting: BTreeMap<TimerKey, Waker>,
    next: u64,
}

/// When a timer fires, and which of those that fire then it is.
pub(super) type TimerKey = (Duration, u64);

impl Clock {
    pub(super) fn now(&self) -> Duration {
        Duration::from_nanos(self.nanos.load(Ordering::Relaxed))
    }

    fn pass(&self, time: Duration) {
        self.advance(self.now() + time);
    }

    /// Moves on to `to`, if that is not past, and wakes whose time has come.
    pub(super) fn advance(&self, to: Duration) {
        let to = to.max(self.now());
        self.nanos.store(to.as_nanos() as u64, Ordering::Relaxed);
        let mut timers = lock(&self.timers);
        while let Some(first) = timers.waiting.first_entry()
            && first.key().0 <= to
        {
            first.remove().wake();
        }
    }

    /// When the next timer fires.
    pub(super) fn next_timer(&self) -> Option<Duration> {
        lock(&self.timers).waiting.first_key_value().map(|((at, _), _)| *at)
    }

    pub(super) fn spawn(&self, owner: Owner, task: Task) {
        lock(&self.spawned).push((owner, task));
    }

    /// Ready from `at` on. `key` is what this has registered before.
    pub(super) fn poll_until(&self, at: Duration, key: &mut Option<TimerKey>, cx: &Context<'_>) -> Poll<()> {
        self.forget(key.take());
        if at <= self.now() {
            return Poll::Ready(());
        }
        let mut timers = lock(&self.timers);
        timers.next += 1;
        let new = (at, timers.next);
        timers.waiting.insert(new, cx.waker().clone());
        *key = Some(new);
        Poll::Pending
    }

    pub(super) fn forget(&self, key: Option<TimerKey>) {
        if let Some(key) = key {
            lock(&self.timers).waiting.remove(&key);
        }
    }
}

/// Locks what one thread has to itself.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
