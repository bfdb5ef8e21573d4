//! Checks the rules that must hold whatever goes wrong.

use std::collections::BTreeMap;
use std::time::Duration;

use ha_redis_core::{Outcome, RetrySafety};

use super::history::{Attempt, Call, End, Execution, History, Kind, What};
use super::host::Host;
use super::hostile::{Harm, Misbehavior};
use super::linearizability::unexplained_registers;
use super::plan::Plan;

/// How long after its deadline a call may end, because running the tasks takes a little time.
const GRACE: Duration = Duration::from_millis(1);
/// The client's last attempt ends a little before a wait does, and a dedicated connection is held a little longer.
const LAST_ATTEMPT_MARGIN: Duration = Duration::from_millis(100);

/// How long the client may take to detect a change that no event announces.
const DETECTION_TIME: Duration = Duration::from_secs(4);

/// An endless reply keeps its connection in use for as long as it arrives, also when its caller has gone.
const ENDLESS: Harm = Harm::Connection(Misbehavior::Endless);
/// How long a connection may be unused.
const MAX_UNUSED: Duration = Duration::from_secs(1);
/// The most connection attempts within a second, where peers are hostile.
const MAX_CONNECTIONS_PER_SECOND: usize = 60;

/// How long the client may take to use recovered replicas again.
const REPLICA_DETECTION: Duration = Duration::from_secs(3);

/// Returns every violation in what callers got and servers ran.
pub(super) fn check(history: &History, plan: &Plan) -> Vec<String> {
    let mut violations = history.violations.clone();
    for (number, call) in history.calls() {
        let executions = history.executions(number);
        let broken = [
            ends_by_deadline(call),
            outcome_is_correct(call, executions),
            retries_are_allowed(call, executions, plan),
            runs_once_per_connection(call, executions),
            no_late_execution(call, executions).filter(|_| plan.can_fence()),
            transaction_is_atomic(call, executions),
            waits_for_temporary_refusal(call, plan),
            succeeds_after_recovery(call, history, plan),
        ];
        let about = |what: String| format!("call {number} ({}): {what}", call.kind.name());
        violations.extend(broken.into_iter().flatten().map(about));
    }
    violations.extend(waiters_served_in_order(history));
    violations.extend(no_call_on_old_master(history));
    violations.extend(client_follows_agreed_master(history));
    violations.extend(connection_rate_is_bounded(history, plan));
    violations.extend(bad_connections_are_closed(history, plan));
    if plan.can_fence() {
        violations.extend(unexplained_registers(history, plan.lossless));
    }
    violations
}

/// Every call ends by its deadline.
fn ends_by_deadline(call: &Call) -> Option<String> {
    match call.end {
        None => Some("it never ended".to_owned()),
        Some((at, _)) if at > call.deadline + GRACE => {
            Some(format!("it ended {:?} after its deadline", at - call.deadline))
        }
        Some(_) => None,
    }
}

/// Calls reported as done have run. Calls reported as not sent or not applied have not.
fn outcome_is_correct(call: &Call, executions: &[Execution]) -> Option<String> {
    let (ended, end) = call.end?;
    match end {
        End::Done if call.kind.writes() => {
            let mut writes = executions.iter().filter(|execution| execution.what.writes());
            let ran = writes.any(|execution| (call.begun..=ended).contains(&execution.at));
            (!ran).then(|| "it was reported as done, but no master ran it".to_owned())
        }
        End::Failed(outcome @ (Outcome::NotSent | Outcome::NotApplied)) => {
            let ran = executions.iter().any(|execution| execution.what.writes());
            ran.then(|| format!("it was reported as {outcome}, but ran"))
        }
        _ => None,
    }
}

/// A command runs twice only if its caller allows it, and at most once per attempt.
fn retries_are_allowed(call: &Call, executions: &[Execution], plan: &Plan) -> Option<String> {
    let attempts = 1 + plan.config.retry_attempts() as usize;
    let allowed = match call.kind {
        Kind::NewEntries if call.safety == RetrySafety::Anything => attempts,
        Kind::Count | Kind::Pipeline if call.safety == RetrySafety::Anything => attempts,
        Kind::Set if call.safety >= RetrySafety::Repeatable => attempts,
        _ => 1,
    };
    let max = [What::Count, What::Set, What::NewEntries]
        .map(|what| executions.iter().filter(|execution| execution.what == what).count());
    let max = max.into_iter().max().unwrap_or_default();
    (max > allowed).then(|| format!("it ran {max} times, but only {allowed} are allowed"))
}

/// The client waits for replies on an open connection, and does not send the same command on it again.
fn runs_once_per_connection(call: &Call, executions: &[Execution]) -> Option<String> {
    // The commands of a pipeline that were not refused may run again with the others.
    let once = |run: &&Execution| call.kind != Kind::Pipeline || run.what.writes();
    let mut ran = executions.iter().filter(once).map(|run| (run.connection, run.what)).collect::<Vec<_>>();
    ran.sort_unstable();
    let twice = ran.windows(2).find(|pair| pair[0] == pair[1]).filter(|_| call.kind != Kind::Burst)?;
    Some(format!("it ran twice over connection {}", twice[0].0))
}

/// An acknowledged write does not run again through a late copy. On a master of an earlier era this is harmless,
/// because its writes are lost.
fn no_late_execution(call: &Call, executions: &[Execution]) -> Option<String> {
    let (ended, End::Done) = call.end? else { return None };
    let era = ran_by(executions, ended)?;
    let late = executions.iter().find(|run| run.what.writes() && run.at > ended && run.era >= era)?;
    Some(format!("it ran again {:?} after it was reported as done", late.at - ended))
}

/// A transaction runs as a whole or not at all.
fn transaction_is_atomic(call: &Call, executions: &[Execution]) -> Option<String> {
    let ran = |what| executions.iter().filter(|execution| execution.what == what).count();
    let broken = call.kind == Kind::Transaction && ran(What::Count) != ran(What::Set);
    broken.then(|| "half of it ran".to_owned())
}

/// A call waits for a temporary refusal to end, as long as its caller waits for a failover. On a dedicated
/// connection it returns the refusal.
fn waits_for_temporary_refusal(call: &Call, plan: &Plan) -> Option<String> {
    let ((ended, End::Failed(_)), refusal) = (call.end?, call.temporary_refusal?) else { return None };
    let wait_end = call.deadline.min(call.begun + plan.config.failover_wait());
    let early = wait_end.saturating_sub(ended);
    // A retry would skip the entries that were added meanwhile.
    let would_skip = call.kind == Kind::NewEntries && refusal == "UNBLOCKED";
    (early > LAST_ATTEMPT_MARGIN && !would_skip).then(|| format!("it returned {refusal} {early:?} too early"))
}

/// Callers that wait for a dedicated connection are served in order.
fn waiters_served_in_order(history: &History) -> Vec<String> {
    let waited = history.calls().filter_map(|(number, call)| Some((number, call.begun, call.connected_at?)));
    let waited = waited.collect::<Vec<_>>();
    let mut passed = Vec::new();
    for (first, begun, connected_at) in &waited {
        let later = waited.iter().find(|(_, later_begun, later_served)| {
            *later_begun > *begun + GRACE && *later_served + GRACE < *connected_at
        });
        if let Some((later, ..)) = later {
            passed
                .push(format!("call {later} got a connection before call {first}, which had waited longer"));
        }
    }
    passed
}

/// After a reply from a master, no later call runs on a master of an earlier era, unless the failover to the later
/// one was aborted.
fn no_call_on_old_master(history: &History) -> Vec<String> {
    // The time of the first reply from each era.
    let mut first_reply = BTreeMap::new();
    for (number, call) in history.calls().filter(|(_, call)| call.kind != Kind::ReplicaGet) {
        if let Some((ended, End::Done)) = call.end
            && let Some(era) = ran_by(history.executions(number), ended)
        {
            let first = first_reply.entry(era).or_insert(ended);
            *first = ended.min(*first);
        }
    }
    let given_up = |era: &u64, at: Duration| history.revoked.get(era).is_some_and(|revoked| *revoked <= at);
    let mut violations = Vec::new();
    for (number, call) in history.calls().filter(|(_, call)| call.kind != Kind::ReplicaGet) {
        for Execution { era, at, .. } in history.executions(number) {
            let later = first_reply
                .range(era + 1..)
                .find(|(later, first)| **first < call.begun && !given_up(later, *at));
            if let Some((later, _)) = later {
                violations.push(format!("call {number} ran in era {era}, after a reply from era {later}"));
            }
        }
    }
    violations
}

/// After the faults, once the Sentinels agree, the client soon follows the master that they name, even if an older
/// master still reports the master role.
fn client_follows_agreed_master(history: &History) -> Vec<String> {
    let Some((agreed, named)) = history.agreed else { return Vec::new() };
    let late = history
        .calls()
        .filter(|(_, call)| call.kind != Kind::ReplicaGet && call.begun > agreed + DETECTION_TIME);
    let stray_writes =
        late.filter(|(number, _)| history.executions(*number).iter().any(|run| run.era < named));
    stray_writes
        .map(|(number, _)| {
            format!("call {number} ran on an old master long after the Sentinels had agreed on another")
        })
        .collect()
}

/// Hostile peers do not cause more connections than other faults do.
fn connection_rate_is_bounded(history: &History, plan: &Plan) -> Option<String> {
    plan.hostility?;
    let attempts = &history.attempts;
    let within_a_second = |(first, attempt): (usize, &Attempt)| {
        attempts[first..].iter().take_while(|later| later.at < attempt.at + Duration::from_secs(1)).count()
    };
    let max = attempts.iter().enumerate().map(within_a_second).max().unwrap_or_default();
    let to_attacker = attempts.iter().filter(|attempt| attempt.to == Some(Host::Attacker)).count();
    let what = format!("{max} connection attempts within a second; {to_attacker} in total to the attacker");
    (max > MAX_CONNECTIONS_PER_SECOND).then_some(what)
}

/// The client soon closes a connection on which no more replies arrive, whatever else arrives.
fn bad_connections_are_closed(history: &History, plan: &Plan) -> Option<String> {
    let hostility = plan.hostility.filter(|hostility| hostility.alone && hostility.harm != ENDLESS)?;
    // Where replies take seconds to arrive, everything after them is late as well.
    let limit = 2 * plan.config.socket_timeout() + MAX_UNUSED;
    let longest = history.longest_bad_connection;
    let is_too_long = plan.conditions.speed.is_none() && longest > limit;
    is_too_long.then(|| format!("{:?}: a connection was kept for {longest:?}", hostility.harm))
}

/// Returns the newest era in which a call ran before this time. An abandoned attempt may run later.
fn ran_by(executions: &[Execution], ended: Duration) -> Option<u64> {
    executions.iter().filter(|execution| execution.at <= ended).map(|execution| execution.era).max()
}

/// After the client has recovered, every call succeeds until the client is closed.
fn succeeds_after_recovery(call: &Call, history: &History, plan: &Plan) -> Option<String> {
    let after = match call.kind {
        Kind::ReplicaGet if plan.has_hostile_replica() => return None,
        Kind::ReplicaGet if plan.replica_queries_allowed() => REPLICA_DETECTION,
        Kind::ReplicaGet => return None,
        _ => Duration::ZERO,
    };
    let well = history.recovered.is_some_and(|recovered| recovered + after <= call.begun);
    match call.end {
        Some((at, End::Failed(outcome))) if well && history.closed.is_none_or(|closed| at < closed) => {
            Some(format!("it failed ({outcome}) after the faults had ended"))
        }
        _ => None,
    }
}
