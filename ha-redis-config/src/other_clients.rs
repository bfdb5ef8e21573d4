//! Names that other clients give to settings.

/// The names in redis-py, Spring, go-redis, Lettuce and container images, and ours. The guide "Coming from another
/// client" explains them.
const NAMES: [(&str, &str); 37] = [
    ("uri", "url"),
    ("dsn", "url"),
    ("tls_url", "url"),
    ("connection_string", "url"),
    ("addr", "url"),
    ("addrs", "sentinel_hosts"),
    ("address", "url"),
    ("hostname", "host"),
    ("server", "host"),
    ("unix_socket_path", "unix_socket"),
    ("socket_path", "unix_socket"),
    ("user", "username"),
    ("pass", "password"),
    ("passwd", "password"),
    ("auth", "password"),
    ("database", "db"),
    ("tls", "ssl"),
    ("use_tls", "ssl"),
    ("tls_enabled", "ssl"),
    ("use_ssl", "ssl"),
    ("ssl_enabled", "ssl"),
    ("ssl_ca_file", "ssl_ca_certs"),
    ("tls_ca_file", "ssl_ca_certs"),
    ("tls_cert_file", "ssl_certfile"),
    ("tls_key_file", "ssl_keyfile"),
    ("timeout", "call_timeout"),
    ("read_timeout", "socket_timeout"),
    ("connect_timeout", "socket_connect_timeout"),
    ("dial_timeout", "socket_connect_timeout"),
    ("pool_size", "max_connections"),
    ("max_retries", "retry_attempts"),
    ("sentinels", "sentinel_hosts"),
    ("sentinel_nodes", "sentinel_hosts"),
    ("service_name", "sentinel_master_name"),
    ("master_name", "sentinel_master_name"),
    ("sentinel_master", "sentinel_master_name"),
    ("sentinel_user", "sentinel_username"),
];

/// Returns our name for the setting that another client calls `name`, which is in [our form](in_our_form).
pub(crate) fn our_name(name: &str) -> Option<&'static str> {
    NAMES.iter().find(|(theirs, _)| *theirs == name).map(|(_, ours)| *ours)
}

/// Returns a name in lower case, with `_` between its words: `master_name` for `MasterName`, `sentinel.nodes` as
/// `sentinel_nodes`, `max-active` as `max_active`.
pub(crate) fn in_our_form(name: &str) -> String {
    let mut form = String::with_capacity(name.len());
    let mut after_small = false;
    for c in name.chars() {
        if c.is_ascii_uppercase() && after_small {
            form.push('_');
        }
        after_small = c.is_ascii_lowercase();
        form.push(if matches!(c, '-' | '.') { '_' } else { c.to_ascii_lowercase() });
    }
    form
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::Key;

    #[test]
    fn names_lead_to_settings_and_are_none() {
        for (theirs, ours) in NAMES {
            assert!(Key::of(ours).is_some(), "{ours}");
            assert!(Key::of(theirs).is_none(), "{theirs}");
        }
        for name in ["MASTER-NAME", "MasterName", "master.name", "masterName"] {
            assert_eq!(our_name(&in_our_form(name)), Some("sentinel_master_name"));
        }
        assert_eq!(in_our_form("DB"), "db");
    }
}
