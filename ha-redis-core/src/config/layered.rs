//! Builds a configuration from texts of many layers, and remembers where each value came from.

use std::collections::BTreeSet;

use super::check::{OF_SENTINEL_TLS, OF_TLS, check_together};
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
    /// The configuration without the layer that is being added.
    below: RedisConfig,
    /// The settings that this layer sets.
    in_layer: BTreeSet<&'static str>,
    /// The passwords that a URL without TLS took over from a layer with TLS.
    in_clear: BTreeSet<&'static str>,
}

impl Default for LayeredBuilder {
    fn default() -> Self {
        Self {
            config: RedisConfig::default(),
            origins: Origins::default(),
            problems: ConfigError::new([]),
            below: RedisConfig::default(),
            in_layer: BTreeSet::new(),
            in_clear: BTreeSet::new(),
        }
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
            self.in_layer.insert(setting.name);
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
    /// `sentinel_hosts` and `ssl` of earlier layers are dropped, and the user name with the password if the URL has a
    /// password before the `@`. Everything else is kept unless the URL sets it.
    pub fn url(&mut self, url: &str, origin: &str) -> &mut Self {
        match read_url::read_over(&self.config, url) {
            Ok(layer) => {
                let has_password = layer.settings.contains(&("password", "user information"));
                let user = has_password.then_some("username");
                IN_FRONT_OF_QUERY.into_iter().chain(user).for_each(|name| self.origins.remove(name));
                for (name, part) in layer.settings {
                    self.origins.set(name, origin, Some(part));
                    self.in_layer.insert(name);
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

    /// Ends a layer: what follows is the next one.
    ///
    /// If the layer turned TLS or Sentinels off, what earlier layers set for them is dropped: a variable `REDIS_SSL=off`
    /// need not contradict the certificates in a file. A password that a URL without TLS takes over from earlier layers
    /// with TLS is a mistake, since it would be sent in clear.
    pub fn end_layer(&mut self) -> &mut Self {
        let (below, config) = (&self.below, &self.config);
        let tls_was_on = [("password", below.ssl), ("sentinel_password", below.sentinel_ssl())];
        let mut dropped: Vec<&'static str> = Vec::new();
        if below.use_sentinel && !config.use_sentinel {
            dropped.push("sentinel_hosts");
        }
        // Sentinels inherit the files of the servers.
        if below.sentinel_ssl() && !config.sentinel_ssl() {
            dropped.extend(OF_SENTINEL_TLS);
        }
        if below.ssl && !config.ssl && !config.sentinel_ssl() {
            dropped.extend(OF_TLS);
        }
        let is_inherited = |name: &str| !self.in_layer.contains(name);
        dropped.retain(|name| is_inherited(name));
        if ["ssl", "sentinel_ssl"].iter().any(|name| self.in_layer.contains(name)) {
            self.in_clear.clear();
            if self.origins.is_in_url("ssl") && self.config.unix_socket.is_none() {
                let inherited = tls_was_on.iter().filter(|(name, was_on)| *was_on && is_inherited(name));
                self.in_clear.extend(inherited.map(|(name, _)| name));
            }
        }
        self.in_clear.retain(|name| !self.in_layer.contains(name));
        dropped.into_iter().for_each(|name| {
            self.unset(name);
        });
        self.in_layer.clear();
        self.below = self.config.clone();
        self
    }

    /// Adds a mistake that the loader found: an unreadable file, or an unknown key. If it is in the value of a setting,
    /// that setting is not compared with others. Otherwise nothing is compared, since any value may be missing.
    pub fn report(&mut self, problem: Problem) -> &mut Self {
        match Setting::by_name(problem.field()) {
            Some(setting) => self.origins.fail(setting.name),
            None => Setting::all().for_each(|setting| self.origins.fail(setting.name)),
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
        self.passwords_in_clear().for_each(|problem| problems.add(problem));
        check_together(&self.config, &self.origins).into_iter().for_each(|problem| problems.add(problem));
        if problems.problems().is_empty() { Ok(self.config.clone()) } else { Err(problems) }
    }
}

impl LayeredBuilder {
    fn passwords_in_clear(&self) -> impl Iterator<Item = Problem> {
        let of_sentinels = |name: &str| name == "sentinel_password";
        let is_sent = move |name: &&str| match of_sentinels(name) {
            true => {
                self.config.use_sentinel
                    && self.config.sentinel_password.is_some()
                    && !self.config.sentinel_ssl()
            }
            false => self.config.password.is_some() && !self.config.ssl,
        };
        let is_known = |name: &&str| !self.origins.has_failed(name) && !self.origins.has_failed("ssl");
        self.in_clear.iter().copied().filter(is_sent).filter(is_known).map(|name| {
            let because = self.origins.because("ssl");
            let allowed = format!(
                "a password from where the URL is, because the URL turns ssl off{because} and would send this one in clear"
            );
            let remedy =
                "begin the URL with rediss:// or rediss+sentinel://, or set ssl to false next to it";
            self.origins.name(Problem::new(name, allowed, remedy).hidden(), name)
        })
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
