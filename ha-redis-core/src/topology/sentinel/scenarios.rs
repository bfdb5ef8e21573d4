//! Every scenario is a test of its own.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::scenario::run;

macro_rules! scenarios {
    ($($name:ident),* $(,)?) => {
        const NAMES: &[&str] = &[$(stringify!($name)),*];
        $(#[test]
        fn $name() {
            let file = concat!("scenarios/", stringify!($name), ".txt");
            if let Err((line, what)) = run(include_str!(concat!("scenarios/", stringify!($name), ".txt"))) {
                panic!("{file}:{line}: {what}");
            }
        })*
    };
}

scenarios![
    abort_by_another,
    aborted,
    aborted_after_the_switch,
    all_replaced,
    another_takes_over,
    answered_too_late,
    crash,
    dead_address,
    dissent_falls_apart,
    early_promotion_off,
    event_missed,
    flapping,
    flooded,
    gone_and_back,
    gone_for_long,
    handed_on_by_hand_after_a_switch,
    hang,
    leader_dies_after_the_promotion,
    leader_dies_before_the_promotion,
    leader_dies_with_the_promoted,
    listed_by_one,
    made_anew,
    made_anew_for_the_same_master,
    made_anew_for_the_same_master_in_part,
    made_anew_in_part,
    made_anew_one_is_gone,
    made_anew_while_the_master_is_gone,
    majority_required,
    majority_required_at_the_start,
    new_epoch_falls_silent,
    nonsense,
    planned,
    promoted_by_hand,
    promoted_heard_first,
    promotion_hold_long,
    promotion_hold_zero,
    replicas_come_and_go,
    reset_before_a_failover,
    restart_after_a_failover,
    restart_in_place,
    selection_behind_a_false_one,
    selection_told_late,
    sentinel_restart,
    sentinels_away,
    sentinels_come_and_go,
    shared_address,
    slow_sentinels,
    stale_sentinel,
    start,
    start_beside_a_liar,
    start_in_the_middle,
    start_while_others_are_slow,
    start_with_one_sentinel,
    stuck_in_a_higher_epoch,
    tilt,
    told_late_of_the_one_replaced,
    two_addresses,
    two_in_a_row,
    two_leaders,
    unconfirmed_and_no_choice,
];

#[test]
fn every_scenario_file_is_run() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/topology/sentinel/scenarios");
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let files: BTreeSet<_> = files.collect();
    assert_eq!(files, NAMES.iter().map(|name| format!("{name}.txt")).collect());
}
