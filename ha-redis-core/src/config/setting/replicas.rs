//! Settings for reads from replicas.

use super::{SWITCH, Setting, set};
use crate::replica_choice::ReplicaPattern;

pub(super) static SETTINGS: &[Setting] = &[
    Setting {
        name: "replica_strategy",
        secret: false,
        allowed: "round-robin, random, lowest-latency or least-lag",
        valid: |_| true,
        text: |config| Some(config.replica_strategy.to_string()),
        read: Some(|config, text| set(&mut config.replica_strategy, text.parse().ok())),
    },
    Setting {
        name: "preferred_replicas",
        secret: false,
        allowed: "addresses (host:port), hosts, domains (.zone-a.example.com) or IP networks (10.1.0.0/16), \
                  separated by commas",
        valid: |config| config.preferred_replicas.iter().all(|text| text.parse::<ReplicaPattern>().is_ok()),
        text: |config| Some(config.preferred_replicas.join(",")).filter(|replicas| !replicas.is_empty()),
        read: Some(|config, text| {
            set(&mut config.preferred_replicas, Some(text.split(',').map(str::to_owned).collect()))
        }),
    },
    Setting {
        name: "replica_max_lag",
        secret: false,
        allowed: "a whole number of bytes from 0 to 18446744073709551615",
        valid: |_| true,
        text: |config| config.replica_max_lag.map(|lag_bytes| lag_bytes.to_string()),
        read: Some(|config, text| set(&mut config.replica_max_lag, text.parse().ok().map(Some))),
    },
    Setting {
        name: "replica_fallback",
        secret: false,
        allowed: SWITCH,
        valid: |_| true,
        text: |config| Some(config.replica_fallback.to_string()),
        read: Some(|config, text| set(&mut config.replica_fallback, text.parse().ok())),
    },
];
