//! The tasks of one thread in virtual time. The seed determines which ready task runs next. When no task is ready,
//! the clock jumps to the next timer.

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

/// Who has spawned a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// The client, through its runtime.
    Client,
    /// The simulation: the callers and the director.
    Workload,
}

/// The longest virtual time of a task's step, so that network events can happen between two steps.
const MAX_STEP_NANOS: u64 = 3_000;

/// The tasks. Tasks access the scheduler through the [`Clock`].
pub(super) struct Scheduler {
    clock: Arc<Clock>,
    tasks: Vec<Option<Running>>,
    /// How many tasks of the client have not ended.
    clients: usize,
    /// The messages of tasks that panicked.
    panics: Vec<String>,
    rng: Rng,
}

struct Running {
    owner: Owner,
    task: Task,
    task_waker: Arc<TaskWaker>,
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

    /// Runs one ready task and returns its number, or `None` if no task is ready.
    pub(super) fn run_one(&mut self) -> Option<usize> {
        self.add_spawned();
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
        running.task_waker.woken.store(false, Ordering::Relaxed);
        let mut cx = Context::from_waker(&running.waker);
        // As in real runtimes, a panic ends only its own task.
        let polled = catch_unwind(AssertUnwindSafe(|| running.task.as_mut().poll(&mut cx)));
        if !matches!(polled, Ok(Poll::Pending)) {
            self.clients -= usize::from(running.owner == Owner::Client);
            self.tasks[number] = None;
        }
        if let Err(panic) = polled {
            self.panics.push(text_of(&*panic));
        }
        self.clock.pass(Duration::from_nanos(self.rng.u64(..MAX_STEP_NANOS)));
        Some(number)
    }

    /// Adds the tasks that were spawned.
    fn add_spawned(&mut self) {
        for (owner, task) in lock(&self.clock.spawned).drain(..) {
            let number = self.tasks.len();
            self.clients += usize::from(owner == Owner::Client);
            let task_waker =
                Arc::new(TaskWaker { number, woken: AtomicBool::new(true), clock: Arc::clone(&self.clock) });
            let waker = Waker::from(Arc::clone(&task_waker));
            self.tasks.push(Some(Running { owner, task, task_waker, waker }));
            lock(&self.clock.ready).push(number);
        }
    }

    /// Returns the messages of tasks that panicked.
    pub(super) fn panics(&self) -> &[String] {
        &self.panics
    }

    /// Returns how many tasks of the client have not ended.
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
struct TaskWaker {
    number: usize,
    woken: AtomicBool,
    clock: Arc<Clock>,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.woken.swap(true, Ordering::Relaxed) {
            lock(&self.clock.ready).push(self.number);
        }
    }
}

/// The virtual time since the beginning, the timers, and the ready tasks.
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

/// The time of a timer, and a number that distinguishes timers of the same time.
pub(super) type TimerKey = (Duration, u64);

impl Clock {
    pub(super) fn now(&self) -> Duration {
        Duration::from_nanos(self.nanos.load(Ordering::Relaxed))
    }

    fn pass(&self, time: Duration) {
        self.advance(self.now() + time);
    }

    /// Advances the time to `to`, unless that is past, and wakes the timers that are due.
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

    /// Returns the time of the next timer.
    pub(super) fn next_timer(&self) -> Option<Duration> {
        lock(&self.timers).waiting.first_key_value().map(|((at, _), _)| *at)
    }

    pub(super) fn spawn(&self, owner: Owner, task: Task) {
        lock(&self.spawned).push((owner, task));
    }

    /// Returns ready from `at` on. `key` is this future's previous registration.
    pub(super) fn poll_until(&self, at: Duration, key: &mut Option<TimerKey>, cx: &Context<'_>) -> Poll<()> {
        self.cancel_timer(key.take());
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

    pub(super) fn cancel_timer(&self, key: Option<TimerKey>) {
        if let Some(key) = key {
            lock(&self.timers).waiting.remove(&key);
        }
    }
}

/// Locks data of a single thread.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
