//! Settings for reads from replicas.

use super::{SWITCH, Setting, SettingKind, set, switch};
use crate::replica_choice::ReplicaPattern;

pub(super) static SETTINGS: &[Setting] = &[
    Setting {
        name: "replica_strategy",
        about: "Which replica serves a read.",
        kind: SettingKind::Choice(&["round-robin", "random", "lowest-latency", "least-lag"]),
        secret: false,
        changeable: true,
        allowed: "round-robin, random, lowest-latency or least-lag",
        valid: |_| true,
        text: |config| Some(config.replica_strategy.to_string()),
        read: |config, text| set(&mut config.replica_strategy, text.parse().ok()),
    },
    Setting {
        name: "preferred_replicas",
        about: "The replicas to read from while one of them is healthy.",
        kind: SettingKind::List,
        secret: false,
        changeable: true,
        allowed: "addresses (host:port), hosts, domains (.zone-a.example.com) or IP networks (10.1.0.0/16), \
                  separated by commas",
        valid: |config| config.preferred_replicas.iter().all(|text| text.parse::<ReplicaPattern>().is_ok()),
        text: |config| Some(config.preferred_replicas.join(",")).filter(|replicas| !replicas.is_empty()),
        read: |config, text| {
            set(
                &mut config.preferred_replicas,
                Some(text.split(',').map(|replica| replica.trim().to_owned()).collect()),
            )
        },
    },
    Setting {
        name: "replica_max_lag",
        about: "How many bytes a replica may lag behind the master and still serve reads.",
        kind: SettingKind::Number { min: 0, max: u64::MAX },
        secret: false,
        changeable: true,
        allowed: "a whole number of bytes from 0 to 18446744073709551615",
        valid: |_| true,
        text: |config| config.replica_max_lag.map(|lag_bytes| lag_bytes.to_string()),
        read: |config, text| set(&mut config.replica_max_lag, text.parse().ok().map(Some)),
    },
    Setting {
        name: "replica_fallback",
        about: "Whether the master serves reads while no replica is healthy.",
        kind: SettingKind::Switch,
        secret: false,
        changeable: true,
        allowed: SWITCH,
        valid: |_| true,
        text: |config| Some(config.replica_fallback.to_string()),
        read: |config, text| set(&mut config.replica_fallback, switch(text)),
    },
];
