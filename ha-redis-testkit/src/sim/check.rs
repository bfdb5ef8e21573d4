//! What must hold, whatever goes wrong.

use std::collections::BTreeMap;
use std::time::Duration;

use ha_redis_core::{Outcome, RetrySafety};

use super::history::{Attempt, Call, End, Execution, History, Kind, What};
use super::host::Host;
use super::hostile::{Harm, Manner};
use super::linearizability::unexplained_registers;
use super::plan::Plan;

/// A call may end so much after its deadline: the tasks take a little time to run.
const GRACE: Duration = Duration::from_millis(1);
/// The client asks a last time a little before the end of a wait, and a dedicated connection is held a little longer.
const LAST_QUESTION: Duration = Duration::from_millis(100);

/// The client finds out within this what it was not told.
const NOTICE: Duration = Duration::from_secs(4);

/// A reply without end moves for as long as it comes, and its caller may have gone.
const ENDLESS: Harm = Harm::Connection(Manner::Endless);
/// A connection may be unused for so long.
const UNUSED: Duration = Duration::from_secs(1);
/// So many connections are tried within a second at the most, where peers mean harm.
const MOST_CONNECTIONS: usize = 60;

/// The client finds out within this that replicas can be read from again.
const REPLICAS_FOUND: Duration = Duration::from_secs(3);

/// Everything that was wrong with what callers got and servers ran.
pub(super) fn check(history: &History, plan: &Plan) -> Vec<String> {
    let mut wrong = history.violations.clone();
    for (number, call) in history.calls() {
        let executions = history.executions(number);
        let broken = [
            in_time(call),
            as_reported(call, executions),
            no_more_than_allowed(call, executions, plan),
            once_on_a_connection(call, executions),
            not_after_its_end(call, executions).filter(|_| plan.can_fence()),
            whole(call, executions),
            is_not_told_what_passes(call, plan),
            all_is_well_again(call, history, plan),
        ];
        let about = |what: String| format!("call {number} ({}): {what}", call.kind.name());
        wrong.extend(broken.into_iter().flatten().map(about));
    }
    wrong.extend(nobody_is_passed(history));
    wrong.extend(no_write_reaches_an_old_master(history));
    wrong.extend(the_sentinels_are_heeded(history));
    wrong.extend(connections_are_few(history, plan));
    wrong.extend(no_bad_connection_is_kept(history, plan));
    if plan.can_fence() {
        wrong.extend(unexplained_registers(history, plan.lossless));
    }
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
            let mut writes = executions.iter().filter(|execution| execution.what.writes());
            let ran = writes.any(|execution| (call.begun..=ended).contains(&execution.at));
            (!ran).then(|| "it is said to be done, and no master ran it".to_owned())
        }
        End::Failed(outcome @ (Outcome::NotSent | Outcome::NotApplied)) => {
            let ran = executions.iter().any(|execution| execution.what.writes());
            ran.then(|| format!("it is said to be {outcome}, and ran"))
        }
        _ => None,
    }
}

/// Nothing runs twice but what its caller allows, and that no more often than there are attempts.
fn no_more_than_allowed(call: &Call, executions: &[Execution], plan: &Plan) -> Option<String> {
    let attempts = 1 + plan.config.retry_attempts() as usize;
    let allowed = match call.kind {
        Kind::NewEntries if call.safety == RetrySafety::Anything => attempts,
        Kind::Count | Kind::Pipeline if call.safety == RetrySafety::Anything => attempts,
        Kind::Set if call.safety >= RetrySafety::Repeatable => attempts,
        _ => 1,
    };
    let most = [What::Count, What::Set, What::NewEntries]
        .map(|what| executions.iter().filter(|execution| execution.what == what).count());
    let most = most.into_iter().max().unwrap_or_default();
    (most > allowed).then(|| format!("it ran {most} times, and may no more than {allowed}"))
}

/// What was sent on a connection that lives is waited for, and not sent there again.
fn once_on_a_connection(call: &Call, executions: &[Execution]) -> Option<String> {
    // What of a pipeline was not refused may run again with the rest.
    let once = |run: &&Execution| call.kind != Kind::Pipeline || run.what.writes();
    let mut ran = executions.iter().filter(once).map(|run| (run.connection, run.what)).collect::<Vec<_>>();
    ran.sort_unstable();
    let twice = ran.windows(2).find(|pair| pair[0] == pair[1]).filter(|_| call.kind != Kind::Burst)?;
    Some(format!("it ran twice over connection {}", twice[0].0))
}

/// A write that was acknowledged is not run once more by a copy that comes late. On a master of an earlier era it does
/// no harm: that one's writes are lost.
fn not_after_its_end(call: &Call, executions: &[Execution]) -> Option<String> {
    let (ended, End::Done) = call.end? else { return None };
    let era = ran_by(executions, ended)?;
    let late = executions.iter().find(|run| run.what.writes() && run.at > ended && run.era >= era)?;
    Some(format!("it ran once more {:?} after it was said to be done", late.at - ended))
}

/// A transaction runs whole or not at all.
fn whole(call: &Call, executions: &[Execution]) -> Option<String> {
    let ran = |what| executions.iter().filter(|execution| execution.what == what).count();
    let broken = call.kind == Kind::Transaction && ran(What::Count) != ran(What::Set);
    broken.then(|| "half of it ran".to_owned())
}

/// What a server refuses for a state that passes is waited for, as long as the caller waits for a failover; on a
/// connection of one's own it is told.
fn is_not_told_what_passes(call: &Call, plan: &Plan) -> Option<String> {
    let ((ended, End::Failed(_)), told) = (call.end?, call.told?) else { return None };
    let patience = call.deadline.min(call.begun + plan.config.failover_wait());
    let early = patience.saturating_sub(ended);
    // Sent again, it would skip the entries that have come while it waited.
    let would_skip = call.kind == Kind::NewEntries && told == "UNBLOCKED";
    (early > LAST_QUESTION && !would_skip).then(|| format!("it was told {told} {early:?} too early"))
}

/// Who waits for a connection of its own is served before those who come later.
fn nobody_is_passed(history: &History) -> Vec<String> {
    let waited = history.calls().filter_map(|(number, call)| Some((number, call.begun, call.served?)));
    let waited = waited.collect::<Vec<_>>();
    let mut passed = Vec::new();
    for (first, begun, served) in &waited {
        let later = waited.iter().find(|(_, later_begun, later_served)| {
            *later_begun > *begun + GRACE && *later_served + GRACE < *served
        });
        if let Some((later, ..)) = later {
            passed.push(format!("call {first} waited for a connection, and call {later} passed it"));
        }
    }
    passed
}

/// Once a caller has had a reply from a master, no call that begins later runs on one of an earlier era, unless
/// the later one was given up.
fn no_write_reaches_an_old_master(history: &History) -> Vec<String> {
    // When each era was first seen.
    let mut seen = BTreeMap::new();
    for (number, call) in history.calls().filter(|(_, call)| call.kind != Kind::ReplicaGet) {
        if let Some((ended, End::Done)) = call.end
            && let Some(era) = ran_by(history.executions(number), ended)
        {
            let first = seen.entry(era).or_insert(ended);
            *first = ended.min(*first);
        }
    }
    let given_up = |era: &u64, at: Duration| history.revoked.get(era).is_some_and(|revoked| *revoked <= at);
    let mut wrong = Vec::new();
    for (number, call) in history.calls().filter(|(_, call)| call.kind != Kind::ReplicaGet) {
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
    let late =
        history.calls().filter(|(_, call)| call.kind != Kind::ReplicaGet && call.begun > agreed + NOTICE);
    let astray = late.filter(|(number, _)| history.executions(*number).iter().any(|run| run.era < named));
    astray
        .map(|(number, _)| format!("call {number} ran on an old master, long after all agreed on another"))
        .collect()
}

/// Where peers mean harm, the client makes no more connections than in other troubled times.
fn connections_are_few(history: &History, plan: &Plan) -> Option<String> {
    plan.hostility?;
    let attempts = &history.attempts;
    let within_a_second = |(first, attempt): (usize, &Attempt)| {
        attempts[first..].iter().take_while(|later| later.at < attempt.at + Duration::from_secs(1)).count()
    };
    let most = attempts.iter().enumerate().map(within_a_second).max().unwrap_or_default();
    let to_attacker = attempts.iter().filter(|attempt| attempt.to == Some(Host::Attacker)).count();
    let what = format!("{most} connections were tried within a second; {to_attacker} in all to the attacker");
    (most > MOST_CONNECTIONS).then_some(what)
}

/// A connection on which no reply comes any more is soon given up, whatever else comes.
fn no_bad_connection_is_kept(history: &History, plan: &Plan) -> Option<String> {
    let hostility = plan.hostility.filter(|hostility| hostility.alone && hostility.harm != ENDLESS)?;
    // Where replies take seconds on their way, what comes behind them does as well.
    let longest = 2 * plan.config.socket_timeout() + UNUSED;
    let kept = history.kept_bad;
    let is_too_long = plan.conditions.speed.is_none() && kept > longest;
    is_too_long.then(|| format!("{:?}: a connection was kept for {kept:?}", hostility.harm))
}

/// The newest era in which a call ran before this. An attempt that was given up may run later still.
fn ran_by(executions: &[Execution], ended: Duration) -> Option<u64> {
    executions.iter().filter(|execution| execution.at <= ended).map(|execution| execution.era).max()
}

/// From when on the client has recovered, every call succeeds, until the client is closed.
fn all_is_well_again(call: &Call, history: &History, plan: &Plan) -> Option<String> {
    let after = match call.kind {
        Kind::ReplicaGet if plan.has_hostile_replica() => return None,
        Kind::ReplicaGet if plan.tells_of_replicas() => REPLICAS_FOUND,
        Kind::ReplicaGet => return None,
        _ => Duration::ZERO,
    };
    let well = history.recovered.is_some_and(|recovered| recovered + after <= call.begun);
    match call.end {
        Some((at, End::Failed(outcome))) if well && history.closed.is_none_or(|closed| at < closed) => {
            Some(format!("it failed ({outcome}) although the faults had stopped"))
        }
        _ => None,
    }
}
