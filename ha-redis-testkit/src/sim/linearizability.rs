//! Checks whether some order of operations, each within the time of its call, explains what callers saw of a
//! register.
//!
//! The client cannot prevent what replication loses when a master is lost. So each lineage of data, from one
//! promotion to the next, has a history of its own that begins with the data its server had then. Where nothing may
//! be lost, because all failovers are planned, the whole run is one history.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use todc_utils::linearizability::WGLChecker;
use todc_utils::linearizability::history::{Action, History as Actions};
use todc_utils::specifications::Specification;

use super::history::{Call, End, Execution, History, Kind, What};

/// Returns a violation for each register whose history cannot be explained.
pub(super) fn unexplained_registers(history: &History, lossless: bool) -> Vec<String> {
    let mut histories: BTreeMap<(u64, u64), Vec<Operation>> = BTreeMap::new();
    for (number, call) in history.calls().filter(|(_, call)| is_of_master(call.kind)) {
        for (lineage, operation) in operations(number, call, history.executions(number), lossless) {
            histories.entry((call.register, lineage)).or_default().push(operation);
        }
    }
    let unexplained = histories.iter().filter(|((register, lineage), operations)| {
        let began_with = history.initial_value(*lineage, *register);
        !can_be_explained(began_with, operations)
    });
    let describe = |((register, lineage), operations): (&(u64, u64), &Vec<Operation>)| {
        let began_with = history.initial_value(*lineage, *register);
        let operations = operations.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
        format!(
            "register {register} is not linearizable in lineage {lineage}, which began with {began_with:?}: \
             {operations}"
        )
    };
    unexplained.map(describe).collect()
}

/// Reads from replicas may be stale.
fn is_of_master(kind: Kind) -> bool {
    kind.uses_register() && kind != Kind::ReplicaGet
}

/// An operation on a register that took effect at an unknown time between two others.
#[derive(Clone, Copy, Debug)]
struct Operation {
    step: Step,
    begun: Duration,
    /// `None` if it may take effect at any time, or never.
    ended: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// The call with this number sets the register.
    Set(u64),
    /// Reads the value set by this call, or the initial empty value.
    Get(Option<u64>),
}

/// Returns the operations of a call on its register, each with its lineage. All belong to one lineage where nothing
/// may be lost.
///
/// A `SET` that its caller allows to be retried counts as often as it ran.
fn operations(number: u64, call: &Call, executions: &[Execution], lossless: bool) -> Vec<(u64, Operation)> {
    let Some((ended, end)) = call.end else { return Vec::new() };
    let in_time = || executions.iter().filter(|run| run.at <= ended);
    let lineage = |run: &Execution| if lossless { 1 } else { run.lineage };
    let mut operations = Vec::new();
    let last = in_time().rev().find(|run| run.what == What::Set).filter(|_| end == End::Done);
    for run in executions.iter().filter(|run| run.what == What::Set) {
        let ran_last_here = last.is_some_and(|last| lineage(last) == lineage(run));
        if ran_last_here && run.at > ended {
            // A call that has ended cannot explain what it undoes.
            continue;
        }
        let ended = ran_last_here.then_some(ended);
        operations.push((lineage(run), Operation { step: Step::Set(number), begun: call.begun, ended }));
    }
    let answered = in_time().rev().find(|run| run.what == What::Get);
    if let (Some(run), Some(read)) = (answered, call.read)
        && (lossless || run.on_master)
    {
        let operation = Operation { step: Step::Get(read), begun: call.begun, ended: Some(ended) };
        operations.push((lineage(run), operation));
    }
    operations
}

fn can_be_explained(began_with: Option<u64>, operations: &[Operation]) -> bool {
    let mut actions = Vec::new();
    if let Some(set) = began_with {
        let step = Step::Set(set);
        actions.push((Duration::ZERO, 0, 0, Action::Call(step)));
        actions.push((Duration::ZERO, 1, 0, Action::Response(step)));
    }
    for (Operation { step, begun, ended }, process) in operations.iter().zip(1..) {
        // For events at the same time, all begins come before the ends.
        actions.push((*begun, 2, process, Action::Call(*step)));
        actions.push((ended.unwrap_or(Duration::MAX), 3, process, Action::Response(*step)));
    }
    actions.sort_by_key(|(at, order, process, _)| (*at, *order, *process));
    let actions = actions.into_iter().map(|(_, _, process, action)| (process, action)).collect::<Vec<_>>();
    actions.is_empty() || WGLChecker::<Register>::is_linearizable(Actions::from_actions(actions))
}

struct Register;

impl Specification for Register {
    type State = Option<u64>;
    type Operation = Step;

    fn init() -> Self::State {
        None
    }

    fn apply(step: &Step, state: &Self::State) -> (bool, Self::State) {
        match step {
            Step::Set(call) => (true, Some(*call)),
            Step::Get(read) => (read == state, *state),
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.step {
            Step::Set(call) => write!(f, "{call} set it")?,
            Step::Get(None) => write!(f, "it was empty")?,
            Step::Get(Some(call)) => write!(f, "{call} was read")?,
        }
        write!(f, " from {:.6}", self.begun.as_secs_f64())?;
        match self.ended {
            Some(ended) => write!(f, " to {:.6}", ended.as_secs_f64()),
            None => write!(f, " on"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operation(step: Step, begun: u64, ended: u64) -> Operation {
        let ended = (ended > 0).then_some(Duration::from_secs(ended));
        Operation { step, begun: Duration::from_secs(begun), ended }
    }

    #[test]
    fn completed_set_is_read_afterwards() {
        let (first, second) = (operation(Step::Set(1), 1, 2), operation(Step::Set(2), 3, 4));
        assert!(can_be_explained(None, &[first, second, operation(Step::Get(Some(2)), 5, 6)]));
        assert!(!can_be_explained(None, &[first, second, operation(Step::Get(Some(1)), 5, 6)]));
        assert!(!can_be_explained(None, &[first, operation(Step::Get(None), 5, 6)]));
        assert!(can_be_explained(None, &[]));
        assert!(can_be_explained(Some(7), &[operation(Step::Get(Some(7)), 5, 6)]));
        assert!(!can_be_explained(Some(7), &[operation(Step::Get(None), 5, 6)]));
    }

    #[test]
    fn unknown_set_takes_effect_at_most_once() {
        let (doubtful, done) = (operation(Step::Set(1), 1, 0), operation(Step::Set(2), 3, 4));
        let (one, two) = (Step::Get(Some(1)), Step::Get(Some(2)));
        let late = [doubtful, done, operation(two, 5, 6), operation(one, 7, 8)];
        assert!(can_be_explained(None, &late));
        assert!(can_be_explained(None, &[doubtful, done, operation(two, 7, 8)]));
        let undone = [doubtful, operation(one, 2, 3), done, operation(two, 5, 6), operation(one, 7, 8)];
        assert!(!can_be_explained(None, &undone));
    }
}
