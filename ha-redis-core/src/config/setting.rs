//! Every setting: its name, what is allowed, and how it is read from and written as text.

use std::net::Ipv6Addr;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::error::Problem;
use super::password::Password;
use super::{MAX_CONNECTIONS, RedisConfig, duration};
use crate::address::Address;

const MAX_DURATION: Duration = Duration::from_secs(24 * 60 * 60);
const CONNECTIONS: RangeInclusive<usize> = 1..=MAX_CONNECTIONS;
const RETRIES: RangeInclusive<u32> = 0..=1000;
const IN_FLIGHT: RangeInclusive<u32> = 1..=10_000_000;
const IN_FLIGHT_BYTES: RangeInclusive<u64> = 1024..=1 << 32;

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
    /// The value as text, `None` when there is none.
    pub(super) text: fn(&RedisConfig) -> Option<String>,
    /// Sets the value from the text of a URL parameter; false when that text is none. Settings that the scheme
    /// and the authority of a URL decide are no parameters.
    pub(super) read: Option<fn(&mut RedisConfig, &str) -> bool>,
}

impl Setting {
    /// The setting that may stand under `name` in the query of a URL.
    pub(super) fn parameter(name: &str) -> Option<&'static Self> {
        Self::parameters().find(|setting| setting.name == name)
    }

    pub(super) fn parameters() -> impl Iterator<Item = &'static Self> {
        SETTINGS.iter().filter(|setting| setting.read.is_some())
    }

    /// Its value in `config` is a mistake.
    pub(super) fn problem(&self, config: &RedisConfig) -> Problem {
        match (self.text)(config) {
            Some(text) => self.refuse(&text),
            None => Problem::new(self.name, self.allowed, self.remedy()),
        }
    }

    /// The text `value` is no value of this setting.
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

pub(super) static SETTINGS: [Setting; 28] = [
    Setting {
        name: "host",
        secret: false,
        allowed: HOST,
        valid: |config| is_host(&config.host),
        text: |config| Some(config.host.clone()),
        read: None,
    },
    Setting {
        name: "port",
        secret: false,
        allowed: "a port from 1 to 65535",
        valid: |config| config.port != 0,
        text: |config| Some(config.port.to_string()),
        read: None,
    },
    Setting {
        name: "unix_socket",
        secret: false,
        allowed: "the absolute path of a socket, in UTF-8",
        valid: |config| {
            config.unix_socket.as_ref().is_none_or(|path| {
                path.to_str()
                    .is_some_and(|path| path.starts_with('/') && !path.ends_with('/') && !path.contains('\0'))
            })
        },
        text: |config| config.unix_socket.as_ref().map(|path| path.display().to_string()),
        read: None,
    },
    Setting {
        name: "username",
        secret: false,
        allowed: USERNAME,
        valid: |config| config.username().is_none_or(is_name),
        text: |config| config.username.clone(),
        read: Some(|config, text| set(&mut config.username, Some(Some(text.into())))),
    },
    Setting {
        name: "password",
        secret: true,
        allowed: PASSWORD,
        valid: |config| config.password().is_none_or(|password| !password.is_empty()),
        text: |config| config.password().map(Into::into),
        read: Some(|config, text| set(&mut config.password, Some(Some(Password::new(text))))),
    },
    Setting {
        name: "db",
        secret: false,
        allowed: "the number of a database, from 0 to 4294967295",
        valid: |_| true,
        text: |config| Some(config.db.to_string()),
        read: Some(|config, text| set(&mut config.db, text.parse().ok())),
    },
    Setting {
        name: "max_connections",
        secret: false,
        allowed: "a whole number from 1 to 10000",
        valid: |config| CONNECTIONS.contains(&config.max_connections),
        text: |config| Some(config.max_connections.to_string()),
        read: Some(|config, text| set(&mut config.max_connections, text.parse().ok())),
    },
    Setting {
        name: "socket_timeout",
        secret: false,
        allowed: TIMEOUT,
        valid: |config| is_timeout(config.socket_timeout),
        text: |config| Some(duration::format(config.socket_timeout)),
        read: Some(|config, text| set(&mut config.socket_timeout, duration::parse(text))),
    },
    Setting {
        name: "socket_connect_timeout",
        secret: false,
        allowed: TIMEOUT,
        valid: |config| is_timeout(config.socket_connect_timeout),
        text: |config| Some(duration::format(config.socket_connect_timeout)),
        read: Some(|config, text| set(&mut config.socket_connect_timeout, duration::parse(text))),
    },
    Setting {
        name: "health_check_interval",
        secret: false,
        allowed: DELAY,
        valid: |config| config.health_check_interval <= MAX_DURATION,
        text: |config| Some(duration::format(config.health_check_interval)),
        read: Some(|config, text| set(&mut config.health_check_interval, duration::parse(text))),
    },
    Setting {
        name: "use_sentinel",
        secret: false,
        allowed: SWITCH,
        valid: |_| true,
        text: |config| Some(config.use_sentinel.to_string()),
        read: None,
    },
    Setting {
        name: "sentinel_hosts",
        secret: false,
        allowed: "host names or IP addresses of Sentinels, each with a port from 1 to 65535",
        valid: |config| config.sentinel_hosts.iter().all(is_tcp),
        text: |config| {
            Some(config.sentinel_hosts.iter().map(ToString::to_string).collect::<Vec<_>>().join(","))
                .filter(|hosts| !hosts.is_empty())
        },
        read: None,
    },
    Setting {
        name: "sentinel_master_name",
        secret: false,
        allowed: "a master's name of at least one character, without spaces and control characters",
        valid: |config| is_name(&config.sentinel_master_name),
        text: |config| Some(config.sentinel_master_name.clone()),
        read: Some(|config, text| set(&mut config.sentinel_master_name, Some(text.into()))),
    },
    Setting {
        name: "sentinel_username",
        secret: false,
        allowed: USERNAME,
        valid: |config| config.sentinel_username().is_none_or(is_name),
        text: |config| config.sentinel_username.clone(),
        read: Some(|config, text| set(&mut config.sentinel_username, Some(Some(text.into())))),
    },
    Setting {
        name: "sentinel_password",
        secret: true,
        allowed: PASSWORD,
        valid: |config| config.sentinel_password().is_none_or(|password| !password.is_empty()),
        text: |config| config.sentinel_password().map(Into::into),
        read: Some(|config, text| set(&mut config.sentinel_password, Some(Some(Password::new(text))))),
    },
    Setting {
        name: "sentinel_socket_timeout",
        secret: false,
        allowed: TIMEOUT,
        valid: |config| is_timeout(config.sentinel_socket_timeout),
        text: |config| Some(duration::format(config.sentinel_socket_timeout)),
        read: Some(|config, text| set(&mut config.sentinel_socket_timeout, duration::parse(text))),
    },
    Setting {
        name: "sentinel_socket_connect_timeout",
        secret: false,
        allowed: TIMEOUT,
        valid: |config| is_timeout(config.sentinel_socket_connect_timeout),
        text: |config| Some(duration::format(config.sentinel_socket_connect_timeout)),
        read: Some(|config, text| set(&mut config.sentinel_socket_connect_timeout, duration::parse(text))),
    },
    Setting {
        name: "ssl",
        secret: false,
        allowed: SWITCH,
        valid: |_| true,
        text: |config| Some(config.ssl.to_string()),
        read: None,
    },
    Setting {
        name: "retry_attempts",
        secret: false,
        allowed: "a whole number from 0 to 1000",
        valid: |config| RETRIES.contains(&config.retry_attempts),
        text: |config| Some(config.retry_attempts.to_string()),
        read: Some(|config, text| set(&mut config.retry_attempts, text.parse().ok())),
    },
    Setting {
        name: "retry_base_delay",
        secret: false,
        allowed: DELAY,
        valid: |config| config.retry_base_delay <= MAX_DURATION,
        text: |config| Some(duration::format(config.retry_base_delay)),
        read: Some(|config, text| set(&mut config.retry_base_delay, duration::parse(text))),
    },
    Setting {
        name: "client_name",
        secret: false,
        allowed: "printable ASCII characters without spaces, at least one",
        valid: |config| config.client_name().is_none_or(is_client_name),
        text: |config| config.client_name.clone(),
        read: Some(|config, text| set(&mut config.client_name, Some(Some(text.into())))),
    },
    Setting {
        name: "failover_wait",
        secret: false,
        allowed: DELAY,
        valid: |config| config.failover_wait <= MAX_DURATION,
        text: |config| Some(duration::format(config.failover_wait)),
        read: Some(|config, text| set(&mut config.failover_wait, duration::parse(text))),
    },
    Setting {
        name: "call_timeout",
        secret: false,
        allowed: TIMEOUT,
        valid: |config| config.call_timeout.is_none_or(is_timeout),
        text: |config| config.call_timeout.map(duration::format),
        read: Some(|config, text| set(&mut config.call_timeout, duration::parse(text).map(Some))),
    },
    Setting {
        name: "retry_jitter",
        secret: false,
        allowed: "added, equal, full or none",
        valid: |_| true,
        text: |config| Some(config.retry_jitter.to_string()),
        read: Some(|config, text| set(&mut config.retry_jitter, text.parse().ok())),
    },
    Setting {
        name: "retry_budget",
        secret: false,
        allowed: "a percentage from 0 to 100",
        valid: |config| config.retry_budget <= 100,
        text: |config| Some(config.retry_budget.to_string()),
        read: Some(|config, text| set(&mut config.retry_budget, text.parse().ok())),
    },
    Setting {
        name: "retry_safety",
        secret: false,
        allowed: "read-only, repeatable or anything",
        valid: |_| true,
        text: |config| Some(config.retry_safety.to_string()),
        read: Some(|config, text| set(&mut config.retry_safety, text.parse().ok())),
    },
    Setting {
        name: "max_in_flight",
        secret: false,
        allowed: "a whole number from 1 to 10000000",
        valid: |config| IN_FLIGHT.contains(&config.max_in_flight),
        text: |config| Some(config.max_in_flight.to_string()),
        read: Some(|config, text| set(&mut config.max_in_flight, text.parse().ok())),
    },
    Setting {
        name: "max_in_flight_bytes",
        secret: false,
        allowed: "a number of bytes from 1024 to 4294967296",
        valid: |config| IN_FLIGHT_BYTES.contains(&config.max_in_flight_bytes),
        text: |config| Some(config.max_in_flight_bytes.to_string()),
        read: Some(|config, text| set(&mut config.max_in_flight_bytes, text.parse().ok())),
    },
];

fn set<T>(slot: &mut T, value: Option<T>) -> bool {
    value.map(|value| *slot = value).is_some()
}

fn is_timeout(timeout: Duration) -> bool {
    !timeout.is_zero() && timeout <= MAX_DURATION
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.contains(|c: char| c.is_whitespace() || c.is_control())
}

/// CLIENT SETNAME refuses every other byte.
fn is_client_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic())
}

fn is_tcp(address: &Address) -> bool {
    matches!(address, Address::Tcp { host, port } if is_host(host) && *port != 0)
}

/// A name, or an IP address without brackets; a link-local IPv6 address may name its zone (`fe80::1%eth0`).
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
