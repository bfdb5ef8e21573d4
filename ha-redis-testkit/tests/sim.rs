//! The client against random faults, in virtual time. `cargo xtask sim` runs more seeds, and replays one.

use ha_redis_testkit::sim::run;

/// How many lines of the trace a failure shows.
const LINES: usize = 60;

fn all_hold(seeds: std::ops::Range<u64>) {
    for seed in seeds {
        let report = run(seed, LINES, false);
        assert!(
            report.violations.is_empty(),
            "replay with `cargo xtask sim --seed {seed} --trace`:\n{}\n\nThe end of what happened:\n{}",
            report.violations.join("\n"),
            report.trace.join("\n"),
        );
    }
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
fn the_same_seed_gives_the_same_run() {
    for seed in 0..5 {
        let (first, second) = (run(seed, LINES, false), run(seed, LINES, false));
        assert_eq!(first.hash, second.hash, "seed {seed}");
        assert_eq!(first.trace, second.trace, "seed {seed}");
        assert_eq!(first.hash, run(seed, LINES, true).hash, "seed {seed}: logging must not change it");
    }
    assert_ne!(run(0, LINES, false).hash, run(1, LINES, false).hash);
}
