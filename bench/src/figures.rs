//! The figures of a measurement.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

/// The figures of one client under one load. `xtask` reads them.
#[derive(Debug, Serialize)]
pub(crate) struct Figures {
    /// Commands per second. Each command of a pipeline counts.
    pub(crate) per_second: f64,
    /// The client's processor time per command, in microseconds.
    pub(crate) cpu_us: f64,
    /// The latency of a call; `None` if no call was timed.
    pub(crate) latency_us: Option<Latency>,
    /// The peak memory of the process, in KiB; `None` if the system does not report it.
    pub(crate) peak_kib: Option<u64>,
    /// Commands per second of the background load, if there is one.
    pub(crate) background_per_second: Option<f64>,
    pub(crate) failures: u64,
    /// The message of the first failure.
    pub(crate) failure: Option<String>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Latency {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
    pub(crate) max: f64,
}

impl Latency {
    /// Computes the figures from latencies in nanoseconds.
    pub(crate) fn of(latencies: &Histogram<u32>) -> Option<Self> {
        let at = |quantile| micros(Duration::from_nanos(latencies.value_at_quantile(quantile)));
        let max = micros(Duration::from_nanos(latencies.max()));
        (!latencies.is_empty()).then(|| Self { p50: at(0.5), p99: at(0.99), p999: at(0.999), max })
    }
}

pub(crate) fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}
