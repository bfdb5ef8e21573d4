//! Any bytes as what a Sentinel answers and publishes, and as what a server says of its replication: reading them never
//! panics, what is listed has a bound, every address is one, and every text stands on its line.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| ha_redis_core::fuzzing::read_replies(data));
