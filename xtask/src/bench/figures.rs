//! The figures of a measurement.

use serde::{Deserialize, Serialize};

/// One measurement, as the measuring program prints it.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Figures {
    pub(super) per_second: f64,
    pub(super) cpu_us: f64,
    pub(super) latency_us: Option<Latency>,
    pub(super) peak_kib: Option<f64>,
    pub(super) background_per_second: Option<f64>,
    pub(super) failures: u64,
    pub(super) failure: Option<String>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Latency {
    pub(super) p50: f64,
    pub(super) p99: f64,
    pub(super) p999: f64,
    pub(super) max: f64,
}

/// The figures that are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Figure {
    /// Commands per second.
    Throughput,
    /// The client's processor time per command, in microseconds.
    Cpu,
    /// Latencies, in microseconds.
    P50,
    P99,
    P999,
    /// The peak memory, in KiB.
    Memory,
    /// Commands per second of the background load.
    Background,
}

impl Figure {
    /// Returns the figure, or `None` if the measurement does not have it.
    pub(super) fn of(self, figures: &Figures) -> Option<f64> {
        let latency = figures.latency_us.as_ref();
        match self {
            Self::Throughput => Some(figures.per_second),
            Self::Cpu => Some(figures.cpu_us),
            Self::P50 => latency.map(|latency| latency.p50),
            Self::P99 => latency.map(|latency| latency.p99),
            Self::P999 => latency.map(|latency| latency.p999),
            Self::Memory => figures.peak_kib,
            Self::Background => figures.background_per_second,
        }
    }

    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Throughput => "Commands a second",
            Self::Cpu => "Client CPU for a command, µs",
            Self::P50 => "Latency p50, µs",
            Self::P99 => "Latency p99, µs",
            Self::P999 => "Latency p99.9, µs",
            Self::Memory => "Peak memory, KiB",
            Self::Background => "Commands a second of the load beside",
        }
    }
}

/// Returns the middle value, or the mean of the two middle values.
pub(super) fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = *values.get(middle)?;
    let lower = values[(values.len() - 1) / 2];
    Some((lower + upper) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_is_middle_value() {
        assert_eq!(median(vec![]), None);
        assert_eq!(median(vec![3.0, 1.0, 200.0]), Some(3.0));
        assert_eq!(median(vec![4.0, 1.0, 2.0, 100.0]), Some(3.0));
    }
}
