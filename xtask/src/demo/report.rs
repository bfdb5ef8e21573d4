//! The summary of a run, and which promises it kept.

use std::fmt::Write;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Serialize, Serializer};

use super::CALLERS;
use super::fault::Fault;
use super::promises::Promise;
use crate::load::Account;
use crate::load::record::{Each, Errors, Latency, Series};
use crate::output::{count, in_millis, millis};

/// The times of a failover's events, since the start.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Moments {
    #[serde(serialize_with = "seconds")]
    pub(crate) fault: Option<Duration>,
    #[serde(serialize_with = "seconds")]
    pub(crate) replica_is_master: Option<Duration>,
    #[serde(serialize_with = "seconds")]
    pub(crate) first_success: Option<Duration>,
    #[serde(serialize_with = "seconds")]
    pub(crate) sentinels_announce: Option<Duration>,
}

/// The summary of a run. Times are in seconds, or in milliseconds where the name says so.
#[derive(Debug, Serialize)]
pub(crate) struct Summary {
    fault: Fault,
    #[serde(serialize_with = "plain_seconds")]
    seconds: Duration,
    callers: usize,
    operations: Each<u64>,
    operations_total: u64,
    errors: Errors,
    error_examples: Vec<String>,
    latency_ms: Option<Latency>,
    longest_pause_ms: f64,
    moments_s: Moments,
    ran_twice: u64,
    lost_increments: u64,
    lost_sets: u64,
    promises: Vec<Promise>,
    pub(crate) kept: bool,
    pub(crate) plots: Vec<PathBuf>,
}

impl Summary {
    pub(crate) fn new(
        fault: Fault,
        length: Duration,
        series: &Series,
        moments: Moments,
        account: &Account,
        promises: Vec<Promise>,
    ) -> Self {
        let pause = series.longest_pause().map_or(Duration::ZERO, |(from, to)| to - from);
        Self {
            fault,
            seconds: length,
            callers: CALLERS,
            operations: series.calls,
            operations_total: series.calls.total(),
            errors: series.failures.all(),
            error_examples: series.examples.clone(),
            latency_ms: series.latency(),
            longest_pause_ms: in_millis(pause),
            moments_s: moments,
            ran_twice: account.tally.ran_twice,
            lost_increments: account.tally.lost_increments,
            lost_sets: account.tally.lost_sets,
            kept: promises.iter().all(|promise| promise.kept),
            promises,
            plots: Vec::new(),
        }
    }

    /// Returns the summary as text.
    pub(crate) fn text(&self) -> String {
        let mut text = String::from("\n");
        for (name, value) in self.rows() {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "  {name:<28}{value}");
        }
        for example in &self.error_examples {
            let _ = writeln!(text, "  {:<28}{example}", "such as");
        }
        if let Some(sentence) = self.about_losses() {
            let _ = writeln!(text, "\n  {sentence}");
        }
        text.push('\n');
        for Promise { promise, kept, measured } in &self.promises {
            let mark = if *kept { '✓' } else { '✗' };
            let _ = writeln!(text, "  {mark} {promise}: {measured}");
        }
        let plots: Vec<String> = self.plots.iter().map(|plot| plot.display().to_string()).collect();
        let _ = writeln!(text, "\n  plots: {}", plots.join(", "));
        text
    }

    fn rows(&self) -> Vec<(&'static str, String)> {
        let Each { incr, get, set } = self.operations;
        let (incr, get, set) = (count(incr), count(get), count(set));
        let Errors { not_sent, not_applied, maybe_applied, applied } = self.errors;
        let mut rows = vec![
            (
                "answered calls",
                format!("{} (INCR {incr}, GET {get}, SET {set})", count(self.operations_total)),
            ),
            (
                "failed calls",
                format!(
                    "{} (not sent {not_sent}, not applied {not_applied}, maybe applied {maybe_applied}, applied {applied})",
                    self.errors.total()
                ),
            ),
        ];
        if let Some(Latency { p50, p99, max }) = self.latency_ms {
            rows.push(("latency", format!("p50 {}, p99 {}, max {}", millis(p50), millis(p99), millis(max))));
        }
        rows.push(("longest pause", format!("{} without an answer", millis(self.longest_pause_ms))));
        let Moments { fault, replica_is_master, first_success, sentinels_announce } = self.moments_s;
        if let Some(fault) = fault {
            rows.push(("fault", format!("at {:.2} s", fault.as_secs_f64())));
            let later = |moment: Option<Duration>| match moment {
                Some(moment) => format!("{} later", millis(in_millis(moment.saturating_sub(fault)))),
                None => "not seen".into(),
            };
            rows.push(("a replica is master", later(replica_is_master)));
            rows.push(("the first write succeeds", later(first_success)));
            rows.push(("the Sentinels announce it", later(sentinels_announce)));
        }
        rows.push(("commands run twice", self.ran_twice.to_string()));
        let lost = self.lost_increments + self.lost_sets;
        let of = format!("{lost} (INCR {}, SET {})", self.lost_increments, self.lost_sets);
        rows.push(("acknowledged writes lost", of));
        rows
    }

    fn about_losses(&self) -> Option<&'static str> {
        let lost = self.lost_increments + self.lost_sets;
        (lost > 0 && self.fault.loses_master()).then_some(
            "Replication is asynchronous: a master that fails takes with it the writes that it acknowledged and had\n  \
             not passed on yet. That is how Redis works, and no client can prevent it, so it breaks no promise.",
        )
    }
}

fn seconds<S: Serializer>(moment: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    moment.map(|moment| moment.as_secs_f64()).serialize(serializer)
}

fn plain_seconds<S: Serializer>(length: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(length.as_secs_f64())
}
