//! Whatever happens to a connection, in any order.

use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;

use super::driver_script::{Ending, Step, follow, read_script};

fn any_size() -> impl Strategy<Value = usize> {
    prop_oneof![1..100_usize, 1..100_000_usize, Just(usize::MAX)]
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1..5_u8).prop_map(|commands| Step::Call { commands }),
        2 => (1..10_u8, 1..50_usize).prop_map(|(commands, size)| Step::Answer { commands, size }),
        1 => Just(Step::Push),
        1 => vec(any::<u8>(), 0..20).prop_map(Step::Send),
        4 => any_size().prop_map(Step::Arrive),
        2 => any_size().prop_map(Step::Accept),
        4 => (1..4_u8).prop_map(Step::SelectionContext),
        2 => (1..3_000_u64).prop_map(|millis| Step::Pass(Duration::from_millis(millis))),
        1 => Just(Step::Watchdog),
        1 => prop_oneof![Just(Step::Hold), Just(Step::Release), Just(Step::CheckOut), Just(Step::CheckIn)],
        1 => (0..20_u8).prop_map(Step::Cancel),
        1 => (0..20_u8).prop_map(Step::BreakWaker),
    ]
}

/// Callers fetch large values, and all of it, or a part, comes.
fn any_burst() -> impl Strategy<Value = Vec<Step>> {
    (1..5_u8, 10_000..100_000_usize, any_size()).prop_map(|(commands, size, arrives)| {
        let answer = Step::Answer { commands: u8::MAX, size };
        vec![
            Step::Call { commands },
            Step::SelectionContext(4),
            answer,
            Step::Arrive(arrives),
            Step::SelectionContext(30),
        ]
    })
}

/// So many callers that they get their replies in shares: some of what was read waits for the next turn.
fn any_crowd() -> impl Strategy<Value = Vec<Step>> {
    (30..100_usize, 1..50_usize).prop_map(|(callers, size)| {
        let mut steps = vec![Step::Call { commands: 1 }; callers];
        let answer = Step::Answer { commands: u8::MAX, size };
        steps.extend([
            Step::SelectionContext(4),
            answer,
            Step::Arrive(usize::MAX),
            Step::SelectionContext(1),
        ]);
        steps
    })
}

/// Long enough for the connection to give back its memory, if nothing is owed.
fn rest() -> Vec<Step> {
    vec![Step::SelectionContext(2), Step::Pass(Duration::from_millis(1_500)), Step::SelectionContext(2)]
}

fn any_script() -> impl Strategy<Value = Vec<Step>> {
    let part = prop_oneof![6 => any_step().prop_map(|step| vec![step]), 1 => any_burst(), 1 => any_crowd(), 1 => Just(rest())];
    vec(part, 0..30).prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn every_caller_gets_its_own_reply_or_an_error_in_any_order_of_events(steps in any_script()) {
        Ending::ALL.into_iter().for_each(|ending| follow(&steps, ending));
    }

    #[test]
    fn every_caller_gets_its_own_reply_or_an_error_whatever_bytes_the_script_is(bytes in vec(any::<u8>(), 0..200)) {
        let (steps, ending) = read_script(&bytes);
        follow(&steps, ending);
    }
}
