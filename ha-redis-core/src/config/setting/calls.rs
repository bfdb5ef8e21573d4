//! The limits of a call, and how it is retried.

use std::ops::RangeInclusive;

use super::{DELAY, MAX_DURATION, Setting, TIMEOUT, is_timeout, set};
use crate::config::duration;

const RETRIES: RangeInclusive<u32> = 0..=1000;
const IN_FLIGHT: RangeInclusive<u32> = 1..=10_000_000;
const BUFFER_BYTES: RangeInclusive<u64> = 1024..=1 << 32;
const REPLY_BYTES: RangeInclusive<u64> = 1024..=1 << 40;
/// The depth is limited because values are dropped and compared recursively.
const REPLY_DEPTH: RangeInclusive<u32> = 1..=1024;

pub(super) static SETTINGS: &[Setting] = &[
    Setting {
        name: "failover_wait",
        secret: false,
        allowed: DELAY,
        valid: |config| config.failover_wait <= MAX_DURATION,
        text: |config| Some(duration::format(config.failover_wait)),
        read: Some(|config, text| set(&mut config.failover_wait, duration::parse(text))),
    },
    Setting {
        name: "call_timeout",
        secret: false,
        allowed: TIMEOUT,
        valid: |config| config.call_timeout.is_none_or(is_timeout),
        text: |config| config.call_timeout.map(duration::format),
        read: Some(|config, text| set(&mut config.call_timeout, duration::parse(text).map(Some))),
    },
    Setting {
        name: "max_in_flight",
        secret: false,
        allowed: "a whole number from 1 to 10000000",
        valid: |config| IN_FLIGHT.contains(&config.max_in_flight),
        text: |config| Some(config.max_in_flight.to_string()),
        read: Some(|config, text| set(&mut config.max_in_flight, text.parse().ok())),
    },
    Setting {
        name: "max_in_flight_bytes",
        secret: false,
        allowed: "a number of bytes from 1024 to 4294967296",
        valid: |config| BUFFER_BYTES.contains(&config.max_in_flight_bytes),
        text: |config| Some(config.max_in_flight_bytes.to_string()),
        read: Some(|config, text| set(&mut config.max_in_flight_bytes, text.parse().ok())),
    },
    Setting {
        name: "max_reply_bytes",
        secret: false,
        allowed: "a number of bytes from 1024 to 1099511627776",
        valid: |config| REPLY_BYTES.contains(&config.max_reply_bytes),
        text: |config| Some(config.max_reply_bytes.to_string()),
        read: Some(|config, text| set(&mut config.max_reply_bytes, text.parse().ok())),
    },
    Setting {
        name: "max_reply_depth",
        secret: false,
        allowed: "a whole number from 1 to 1024",
        valid: |config| REPLY_DEPTH.contains(&config.max_reply_depth),
        text: |config| Some(config.max_reply_depth.to_string()),
        read: Some(|config, text| set(&mut config.max_reply_depth, text.parse().ok())),
    },
    Setting {
        name: "pubsub_buffer_bytes",
        secret: false,
        allowed: "a number of bytes from 1024 to 4294967296",
        valid: |config| BUFFER_BYTES.contains(&config.pubsub_buffer_bytes),
        text: |config| Some(config.pubsub_buffer_bytes.to_string()),
        read: Some(|config, text| set(&mut config.pubsub_buffer_bytes, text.parse().ok())),
    },
    Setting {
        name: "retry_attempts",
        secret: false,
        allowed: "a whole number from 0 to 1000",
        valid: |config| RETRIES.contains(&config.retry_attempts),
        text: |config| Some(config.retry_attempts.to_string()),
        read: Some(|config, text| set(&mut config.retry_attempts, text.parse().ok())),
    },
    Setting {
        name: "retry_base_delay",
        secret: false,
        allowed: DELAY,
        valid: |config| config.retry_base_delay <= MAX_DURATION,
        text: |config| Some(duration::format(config.retry_base_delay)),
        read: Some(|config, text| set(&mut config.retry_base_delay, duration::parse(text))),
    },
    Setting {
        name: "retry_jitter",
        secret: false,
        allowed: "added, equal, full or none",
        valid: |_| true,
        text: |config| Some(config.retry_jitter.to_string()),
        read: Some(|config, text| set(&mut config.retry_jitter, text.parse().ok())),
    },
    Setting {
        name: "retry_budget",
        secret: false,
        allowed: "a percentage from 0 to 100",
        valid: |config| config.retry_budget <= 100,
        text: |config| Some(config.retry_budget.to_string()),
        read: Some(|config, text| set(&mut config.retry_budget, text.parse().ok())),
    },
    Setting {
        name: "retry_safety",
        secret: false,
        allowed: "read-only, repeatable or anything",
        valid: |_| true,
        text: |config| Some(config.retry_safety.to_string()),
        read: Some(|config, text| set(&mut config.retry_safety, text.parse().ok())),
    },
];
