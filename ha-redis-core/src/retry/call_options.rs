//! How calls are retried, and how long they may take.

use std::time::Duration;

use crate::config::{RedisConfig, RetrySafety};
use crate::retry::RetryPolicy;

/// The retry and timeout settings of the calls of a handle.
#[derive(Clone, Debug)]
pub(crate) struct CallOptions {
    pub(crate) policy: RetryPolicy,
    pub(crate) safety: RetrySafety,
    /// The bound on a call with all its waits and attempts.
    pub(crate) timeout: Option<Duration>,
    /// How long a call waits for a usable connection.
    pub(crate) failover_wait: Duration,
    /// How long nothing may move while its reply is pending.
    pub(crate) socket_timeout: Duration,
    /// True if a call waits while the server refuses it for a temporary reason.
    pub(crate) waits_for_refusals: bool,
}

impl CallOptions {
    pub(crate) fn of(config: &RedisConfig) -> Self {
        let policy = RetryPolicy::new()
            .max_retries(config.retry_attempts())
            .base_delay(config.retry_base_delay())
            .jitter(config.retry_jitter());
        let (safety, timeout) = (config.retry_safety(), config.call_timeout());
        Self {
            policy,
            safety,
            timeout,
            failover_wait: config.failover_wait(),
            socket_timeout: config.socket_timeout(),
            waits_for_refusals: true,
        }
    }
}
