//! Any bytes, cut anywhere, under any limits: the decoder never panics, says the same however they are cut, and agrees
//! with redis-rs's parser on what that understands. The limits of libFuzzer hold its memory.
#![no_main]

#[path = "../../ha-redis-core/tests/pieces/mod.rs"]
mod pieces;

use ha_redis_core::proto::Limits;
use ha_redis_core::redis::parse_redis_value;
use libfuzzer_sys::fuzz_target;
use pieces::decode;

/// So many cuts, of the lengths that the first bytes of the input tell.
const CUTS: usize = 4;

fuzz_target!(|data: &[u8]| {
    let Some((cuts, bytes)) = data.split_at_checked(CUTS) else { return };
    let cuts: Vec<_> = cuts.iter().map(|cut| usize::from(*cut).max(1)).collect();
    let mut tight = Limits::default();
    (tight.max_reply_bytes, tight.max_reply_depth) = (16 * cuts[0], cuts[1] % 8);
    check_cuts(&tight, bytes, &cuts);
    check_cuts(&Limits::default(), bytes, &cuts);
    // redis-rs's parser recurses as deep as the input says.
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
        // Debug, since not-a-number does not equal itself.
        assert_eq!(format!("{values:?}"), format!("{others:?}"));
        match (&end, &other_end) {
            (Ok(one), Ok(other)) => assert_eq!(one.is_idle(), other.is_idle()),
            (Err(_), Err(_)) => {}
            _ => panic!("{end:?} and {other_end:?}"),
        }
    }
}
