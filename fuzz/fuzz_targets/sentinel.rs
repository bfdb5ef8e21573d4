//! Parses arbitrary bytes as a Sentinel's replies and events, and as a server's replication status: parsing never
//! panics, lists are bounded, all addresses are valid, and all texts are printable on one line.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| ha_redis_core::fuzzing::read_replies(data));
