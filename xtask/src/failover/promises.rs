//! What the client promises for each fault.

use super::Commands;
use super::fault::Fault;
use super::trial::Run;
use crate::output::millis;

/// How long after a promotion the first write must succeed, in milliseconds.
const MAX_FIRST_WRITE_MS: f64 = 50.0;
/// How long a planned failover may interrupt calls, in milliseconds.
const MAX_PLANNED_PAUSE_MS: f64 = 300.0;
/// How many acknowledged writes may be lost in the few planned failovers that lose any.
const MAX_LOST_WRITES: u64 = 5;

/// Returns the promises that these runs broke.
pub(crate) fn broken(fault: Fault, commands: Commands, runs: &[Run]) -> Vec<String> {
    let mut broken: Vec<String> = runs.iter().flat_map(|run| broken_by(fault, commands, run)).collect();
    let losing = runs.iter().filter(|run| run.lost > 0).count();
    if fault == Fault::Planned && losing * 10 > runs.len() {
        broken.push(format!(
            "{losing} of {} runs lost acknowledged writes: at most one in ten may",
            runs.len()
        ));
    }
    broken
}

fn broken_by(fault: Fault, commands: Commands, run: &Run) -> Vec<String> {
    let mut broken = Vec::new();
    let mut promise = |kept: bool, measured: String| {
        if !kept {
            broken.push(measured);
        }
    };
    let (ran_twice, foreign) = (run.ran_twice, run.foreign_reads);
    promise(ran_twice == 0, format!("{ran_twice} commands ran twice without an error"));
    promise(foreign == 0, format!("{foreign} GETs returned a value that their caller never wrote"));
    let failed = run.errors.total();
    if commands == Commands::GetSet || fault == Fault::Planned {
        promise(failed == 0, format!("{failed} calls failed: none may"));
    } else {
        let other = failed - run.errors.maybe_applied;
        promise(other == 0, format!("{other} INCRs failed with another outcome than maybe applied"));
        let (most, allowed) = (run.most_errors_of_a_caller, fault.max_master_losses());
        promise(most <= allowed, format!("{most} INCRs of one caller failed: at most {allowed} may"));
    }
    if !fault.master_stays_up() {
        let first = run.first_success_ms.map_or_else(|| "never".into(), millis);
        let kept = run.first_success_ms.is_some_and(|first| first <= MAX_FIRST_WRITE_MS);
        promise(
            kept,
            format!("first success after the promotion: {first}, not within {}", millis(MAX_FIRST_WRITE_MS)),
        );
    }
    if fault == Fault::Planned {
        let (pause, longest) = (run.longest_pause_ms, millis(MAX_PLANNED_PAUSE_MS));
        promise(
            pause <= MAX_PLANNED_PAUSE_MS,
            format!("{} without an answer: at most {longest}", millis(pause)),
        );
        promise(
            run.lost <= MAX_LOST_WRITES,
            format!("{} acknowledged writes lost: at most {MAX_LOST_WRITES}", run.lost),
        );
    }
    if let Some(sent) = run.sent_to_old_master {
        promise(sent == 0, format!("{sent} writes went to the old master after the promotion"));
    }
    broken
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::record::Errors;

    fn good() -> Run {
        Run { first_success_ms: Some(12.0), longest_pause_ms: 120.0, answered: 1000, ..Run::default() }
    }

    fn failed(maybe_applied: u64, not_sent: u64, most: u64) -> Run {
        let errors = Errors { maybe_applied, not_sent, ..Errors::default() };
        Run { errors, most_errors_of_a_caller: most, ..good() }
    }

    fn breaks(fault: Fault, commands: Commands, run: Run) -> usize {
        broken(fault, commands, &[run]).len()
    }

    #[test]
    fn one_unknown_increment_per_caller_allowed() {
        for fault in [Fault::Kill, Fault::Hang, Fault::Partition, Fault::StaleSentinel] {
            assert_eq!(breaks(fault, Commands::Incr, failed(8, 0, 1)), 0);
            assert_eq!(breaks(fault, Commands::Incr, failed(8, 0, 2)), 1);
            assert_eq!(breaks(fault, Commands::Incr, failed(0, 1, 1)), 1);
            assert_eq!(breaks(fault, Commands::GetSet, failed(1, 0, 1)), 1);
        }
        assert_eq!(breaks(Fault::Planned, Commands::Incr, failed(1, 0, 1)), 1);
        assert_eq!(breaks(Fault::RollingRestart, Commands::GetSet, failed(1, 0, 1)), 1);
    }

    #[test]
    fn late_success_breaks_promise() {
        let first = |first_success_ms| Run { first_success_ms, ..good() };
        assert_eq!(breaks(Fault::Kill, Commands::Incr, first(Some(50.0))), 0);
        assert_eq!(breaks(Fault::Kill, Commands::Incr, first(Some(50.1))), 1);
        assert_eq!(breaks(Fault::Hang, Commands::GetSet, first(None)), 1);
    }

    #[test]
    fn planned_failover_is_short_and_loses_little() {
        let run = |longest_pause_ms, lost| Run { longest_pause_ms, lost, ..good() };
        assert_eq!(breaks(Fault::Planned, Commands::Incr, run(300.0, 0)), 0);
        assert_eq!(breaks(Fault::Planned, Commands::Incr, run(301.0, 0)), 1);
        let runs = |lost: &[u64]| lost.iter().map(|lost| run(100.0, *lost)).collect::<Vec<_>>();
        let broken = |lost| broken(Fault::Planned, Commands::Incr, &runs(lost)).len();
        assert_eq!(broken(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 5]), 0);
        assert_eq!(broken(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 6]), 1);
        assert_eq!(broken(&[0, 0, 0, 0, 0, 0, 0, 0, 1, 1]), 1);
    }

    #[test]
    fn writes_to_replaced_master_break_promise() {
        let sent = |sent| Run { sent_to_old_master: Some(sent), ..good() };
        assert_eq!(breaks(Fault::Partition, Commands::Incr, sent(0)), 0);
        assert_eq!(breaks(Fault::StaleSentinel, Commands::GetSet, sent(1)), 1);
    }

    #[test]
    fn double_runs_and_foreign_reads_break_promise() {
        assert_eq!(breaks(Fault::Kill, Commands::Incr, Run { ran_twice: 1, ..good() }), 1);
        assert_eq!(breaks(Fault::Kill, Commands::GetSet, Run { foreign_reads: 1, ..good() }), 1);
    }
}
