//! The results of the callers over time.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ha_redis_tokio::Outcome;
use hdrhistogram::Histogram;
use serde::Serialize;

/// The duration of a point in the plot.
pub(crate) const SLOT: Duration = Duration::from_millis(100);
const SLOTS_PER_SECOND: usize = 10;

/// How many slots the live view shows.
const HISTORY: usize = 200;

/// How many different errors the report keeps.
const EXAMPLES: usize = 5;

/// A command that callers send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Incr,
    Get,
    Set,
}

impl Operation {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Incr => "INCR",
            Self::Get => "GET",
            Self::Set => "SET",
        }
    }
}

/// Records every call of all callers.
#[derive(Debug)]
pub(crate) struct Recorder {
    start: Instant,
    series: Mutex<Series>,
}

impl Recorder {
    pub(crate) fn new(start: Instant) -> Self {
        Self { start, series: Mutex::default() }
    }

    /// Records the reply to a call that began at `began`. Returns the time of the reply.
    pub(crate) fn success(&self, operation: Operation, began: Instant) -> Duration {
        let mut series = self.lock();
        // Read under the lock, so that times are in order.
        let now = self.start.elapsed();
        let latency = self.start + now - began;
        series.slot(now).record(latency);
        series.successes.push(now);
        if operation != Operation::Get {
            series.writes.push(now);
        }
        *series.calls.of_mut(operation) += 1;
        now
    }

    /// Records a failed call.
    pub(crate) fn failure(&self, operation: Operation, outcome: Outcome, message: impl FnOnce() -> String) {
        let mut series = self.lock();
        let now = self.start.elapsed();
        series.slot(now).errors += 1;
        series.failures.of_mut(operation).add(outcome);
        if series.examples.len() < EXAMPLES {
            let message = message();
            if !series.examples.contains(&message) {
                series.examples.push(message);
            }
        }
    }

    /// Returns a time since the start.
    pub(crate) fn time_of(&self, moment: Instant) -> Duration {
        moment.saturating_duration_since(self.start)
    }

    /// Returns the current state.
    pub(crate) fn snapshot(&self) -> Snapshot {
        let mut series = self.lock();
        let now = self.start.elapsed();
        series.slot(now);
        let complete = series.slots.len() - 1;
        let recent = &series.slots[complete.saturating_sub(SLOTS_PER_SECOND)..complete];
        Snapshot {
            elapsed: now,
            per_second: recent.iter().map(Slot::per_second).sum::<u64>() / recent.len().max(1) as u64,
            latency: Latency::of(recent),
            calls: series.calls,
            errors: series.failures.all(),
            throughput: series.slots[complete.saturating_sub(HISTORY)..complete]
                .iter()
                .map(Slot::per_second)
                .collect(),
        }
    }

    /// Returns when the first write after `time` was answered.
    pub(crate) fn first_write_after(&self, time: Duration) -> Option<Duration> {
        let series = self.lock();
        series.writes.get(series.writes.partition_point(|write| *write < time)).copied()
    }

    /// Returns all records.
    pub(crate) fn finish(&self) -> Series {
        std::mem::take(&mut *self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, Series> {
        self.series.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All calls of a run.
#[derive(Debug, Default)]
pub(crate) struct Series {
    pub(crate) slots: Vec<Slot>,
    /// When calls, and those of them that write, were answered.
    pub(crate) successes: Vec<Duration>,
    pub(crate) writes: Vec<Duration>,
    pub(crate) calls: Each<u64>,
    pub(crate) failures: Each<Errors>,
    pub(crate) examples: Vec<String>,
}

impl Series {
    fn slot(&mut self, time: Duration) -> &mut Slot {
        let index = usize::try_from(time.as_millis() / SLOT.as_millis()).unwrap_or(usize::MAX);
        while self.slots.len() <= index {
            self.slots.push(Slot::default());
        }
        &mut self.slots[index]
    }

    /// Returns the beginning and the end of the longest time without a reply.
    pub(crate) fn longest_pause(&self) -> Option<(Duration, Duration)> {
        let pauses = self.successes.windows(2).map(|pair| (pair[0], pair[1]));
        pauses.max_by_key(|(from, to)| *to - *from)
    }

    pub(crate) fn latency(&self) -> Option<Latency> {
        Latency::of(&self.slots)
    }
}

/// What happened in one [`SLOT`].
#[derive(Debug)]
pub(crate) struct Slot {
    /// Latencies of answered calls, in microseconds.
    latencies: Histogram<u32>,
    pub(crate) errors: u64,
}

impl Default for Slot {
    fn default() -> Self {
        Self { latencies: histogram(), errors: 0 }
    }
}

impl Slot {
    fn record(&mut self, latency: Duration) {
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        // The histogram grows as needed, so every value is in range.
        let _ = self.latencies.record(micros);
    }

    /// Returns the rate of answered calls.
    pub(crate) fn per_second(&self) -> u64 {
        self.latencies.len() * SLOTS_PER_SECOND as u64
    }

    /// Returns the latencies, or `None` if no call was answered.
    pub(crate) fn latency(&self) -> Option<Latency> {
        Latency::of(std::slice::from_ref(self))
    }
}

/// Latencies in milliseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Latency {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) max: f64,
}

impl Latency {
    fn of(slots: &[Slot]) -> Option<Self> {
        let mut all = histogram();
        for slot in slots {
            let _ = all.add(&slot.latencies);
        }
        let milliseconds = |micros: u64| micros as f64 / 1000.0;
        (!all.is_empty()).then(|| Self {
            p50: milliseconds(all.value_at_quantile(0.5)),
            p99: milliseconds(all.value_at_quantile(0.99)),
            max: milliseconds(all.max()),
        })
    }
}

fn histogram() -> Histogram<u32> {
    // With two digits, the histogram of a slot takes a few kilobytes.
    Histogram::new(2).unwrap_or_else(|_| unreachable!("two significant digits are allowed"))
}

/// A value for each operation.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Each<T> {
    pub(crate) incr: T,
    pub(crate) get: T,
    pub(crate) set: T,
}

impl<T> Each<T> {
    pub(crate) fn of_mut(&mut self, operation: Operation) -> &mut T {
        match operation {
            Operation::Incr => &mut self.incr,
            Operation::Get => &mut self.get,
            Operation::Set => &mut self.set,
        }
    }
}

impl Each<u64> {
    pub(crate) fn total(&self) -> u64 {
        self.incr + self.get + self.set
    }

    /// Returns the greater value for each operation.
    pub(crate) fn max(self, other: Self) -> Self {
        Self { incr: self.incr.max(other.incr), get: self.get.max(other.get), set: self.set.max(other.set) }
    }
}

impl Each<Errors> {
    pub(crate) fn all(&self) -> Errors {
        let sum = |count: fn(&Errors) -> u64| count(&self.incr) + count(&self.get) + count(&self.set);
        Errors {
            not_sent: sum(|errors| errors.not_sent),
            not_applied: sum(|errors| errors.not_applied),
            maybe_applied: sum(|errors| errors.maybe_applied),
            applied: sum(|errors| errors.applied),
        }
    }
}

/// Failed calls by outcome.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Errors {
    pub(crate) not_sent: u64,
    pub(crate) not_applied: u64,
    pub(crate) maybe_applied: u64,
    pub(crate) applied: u64,
}

impl Errors {
    fn add(&mut self, outcome: Outcome) {
        *match outcome {
            Outcome::NotSent => &mut self.not_sent,
            Outcome::NotApplied => &mut self.not_applied,
            Outcome::MaybeApplied => &mut self.maybe_applied,
            // An error reply. There are no other outcomes today.
            _ => &mut self.applied,
        } += 1;
    }

    pub(crate) fn total(&self) -> u64 {
        self.not_sent + self.not_applied + self.maybe_applied + self.applied
    }
}

/// The current state. Rates and latencies cover the last second.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(crate) elapsed: Duration,
    pub(crate) per_second: u64,
    pub(crate) latency: Option<Latency>,
    pub(crate) calls: Each<u64>,
    pub(crate) errors: Errors,
    /// The rate in each of the latest slots.
    pub(crate) throughput: Vec<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pause_is_between_two_replies() {
        let millis = |times: &[u64]| times.iter().copied().map(Duration::from_millis).collect();
        let series = Series { successes: millis(&[1, 2, 30, 31, 40]), ..Series::default() };
        assert_eq!(series.longest_pause(), Some((Duration::from_millis(2), Duration::from_millis(30))));
        assert_eq!(Series::default().longest_pause(), None);
    }

    #[test]
    fn call_counted_in_slot_of_its_end() {
        let Some(start) = Instant::now().checked_sub(Duration::from_millis(250)) else { return };
        let recorder = Recorder::new(start);
        let answered = recorder.success(Operation::Set, start);
        recorder.failure(Operation::Incr, Outcome::MaybeApplied, || "lost".into());
        assert_eq!(recorder.first_write_after(Duration::ZERO), Some(answered));
        assert_eq!(recorder.first_write_after(answered + SLOT), None);

        let series = recorder.finish();
        assert_eq!(series.slots[0].per_second() + series.slots[1].per_second(), 0);
        assert_eq!(series.slots.iter().map(Slot::per_second).sum::<u64>(), 10);
        assert!(series.latency().is_some_and(|latency| latency.max >= 250.0));
        assert_eq!((series.calls.set, series.failures.all().maybe_applied), (1, 1));
        assert_eq!(series.examples, ["lost"]);
    }
}
