//! The variables that Kubernetes and Docker set for a service, which may be called `redis`.
//!
//! Kubernetes gives every container the addresses of all services of its namespace. A service `redis` yields
//! `REDIS_PORT=tcp://10.0.0.1:6379`, which nobody wrote as a setting, so such variables are ignored.

/// The scheme of the addresses in these variables.
const SCHEMES: [&str; 3] = ["tcp://", "udp://", "sctp://"];

/// Returns true for a variable that Kubernetes or Docker sets: `service_host`, `service_port`, `service_port_NAME`,
/// `port` with an address as its value, `port_6379_tcp`, `port_6379_tcp_addr` …, each maybe after more of a name.
pub(crate) fn is_service_link(name: &str, value: &str) -> bool {
    let is_address = SCHEMES.iter().any(|scheme| value.starts_with(scheme));
    let mut tails = name.match_indices('_').map(|(at, _)| &name[at + 1..]);
    let is_link = |tail: &str| match tail {
        "service_host" | "service_port" => true,
        "port" => is_address,
        _ => tail.starts_with("service_port_") || tail.strip_prefix("port_").is_some_and(is_port_of_protocol),
    };
    is_link(name) || tails.any(is_link)
}

/// Returns true for `6379_tcp` and `6379_tcp_port`.
fn is_port_of_protocol(text: &str) -> bool {
    let mut words = text.split('_');
    let is_number = |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
    words.next().is_some_and(is_number)
        && words.next().is_some_and(|word| matches!(word, "tcp" | "udp" | "sctp"))
        && words.next().is_none_or(|word| matches!(word, "addr" | "port" | "proto"))
        && words.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_told_from_settings() {
        for (name, value) in [
            ("service_host", "10.0.0.1"),
            ("service_port", "6379"),
            ("service_port_tcp_redis", "6379"),
            ("port", "tcp://10.0.0.1:6379"),
            ("port_6379_tcp", "tcp://10.0.0.1:6379"),
            ("port_6379_tcp_addr", "10.0.0.1"),
            ("port_6379_tcp_port", "6379"),
            ("port_6379_tcp_proto", "tcp"),
            ("sentinel_port", "tcp://10.0.0.1:26379"),
            ("sentinel_service_host", "10.0.0.1"),
            ("master_port_6379_udp", "udp://10.0.0.1:6379"),
        ] {
            assert!(is_service_link(name, value), "{name}={value}");
        }
        for (name, value) in [
            ("port", "6379"),
            ("port", "redis://host"),
            ("host", "tcp://10.0.0.1:6379"),
            ("port_number", "6379"),
            ("port_tcp", "1"),
            ("port_6379", "1"),
            ("sentinel_hosts", "s1"),
        ] {
            assert!(!is_service_link(name, value), "{name}={value}");
        }
    }
}
