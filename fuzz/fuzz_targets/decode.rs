//! Decodes arbitrary bytes, split anywhere, under arbitrary limits: the decoder never panics, returns the same
//! result for every split, and agrees with redis-rs's parser where both support the input. libFuzzer limits the
//! memory.
#![no_main]

#[path = "../../ha-redis-core/tests/pieces/mod.rs"]
mod pieces;

use ha_redis_core::proto::Limits;
use ha_redis_core::redis::parse_redis_value;
use libfuzzer_sys::fuzz_target;
use pieces::decode;

/// The number of splits, whose lengths come from the first bytes of the input.
const CUTS: usize = 4;

fuzz_target!(|data: &[u8]| {
    let Some((cuts, bytes)) = data.split_at_checked(CUTS) else { return };
    let cuts: Vec<_> = cuts.iter().map(|cut| usize::from(*cut).max(1)).collect();
    let mut tight = Limits::default();
    (tight.max_reply_bytes, tight.max_reply_depth) = (16 * cuts[0], cuts[1] % 8);
    check_cuts(&tight, bytes, &cuts);
    check_cuts(&Limits::default(), bytes, &cuts);
    // redis-rs's parser recurses as deep as the input nests.
    let flat = !bytes.iter().any(|byte| b"*%~>|".contains(byte));
    if flat && let Ok(known) = parse_redis_value(bytes) {
        let (values, _) = decode(Limits::default(), bytes, &[usize::MAX]);
        assert_eq!(values.first().map(|value| format!("{value:?}")), Some(format!("Ok({known:?})")));
    }
});

fn check_cuts(limits: &Limits, bytes: &[u8], cuts: &[usize]) {
    let (values, end) = decode(limits.clone(), bytes, &[usize::MAX]);
    for cuts in [cuts, &[1]] {
        let (others, other_end) = decode(limits.clone(), bytes, cuts);
        // Compares the `Debug` output, because NaN does not equal itself.
        assert_eq!(format!("{values:?}"), format!("{others:?}"));
        match (&end, &other_end) {
            (Ok(one), Ok(other)) => assert_eq!(one.is_idle(), other.is_idle()),
            (Err(_), Err(_)) => {}
            _ => panic!("{end:?} and {other_end:?}"),
        }
    }
}
