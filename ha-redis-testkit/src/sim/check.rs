//! What must hold, whatever goes wrong.

use std::collections::BTreeMap;
use std::time::Duration;

use ha_redis_core::{Outcome, RetrySafety};

use super::history::{Call, End, Execution, History, Kind, Write};
use super::plan::Plan;

/// A call may end so much after its deadline: the tasks take a little time to run.
const GRACE: Duration = Duration::from_millis(1);

/// The client finds out within this what it was not told.
const NOTICE: Duration = Duration::from_secs(4);

/// Everything that was wrong with what callers got and servers ran.
pub(super) fn check(history: &History, plan: &Plan) -> Vec<String> {
    let mut wrong = history.violations.clone();
    for (number, call) in history.calls() {
        let executions = history.executions(number);
        let broken = [
            in_time(call),
            as_reported(call, executions),
            no_more_than_allowed(call, executions, plan),
            whole(call, executions),
            all_is_well_again(call, history),
        ];
        let about = |what: String| format!("call {number} ({}): {what}", call.kind.name());
        wrong.extend(broken.into_iter().flatten().map(about));
    }
    wrong.extend(no_write_reaches_an_old_master(history));
    wrong.extend(the_sentinels_are_heeded(history));
    wrong
}

/// Every call ends, by its deadline.
fn in_time(call: &Call) -> Option<String> {
    match call.end {
        None => Some("it never ended".to_owned()),
        Some((at, _)) if at > call.deadline + GRACE => {
            Some(format!("it ended {:?} after its deadline", at - call.deadline))
        }
        Some(_) => None,
    }
}

/// What was reported as done has run, and what was reported as not sent or not applied has not.
fn as_reported(call: &Call, executions: &[Execution]) -> Option<String> {
    let (ended, end) = call.end?;
    match end {
        End::Done if call.kind.writes() => {
            let ran = executions.iter().any(|execution| (call.begun..=ended).contains(&execution.at));
            (!ran).then(|| "it is said to be done, and no master ran it".to_owned())
        }
        End::Failed(outcome @ (Outcome::NotSent | Outcome::NotApplied)) => {
            (!executions.is_empty()).then(|| format!("it is said to be {outcome}, and ran"))
        }
        _ => None,
    }
}

/// Nothing runs twice but what its caller allows, and that no more often than there are attempts.
fn no_more_than_allowed(call: &Call, executions: &[Execution], plan: &Plan) -> Option<String> {
    let attempts = 1 + plan.config.retry_attempts() as usize;
    let allowed = match call.kind {
        Kind::Count | Kind::Pipeline if call.safety == RetrySafety::Anything => attempts,
        Kind::Set if call.safety >= RetrySafety::Repeatable => attempts,
        _ => 1,
    };
    let most = [Write::Count, Write::Set]
        .map(|write| executions.iter().filter(|execution| execution.write == write).count());
    let most = most.into_iter().max().unwrap_or_default();
    (most > allowed).then(|| format!("it ran {most} times, and may no more than {allowed}"))
}

/// A transaction runs whole or not at all.
fn whole(call: &Call, executions: &[Execution]) -> Option<String> {
    let counts = executions.iter().filter(|execution| execution.write == Write::Count).count();
    let broken = call.kind == Kind::Transaction && counts * 2 != executions.len();
    broken.then(|| "half of it ran".to_owned())
}

/// Once a caller has had a reply from a master, no call that begins later runs on one of an earlier era, unless
/// the later one was given up.
fn no_write_reaches_an_old_master(history: &History) -> Vec<String> {
    // When each era was first seen.
    let mut seen = BTreeMap::new();
    for (number, call) in history.calls() {
        if let Some((ended, End::Done)) = call.end
            && let Some(era) = ran_by(history.executions(number), ended)
        {
            let first = seen.entry(era).or_insert(ended);
            *first = ended.min(*first);
        }
    }
    let given_up = |era: &u64, at: Duration| history.revoked.get(era).is_some_and(|revoked| *revoked <= at);
    let mut wrong = Vec::new();
    for (number, call) in history.calls() {
        for Execution { era, at, .. } in history.executions(number) {
            let later =
                seen.range(era + 1..).find(|(later, first)| **first < call.begun && !given_up(later, *at));
            if let Some((later, _)) = later {
                wrong.push(format!("call {number} ran in era {era}, after a reply from era {later}"));
            }
        }
    }
    wrong
}

/// Once the Sentinels agree and nothing is wrong any more, the client soon follows the master that they name, although
/// the one before may still take itself for the master.
fn the_sentinels_are_heeded(history: &History) -> Vec<String> {
    let Some((agreed, named)) = history.agreed else { return Vec::new() };
    let late = history.calls().filter(|(_, call)| call.begun > agreed + NOTICE);
    let astray = late.filter(|(number, _)| history.executions(*number).iter().any(|run| run.era < named));
    astray
        .map(|(number, _)| format!("call {number} ran on an old master, long after all agreed on another"))
        .collect()
}

/// The newest era in which a call ran before this. An attempt that was given up may run later still.
fn ran_by(executions: &[Execution], ended: Duration) -> Option<u64> {
    executions.iter().filter(|execution| execution.at <= ended).map(|execution| execution.era).max()
}

/// From when on the client has recovered, every call succeeds, until the client is closed.
fn all_is_well_again(call: &Call, history: &History) -> Option<String> {
    let well = history.recovered.is_some_and(|recovered| recovered <= call.begun);
    match call.end {
        Some((at, End::Failed(outcome))) if well && history.closed.is_none_or(|closed| at < closed) => {
            Some(format!("it failed ({outcome}) although the faults had stopped"))
        }
        _ => None,
    }
}
