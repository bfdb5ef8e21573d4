//! Keeps a client under load, and measures.

use std::future::Future;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::Failure;
use crate::figures::{Figures, Latency, micros};
use crate::{process, runtime};

/// One call in so many is timed, which keeps the cost of timing low. A prime number, so that no rhythm of the load
/// falls in step with it.
const TIMED: usize = 7;

/// How long calls may take that are under way in the end.
const LAST_CALLS: Duration = Duration::from_secs(30);

const LONGEST_LATENCY: Duration = Duration::from_secs(60);

/// What one task does, over and over.
pub(crate) trait Calls: Send + 'static {
    /// Makes one call; how many commands it was.
    fn call(&mut self) -> impl Future<Output = Result<u64, Failure>> + Send;
}

/// Makes so many calls in all, and measures nothing: for counting instructions from outside.
pub(crate) async fn run<C: Calls>(callers: Vec<C>, calls: u64) -> Result<(), Failure> {
    let each = calls / callers.len().max(1) as u64;
    let task = |mut caller: C| {
        runtime::spawn(async move {
            for _ in 0..each {
                caller.call().await?;
            }
            Ok::<_, Failure>(())
        })
    };
    let tasks: Vec<_> = callers.into_iter().map(task).collect();
    for task in tasks {
        task.await??;
    }
    Ok(())
}

/// Has each of `callers` make calls in a task of its own, next to those of `background`, and measures the former for
/// so many seconds, after a warm-up.
pub(crate) async fn measure<C: Calls>(
    callers: Vec<C>,
    background: Vec<C>,
    seconds: f64,
) -> Result<Figures, Failure> {
    let has_background = !background.is_empty();
    let (load, beside) = (Load::start(callers)?, Load::start(background)?);
    let enter = |phase| {
        load.record.enter(phase);
        beside.record.enter(phase);
    };
    runtime::sleep(Duration::from_secs_f64((seconds / 4.0).clamp(0.1, 0.5))).await;

    let (began, cpu_began) = (Instant::now(), process::cpu_time());
    enter(Phase::Measured);
    runtime::sleep(Duration::from_secs_f64(seconds)).await;
    enter(Phase::Over);
    let (elapsed, cpu) = (began.elapsed(), process::cpu_time() - cpu_began);

    let record = Arc::clone(&load.record);
    let (commands, beside) = runtime::within(LAST_CALLS, "the last calls", async {
        Ok::<_, Failure>((load.finish().await?, beside.finish().await?))
    })
    .await??;
    let latencies = record.latencies.lock().unwrap_or_else(PoisonError::into_inner);
    let failures = record.failures.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(Figures {
        per_second: commands as f64 / elapsed.as_secs_f64(),
        cpu_us: micros(cpu) / commands as f64,
        latency_us: Latency::of(&latencies),
        peak_kib: process::peak_memory(),
        background_per_second: has_background.then_some(beside as f64 / elapsed.as_secs_f64()),
        failures: failures.count,
        failure: failures.first.clone(),
    })
}

/// Tasks that make calls until they are told that it is over.
struct Load<T> {
    record: Arc<Record>,
    tasks: Vec<T>,
}

impl Load<()> {
    fn start<C: Calls>(callers: Vec<C>) -> Result<Load<impl Future<Output = Result<u64, Failure>>>, Failure> {
        let record = Arc::new(Record::new()?);
        let task = |(number, caller)| runtime::spawn(Arc::clone(&record).keep(caller, number));
        let tasks = callers.into_iter().enumerate().map(task);
        let tasks = tasks.collect();
        Ok(Load { record, tasks })
    }
}

impl<T: Future<Output = Result<u64, Failure>>> Load<T> {
    /// The commands that were answered while it was measured.
    async fn finish(self) -> Result<u64, Failure> {
        let mut commands = 0;
        for task in self.tasks {
            commands += task.await?;
        }
        Ok(commands)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Phase {
    WarmUp,
    Measured,
    Over,
}

/// What the tasks of a load share.
struct Record {
    phase: AtomicU8,
    /// In nanoseconds.
    latencies: Mutex<Histogram<u32>>,
    failures: Mutex<Failures>,
}

#[derive(Default)]
struct Failures {
    count: u64,
    first: Option<String>,
}

impl Record {
    fn new() -> Result<Self, Failure> {
        let longest = u64::try_from(LONGEST_LATENCY.as_nanos())?;
        Ok(Self {
            phase: AtomicU8::new(Phase::WarmUp as u8),
            latencies: Mutex::new(Histogram::new_with_max(longest, 2)?),
            failures: Mutex::default(),
        })
    }

    /// Makes calls until it is over; how many commands were answered while it was measured.
    async fn keep<C: Calls>(self: Arc<Self>, mut caller: C, number: usize) -> u64 {
        let mut turn = number;
        let mut commands = 0;
        while !self.is(Phase::Over) {
            turn += 1;
            let began = turn.is_multiple_of(TIMED).then(Instant::now);
            match caller.call().await {
                Ok(answered) => {
                    if self.is(Phase::Measured) {
                        commands += answered;
                    }
                    // Calls that are under way at either end count here, or those that starve would never show.
                    if let Some(began) = began.filter(|_| !self.is(Phase::WarmUp)) {
                        self.time(began.elapsed());
                    }
                }
                Err(failure) => {
                    self.fail(&failure);
                    // A client that fails at once must not keep the others from running.
                    runtime::yield_now().await;
                }
            }
        }
        commands
    }

    fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Relaxed);
    }

    fn is(&self, phase: Phase) -> bool {
        self.phase.load(Ordering::Relaxed) == phase as u8
    }

    fn time(&self, latency: Duration) {
        let mut latencies = self.latencies.lock().unwrap_or_else(PoisonError::into_inner);
        latencies.saturating_record(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX));
    }

    fn fail(&self, failure: &Failure) {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        failures.count += 1;
        failures.first.get_or_insert_with(|| failure.to_string());
    }
}
