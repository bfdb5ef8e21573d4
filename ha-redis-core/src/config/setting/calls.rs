//! The limits of a call, and how it is retried.

use std::ops::RangeInclusive;

use super::{DELAY, MAX_DURATION, Setting, SettingKind, TIMEOUT, is_timeout, set};
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
        about: "How long a call may wait for a usable connection.",
        kind: SettingKind::Duration { zero: true },
        secret: false,
        allowed: DELAY,
        valid: |config| config.failover_wait <= MAX_DURATION,
        text: |config| Some(duration::format(config.failover_wait)),
        read: |config, text| set(&mut config.failover_wait, duration::parse(text)),
    },
    Setting {
        name: "call_timeout",
        about: "How long a whole call may take, with all its waits and attempts.",
        kind: SettingKind::Duration { zero: false },
        secret: false,
        allowed: TIMEOUT,
        valid: |config| config.call_timeout.is_none_or(is_timeout),
        text: |config| config.call_timeout.map(duration::format),
        read: |config, text| set(&mut config.call_timeout, duration::parse(text).map(Some)),
    },
    Setting {
        name: "max_in_flight",
        about: "How many commands may wait for their replies on one connection.",
        kind: SettingKind::Number { min: 1, max: 10_000_000 },
        secret: false,
        allowed: "a whole number from 1 to 10000000",
        valid: |config| IN_FLIGHT.contains(&config.max_in_flight),
        text: |config| Some(config.max_in_flight.to_string()),
        read: |config, text| set(&mut config.max_in_flight, text.parse().ok()),
    },
    Setting {
        name: "max_in_flight_bytes",
        about: "How many bytes of commands may wait to be written to one connection.",
        kind: SettingKind::Number { min: 1024, max: 1 << 32 },
        secret: false,
        allowed: "a number of bytes from 1024 to 4294967296",
        valid: |config| BUFFER_BYTES.contains(&config.max_in_flight_bytes),
        text: |config| Some(config.max_in_flight_bytes.to_string()),
        read: |config, text| set(&mut config.max_in_flight_bytes, text.parse().ok()),
    },
    Setting {
        name: "max_reply_bytes",
        about: "How much memory, in bytes, the reply to one call may take.",
        kind: SettingKind::Number { min: 1024, max: 1 << 40 },
        secret: false,
        allowed: "a number of bytes from 1024 to 1099511627776",
        valid: |config| REPLY_BYTES.contains(&config.max_reply_bytes),
        text: |config| Some(config.max_reply_bytes.to_string()),
        read: |config, text| set(&mut config.max_reply_bytes, text.parse().ok()),
    },
    Setting {
        name: "max_reply_depth",
        about: "How deep the values of a reply may nest.",
        kind: SettingKind::Number { min: 1, max: 1024 },
        secret: false,
        allowed: "a whole number from 1 to 1024",
        valid: |config| REPLY_DEPTH.contains(&config.max_reply_depth),
        text: |config| Some(config.max_reply_depth.to_string()),
        read: |config, text| set(&mut config.max_reply_depth, text.parse().ok()),
    },
    Setting {
        name: "pubsub_buffer_bytes",
        about: "How many bytes of messages a subscriber keeps for its reader.",
        kind: SettingKind::Number { min: 1024, max: 1 << 32 },
        secret: false,
        allowed: "a number of bytes from 1024 to 4294967296",
        valid: |config| BUFFER_BYTES.contains(&config.pubsub_buffer_bytes),
        text: |config| Some(config.pubsub_buffer_bytes.to_string()),
        read: |config, text| set(&mut config.pubsub_buffer_bytes, text.parse().ok()),
    },
    Setting {
        name: "retry_attempts",
        about: "How many attempts may follow the first.",
        kind: SettingKind::Number { min: 0, max: 1000 },
        secret: false,
        allowed: "a whole number from 0 to 1000",
        valid: |config| RETRIES.contains(&config.retry_attempts),
        text: |config| Some(config.retry_attempts.to_string()),
        read: |config, text| set(&mut config.retry_attempts, text.parse().ok()),
    },
    Setting {
        name: "retry_base_delay",
        about: "The delay before the second attempt; it doubles with each further one, up to 2 s.",
        kind: SettingKind::Duration { zero: true },
        secret: false,
        allowed: DELAY,
        valid: |config| config.retry_base_delay <= MAX_DURATION,
        text: |config| Some(duration::format(config.retry_base_delay)),
        read: |config, text| set(&mut config.retry_base_delay, duration::parse(text)),
    },
    Setting {
        name: "retry_jitter",
        about: "How the delays between attempts are spread.",
        kind: SettingKind::Choice(&["added", "equal", "full", "none"]),
        secret: false,
        allowed: "added, equal, full or none",
        valid: |_| true,
        text: |config| Some(config.retry_jitter.to_string()),
        read: |config, text| set(&mut config.retry_jitter, text.parse().ok()),
    },
    Setting {
        name: "retry_budget",
        about: "How many retries are allowed per hundred replies; 100 turns the limit off.",
        kind: SettingKind::Number { min: 0, max: 100 },
        secret: false,
        allowed: "a percentage from 0 to 100",
        valid: |config| config.retry_budget <= 100,
        text: |config| Some(config.retry_budget.to_string()),
        read: |config, text| set(&mut config.retry_budget, text.parse().ok()),
    },
    Setting {
        name: "retry_safety",
        about: "Which commands may be sent again although they may have run.",
        kind: SettingKind::Choice(&["read-only", "repeatable", "anything"]),
        secret: false,
        allowed: "read-only, repeatable or anything",
        valid: |_| true,
        text: |config| Some(config.retry_safety.to_string()),
        read: |config, text| set(&mut config.retry_safety, text.parse().ok()),
    },
];
