//! Any bytes, in any pieces, with any pauses, calls and endings: the driver of a connection never panics, leaves nobody
//! waiting, and gives nobody another's reply.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| ha_redis_core::fuzzing::drive(data));
