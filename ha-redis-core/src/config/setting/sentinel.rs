//! Settings for the Sentinels.

use super::{
    DELAY, MAX_DURATION, PASSWORD, SWITCH, Setting, SettingKind, TIMEOUT, USERNAME, is_host, is_name, is_tcp,
    is_timeout, set, shown, split_host_port, switch,
};
use crate::address::Address;
use crate::config::DEFAULT_SENTINEL_PORT;
use crate::config::address_map::AddressMap;
use crate::config::duration;
use crate::config::password::Password;

pub(super) static SETTINGS: &[Setting] = &[
    Setting {
        name: "use_sentinel",
        about: "Whether the client follows the master that Sentinels name.",
        kind: SettingKind::Switch,
        secret: false,
        changeable: false,
        allowed: SWITCH,
        valid: |_| true,
        text: |config| Some(config.use_sentinel.to_string()),
        read: |config, text| set(&mut config.use_sentinel, switch(text)),
    },
    Setting {
        name: "sentinel_hosts",
        about: "Some or all of the Sentinels: host or host:port, with the default port 26379.",
        kind: SettingKind::List,
        secret: false,
        changeable: false,
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
        read: |config, text| set(&mut config.sentinel_hosts, sentinels(text)),
    },
    Setting {
        name: "sentinel_master_name",
        about: "The name of the master in the configuration of the Sentinels.",
        kind: SettingKind::Text,
        secret: false,
        changeable: false,
        allowed: "a master's name of at least one character, without spaces, control and invisible characters",
        valid: |config| is_name(&config.sentinel_master_name),
        text: |config| Some(config.sentinel_master_name.clone()),
        read: |config, text| set(&mut config.sentinel_master_name, Some(text.into())),
    },
    Setting {
        name: "sentinel_username",
        about: "The ACL user for the Sentinels; it needs sentinel_password.",
        kind: SettingKind::Text,
        secret: false,
        changeable: true,
        allowed: USERNAME,
        valid: |config| config.sentinel_username().is_none_or(is_name),
        text: |config| config.sentinel_username.clone(),
        read: |config, text| set(&mut config.sentinel_username, Some(Some(text.into()))),
    },
    Setting {
        name: "sentinel_password",
        about: "The password for the Sentinels. They never receive password.",
        kind: SettingKind::Text,
        secret: true,
        changeable: true,
        allowed: PASSWORD,
        valid: |config| config.sentinel_password().is_none_or(|password| !password.is_empty()),
        text: |config| config.sentinel_password().map(Into::into),
        read: |config, text| set(&mut config.sentinel_password, Some(Some(Password::new(text)))),
    },
    Setting {
        name: "sentinel_socket_timeout",
        about: "How long the reply of a Sentinel may take.",
        kind: SettingKind::Duration { zero: false },
        secret: false,
        changeable: true,
        allowed: TIMEOUT,
        valid: |config| is_timeout(config.sentinel_socket_timeout),
        text: |config| Some(duration::format(config.sentinel_socket_timeout)),
        read: |config, text| set(&mut config.sentinel_socket_timeout, duration::parse(text)),
    },
    Setting {
        name: "sentinel_socket_connect_timeout",
        about: "How long connecting to a Sentinel may take.",
        kind: SettingKind::Duration { zero: false },
        secret: false,
        changeable: true,
        allowed: TIMEOUT,
        valid: |config| is_timeout(config.sentinel_socket_connect_timeout),
        text: |config| Some(duration::format(config.sentinel_socket_connect_timeout)),
        read: |config, text| set(&mut config.sentinel_socket_connect_timeout, duration::parse(text)),
    },
    Setting {
        name: "sentinel_require_majority",
        about: "Whether writes need a majority of the Sentinels: without one they fail immediately, as not sent.",
        kind: SettingKind::Switch,
        secret: false,
        changeable: false,
        allowed: SWITCH,
        valid: |_| true,
        text: |config| Some(config.sentinel_require_majority.to_string()),
        read: |config, text| set(&mut config.sentinel_require_majority, switch(text)),
    },
    Setting {
        name: "early_promotion",
        about: "Whether the client follows a promoted replica before the Sentinels announce it.",
        kind: SettingKind::Switch,
        secret: false,
        changeable: false,
        allowed: SWITCH,
        valid: |_| true,
        text: |config| Some(config.early_promotion.to_string()),
        read: |config, text| set(&mut config.early_promotion, switch(text)),
    },
    Setting {
        name: "promotion_hold",
        about: "How long commands are held back while a replica is promoted; 0 turns the hold off.",
        kind: SettingKind::Duration { zero: true },
        secret: false,
        changeable: true,
        allowed: DELAY,
        valid: |config| config.promotion_hold <= MAX_DURATION,
        text: |config| Some(duration::format(config.promotion_hold)),
        read: |config, text| set(&mut config.promotion_hold, duration::parse(text)),
    },
    Setting {
        name: "address_map",
        about: "Where servers are reached that announce other addresses: announced=reached.",
        kind: SettingKind::Map,
        secret: false,
        changeable: true,
        allowed: "announced=reached,…, each entry host=host or host:port=host:port, none announced twice",
        valid: |config| config.address_map.is_valid(),
        text: |config| Some(config.address_map.to_string()).filter(|map| !map.is_empty()),
        read: |config, text| set(&mut config.address_map, AddressMap::read(text)),
    },
];

/// Reads `host[:port],…`. An IPv6 address with a port is in brackets.
fn sentinels(text: &str) -> Option<Vec<Address>> {
    text.split(',').map(|text| sentinel(text.trim())).collect()
}

fn sentinel(text: &str) -> Option<Address> {
    if text.contains(':') && is_host(text) {
        return Some(Address::tcp(text, DEFAULT_SENTINEL_PORT)); // an IPv6 address
    }
    let (host, port) = split_host_port(text)?;
    let port = match port {
        None => DEFAULT_SENTINEL_PORT,
        Some(port) => port.parse().ok()?,
    };
    Some(Address::tcp(host, port))
}
