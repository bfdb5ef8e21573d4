//! Writes a configuration as a URL: the canonical form, without settings at their defaults.

use std::path::Path;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::read_url::is_number;
use super::setting::Setting;
use super::{DEFAULT_SENTINEL_PORT, RedisConfig};
use crate::address::Address;

/// Characters encoded in every part: all but RFC 3986's unreserved ones.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
const RESERVED_IN_HOST: &AsciiSet = &RESERVED.remove(b':');
const RESERVED_IN_PATH: &AsciiSet = &RESERVED.remove(b'/');

pub(super) fn with_passwords(config: &RedisConfig) -> String {
    write(config, encode)
}

pub(super) fn without_passwords(config: &RedisConfig) -> String {
    write(config, |_| "***".into())
}

/// Writes the URL; `secret` formats a password.
fn write(config: &RedisConfig, secret: fn(&str) -> String) -> String {
    let credentials = match (config.username(), config.password()) {
        (Some(username), Some(password)) => format!("{}:{}@", encode(username), secret(password)),
        (None, Some(password)) => format!(":{}@", secret(password)),
        (_, None) => String::new(),
    };
    let server = match &config.unix_socket {
        Some(path) => unix_path(path),
        None if config.use_sentinel => sentinels(config),
        None => tcp(config),
    };
    format!("{}://{credentials}{server}{}", scheme(config), query(config, secret))
}

fn scheme(config: &RedisConfig) -> &'static str {
    match (config.use_sentinel, config.ssl) {
        _ if config.unix_socket.is_some() => "unix",
        (false, false) => "redis",
        (false, true) => "rediss",
        (true, false) => "redis+sentinel",
        (true, true) => "rediss+sentinel",
    }
}

fn unix_path(path: &Path) -> String {
    utf8_percent_encode(&path.to_string_lossy(), RESERVED_IN_PATH).to_string()
}

fn tcp(config: &RedisConfig) -> String {
    let host = host_port(&config.host, config.port, RedisConfig::default().port);
    if config.db == 0 { host } else { format!("{host}/{}", config.db) }
}

fn sentinels(config: &RedisConfig) -> String {
    let hosts: Vec<_> = config
        .sentinel_hosts
        .iter()
        .filter_map(|address| match address {
            Address::Tcp { host, port } => Some(host_port(host, *port, DEFAULT_SENTINEL_PORT)),
            Address::Unix(_) => None, // no valid configuration has one
        })
        .collect();
    let hosts = hosts.join(",");
    let service = &config.sentinel_master_name;
    let is_default = *service == RedisConfig::default().sentinel_master_name;
    match config.db {
        0 if is_default => hosts,
        0 if !is_number(service) => format!("{hosts}/{}", encode(service)),
        // A db of 0 is written too, since a lone number would be read as the db.
        db => format!("{hosts}/{}/{db}", encode(service)),
    }
}

fn host_port(host: &str, port: u16, default_port: u16) -> String {
    let encoded = utf8_percent_encode(host, RESERVED_IN_HOST);
    let host = if host.contains(':') { format!("[{encoded}]") } else { encoded.to_string() };
    if port == default_port { host } else { format!("{host}:{port}") }
}

/// Returns the query: the settings that have no place before the `?`.
fn query(config: &RedisConfig, secret: fn(&str) -> String) -> String {
    let default = RedisConfig::default();
    let mut query = String::new();
    for setting in Setting::parameters() {
        let stands_before = match setting.name {
            "username" | "password" => true,
            "db" => config.unix_socket.is_none(),
            "sentinel_master_name" => config.use_sentinel,
            _ => false,
        };
        let value = (setting.text)(config).filter(|value| (setting.text)(&default).as_ref() != Some(value));
        if let (Some(value), false) = (value, stands_before) {
            let value = if setting.secret { secret(&value) } else { encode(&value) };
            let separator = if query.is_empty() { '?' } else { '&' };
            query.push_str(&format!("{separator}{}={value}", setting.name));
        }
    }
    query
}

fn encode(text: &str) -> String {
    utf8_percent_encode(text, RESERVED).to_string()
}
