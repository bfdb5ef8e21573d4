//! The table of settings: the name, what is allowed, and how the value is read from and written as text.

mod calls;
mod replicas;
mod sentinel;
mod server;
mod tls;

use crate::config::error::HIDDEN;
use std::net::Ipv6Addr;
use std::time::Duration;

use super::RedisConfig;
use super::error::Problem;
use crate::address::Address;

const MAX_DURATION: Duration = Duration::from_secs(24 * 60 * 60);

pub(super) const HOST: &str = "a host name, an IPv4 or an IPv6 address";
const USERNAME: &str = "a user name of at least one character, without spaces and control characters";
const PASSWORD: &str = "a password of at least one character";
const TIMEOUT: &str = "a time longer than 0 and up to 24 hours, such as 5 (seconds), 0.5, 500ms or 2m";
const DELAY: &str = "a time from 0 to 24 hours, such as 5 (seconds), 0.5, 500ms or 2m";
const SWITCH: &str = "true or false";

pub(super) struct Setting {
    pub(super) name: &'static str,
    pub(super) secret: bool,
    pub(super) allowed: &'static str,
    pub(super) valid: fn(&RedisConfig) -> bool,
    /// Returns the value as text, `None` if there is none.
    pub(super) text: fn(&RedisConfig) -> Option<String>,
    /// Sets the value from the text of a URL parameter; returns false if the text is invalid. `None` for settings
    /// that the scheme and the authority of a URL determine.
    pub(super) read: Option<fn(&mut RedisConfig, &str) -> bool>,
}

impl Setting {
    /// Returns the setting that may be given as `name` in the query of a URL.
    pub(super) fn parameter(name: &str) -> Option<&'static Self> {
        Self::parameters().find(|setting| setting.name == name)
    }

    /// Returns all settings, in the order in which mistakes are reported.
    pub(super) fn all() -> impl Iterator<Item = &'static Self> {
        let tables =
            [server::SETTINGS, sentinel::SETTINGS, tls::SETTINGS, calls::SETTINGS, replicas::SETTINGS];
        tables.into_iter().flatten()
    }

    pub(super) fn parameters() -> impl Iterator<Item = &'static Self> {
        Self::all().filter(|setting| setting.read.is_some())
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
        if self.secret { problem.hidden() } else { problem.found(value) }
    }

    fn remedy(&self) -> String {
        match (self.text)(&RedisConfig::default()) {
            Some(default) => format!("correct it, or leave it out for the default {default}"),
            None => "correct it, or leave it out".into(),
        }
    }
}

fn set<T>(slot: &mut T, value: Option<T>) -> bool {
    value.map(|value| *slot = value).is_some()
}

fn is_timeout(timeout: Duration) -> bool {
    !timeout.is_zero() && timeout <= MAX_DURATION
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.contains(|c: char| c.is_whitespace() || c.is_control())
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
