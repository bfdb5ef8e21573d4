//! What changes from one configuration to another, and what a running client can change.

use super::RedisConfig;
use super::setting::Setting;

/// The settings that [`Client::reconfigure`](crate::Client::reconfigure) can change.
const CHANGEABLE: [&str; 36] = [
    "username",
    "password",
    "socket_timeout",
    "socket_connect_timeout",
    "health_check_interval",
    "sentinel_username",
    "sentinel_password",
    "sentinel_socket_timeout",
    "sentinel_socket_connect_timeout",
    "address_map",
    "ssl_ca_certs",
    "ssl_certfile",
    "ssl_keyfile",
    "ssl_password",
    "ssl_server_name",
    "ssl_min_version",
    "ssl_danger_accept_invalid_certs",
    "sentinel_ssl_ca_certs",
    "sentinel_ssl_certfile",
    "sentinel_ssl_keyfile",
    "sentinel_ssl_password",
    "sentinel_ssl_server_name",
    "sentinel_ssl_min_version",
    "sentinel_ssl_danger_accept_invalid_certs",
    "retry_attempts",
    "retry_base_delay",
    "retry_jitter",
    "retry_budget",
    "retry_safety",
    "failover_wait",
    "promotion_hold",
    "call_timeout",
    "replica_strategy",
    "preferred_replicas",
    "replica_max_lag",
    "replica_fallback",
];

impl RedisConfig {
    /// Returns the names of the settings that have other values in `other`.
    pub fn changed_settings(&self, other: &Self) -> Vec<&'static str> {
        let changed = Setting::all().filter(|setting| (setting.text)(self) != (setting.text)(other));
        changed.map(Setting::name).collect()
    }

    /// Returns true if [`Client::reconfigure`](crate::Client::reconfigure) can change the setting of this name.
    pub fn is_changeable(setting: &str) -> bool {
        CHANGEABLE.contains(&setting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_named() {
        let old: RedisConfig = "redis://:one@a/1?retry_attempts=2".parse().unwrap();
        let new: RedisConfig = "redis://:two@b/1?retry_attempts=2&call_timeout=3".parse().unwrap();
        assert_eq!(old.changed_settings(&new), ["host", "password", "call_timeout"]);
        assert!(old.changed_settings(&old.clone()).is_empty());
    }

    #[test]
    fn changeable_settings_exist() {
        CHANGEABLE.iter().for_each(|name| assert!(Setting::by_name(name).is_some(), "{name}"));
        assert!(RedisConfig::is_changeable("password") && !RedisConfig::is_changeable("host"));
    }
}
