//! The client against random faults, in virtual time. `cargo xtask sim` runs more seeds, and replays one.

use ha_redis_testkit::sim::{Report, run, run_with_harm};

/// How many lines of the trace a failure shows.
const LINES: usize = 60;

/// Seeds that have failed, with the fault in the client that each showed. A change of what a seed stands for makes this
/// list stale: then plant the faults anew and look for the first seed that finds each.
const ONCE_FAILED: [(u64, &str); 10] = [
    (0, "a scan went on with the cursor of another process"),
    (4, "NOREPLICAS was told at once during a failover"),
    (10, "no connection was made for a user who may not PING"),
    (23, "a copy of an acknowledged SET came late: given-up connections were neither reset nor killed"),
    (24, "replicas were forgotten after SENTINEL RESET"),
    (41, "a majority that named another master in a lower epoch was never followed"),
    (46, "a call was repeated on the connection that still owed its reply"),
    (68, "a pipeline was repeated although its caller did not allow that"),
    (81, "a step of a scan asked for its process beyond the call's deadline"),
    (201, "XREAD from $ was repeated, and skipped what had come in between"),
];

fn all_hold(seeds: impl IntoIterator<Item = u64>) {
    for seed in seeds {
        assert_holds(&run(seed, LINES, false), "");
    }
}

fn assert_holds(report: &Report, options: &str) {
    assert!(
        report.violations.is_empty(),
        "replay with `cargo xtask sim --seed {}{options} --trace`:\n{}\n\nThe end of what happened:\n{}",
        report.seed,
        report.violations.join("\n"),
        report.trace.join("\n"),
    );
}

// In parts, which run side by side.

#[test]
fn the_first_hundred_seeds_hold() {
    all_hold(0..100);
}

#[test]
fn the_second_hundred_seeds_hold() {
    all_hold(100..200);
}

#[test]
fn the_third_hundred_seeds_hold() {
    all_hold(200..300);
}

#[test]
fn seeds_that_once_failed_hold() {
    all_hold(ONCE_FAILED.map(|(seed, _)| seed));
}

#[test]
fn peers_that_mean_harm_concern_no_caller() {
    for seed in 0..150 {
        assert_holds(&run_with_harm(seed, Some("any"), LINES, false), " --harm any");
    }
}

#[test]
fn what_is_left_out_of_what_a_sentinel_says_is_logged_once() {
    for harm in ["ManyReplicas", "ManySentinels", "ControlCharacters"] {
        for seed in 0..5 {
            let report = run_with_harm(seed, Some(harm), usize::MAX, true);
            assert_holds(&report, &format!(" --harm {harm}"));
            let is_told = |line: &&String| line.contains("ignoring a part of the Sentinel's answers");
            assert_eq!(report.trace.iter().filter(is_told).count(), 1, "seed {seed} with {harm}");
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in 0..5 {
        let (first, second) = (run(seed, LINES, false), run(seed, LINES, false));
        assert_eq!(first.hash, second.hash, "seed {seed}");
        assert_eq!(first.trace, second.trace, "seed {seed}");
        assert_eq!(first.hash, run(seed, LINES, true).hash, "seed {seed}: logging must not change it");
    }
    assert_ne!(run(0, LINES, false).hash, run(1, LINES, false).hash);
}
