//! How the servers of a test are protected, and what a client needs to reach them.

use std::fmt;

use crate::server::url_encoded;

/// The user of clients in [`Environment::MtlsAcl`], and its password, which no part of a URL takes as it is.
pub(crate) const CLIENT_USER: &str = "app";
pub(crate) const CLIENT_PASSWORD: &str = "app:p@ss/w%rd?#";

/// The permissions of clients on a server: all data, and of what is dangerous, or left to operators, only the
/// commands that the client sends itself.
pub(crate) const SERVER_RULES: &str = "~* &* +@all -@admin -@dangerous +info +role +client|list +client|kill";

/// The permissions of clients on a Sentinel.
pub(crate) const SENTINEL_RULES: &str = "&* -@all +ping +info +client +subscribe +psubscribe +sentinel|myid \
     +sentinel|master +sentinel|get-master-addr-by-name +sentinel|replicas +sentinel|sentinels";

/// How the servers and Sentinels of a test are protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Environment {
    /// No TLS, no passwords.
    Plain,
    /// TLS for clients and between all processes.
    Tls,
    /// TLS with client certificates. Clients log in, on servers and Sentinels, as a user with only the permissions
    /// that they need. The default user is off.
    MtlsAcl,
}

impl Environment {
    /// All environments but [`Environment::Plain`].
    pub const PROTECTED: [Self; 2] = [Self::Tls, Self::MtlsAcl];

    /// Returns the name for the names of tests: `plain`, `tls`, `mtls_acl`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Tls => "tls",
            Self::MtlsAcl => "mtls_acl",
        }
    }
}

/// What a client needs, besides the address, to reach a server.
#[derive(Clone, Default)]
pub(crate) struct Access {
    pub(crate) user: Option<String>,
    pub(crate) password: Option<String>,
    /// Further parameters for the URL: names and values.
    pub(crate) parameters: Vec<(&'static str, String)>,
    pub(crate) tls: bool,
}

impl Access {
    /// Returns a URL for clients. `scheme` is the part behind `redis` or `rediss`, and `place` what follows the user
    /// info.
    pub(crate) fn url(&self, scheme: &str, place: impl fmt::Display) -> String {
        let mut url =
            format!("redis{}{scheme}://{}{place}", if self.tls { "s" } else { "" }, self.user_info());
        for ((name, value), mark) in
            self.parameters.iter().zip(["?"].into_iter().chain(std::iter::repeat("&")))
        {
            url.push_str(&format!("{mark}{name}={}", url_encoded(value)));
        }
        url
    }

    /// Returns `user:password@`, or nothing.
    fn user_info(&self) -> String {
        let user = self.user.as_deref().unwrap_or_default();
        let with = |password: &String| format!("{}:{}@", url_encoded(user), url_encoded(password));
        self.password.as_ref().map(with).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_survive_urls() {
        let mut access = Access { password: Some("p@ss/wörd".into()), ..Access::default() };
        assert_eq!(access.url("", "h:1"), "redis://:p%40ss%2Fw%C3%B6rd@h:1");
        access.user = Some("a b".into());
        access.tls = true;
        access.parameters = vec![("x", "/1".into()), ("y", "2".into())];
        assert_eq!(
            access.url("+sentinel", "h:1/m"),
            "rediss+sentinel://a%20b:p%40ss%2Fw%C3%B6rd@h:1/m?x=%2F1&y=2"
        );
        assert_eq!(Access::default().url("", "h:1"), "redis://h:1");
    }
}
