//! Settings for the Sentinels.

use super::{
    DELAY, MAX_DURATION, PASSWORD, SWITCH, Setting, TIMEOUT, USERNAME, is_name, is_tcp, is_timeout, set,
    shown,
};
use crate::config::address_map::AddressMap;
use crate::config::duration;
use crate::config::password::Password;

pub(super) static SETTINGS: &[Setting] = &[
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
            Some(
                config
                    .sentinel_hosts
                    .iter()
                    .map(|host| shown(&host.to_string()))
                    .collect::<Vec<_>>()
                    .join(","),
            )
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
        name: "sentinel_require_majority",
        secret: false,
        allowed: SWITCH,
        valid: |_| true,
        text: |config| Some(config.sentinel_require_majority.to_string()),
        read: Some(|config, text| set(&mut config.sentinel_require_majority, text.parse().ok())),
    },
    Setting {
        name: "early_promotion",
        secret: false,
        allowed: SWITCH,
        valid: |_| true,
        text: |config| Some(config.early_promotion.to_string()),
        read: Some(|config, text| set(&mut config.early_promotion, text.parse().ok())),
    },
    Setting {
        name: "promotion_hold",
        secret: false,
        allowed: DELAY,
        valid: |config| config.promotion_hold <= MAX_DURATION,
        text: |config| Some(duration::format(config.promotion_hold)),
        read: Some(|config, text| set(&mut config.promotion_hold, duration::parse(text))),
    },
    Setting {
        name: "address_map",
        secret: false,
        allowed: "announced=reached,…, each entry host=host or host:port=host:port, none announced twice",
        valid: |config| config.address_map.is_valid(),
        text: |config| Some(config.address_map.to_string()).filter(|map| !map.is_empty()),
        read: Some(|config, text| set(&mut config.address_map, AddressMap::read(text))),
    },
];
