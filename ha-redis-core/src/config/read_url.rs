//! Reads a configuration from a URL. The documentation of [`super`] describes the forms.
//!
//! A message must never repeat a password. In a malformed URL a password may be anywhere, so every part that may be
//! one is hidden. Only values of parameters are quoted, by their names, and empty values.

use std::borrow::Cow;
use std::mem;

use percent_encoding::percent_decode_str;

use super::check::{check, check_each};
use super::error::Problem;
use super::setting::{HOST, Setting, is_host, nearest, split_host_port};
use super::{ConfigError, DEFAULT_SENTINEL_PORT, RedisConfig};
use crate::address::Address;

/// Longer URLs are rejected.
pub(super) const MAX_BYTES: usize = 64 << 10;

/// The words of which an unknown scheme must consist to be quoted: any other word may be a password.
const WORDS_OF_SCHEMES: [&str; 23] = [
    "redis",
    "rediss",
    "valkey",
    "valkeys",
    "keydb",
    "dragonfly",
    "http",
    "https",
    "tcp",
    "udp",
    "tls",
    "ssl",
    "ws",
    "wss",
    "unix",
    "socket",
    "sock",
    "file",
    "sentinel",
    "sentinels",
    "cluster",
    "srv",
    "insecure",
];

#[derive(Clone, Copy, PartialEq)]
enum Server {
    Tcp,
    Unix,
    Sentinel,
}

struct Scheme {
    name: &'static str,
    server: Server,
    ssl: bool,
    /// The setting to which a word without a colon before the `@` belongs.
    lone_word: &'static str,
}

impl Scheme {
    const fn new(name: &'static str, server: Server, ssl: bool, lone_word: &'static str) -> Self {
        Self { name, server, ssl, lone_word }
    }
}

/// Every scheme that begins with `redis` may begin with `valkey` as well.
static SCHEMES: [Scheme; 11] = [
    Scheme::new("redis", Server::Tcp, false, "username"),
    Scheme::new("rediss", Server::Tcp, true, "username"),
    Scheme::new("redis+ssl", Server::Tcp, true, "password"),
    Scheme::new("unix", Server::Unix, false, "username"),
    Scheme::new("redis+unix", Server::Unix, false, "username"),
    Scheme::new("redis+socket", Server::Unix, false, "password"),
    Scheme::new("redis-socket", Server::Unix, false, "password"),
    Scheme::new("redis+sentinel", Server::Sentinel, false, "username"),
    Scheme::new("rediss+sentinel", Server::Sentinel, true, "username"),
    Scheme::new("redis-sentinel", Server::Sentinel, false, "password"),
    Scheme::new("rediss-sentinel", Server::Sentinel, true, "password"),
];

/// Names of settings in fred, Lettuce and redis-rs.
const ALIASES: [(&str, &str); 9] = [
    ("sentinelServiceName", "sentinel_master_name"),
    ("sentinelMasterId", "sentinel_master_name"),
    ("sentinelUsername", "sentinel_username"),
    ("sentinelPassword", "sentinel_password"),
    ("clientName", "client_name"),
    ("database", "db"),
    (TIMEOUT_OF_LETTUCE, "call_timeout"),
    ("user", "username"),
    ("pass", "password"),
];

/// A number without a unit is in milliseconds here.
const TIMEOUT_OF_LETTUCE: &str = "timeout";

pub(super) fn read(url: &str) -> Result<RedisConfig, ConfigError> {
    let mut reader = Reader::read(&RedisConfig::default(), url)?;
    let problems = check(&reader.config);
    reader.add_further(problems);
    reader.finish().map(|layer| layer.config)
}

/// A configuration with a URL on top of it.
pub(super) struct UrlLayer {
    pub(super) config: RedisConfig,
    /// The settings that the URL sets, and the part of the URL each is in.
    pub(super) settings: Vec<(&'static str, &'static str)>,
}

/// Reads a URL on top of a valid configuration, whose way to the server it replaces. The settings are not compared
/// with each other, since further layers may follow.
pub(super) fn read_over(base: &RedisConfig, url: &str) -> Result<UrlLayer, ConfigError> {
    let mut reader = Reader::read(base, url)?;
    let problems = check_each(&reader.config);
    reader.add_further(problems);
    reader.finish()
}

struct Parts<'a> {
    credentials: Option<&'a str>,
    hosts: &'a str,
    path: &'a str,
    query: &'a str,
    fragment: Option<&'a str>,
}

fn split(url: &str) -> Result<(&'static Scheme, Parts<'_>), Problem> {
    if url.len() > MAX_BYTES {
        let allowed = format!("at most {MAX_BYTES} bytes");
        let problem = Problem::new("url", allowed, "shorten it, or use the builder in place of a URL");
        return Err(problem.found(format!("{} bytes", url.len())));
    }
    let (scheme, rest) = split_scheme(url)?;
    let (authority, tail) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    if tail.contains('@') {
        let allowed = "no @ but the one before the host";
        let remedy = "percent-encode special characters of user names, passwords, paths and parameters: \
                      @ as %40, / as %2F, ? as %3F, # as %23";
        // Any part of this URL may belong to the password, so the message quotes nothing.
        return Err(Problem::new("authority", allowed, remedy).hidden());
    }
    let (tail, fragment) = split_off(tail, '#');
    let (path, query) = split_off(tail, '?');
    let (credentials, hosts) = match authority.rsplit_once('@') {
        Some((credentials, hosts)) => (Some(credentials), hosts),
        None => (None, authority),
    };
    Ok((scheme, Parts { credentials, hosts, path, query: query.unwrap_or_default(), fragment }))
}

/// Returns the scheme, and the text after its `://`; or after its `:` in front of the path of a socket.
fn split_scheme(url: &str) -> Result<(&'static Scheme, &str), Problem> {
    if let Some((name, path)) = url.split_once(':')
        && let Some(scheme) = known_scheme(name).filter(|scheme| scheme.server == Server::Unix)
        && path.starts_with('/')
        && !path.starts_with("//")
    {
        return Ok((scheme, path));
    }
    let (name, rest) = url.split_once("://").ok_or_else(|| scheme_problem().hidden())?;
    let scheme = known_scheme(name).ok_or_else(|| {
        let name = name.to_ascii_lowercase();
        let is_scheme = name.split(['+', '-', '.']).all(|word| WORDS_OF_SCHEMES.contains(&word));
        if is_scheme { scheme_problem().found(name) } else { scheme_problem().hidden() }
    })?;
    Ok((scheme, rest))
}

fn known_scheme(name: &str) -> Option<&'static Scheme> {
    let name = name.to_ascii_lowercase();
    let of_redis = name.strip_prefix("valkey").map(|rest| format!("redis{rest}"));
    let name = of_redis.unwrap_or(name);
    SCHEMES.iter().find(|scheme| scheme.name == name)
}

fn split_off(text: &str, separator: char) -> (&str, Option<&str>) {
    text.split_once(separator).map_or((text, None), |(before, after)| (before, Some(after)))
}

fn scheme_problem() -> Problem {
    let allowed = SCHEMES.iter().map(|scheme| format!("{}://", scheme.name)).collect::<Vec<_>>().join(", ");
    let allowed = format!("one of {allowed}, with redis or valkey");
    Problem::new("scheme", allowed, "begin the URL with one of them")
}

struct Reader {
    config: RedisConfig,
    problems: ConfigError,
    /// The settings read so far, and the part of the URL each was in.
    seen: Vec<(&'static str, &'static str)>,
    /// True once a mistake has listed all parameter names.
    names_are_listed: bool,
}

impl Reader {
    fn read(base: &RedisConfig, url: &str) -> Result<Self, ConfigError> {
        let (scheme, parts) = split(url).map_err(|problem| ConfigError::new([problem]))?;
        let default = RedisConfig::default();
        let config = RedisConfig {
            host: default.host,
            port: default.port,
            unix_socket: default.unix_socket,
            use_sentinel: scheme.server == Server::Sentinel,
            sentinel_hosts: default.sentinel_hosts,
            ssl: scheme.ssl,
            ..base.clone()
        };
        let seen = vec![("use_sentinel", "scheme"), ("ssl", "scheme")];
        let mut reader = Self { config, problems: ConfigError::new([]), seen, names_are_listed: false };
        if let Some(credentials) = parts.credentials {
            reader.credentials(scheme, credentials);
        }
        // The query comes before the path, whose meaning depends on whether the service is named elsewhere.
        reader.query(scheme, parts.query);
        reader.fragment(scheme, parts.fragment);
        match scheme.server {
            Server::Tcp => reader.tcp(parts.hosts, parts.path),
            Server::Unix => reader.unix(parts.hosts, parts.path),
            Server::Sentinel => reader.sentinels(parts.hosts, parts.path),
        }
        Ok(reader)
    }

    /// A password replaces the user name of earlier layers as well.
    fn credentials(&mut self, scheme: &Scheme, text: &str) {
        if text.contains(':') && text != ":" || !text.is_empty() && scheme.lone_word == "password" {
            self.config.username = None;
        }
        match text.split_once(':') {
            // From a template that was filled in without user name and password.
            _ if matches!(text, "" | ":") => {}
            Some(("", password)) => self.setting("password", password, "user information"),
            Some((username, password)) => {
                self.setting("username", username, "user information");
                self.setting("password", password, "user information");
            }
            None => self.setting(scheme.lone_word, text, "user information"),
        }
    }

    fn query(&mut self, scheme: &Scheme, query: &str) {
        let parameters = query.split('&').filter(|parameter| !parameter.is_empty());
        for (number, parameter) in (1..).zip(parameters) {
            match parameter.split_once('=') {
                Some(("node", address)) if scheme.server == Server::Sentinel => {
                    self.sentinel(address, "query");
                }
                Some((name, value)) => {
                    let alias = ALIASES.iter().find(|(alias, _)| *alias == name);
                    let setting = alias.map_or(name, |(_, setting)| setting);
                    if Setting::parameter(setting).is_none() {
                        self.unknown_parameter(Some(name), number);
                        continue;
                    }
                    let value = match name == TIMEOUT_OF_LETTUCE && is_number(value) && !value.is_empty() {
                        true => Cow::from(format!("{value}ms")),
                        false => Cow::from(value),
                    };
                    self.setting(setting, &value, "query");
                }
                None => self.unknown_parameter(None, number),
            }
        }
    }

    /// Reports an unknown parameter. Its name may be a piece of a password with an `&` in it, so only a name close to
    /// a known one is quoted.
    fn unknown_parameter(&mut self, name: Option<&str>, number: usize) {
        let allowed = match mem::replace(&mut self.names_are_listed, true) {
            false => {
                let names = Setting::parameters().map(|setting| setting.name).collect::<Vec<_>>().join(", ");
                format!("name=value with one of the names {names}")
            }
            true => "name=value with one of the names above".to_owned(),
        };
        let remedy = format!(
            "correct or remove parameter {number}, and write & as %26 within a value; \
              hosts, ports and sockets belong before the ?, and the scheme selects TLS and Sentinels"
        );
        let problem = Problem::new("query", allowed, remedy);
        let name = name.filter(|name| is_nearly_a_name(name) && !self.has_password_in_query());
        self.problems.add(match name {
            Some(name) => problem.found(name),
            None => problem.hidden(),
        });
    }

    fn fragment(&mut self, scheme: &Scheme, fragment: Option<&str>) {
        match (scheme.server, fragment) {
            (_, None) => {}
            (Server::Sentinel, Some(service)) => self.setting("sentinel_master_name", service, "fragment"),
            (_, Some(_)) => {
                let allowed = "no fragment, except in a Sentinel URL, where it names the service";
                let remedy = "remove it, or write # as %23";
                self.problems.add(Problem::new("fragment", allowed, remedy).hidden());
            }
        }
    }

    fn tcp(&mut self, host: &str, path: &str) {
        self.seen.extend([("host", "authority"), ("port", "authority")]);
        let default_port = self.config.port;
        let Some(host_port) = self.host_port(host, default_port, ["host", "port"], "authority") else {
            return; // this may be a password cut in two by a slash
        };
        (self.config.host, self.config.port) = host_port;
        let db = path.trim_matches('/');
        if !db.is_empty() {
            self.setting("db", db, "path");
        }
    }

    fn unix(&mut self, host: &str, path: &str) {
        self.seen.push(("unix_socket", "path"));
        if !host.is_empty() && !host.eq_ignore_ascii_case("localhost") {
            let allowed = "the absolute path of a socket, and no host but localhost";
            let problem =
                Problem::new("unix_socket", allowed, "write three slashes, as in unix:///run/redis.sock");
            self.problems.add(problem.hidden());
        }
        self.config.unix_socket = self.decode(path, "unix_socket", "path").map(Into::into);
    }

    /// Reads the hosts and the path. The path is `/service[/db]`, or `/db` if the service is named elsewhere; a lone
    /// number is a db.
    fn sentinels(&mut self, hosts: &str, path: &str) {
        // The nodes of the query were read first but come last.
        let nodes = mem::take(&mut self.config.sentinel_hosts);
        let unreadable = hosts.split(',').filter(|host| !self.sentinel(host, "authority")).count();
        self.config.sentinel_hosts.extend(nodes);
        if unreadable > 0 {
            return; // as in `tcp`
        }
        let service_is_named = self.part_of("sentinel_master_name").is_some();
        let path = path.trim_matches('/');
        match path.split_once('/') {
            None if path.is_empty() => {}
            None if service_is_named || is_number(path) => self.setting("db", path, "path"),
            None => self.setting("sentinel_master_name", path, "path"),
            Some((service, db)) => {
                self.setting("sentinel_master_name", service, "path");
                self.setting("db", db, "path");
            }
        }
    }

    /// Adds a Sentinel. Returns false if the address cannot be read at all.
    fn sentinel(&mut self, address: &str, part: &'static str) -> bool {
        if self.part_of("sentinel_hosts").is_none() {
            self.seen.push(("sentinel_hosts", part));
        }
        let address = self.host_port(address, DEFAULT_SENTINEL_PORT, ["sentinel_hosts"; 2], part);
        let readable = address.is_some();
        self.config.sentinel_hosts.extend(address.map(Address::from));
        readable
    }

    /// Reads `host[:port]` or `[ipv6][:port]`. Mistakes are reported for `fields`; `None` if the text cannot be read.
    fn host_port(
        &mut self,
        text: &str,
        default_port: u16,
        fields: [&'static str; 2],
        part: &'static str,
    ) -> Option<(String, u16)> {
        let [host_field, port_field] = fields;
        let host_problem =
            || Problem::new(host_field, HOST, "write host:port or [ipv6]:port").in_part(Some(part));
        let Some((host, port)) = split_host_port(text) else {
            self.problems.add(host_problem().hidden());
            return None;
        };
        let host = self.decode(host, host_field, part)?;
        if !is_host(&host) {
            let problem = host_problem();
            self.problems.add(if host.is_empty() { problem.found("") } else { problem.hidden() });
        }
        let Some(port) = port.filter(|port| !port.is_empty()) else { return Some((host, default_port)) };
        if let Some(port) = port.parse().ok().filter(|port| *port != 0) {
            return Some((host, port));
        }
        let remedy = "correct it or leave it out; if it belongs to an IPv6 address, write [ipv6]:port; \
                      if it is a password, write :password@host";
        // In `redis://user:secret` the host is missing, and the apparent port is the password.
        let problem = Problem::new(port_field, "a port from 1 to 65535", remedy).in_part(Some(part));
        self.problems.add(problem.hidden());
        let is_number = port.len() <= 5 && is_number(port);
        is_number.then_some((host, default_port))
    }

    /// Sets the setting `name` from percent-encoded text.
    fn setting(&mut self, name: &str, text: &str, part: &'static str) {
        let Some(setting) = Setting::parameter(name) else {
            return; // every caller passes the name of a parameter
        };
        if let Some(first) = self.part_of(setting.name) {
            let found = format!("a value in the {first} and one in the {part}");
            self.problems.add(Problem::new(setting.name, "one value", "keep one of the two").found(found));
            return;
        }
        self.seen.push((setting.name, part));
        if let Some(text) = self.decode(text, setting.name, part)
            && !(setting.read)(&mut self.config, &text)
        {
            let problem = setting.refuse(&text);
            self.problems.add(self.hide_if_secret(problem, &text, part));
        }
    }

    /// Returns the mistake in the value `text`, hidden if the text may be a password or a piece of one.
    fn hide_if_secret(&self, problem: Problem, text: &str, part: &'static str) -> Problem {
        let may_be_quoted = match part {
            "query" => {
                let names_one = text.contains("pass");
                !problem.field().ends_with("username") && !names_one && !self.has_password_in_query()
            }
            // The path may be a password, as in `redis://host/secret`. A number of a few digits is certainly a
            // db.
            "path" => {
                let digits = text.strip_prefix('-').unwrap_or(text);
                problem.field() == "db" && digits.len() <= 10 && is_number(digits)
            }
            _ => false,
        };
        let problem = problem.in_part(Some(part));
        if may_be_quoted || text.is_empty() || problem.is_of_missing() { problem } else { problem.hidden() }
    }

    /// After a password in the query, the next parameter may be a part of it that contains an `&`.
    fn has_password_in_query(&self) -> bool {
        self.seen.iter().any(|(name, part)| name.ends_with("password") && *part == "query")
    }

    fn decode(&mut self, text: &str, field: &'static str, part: &'static str) -> Option<String> {
        let decoded = percent_decode_str(text).decode_utf8().ok();
        if decoded.is_none() {
            let problem = Problem::new(field, "percent-encoded UTF-8", "encode the bytes of its UTF-8 form");
            self.problems.add(problem.hidden().in_part(Some(part)));
        }
        decoded.map(Into::into)
    }

    fn part_of(&self, name: &str) -> Option<&'static str> {
        self.seen.iter().find(|(seen, _)| *seen == name).map(|(_, part)| *part)
    }

    /// Adds the mistakes of values that could be read, but not those of settings with a mistake already: these were
    /// left at their defaults.
    fn add_further(&mut self, problems: Vec<Problem>) {
        for problem in problems {
            if self.problems.problems().iter().any(|known| known.field() == problem.field()) {
                continue;
            }
            let problem = match self.part_of(problem.field()) {
                Some(part) => {
                    let value = problem.value().to_owned();
                    self.hide_if_secret(problem, &value, part)
                }
                None => problem,
            };
            self.problems.add(problem);
        }
    }

    fn finish(self) -> Result<UrlLayer, ConfigError> {
        match self.problems.problems() {
            [] => Ok(UrlLayer { config: self.config, settings: self.seen }),
            _ => Err(self.problems),
        }
    }
}

pub(super) fn is_number(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Returns true if a word is the name of a setting except for a few letters.
fn is_nearly_a_name(word: &str) -> bool {
    let names = Setting::all().map(|setting| setting.name);
    nearest(word, names.chain(ALIASES.iter().map(|(alias, _)| *alias))).is_some()
}
