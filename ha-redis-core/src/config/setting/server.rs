//! Settings for the server and the connections to it.

use std::ops::RangeInclusive;

use super::{
    DELAY, HOST, MAX_DURATION, PASSWORD, Setting, SettingKind, TIMEOUT, USERNAME, is_client_name, is_host,
    is_name, is_timeout, set, shown,
};
use crate::config::password::Password;
use crate::config::{MAX_CONNECTIONS, duration};

const SHARED_CONNECTIONS: RangeInclusive<usize> = 1..=64;
const CONNECTIONS: RangeInclusive<usize> = 1..=MAX_CONNECTIONS;

pub(super) static SETTINGS: &[Setting] = &[
    Setting {
        name: "host",
        about: "The host name or IP address of the server, without Sentinels.",
        kind: SettingKind::Text,
        secret: false,
        changeable: false,
        allowed: HOST,
        valid: |config| is_host(&config.host),
        text: |config| Some(shown(&config.host)),
        read: |config, text| set(&mut config.host, Some(text.into())),
    },
    Setting {
        name: "port",
        about: "The TCP port of the server, without Sentinels.",
        kind: SettingKind::Number { min: 1, max: 65535 },
        secret: false,
        changeable: false,
        allowed: "a port from 1 to 65535",
        valid: |config| config.port != 0,
        text: |config| Some(config.port.to_string()),
        read: |config, text| set(&mut config.port, text.parse().ok()),
    },
    Setting {
        name: "unix_socket",
        about: "The path of the server's Unix socket, in place of host and port.",
        kind: SettingKind::Text,
        secret: false,
        changeable: false,
        allowed: "the absolute path of a socket, in UTF-8",
        valid: |config| {
            config.unix_socket.as_ref().is_none_or(|path| {
                path.to_str()
                    .is_some_and(|path| path.starts_with('/') && !path.ends_with('/') && !path.contains('\0'))
            })
        },
        text: |config| config.unix_socket.as_ref().map(|path| path.display().to_string()),
        read: |config, text| set(&mut config.unix_socket, Some(Some(text.into()))),
    },
    Setting {
        name: "username",
        about: "The ACL user for the master and its replicas; it needs a password.",
        kind: SettingKind::Text,
        secret: false,
        changeable: true,
        allowed: USERNAME,
        valid: |config| config.username().is_none_or(is_name),
        text: |config| config.username.clone(),
        read: |config, text| set(&mut config.username, Some(Some(text.into()))),
    },
    Setting {
        name: "password",
        about: "The password for the master and its replicas.",
        kind: SettingKind::Text,
        secret: true,
        changeable: true,
        allowed: PASSWORD,
        valid: |config| config.password().is_none_or(|password| !password.is_empty()),
        text: |config| config.password().map(Into::into),
        read: |config, text| set(&mut config.password, Some(Some(Password::new(text)))),
    },
    Setting {
        name: "db",
        about: "The number of the database.",
        kind: SettingKind::Number { min: 0, max: u32::MAX as u64 },
        secret: false,
        changeable: false,
        allowed: "the number of a database, from 0 to 4294967295",
        valid: |_| true,
        text: |config| Some(config.db.to_string()),
        read: |config, text| set(&mut config.db, text.parse().ok()),
    },
    Setting {
        name: "protocol",
        about: "The version of the Redis protocol.",
        kind: SettingKind::Choice(&["auto", "resp3", "3", "resp2", "2"]),
        secret: false,
        changeable: false,
        allowed: "auto, resp3 (or 3) or resp2 (or 2)",
        valid: |_| true,
        text: |config| Some(config.protocol.to_string()),
        read: |config, text| set(&mut config.protocol, text.parse().ok()),
    },
    Setting {
        name: "max_connections",
        about: "How many connections to the master there may be, the shared ones included.",
        kind: SettingKind::Number { min: 1, max: MAX_CONNECTIONS as u64 },
        secret: false,
        changeable: false,
        allowed: "a whole number from 1 to 10000",
        valid: |config| CONNECTIONS.contains(&config.max_connections),
        text: |config| Some(config.max_connections.to_string()),
        read: |config, text| set(&mut config.max_connections, text.parse().ok()),
    },
    Setting {
        name: "shared_connections",
        about: "How many connections the handles share.",
        kind: SettingKind::Number { min: 1, max: 64 },
        secret: false,
        changeable: false,
        allowed: "a whole number from 1 to 64",
        valid: |config| SHARED_CONNECTIONS.contains(&config.shared_connections),
        text: |config| Some(config.shared_connections.to_string()),
        read: |config, text| set(&mut config.shared_connections, text.parse().ok()),
    },
    Setting {
        name: "socket_timeout",
        about: "How long a connection may make no progress while replies are pending.",
        kind: SettingKind::Duration { zero: false },
        secret: false,
        changeable: true,
        allowed: TIMEOUT,
        valid: |config| is_timeout(config.socket_timeout),
        text: |config| Some(duration::format(config.socket_timeout)),
        read: |config, text| set(&mut config.socket_timeout, duration::parse(text)),
    },
    Setting {
        name: "socket_connect_timeout",
        about: "How long connecting may take, from the DNS lookup to the end of the handshake.",
        kind: SettingKind::Duration { zero: false },
        secret: false,
        changeable: true,
        allowed: TIMEOUT,
        valid: |config| is_timeout(config.socket_connect_timeout),
        text: |config| Some(duration::format(config.socket_connect_timeout)),
        read: |config, text| set(&mut config.socket_connect_timeout, duration::parse(text)),
    },
    Setting {
        name: "health_check_interval",
        about: "How often an idle connection is checked; 0 turns the checks off.",
        kind: SettingKind::Duration { zero: true },
        secret: false,
        changeable: true,
        allowed: DELAY,
        valid: |config| config.health_check_interval <= MAX_DURATION,
        text: |config| Some(duration::format(config.health_check_interval)),
        read: |config, text| set(&mut config.health_check_interval, duration::parse(text)),
    },
    Setting {
        name: "client_name",
        about: "The name that CLIENT LIST shows.",
        kind: SettingKind::Text,
        secret: false,
        changeable: false,
        allowed: "printable ASCII characters without spaces, at least one",
        valid: |config| config.client_name().is_none_or(is_client_name),
        text: |config| config.client_name.clone(),
        read: |config, text| set(&mut config.client_name, Some(Some(text.into()))),
    },
];
