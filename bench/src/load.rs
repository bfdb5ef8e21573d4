//! Puts load on a client, and measures.

use std::future::Future;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::Failure;
use crate::figures::{Figures, Latency, micros};
use crate::{process, runtime};

/// One of this many calls is timed, which keeps the cost of timing low. A prime number, so that it does not align
/// with a pattern of the load.
const TIMING_INTERVAL: usize = 7;

/// How long the last calls may take.
const LAST_CALLS_TIMEOUT: Duration = Duration::from_secs(30);

const LONGEST_LATENCY: Duration = Duration::from_secs(60);

/// What one task does repeatedly.
pub(crate) trait Calls: Send + 'static {
    /// Makes one call and returns its number of commands.
    fn call(&mut self) -> impl Future<Output = Result<u64, Failure>> + Send;
}

/// Makes `calls` calls in total without measuring anything, so that their instructions can be counted from outside.
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

/// Runs each of `callers` in a task of its own, beside those of `background`, and measures the callers for this
/// many seconds after a warm-up.
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
    let (commands, beside) = runtime::within(LAST_CALLS_TIMEOUT, "the last calls", async {
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

/// Tasks that make calls until the load ends.
struct Load<T> {
    record: Arc<Record>,
    tasks: Vec<T>,
}

impl Load<()> {
    fn start<C: Calls>(callers: Vec<C>) -> Result<Load<impl Future<Output = Result<u64, Failure>>>, Failure> {
        let record = Arc::new(Record::new()?);
        let task = |(number, caller)| runtime::spawn(Arc::clone(&record).run_calls(caller, number));
        let tasks = callers.into_iter().enumerate().map(task);
        let tasks = tasks.collect();
        Ok(Load { record, tasks })
    }
}

impl<T: Future<Output = Result<u64, Failure>>> Load<T> {
    /// Returns the number of commands that were answered during the measurement.
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

/// The state that the tasks of a load share.
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

    /// Makes calls until the load ends. Returns how many commands were answered during the measurement.
    async fn run_calls<C: Calls>(self: Arc<Self>, mut caller: C, number: usize) -> u64 {
        let mut turn = number;
        let mut commands = 0;
        while !self.is(Phase::Over) {
            turn += 1;
            let began = turn.is_multiple_of(TIMING_INTERVAL).then(Instant::now);
            match caller.call().await {
                Ok(answered) => {
                    if self.is(Phase::Measured) {
                        commands += answered;
                    }
                    // Calls that are under way at either end count here. Otherwise starving calls would not show.
                    if let Some(began) = began.filter(|_| !self.is(Phase::WarmUp)) {
                        self.time(began.elapsed());
                    }
                }
                Err(failure) => {
                    self.fail(&failure);
                    // A client that fails at once must not keep other tasks from running.
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
