//! The table of settings: the name, what is allowed, and how the value is read from and written as text.

mod calls;
mod kind;
mod nearest;
mod replicas;
mod sentinel;
mod server;
mod tls;

use std::fmt;
use std::net::Ipv6Addr;
use std::time::Duration;

pub use self::kind::SettingKind;
pub(super) use self::nearest::nearest;
use super::RedisConfig;
use super::error::{HIDDEN, Problem};
use crate::address::Address;
use crate::peer_text::is_plain;

const MAX_DURATION: Duration = Duration::from_secs(24 * 60 * 60);

pub(super) const HOST: &str = "a host name, an IPv4 or an IPv6 address";
const USERNAME: &str =
    "a user name of at least one character, without spaces, control and invisible characters";
const PASSWORD: &str = "a password of at least one character";
const TIMEOUT: &str = "a time longer than 0 and up to 24 hours, such as 5 (seconds), 0.5, 500ms or 2m";
const DELAY: &str = "a time from 0 to 24 hours, such as 5 (seconds), 0.5, 500ms or 2m";
const SWITCH: &str = "true or false";

/// What the scheme, the authority and the path of a URL determine: how the server is reached. A URL sets all of it.
pub(super) const IN_FRONT_OF_QUERY: [&str; 6] =
    ["host", "port", "unix_socket", "use_sentinel", "sentinel_hosts", "ssl"];

/// One setting of a [`RedisConfig`]: what a loader, a schema or a tool needs to know about it.
///
/// ```
/// use ha_redis_core::config::{Setting, SettingKind};
///
/// let setting = Setting::by_name("max_connections").unwrap();
/// assert_eq!(setting.kind(), SettingKind::Number { min: 1, max: 10_000 });
/// assert_eq!(setting.default_text().as_deref(), Some("50"));
/// assert!(Setting::all().any(|setting| setting.is_secret()));
/// ```
pub struct Setting {
    pub(super) name: &'static str,
    pub(super) about: &'static str,
    pub(super) kind: SettingKind,
    pub(super) secret: bool,
    pub(super) changeable: bool,
    pub(super) allowed: &'static str,
    pub(super) valid: fn(&RedisConfig) -> bool,
    /// Returns the value as text, `None` if there is none.
    pub(super) text: fn(&RedisConfig) -> Option<String>,
    /// Sets the value from text; returns false if the text cannot be read.
    pub(super) read: fn(&mut RedisConfig, &str) -> bool,
}

impl Setting {
    /// Returns all settings, in the order in which mistakes are reported.
    pub fn all() -> impl Iterator<Item = &'static Self> {
        let tables =
            [server::SETTINGS, sentinel::SETTINGS, tls::SETTINGS, calls::SETTINGS, replicas::SETTINGS];
        tables.into_iter().flatten()
    }

    /// Returns the setting of this name.
    pub fn by_name(name: &str) -> Option<&'static Self> {
        Self::all().find(|setting| setting.name == name)
    }

    /// Returns the setting whose name differs from `word` by a quarter of its letters at most.
    pub fn nearest(word: &str) -> Option<&'static Self> {
        nearest(word, Self::all().map(|setting| setting.name)).and_then(Self::by_name)
    }

    /// Returns the name: that of the builder's setter and of the parameter of a URL.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Returns what the setting does, in a sentence or two.
    pub fn description(&self) -> &'static str {
        self.about
    }

    /// Returns the form of the values.
    pub fn kind(&self) -> SettingKind {
        self.kind
    }

    /// Returns true for a password.
    pub fn is_secret(&self) -> bool {
        self.secret
    }

    /// Returns true if [`Client::reconfigure`](crate::Client::reconfigure) can change it while the client runs.
    pub fn is_changeable(&self) -> bool {
        self.changeable
    }

    /// Returns which values are allowed, in the words of the error messages.
    pub fn allowed(&self) -> &'static str {
        self.allowed
    }

    /// Returns the default as text, `None` if the setting has no value by default.
    pub fn default_text(&self) -> Option<String> {
        self.value_in(&RedisConfig::default())
    }

    /// Returns the value in `config` as text that reads back as the same value, `None` if there is none. A password is
    /// returned as `***`.
    pub fn value_in(&self, config: &RedisConfig) -> Option<String> {
        let text = (self.text)(config)?;
        Some(if self.secret { "***".into() } else { text })
    }

    /// Returns the setting that may be given as `name` in the query of a URL.
    pub(super) fn parameter(name: &str) -> Option<&'static Self> {
        Self::parameters().find(|setting| setting.name == name)
    }

    pub(super) fn parameters() -> impl Iterator<Item = &'static Self> {
        Self::all().filter(|setting| !IN_FRONT_OF_QUERY.contains(&setting.name))
    }

    /// Returns the mistake for the value in `config`.
    pub(super) fn problem(&self, config: &RedisConfig) -> Problem {
        match (self.text)(config) {
            Some(text) => self.refuse(&text),
            None => Problem::new(self.name, self.allowed, self.remedy()),
        }
    }

    /// Returns the mistake for `value`, which cannot be read as a value of this setting.
    pub(super) fn refuse(&self, value: &str) -> Problem {
        let problem = Problem::new(self.name, self.allowed, self.remedy());
        if self.secret || value == HIDDEN { problem.hidden() } else { problem.found(value) }
    }

    fn remedy(&self) -> String {
        match (self.text)(&RedisConfig::default()) {
            _ if self.kind == SettingKind::File => {
                "write the path of the file, not its contents, or leave it out".into()
            }
            Some(default) => format!("correct it, or leave it out for the default {default}"),
            None => "correct it, or leave it out".into(),
        }
    }
}

impl fmt::Debug for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Setting").field("name", &self.name).field("kind", &self.kind).finish_non_exhaustive()
    }
}

fn set<T>(slot: &mut T, value: Option<T>) -> bool {
    value.map(|value| *slot = value).is_some()
}

/// Reads a switch in the words that the Python library's settings accept.
fn switch(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" | "t" | "y" => Some(true),
        "false" | "no" | "off" | "0" | "f" | "n" => Some(false),
        _ => None,
    }
}

fn is_timeout(timeout: Duration) -> bool {
    !timeout.is_zero() && timeout <= MAX_DURATION
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| is_plain(c) && !c.is_whitespace())
}

/// CLIENT SETNAME refuses other bytes.
fn is_client_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic())
}

fn is_tcp(address: &Address) -> bool {
    matches!(address, Address::Tcp { host, port } if is_host(host) && *port != 0)
}

/// Returns a host as errors quote it. A URL in its place is hidden, since it may contain a password.
pub(super) fn shown(host: &str) -> String {
    if host.contains(['@', '/']) { HIDDEN.to_owned() } else { host.to_owned() }
}

/// Returns true for a name, or an IP address without brackets; a link-local IPv6 address may name its zone
/// (`fe80::1%eth0`).
pub(super) fn is_host(host: &str) -> bool {
    let is_label = |text: &str| {
        !text.is_empty() && text.chars().all(|c| c.is_alphanumeric() || matches!(c, '-' | '.' | '_'))
    };
    if !host.contains(':') {
        return is_label(host);
    }
    let (ip, zone) = host.split_once('%').map_or((host, None), |(ip, zone)| (ip, Some(zone)));
    ip.parse::<Ipv6Addr>().is_ok() && zone.is_none_or(is_label)
}

/// Splits `host[:port]` or `[ipv6][:port]`. Returns the host without brackets, and the port as written.
pub(super) fn split_host_port(text: &str) -> Option<(&str, Option<&str>)> {
    let Some(bracketed) = text.strip_prefix('[') else {
        return Some(text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))));
    };
    let (host, rest) = bracketed.split_once(']').filter(|(host, _)| host.contains(':'))?;
    match rest {
        "" => Some((host, None)),
        _ => Some((host, Some(rest.strip_prefix(':')?))),
    }
}
