//! Tests the client against random faults in virtual time. `cargo xtask sim` runs more seeds, and replays single ones.

use ha_redis_testkit::sim::{Report, run, run_with_harm};

/// The number of trace lines in a failure message.
const LINES: usize = 60;

/// The seeds that once failed, one per line, each with the fault that it showed.
const FAILED_SEEDS: &str = include_str!("failed_seeds.txt");

fn assert_seeds_pass(seeds: impl IntoIterator<Item = u64>) {
    for seed in seeds {
        assert_passes(&run(seed, LINES, false), "");
    }
}

fn assert_passes(report: &Report, options: &str) {
    assert!(
        report.violations.is_empty(),
        "replay with `cargo xtask sim --seed {}{options} --trace`:\n{}\n\nThe end of the trace:\n{}",
        report.seed,
        report.violations.join("\n"),
        report.trace.join("\n"),
    );
}

// This test comes first by name as well, so that test runners start it first.
#[test]
fn failed_seeds_pass() {
    let seeds = FAILED_SEEDS.lines().filter(|line| !line.starts_with('#'));
    let seeds = seeds.map(|line| line.split(' ').next().unwrap().parse().unwrap()).collect::<Vec<u64>>();
    assert!(!seeds.is_empty(), "the list of failed seeds is empty");
    assert_seeds_pass(seeds);
}

// The other seeds are split into several tests, which run concurrently.

#[test]
fn first_hundred_seeds_pass() {
    assert_seeds_pass(0..100);
}

#[test]
fn second_hundred_seeds_pass() {
    assert_seeds_pass(100..200);
}

#[test]
fn third_hundred_seeds_pass() {
    assert_seeds_pass(200..300);
}

#[test]
fn hostile_peers_affect_no_caller() {
    for seed in 0..150 {
        assert_passes(&run_with_harm(seed, Some("any"), LINES, false), " --harm any");
    }
}

#[test]
fn omitted_sentinel_text_logged_once() {
    for harm in ["ManyReplicas", "ManySentinels", "ControlCharacters"] {
        for seed in 0..5 {
            let report = run_with_harm(seed, Some(harm), usize::MAX, true);
            assert_passes(&report, &format!(" --harm {harm}"));
            let is_warning = |line: &&String| line.contains("ignoring a part of the Sentinel's answers");
            assert_eq!(report.trace.iter().filter(is_warning).count(), 1, "seed {seed} with {harm}");
        }
    }
}

#[test]
fn same_seed_gives_same_run() {
    for seed in 0..5 {
        let (first, second) = (run(seed, LINES, false), run(seed, LINES, false));
        assert_eq!(first.hash, second.hash, "seed {seed}");
        assert_eq!(first.trace, second.trace, "seed {seed}");
        assert_eq!(first.hash, run(seed, LINES, true).hash, "seed {seed}: logging must not change the run");
    }
    assert_ne!(run(0, LINES, false).hash, run(1, LINES, false).hash);
}
