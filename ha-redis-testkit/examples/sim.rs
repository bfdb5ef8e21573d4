//! Runs the simulation of many seeds, or of one with its whole trace: `cargo xtask sim`.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command-line program talks to its user")]

use std::cell::Cell;
use std::panic;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use ha_redis_testkit::sim::{Report, run_with_harm};

/// The number of trace lines of a failure.
const LINES: usize = 60;
/// The number of failures that are shown. Further ones are only counted.
const SHOWN: u64 = 5;
/// The length of a failure in short form.
const SHOWN_IN_SHORT: usize = 5;
/// The interval of progress lines.
const PROGRESS: Duration = Duration::from_secs(5);

/// Test the client against random faults in a simulation
#[derive(Debug, Parser)]
#[command(bin_name = "cargo xtask sim")]
struct Options {
    /// How many seeds to run
    #[arg(long, default_value_t = 1_000)]
    seeds: u64,
    /// The first seed
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Run only this seed
    #[arg(long)]
    seed: Option<u64>,
    /// Show the whole trace, and the client's log
    #[arg(long, requires = "seed")]
    trace: bool,
    /// Show the violations of each failing seed in short form
    #[arg(long)]
    brief: bool,
    /// End at the first failure
    #[arg(long)]
    fail_fast: bool,
    /// Add hostile peers to every run: "any", or the kinds whose name begins with this
    #[arg(long)]
    harm: Option<String>,
}

thread_local! {
    static SEED: Cell<Option<u64>> = const { Cell::new(None) };
}

fn main() -> ExitCode {
    let options = Options::parse();
    print_seed_on_panic();
    let failures = match options.seed {
        Some(seed) => one(seed, &options),
        None => many(&options),
    };
    if failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A second panic during unwinding ends the process. Then only this shows which seed it was.
fn print_seed_on_panic() {
    let default_hook = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        if let Some(seed) = SEED.get() {
            eprintln!("In seed {seed}:");
        }
        default_hook(panic);
    }));
}

fn one(seed: u64, options: &Options) -> u64 {
    let trace = options.trace;
    SEED.set(Some(seed));
    let report = run_with_harm(seed, options.harm.as_deref(), if trace { usize::MAX } else { LINES }, trace);
    if trace {
        report.trace.iter().for_each(|line| println!("{line}"));
    }
    let (calls, elapsed, hash) = (report.calls, report.elapsed, report.hash);
    println!("seed {seed}: {calls} calls in {elapsed:.1?} of virtual time, hash {hash:016x}");
    if report.violations.is_empty() {
        println!("All held.");
        return 0;
    }
    show(&report, trace);
    1
}

fn show(report: &Report, traced: bool) {
    println!("Seed {} failed:", report.seed);
    report.violations.iter().for_each(|violation| println!("  - {violation}"));
    if !traced {
        println!("The end of the trace:");
        report.trace.iter().for_each(|line| println!("  {line}"));
        println!("For the whole trace: cargo xtask sim --seed {} --trace", report.seed);
    }
}

fn show_in_short(report: &Report) {
    let (seed, count) = (report.seed, report.violations.len());
    report.violations.iter().take(SHOWN_IN_SHORT).for_each(|violation| println!("Seed {seed}: {violation}"));
    if count > SHOWN_IN_SHORT {
        println!("Seed {seed}: and {} more", count - SHOWN_IN_SHORT);
    }
}

/// Runs the seeds on all processors, each seed on one thread.
fn many(options: &Options) -> u64 {
    let begun = Instant::now();
    let end = options.from.saturating_add(options.seeds);
    let (next, failed, done) = (AtomicU64::new(options.from), AtomicU64::new(0), AtomicU64::new(0));
    let printed = Mutex::new(begun);
    let work = || loop {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        let over = options.fail_fast && failed.load(Ordering::Relaxed) > 0;
        if seed >= end || over {
            return;
        }
        SEED.set(Some(seed));
        let report = run_with_harm(seed, options.harm.as_deref(), LINES, false);
        let done = done.fetch_add(1, Ordering::Relaxed) + 1;
        let mut printed = printed.lock().unwrap_or_else(PoisonError::into_inner);
        if !report.violations.is_empty() {
            let before = failed.fetch_add(1, Ordering::Relaxed);
            match options.brief {
                true => show_in_short(&report),
                false if before < SHOWN => show(&report, false),
                false => {}
            }
        }
        if printed.elapsed() >= PROGRESS {
            *printed = Instant::now();
            let rate = done as f64 / begun.elapsed().as_secs_f64();
            let failed = failed.load(Ordering::Relaxed);
            eprintln!("{done} of {} seeds, {rate:.0} a second, {failed} failed", options.seeds);
        }
    };
    thread::scope(|scope| {
        let threads = thread::available_parallelism().map_or(1, usize::from);
        (0..threads).for_each(|_| drop(scope.spawn(work)));
    });
    let (done, failed) = (done.into_inner(), failed.into_inner());
    println!("{done} seeds in {:.1?}: {failed} failed.", begun.elapsed());
    failed
}
