//! Builds a configuration from texts of many layers, and remembers where each value came from.

use super::check::check_together;
use super::error::{HIDDEN, Problem};
use super::origins::Origins;
use super::read_url;
use super::setting::{IN_FRONT_OF_QUERY, Setting};
use super::{ConfigError, RedisConfig};

/// Builds a [`RedisConfig`] from settings by name, as loaders of files and environments have them. A later value
/// replaces an earlier one.
///
/// Every value has an origin, such as `REDIS_PORT` or `redis.toml:12`, which the mistakes name. A mistake in a value
/// that a later one replaces is reported as well. The crate `ha-redis-config` reads files, environments and
/// secrets with it.
///
/// ```
/// use ha_redis_core::config::LayeredBuilder;
///
/// let mut builder = LayeredBuilder::new();
/// builder.url("redis://:s3cret@redis.example/2", "redis.toml:1");
/// builder.set("socket_timeout", "250ms", "REDIS_SOCKET_TIMEOUT");
/// let config = builder.build()?;
/// assert_eq!(config.to_string(), "redis://:***@redis.example/2?socket_timeout=250ms");
/// assert_eq!(builder.origin("db"), Some("redis.toml:1"));
///
/// builder.set("max_connections", "0", "REDIS_MAX_CONNECTIONS");
/// assert_eq!(
///     builder.build().unwrap_err().to_string(),
///     "`max_connections` from REDIS_MAX_CONNECTIONS: found \"0\", expected a whole number from 1 to 10000; \
///      correct it, or leave it out for the default 50"
/// );
/// # Ok::<(), ha_redis_core::config::ConfigError>(())
/// ```
#[derive(Clone, Debug)]
pub struct LayeredBuilder {
    config: RedisConfig,
    origins: Origins,
    problems: ConfigError,
}

impl Default for LayeredBuilder {
    fn default() -> Self {
        let problems = ConfigError::new([]);
        Self { config: RedisConfig::default(), origins: Origins::default(), problems }
    }
}

impl LayeredBuilder {
    /// Creates a builder with the defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the setting `name` from its text: the one that a parameter of a URL has, without percent-encoding.
    ///
    /// Lists are separated by commas. A Sentinel without a port has the port 26379. An unknown name is a mistake.
    pub fn set(&mut self, name: &str, text: &str, origin: &str) -> &mut Self {
        let Some(setting) = Setting::by_name(name) else {
            return self.report(unknown(name).hidden().with_origin(origin));
        };
        let mut config = self.config.clone();
        let is_read = (setting.read)(&mut config, text);
        if is_read && (setting.valid)(&config) {
            self.config = config;
            self.origins.set(setting.name, origin, None);
            return self;
        }
        // A URL in place of a value may contain a password.
        let may_be_url = text.contains(['@']) || text.contains("://");
        let is_hidden = may_be_url || is_read && (setting.text)(&config).as_deref() == Some(HIDDEN);
        let problem = setting.refuse(text);
        self.report(if is_hidden { problem.hidden() } else { problem }.with_origin(origin))
    }

    /// Sets a setting back to its default, whatever earlier layers set.
    pub fn unset(&mut self, name: &str) -> &mut Self {
        let mut config = RedisConfig::default();
        for setting in Setting::all().filter(|setting| setting.name != name) {
            if let Some(text) = (setting.text)(&self.config) {
                // The text of a valid value reads back as the same value.
                (setting.read)(&mut config, &text);
            }
        }
        self.config = config;
        self.origins.remove(name);
        self
    }

    /// Sets what a URL in one of [the forms](super#url-forms) contains.
    ///
    /// How the server is reached comes from the URL as a whole: `host`, `port`, `unix_socket`, `use_sentinel`,
    /// `sentinel_hosts` and `ssl` of earlier layers are dropped. Everything else is kept unless the URL sets it.
    pub fn url(&mut self, url: &str, origin: &str) -> &mut Self {
        match read_url::read_over(&self.config, url) {
            Ok(layer) => {
                IN_FRONT_OF_QUERY.into_iter().for_each(|name| self.origins.remove(name));
                for (name, part) in layer.settings {
                    self.origins.set(name, origin, Some(part));
                }
                self.config = layer.config;
            }
            Err(error) => {
                // What the URL would have set is not known, so nothing is compared.
                Setting::all().for_each(|setting| self.origins.fail(setting.name));
                self.problems.add_all(error, origin);
            }
        }
        self
    }

    /// Adds a mistake that the loader found: an unreadable file, or an unknown key. If it is in the value of a setting,
    /// that setting is not compared with others.
    pub fn report(&mut self, problem: Problem) -> &mut Self {
        if let Some(setting) = Setting::by_name(problem.field()) {
            self.origins.fail(setting.name);
        }
        self.problems.add(problem);
        self
    }

    /// Returns where the value of a setting came from, `None` if it is the default.
    pub fn origin(&self, name: &str) -> Option<&str> {
        self.origins.get(name)
    }

    /// Returns the value of a setting as text, `***` for a password, `None` if there is none.
    pub fn value(&self, name: &str) -> Option<String> {
        Setting::by_name(name)?.value_in(&self.config)
    }

    /// Checks the settings together and returns the configuration.
    ///
    /// # Errors
    /// Returns every mistake of all layers: values that cannot be read or are out of range, settings that contradict
    /// each other, and what was [reported](Self::report).
    pub fn build(&self) -> Result<RedisConfig, ConfigError> {
        let mut problems = self.problems.clone();
        check_together(&self.config, &self.origins).into_iter().for_each(|problem| problems.add(problem));
        if problems.problems().is_empty() { Ok(self.config.clone()) } else { Err(problems) }
    }
}

fn unknown(name: &str) -> Problem {
    let allowed = "the name of a setting";
    match Setting::nearest(name) {
        Some(near) => {
            let name_near = near.name;
            Problem::new(
                name.to_owned(),
                format!("{allowed}, such as {name_near}"),
                format!("correct it to {name_near}"),
            )
        }
        None => Problem::new(name.to_owned(), allowed, "remove it"),
    }
}
