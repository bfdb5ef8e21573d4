//! What the client promises for each fault.

use std::time::Duration;

use serde::Serialize;

use super::CALLERS;
use super::fault::Fault;
use super::report::Moments;
use crate::load::Account;
use crate::load::ledger::Tally;
use crate::load::record::Series;
use crate::output::{count, in_millis, millis};

/// How many acknowledged writes a planned failover may lose.
const MAX_LOST_WRITES: u64 = 5;

/// How long after the Sentinels' announcement the first write must succeed.
const MAX_FIRST_WRITE_DELAY: Duration = Duration::from_millis(50);

/// A promise of the client, and the measured result.
#[derive(Debug, Serialize)]
pub(crate) struct Promise {
    pub(crate) promise: &'static str,
    pub(crate) kept: bool,
    pub(crate) measured: String,
}

impl Promise {
    fn new(promise: &'static str, kept: bool, measured: String) -> Self {
        Self { promise, kept, measured }
    }
}

/// Returns the promises for this fault, and whether the run kept them. Some need servers that are `observed`.
pub(crate) fn promises(
    fault: Fault,
    observed: bool,
    series: &Series,
    moments: Moments,
    account: &Account,
) -> Vec<Promise> {
    let mut promises = if fault.loses_master() {
        vec![no_read_or_set_fails(series), increments_fail_only_once(series, account)]
    } else {
        vec![no_call_fails(series)]
    };
    let Tally { counters, acknowledged, maybe_applied, ran_twice, .. } = account.tally;
    let (counters, acknowledged) = (count(counters), count(acknowledged));
    promises.push(Promise::new(
        "no command runs twice without an error",
        ran_twice == 0,
        format!(
            "{ran_twice} (counted {counters}, acknowledged {acknowledged}, maybe applied {maybe_applied})"
        ),
    ));
    let foreign = account.tally.foreign_reads;
    promises.push(Promise::new(
        "no caller reads a value that it never wrote",
        foreign == 0,
        foreign.to_string(),
    ));
    let lost = account.tally.lost_increments + account.tally.lost_sets;
    match fault {
        Fault::None => {
            promises.push(Promise::new("no acknowledged write is lost", lost == 0, lost.to_string()))
        }
        // How far replicas lag behind a loaded server that the demo does not know is not the client's doing.
        Fault::Planned if observed => {
            promises.push(Promise::new(
                "at most 5 acknowledged writes are lost",
                lost <= MAX_LOST_WRITES,
                lost.to_string(),
            ));
        }
        Fault::Planned | Fault::Kill | Fault::Hang => {}
    }
    if fault != Fault::None {
        promises.push(every_caller_recovers(moments, account));
        promises.extend(observed.then(|| first_write_is_prompt(moments)));
    }
    promises
}

fn no_read_or_set_fails(series: &Series) -> Promise {
    let failed = series.failures.get.total() + series.failures.set.total();
    let all = count(series.calls.get + series.calls.set + failed);
    Promise::new("no GET or SET fails", failed == 0, format!("{failed} of {all}"))
}

fn increments_fail_only_once(series: &Series, account: &Account) -> Promise {
    let (maybe, most) = (series.failures.incr.maybe_applied, account.most_failed.incr);
    let other = series.failures.incr.total() - maybe;
    Promise::new(
        "an INCR fails only as maybe applied, at most once a caller",
        other == 0 && most <= 1,
        format!("{maybe} so, {other} otherwise, at most {most} a caller"),
    )
}

fn no_call_fails(series: &Series) -> Promise {
    let failed = series.failures.all().total();
    let all = count(series.calls.total() + failed);
    Promise::new("no call fails", failed == 0, format!("{failed} of {all}"))
}

fn every_caller_recovers(moments: Moments, account: &Account) -> Promise {
    let recovered = moments.replica_is_master.map_or(0, |turned| account.answered_after(turned));
    let promise = "every caller continues with the new master";
    Promise::new(promise, recovered == CALLERS, format!("{recovered} of {CALLERS}"))
}

fn first_write_is_prompt(moments: Moments) -> Promise {
    let (kept, measured) = match (moments.first_success, moments.sentinels_announce) {
        (Some(success), Some(word)) if success <= word => {
            (true, format!("{} before it", millis(in_millis(word - success))))
        }
        (Some(success), Some(word)) => (
            success - word <= MAX_FIRST_WRITE_DELAY,
            format!("{} after it", millis(in_millis(success - word))),
        ),
        (Some(_), None) => (true, "before the announcement, which did not come during the run".into()),
        (None, _) => (false, "no write succeeded".into()),
    };
    Promise::new("the first write succeeds at most 50 ms after the Sentinels' announcement", kept, measured)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::record::Each;

    fn good() -> (Series, Moments, Account) {
        let moments = Moments {
            fault: Some(Duration::from_millis(5000)),
            replica_is_master: Some(Duration::from_millis(5850)),
            first_success: Some(Duration::from_millis(5860)),
            sentinels_announce: Some(Duration::from_millis(6700)),
        };
        let series = Series { calls: Each { incr: 100, get: 100, set: 100 }, ..Series::default() };
        (
            series,
            moments,
            Account { last_answers: vec![Duration::from_secs(15); CALLERS], ..Account::default() },
        )
    }

    fn broken(
        fault: Fault,
        change: impl FnOnce(&mut Series, &mut Moments, &mut Account),
    ) -> Vec<&'static str> {
        let (mut series, mut moments, mut account) = good();
        change(&mut series, &mut moments, &mut account);
        let promises = promises(fault, true, &series, moments, &account);
        promises.iter().filter(|promise| !promise.kept).map(|promise| promise.promise).collect()
    }

    #[test]
    fn good_run_breaks_no_promise() {
        for fault in [Fault::Kill, Fault::Hang, Fault::Planned, Fault::None] {
            assert_eq!(broken(fault, |_, _, _| ()), [""; 0], "{fault:?}");
        }
    }

    #[test]
    fn excused_errors_break_nothing() {
        let change = |series: &mut Series, _: &mut Moments, account: &mut Account| {
            series.failures.incr.maybe_applied = 7;
            account.most_failed.incr = 1;
        };
        assert_eq!(broken(Fault::Kill, change), [""; 0]);
        assert_eq!(broken(Fault::Planned, change), ["no call fails"]);
        let twice = |series: &mut Series, _: &mut Moments, account: &mut Account| {
            series.failures.incr.maybe_applied = 2;
            account.most_failed.incr = 2;
        };
        assert_eq!(broken(Fault::Hang, twice).len(), 1);
        assert_eq!(
            broken(Fault::Kill, |series, _, _| series.failures.get.not_sent = 1),
            ["no GET or SET fails"]
        );
    }

    #[test]
    fn avoidable_losses_break_promise() {
        let lose = |lost| {
            move |_: &mut Series, _: &mut Moments, account: &mut Account| account.tally.lost_sets = lost
        };
        assert_eq!(broken(Fault::Kill, lose(100)), [""; 0]);
        assert_eq!(broken(Fault::Planned, lose(5)), [""; 0]);
        assert_eq!(broken(Fault::Planned, lose(6)).len(), 1);
        assert_eq!(broken(Fault::None, lose(1)).len(), 1);
    }

    #[test]
    fn late_recovery_breaks_promise() {
        let late = |_: &mut Series, moments: &mut Moments, _: &mut Account| {
            moments.first_success = Some(Duration::from_millis(6751));
        };
        assert_eq!(broken(Fault::Kill, late).len(), 1);
        let never = |_: &mut Series, moments: &mut Moments, account: &mut Account| {
            moments.first_success = None;
            account.last_answers.clear();
        };
        assert_eq!(broken(Fault::Kill, never).len(), 2);
    }
}
