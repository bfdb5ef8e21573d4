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
    address_reused,
    addresses_changed,
    atomic_migration,
    back_stale,
    collision,
    collision_at_the_start,
    demoted,
    down,
    empty_slots,
    failed_first,
    failed_without_replica,
    false_alarm,
    hang,
    kill,
    left_behind,
    liar,
    minority,
    mixed_endpoints,
    moved_without_epoch,
    new_master_cannot_be_asked,
    no_cluster,
    nodes_come_and_go,
    one_address_changed,
    planned,
    promoted_in_vain,
    promoted_to_another_shard,
    promotion_heard_first,
    rebuilt,
    reset,
    reset_hard,
    reshard,
    start,
    start_in_the_wrong_cluster,
    start_with_a_stale_seed,
    start_with_dead_seeds,
    start_with_slow_seeds,
    takeover,
    torn,
    two_shards,
    unreachable,
];

#[test]
fn every_scenario_file_is_run() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/topology/cluster/scenarios");
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let files: BTreeSet<_> = files.collect();
    assert_eq!(files, NAMES.iter().map(|name| format!("{name}.txt")).collect());
}
