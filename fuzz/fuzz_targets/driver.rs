//! Runs the driver of a connection with arbitrary bytes in arbitrary pieces, and with arbitrary pauses, calls and
//! endings: it never panics, leaves no caller waiting, and delivers no reply to the wrong caller.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| ha_redis_core::fuzzing::drive(data));
