//! Settings for the server and the connections to it.

use std::ops::RangeInclusive;

use super::{
    DELAY, HOST, MAX_DURATION, PASSWORD, Setting, TIMEOUT, USERNAME, is_client_name, is_host, is_name,
    is_timeout, set, shown,
};
use crate::config::password::Password;
use crate::config::{MAX_CONNECTIONS, duration};

const SHARED_CONNECTIONS: RangeInclusive<usize> = 1..=64;
const CONNECTIONS: RangeInclusive<usize> = 1..=MAX_CONNECTIONS;

pub(super) static SETTINGS: &[Setting] = &[
    Setting {
        name: "host",
        secret: false,
        allowed: HOST,
        valid: |config| is_host(&config.host),
        text: |config| Some(shown(&config.host)),
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
        name: "protocol",
        secret: false,
        allowed: "auto, resp3 (or 3) or resp2 (or 2)",
        valid: |_| true,
        text: |config| Some(config.protocol.to_string()),
        read: Some(|config, text| set(&mut config.protocol, text.parse().ok())),
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
        name: "shared_connections",
        secret: false,
        allowed: "a whole number from 1 to 64",
        valid: |config| SHARED_CONNECTIONS.contains(&config.shared_connections),
        text: |config| Some(config.shared_connections.to_string()),
        read: Some(|config, text| set(&mut config.shared_connections, text.parse().ok())),
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
        name: "client_name",
        secret: false,
        allowed: "printable ASCII characters without spaces, at least one",
        valid: |config| config.client_name().is_none_or(is_client_name),
        text: |config| config.client_name.clone(),
        read: Some(|config, text| set(&mut config.client_name, Some(Some(text.into())))),
    },
];
