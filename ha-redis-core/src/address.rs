//! The address of a server.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use crate::config::cut;
use crate::peer_text::{escaped, is_printable};

/// The address of a Redis server or a Sentinel.
///
/// `Display` and `FromStr` use the usual forms: `host:port`, `[::1]:6379` for IPv6, and a path that starts with `/`
/// for a Unix socket. `Display` escapes control and invisible characters.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Address {
    /// A host name or IP address and a TCP port. The name is resolved on every connection attempt; if it has several
    /// addresses, the client uses the first that replies.
    Tcp {
        /// Host name, IPv4 or IPv6 address, without brackets.
        host: String,
        /// TCP port.
        port: u16,
    },
    /// The path of a Unix domain socket.
    Unix(PathBuf),
}

impl Address {
    /// Creates an address of a host name (or IP address, without brackets) and a TCP port.
    pub fn tcp(host: impl Into<String>, port: u16) -> Self {
        Self::Tcp { host: host.into(), port }
    }

    /// Parses an address that a peer announces. Returns `None` if it cannot be reached from here (without a host or a
    /// port, or a wildcard address), or is not a host.
    pub(crate) fn announced(host: &str, port: &str) -> Option<Self> {
        let port = port.parse().ok().filter(|port| *port != 0)?;
        let ip = host.parse().ok().map(|ip: IpAddr| ip.to_canonical());
        let is_host = match ip {
            Some(ip) => !ip.is_unspecified(),
            None => is_host_name(host),
        };
        is_host.then(|| Self::tcp(host, port))
    }

    /// Creates an address of a Unix domain socket.
    pub fn unix(path: impl Into<PathBuf>) -> Self {
        Self::Unix(path.into())
    }
}

/// Returns true if a text can be a host name, or an IPv6 address with a zone. A name of zeros only is rejected:
/// systems parse those as old forms of 0.0.0.0.
fn is_host_name(text: &str) -> bool {
    let is_zero = |part: &str| {
        let digits = part.strip_prefix("0x").or_else(|| part.strip_prefix("0X")).unwrap_or(part);
        digits.chars().all(|digit| digit == '0')
    };
    let is_odd = |character: char| character.is_whitespace() || "/[]@\\\"'<>".contains(character);
    !text.split('.').all(is_zero) && is_printable(text) && !text.contains(is_odd)
}

/// A host name (or IP address, without brackets) and a TCP port.
impl<H: Into<String>> From<(H, u16)> for Address {
    fn from((host, port): (H, u16)) -> Self {
        Self::tcp(host, port)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{}]:{port}", escaped(host)),
            Self::Tcp { host, port } => write!(f, "{}:{port}", escaped(host)),
            Self::Unix(path) => f.write_str(&escaped(&path.to_string_lossy())),
        }
    }
}

/// The error for a text that is not an [`Address`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not an address: expected host:port, [ipv6]:port or the path of a Unix socket")]
pub struct ParseAddressError {
    text: String,
}

impl FromStr for Address {
    type Err = ParseAddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // A URL in place of an address may contain a password.
        let shown = if text.contains(['@']) || text.contains("://") { "<hidden>" } else { text };
        let refused = || ParseAddressError { text: escaped(&cut(shown)).into_owned() };
        if text.starts_with('/') {
            return Ok(Self::unix(text));
        }
        let (host, port) = text.rsplit_once(':').ok_or_else(refused)?;
        let port = port.parse().ok().filter(|port| *port != 0).ok_or_else(refused)?;
        let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        match bracketed {
            Some(host) if !host.is_empty() => Ok(Self::tcp(host, port)),
            None if !host.is_empty() && !host.contains([':', '[', ']', ' ', '/']) => {
                Ok(Self::tcp(host, port))
            }
            _ => Err(refused()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_round_trips() {
        for text in ["localhost:6379", "10.0.0.1:1", "[::1]:26379", "[fe80::1]:7", "/run/redis.sock"] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn printed_address_is_one_line() {
        assert_eq!(Address::unix("/run/a\r\nb").to_string(), r"/run/a\r\nb");
        assert_eq!(Address::tcp("a\u{1b}[2J", 1).to_string(), r"a\u{1b}[2J:1");
        let error = "a\nb".parse::<Address>().unwrap_err().to_string();
        assert!(error.starts_with(r"`a\nb` is not an address"), "{error}");
    }

    #[test]
    fn announced_address_must_be_reachable() {
        for host in [
            "10.0.0.1",
            "::1",
            "fe80::1%eth0",
            "redis-2",
            "redis_2.example.",
            "a.b0",
            "büro.example",
            "123456789012",
            "x",
        ] {
            assert_eq!(Address::announced(host, "6379"), Some(Address::tcp(host, 6379)));
        }
        let everywhere = ["", "0.0.0.0", "::", "::ffff:0.0.0.0", "0", "0x0", "00.0", "0.0.0.0.", "."];
        let nobody = ["a b", "a\nb", "\u{1b}[2J", "a\u{202e}b", "a/b", "[::1]", "user@host"];
        for host in everywhere.into_iter().chain(nobody) {
            assert_eq!(Address::announced(host, "6379"), None, "{host:?}");
        }
        assert_eq!(Address::announced(&"x".repeat(1 << 20), "6379"), None);
        for port in ["", "0", "-1", "65536", "6379 ", "x"] {
            assert_eq!(Address::announced("10.0.0.1", port), None, "{port:?}");
        }
    }

    #[test]
    fn invalid_address_quoted_in_error() {
        for text in ["", "host", "host:", "host:0", "host:70000", ":6379", "::1:6379", "[]:1", "a b:1"] {
            let error = text.parse::<Address>().unwrap_err();
            assert!(error.to_string().starts_with(&format!("`{text}`")), "{error}");
        }
    }

    #[test]
    fn address_error_is_short_and_hides_passwords() {
        for text in ["redis://:hunter2@host", "hunter2@host", "user:hunter2@host:1:2"] {
            let error = text.parse::<Address>().unwrap_err();
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
        }
        assert!("x".repeat(1 << 20).parse::<Address>().unwrap_err().to_string().len() < 500);
    }
}
