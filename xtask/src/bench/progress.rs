//! Shows the progress: one updated line on a terminal, otherwise one line per load.

use std::io::{self, IsTerminal, Write};
use std::time::Instant;

/// The progress of a run.
#[derive(Debug)]
pub(super) struct Progress {
    total: usize,
    done: usize,
    began: Instant,
    /// The load that was shown last.
    load: String,
}

impl Progress {
    pub(super) fn new(total: usize) -> Self {
        Self { total, done: 0, began: Instant::now(), load: String::new() }
    }

    /// Shows the current measurement. Output errors must not end the run.
    pub(super) fn show(&mut self, load: &str, client: &str) {
        let share = format!("{:>3} %", self.done * 100 / self.total.max(1));
        let mut out = io::stderr();
        if out.is_terminal() {
            // Returns to the start of the line and clears it.
            let _ = write!(out, "\r\x1b[2K{share}  {load}: {client}{}", self.time_left());
            let _ = out.flush();
        } else if self.load != load {
            let _ = writeln!(out, "{share}  {load}{}", self.time_left());
            load.clone_into(&mut self.load);
        }
        self.done += 1;
    }

    pub(super) fn end(&self) {
        let mut out = io::stderr();
        let clear = if out.is_terminal() { "\r\x1b[2K" } else { "" };
        let _ = writeln!(out, "{clear}{} measurements in {:.0?}", self.done, self.began.elapsed());
    }

    /// Estimates the remaining time from the measurements that are done.
    fn time_left(&self) -> String {
        if self.done == 0 {
            return String::new();
        }
        let seconds = self.began.elapsed().as_secs_f64() / self.done as f64 * (self.total - self.done) as f64;
        match seconds as u64 {
            seconds @ 0..100 => format!("  ({seconds} s left)"),
            seconds => format!("  ({} min left)", seconds.div_ceil(60)),
        }
    }
}
