//! Any bytes, cut anywhere: the decoder never panics, says the same however they are cut, and agrees with redis-rs's
//! parser on what that understands. The limits of libFuzzer hold its memory.
#![no_main]

#[path = "../../ha-redis-core/tests/pieces/mod.rs"]
mod pieces;

use ha_redis_core::redis::parse_redis_value;
use libfuzzer_sys::fuzz_target;
use pieces::decode;

/// So many cuts, of the lengths that the first bytes of the input tell.
const CUTS: usize = 4;

fuzz_target!(|data: &[u8]| {
    let Some((cuts, bytes)) = data.split_at_checked(CUTS) else { return };
    let (values, end) = decode(bytes, &[usize::MAX]);
    let cuts: Vec<_> = cuts.iter().map(|cut| usize::from(*cut).max(1)).collect();
    for cuts in [&cuts[..], &[1]] {
        let (others, other_end) = decode(bytes, cuts);
        // Debug, since not-a-number does not equal itself.
        assert_eq!(format!("{values:?}"), format!("{others:?}"));
        match (&end, &other_end) {
            (Ok(one), Ok(other)) => assert_eq!(one.is_idle(), other.is_idle()),
            (Err(_), Err(_)) => {}
            _ => panic!("{end:?} and {other_end:?}"),
        }
    }
    // redis-rs's parser recurses as deep as the input says.
    let flat = !bytes.iter().any(|byte| b"*%~>|".contains(byte));
    if flat && let Ok(known) = parse_redis_value(bytes) {
        assert_eq!(values.first().map(|value| format!("{value:?}")), Some(format!("{known:?}")));
    }
});
