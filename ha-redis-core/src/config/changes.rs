//! What changes from one configuration to another.

use super::RedisConfig;
use super::setting::Setting;

impl RedisConfig {
    /// Returns the names of the settings that have other values in `other`.
    pub fn changed_settings(&self, other: &Self) -> Vec<&'static str> {
        let changed = Setting::all().filter(|setting| (setting.text)(self) != (setting.text)(other));
        changed.map(Setting::name).collect()
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
}
