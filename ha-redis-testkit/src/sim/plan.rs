//! What a seed stands for: the client's configuration, the conditions, the callers and the faults.

use std::time::Duration;

use fastrand::Rng;
use ha_redis_core::{RedisConfig, RetrySafety};

use super::fault::Fault;
use super::host::{Host, SENTINELS};
use super::network::Conditions;
use super::sentinel::MASTER_NAME;
use super::world::Habits;

pub(super) struct Plan {
    pub(super) config: RedisConfig,
    pub(super) conditions: Conditions,
    pub(super) habits: Habits,
    pub(super) callers: usize,
    /// The longest pause of a caller between two calls.
    pub(super) pause: Duration,
    /// What callers allow to run twice.
    pub(super) safety: RetrySafety,
    /// The longest that a call may take.
    pub(super) call_timeout: Duration,
    /// In order of time. The last is [`Fault::Heal`].
    pub(super) faults: Vec<(Duration, Fault)>,
    /// Nothing goes wrong but failovers that an operator asks for: no acknowledged write may be lost.
    pub(super) lossless: bool,
    pub(super) ending: Ending,
}

/// How a run ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// The callers stop, then the client is closed.
    Quiet,
    /// The client is closed while the callers go on.
    Busy,
    /// All handles are dropped without a word.
    Dropped,
    /// It is closed in the midst of the faults.
    Early,
}

impl Plan {
    pub(super) fn new(rng: &mut Rng) -> Self {
        let lossless = rng.u8(..5) == 0;
        let call_timeout = millis(rng, 400, 4_000);
        let lag = if lossless { millis(rng, 1, 15) } else { millis(rng, 1, 300) };
        let narrow = rng.u8(..4) == 0;
        let latency = if lossless || narrow { 3_000 } else { 20_000 };
        Self {
            config: config(rng, call_timeout),
            conditions: Conditions {
                latency: Duration::from_micros(rng.u64(100..latency)),
                window: if narrow { rng.usize(60..400) } else { 64 << 10 },
                choppy: rng.bool(),
            },
            habits: Habits {
                replication_lag: lag,
                resp3: rng.u8(..8) != 0,
                publish: lossless || rng.u8(..6) != 0,
                // Soon after one that was given up, writes are not held back for the next.
                aborts: if lossless || rng.bool() { 0 } else { 25 },
                late_aborts: if lossless || rng.bool() { 0 } else { 25 },
                leniency: if rng.u8(..4) == 0 { 50 } else { 15 },
            },
            callers: rng.usize(2..=5),
            pause: millis(rng, 10, 100),
            safety: [RetrySafety::ReadOnly, RetrySafety::Repeatable, RetrySafety::Anything][rng.usize(..3)],
            call_timeout,
            faults: faults(rng, lossless),
            lossless,
            ending: match rng.u8(..8) {
                0..4 => Ending::Quiet,
                4 | 5 => Ending::Busy,
                6 => Ending::Dropped,
                _ => Ending::Early,
            },
        }
    }
}

fn config(rng: &mut Rng, call_timeout: Duration) -> RedisConfig {
    let sentinels = (0..SENTINELS).map(|number| Host::Sentinel(number).address());
    // The client learns of the others by itself.
    let named = rng.usize(1..=SENTINELS);
    let builder = RedisConfig::builder()
        .use_sentinel(true)
        .sentinel_hosts(sentinels.take(named))
        .sentinel_master_name(MASTER_NAME)
        .sentinel_socket_timeout(millis(rng, 100, 500))
        .sentinel_socket_connect_timeout(millis(rng, 150, 500))
        .socket_timeout(millis(rng, 100, 1_000))
        .socket_connect_timeout(millis(rng, 150, 500))
        .health_check_interval(millis(rng, 100, 2_000))
        .failover_wait(millis(rng, 500, 5_000))
        .retry_attempts(rng.u32(..4))
        .retry_base_delay(millis(rng, 1, 100))
        .max_connections(rng.usize(2..6))
        .max_in_flight(if rng.u8(..3) == 0 { rng.u32(1..4) } else { 65_536 })
        .call_timeout(call_timeout);
    // Every value above is within what the builder allows.
    builder.build().unwrap_or_default()
}

fn faults(rng: &mut Rng, lossless: bool) -> Vec<(Duration, Fault)> {
    let (count, last) = (rng.u64(1..=6), rng.u64(2_000..7_000));
    let mut faults = (0..count)
        .map(|_| {
            let at = Duration::from_millis(rng.u64(50..last));
            (at, if lossless { Fault::Failover } else { Fault::random(rng) })
        })
        .collect::<Vec<_>>();
    faults.sort_by_key(|(at, _)| *at);
    faults.push((Duration::from_millis(last + 500), Fault::Heal));
    faults
}

fn millis(rng: &mut Rng, from: u64, to: u64) -> Duration {
    Duration::from_millis(rng.u64(from..to))
}
