//! Validates a configuration: each setting on its own, and the settings together.

use super::RedisConfig;
use super::error::Problem;
use super::origins::Origins;
use super::setting::Setting;

/// What has no effect while `ssl` is off.
pub(super) const OF_TLS: [&str; 7] = [
    "ssl_ca_certs",
    "ssl_certfile",
    "ssl_keyfile",
    "ssl_password",
    "ssl_server_name",
    "ssl_min_version",
    "ssl_danger_accept_invalid_certs",
];

/// What has no effect while `sentinel_ssl` is off.
pub(super) const OF_SENTINEL_TLS: [&str; 7] = [
    "sentinel_ssl_ca_certs",
    "sentinel_ssl_certfile",
    "sentinel_ssl_keyfile",
    "sentinel_ssl_password",
    "sentinel_ssl_server_name",
    "sentinel_ssl_min_version",
    "sentinel_ssl_danger_accept_invalid_certs",
];

/// Returns every mistake in `config`, in the order of the settings.
pub(super) fn check(config: &RedisConfig) -> Vec<Problem> {
    let mut problems = check_each(config);
    problems.extend(check_together(config, &Origins::default()));
    problems
}

/// Returns the mistakes of settings that are wrong by themselves.
pub(super) fn check_each(config: &RedisConfig) -> Vec<Problem> {
    let invalid = Setting::all().filter(|setting| !(setting.valid)(config));
    invalid.map(|setting| setting.problem(config)).collect()
}

/// Returns the mistakes of settings that contradict each other, with the origins of both. Settings whose values were
/// reported already are not compared with others.
pub(super) fn check_together(config: &RedisConfig, origins: &Origins) -> Vec<Problem> {
    let mut check = Check { config, origins, problems: Vec::new() };
    check.credentials();
    check.tls();
    check.modes();
    check.problems
}

struct Check<'a> {
    config: &'a RedisConfig,
    origins: &'a Origins,
    problems: Vec<Problem>,
}

impl Check<'_> {
    fn credentials(&mut self) {
        let config = self.config;
        let credentials = [
            ("password", "username", config.username(), config.password()),
            (
                "sentinel_password",
                "sentinel_username",
                config.sentinel_username(),
                config.sentinel_password(),
            ),
        ];
        for (field, name, username, password) in credentials {
            if username.is_some() && password.is_none() {
                let remedy = format!(
                    "set it, or leave {name} out; in a URL, a password without a user name is written :password@host"
                );
                self.missing(field, &format!("a password, because {name} is set"), name, remedy);
            }
        }
    }

    /// While TLS is off, the other TLS settings have no effect; rejecting them tells users who believe that it is on.
    fn tls(&mut self) {
        let config = self.config;
        if !config.ssl {
            let remedy = "turn ssl on (in a URL by rediss:// or rediss+sentinel://), or leave it out";
            self.refuse(&OF_TLS, "nothing while ssl is off", "ssl", remedy);
        }
        if !config.sentinel_ssl() {
            let switch = if config.sentinel_ssl.is_some() { "sentinel_ssl" } else { "ssl" };
            let remedy = "turn sentinel_ssl on, or leave it out";
            self.refuse(&OF_SENTINEL_TLS, "nothing while sentinel_ssl is off", switch, remedy);
        }
        self.client_keys();
    }

    /// Checks that a certificate has a key, and that a password has one too.
    fn client_keys(&mut self) {
        let config = self.config;
        let pairs = [
            ("ssl_certfile", &config.ssl_certfile, "ssl_keyfile", &config.ssl_keyfile),
            (
                "sentinel_ssl_certfile",
                &config.sentinel_ssl_certfile,
                "sentinel_ssl_keyfile",
                &config.sentinel_ssl_keyfile,
            ),
        ];
        for (certificate, certificate_file, key, key_file) in pairs {
            let (missing, given) = match (certificate_file, key_file) {
                (Some(_), None) => (key, certificate),
                (None, Some(_)) => (certificate, key),
                _ => continue,
            };
            let remedy = format!("set both, or leave {given} out");
            self.missing(missing, &format!("a file, because {given} is set"), given, remedy);
        }
        let passwords = [
            (
                "ssl_password",
                config.ssl_password.is_some() && config.ssl,
                "ssl_keyfile",
                config.ssl_keyfile(),
            ),
            (
                "sentinel_ssl_password",
                config.sentinel_ssl_password.is_some() && config.sentinel_ssl(),
                "sentinel_ssl_keyfile",
                config.sentinel_ssl_keyfile(),
            ),
        ];
        for (password, is_set, key, key_file) in passwords {
            if is_set && key_file.is_none() {
                let allowed = format!("no password, because {key} is not set");
                let problem = Problem::new(password, allowed, format!("set {key}, or leave it out"));
                self.add(problem.hidden(), password, key);
            }
        }
    }

    /// Checks that exactly one of three ways to reach the server is set: host and port, a Unix socket, or Sentinels.
    fn modes(&mut self) {
        if self.config.use_sentinel {
            let names = ["host", "port", "unix_socket"];
            let allowed = "no host, port or unix_socket together with use_sentinel";
            let remedy = "leave it out, since the Sentinels report the master, or turn use_sentinel off";
            self.refuse(&names, allowed, "use_sentinel", remedy);
            if self.config.sentinel_hosts.is_empty() {
                let allowed = "the address of at least one Sentinel, because use_sentinel is on";
                let remedy = "set sentinel_hosts, or turn use_sentinel off";
                self.missing("sentinel_hosts", allowed, "use_sentinel", remedy);
            }
            return;
        }
        let remedy = "turn use_sentinel on, or leave sentinel_hosts out";
        let allowed = "no Sentinels while use_sentinel is off";
        self.refuse(&["sentinel_hosts"], allowed, "use_sentinel", remedy);
        if self.config.unix_socket.is_some() {
            let allowed = "no host, port or ssl together with unix_socket";
            let remedy = "leave it out, or leave unix_socket out to connect by TCP";
            self.refuse(&["host", "port", "ssl"], allowed, "unix_socket", remedy);
        }
    }

    /// Reports that `field` has no value although the value of `cause` needs one.
    fn missing(
        &mut self,
        field: &'static str,
        allowed: &str,
        cause: &'static str,
        remedy: impl Into<String>,
    ) {
        let allowed = format!("{allowed}{}", self.origins.because(cause));
        self.add(Problem::new(field, allowed, remedy), field, cause);
    }

    /// Reports each of the named settings that is not at its default as a mistake, because of the value of `cause`.
    fn refuse(&mut self, names: &[&'static str], allowed: &str, cause: &'static str, remedy: &str) {
        let allowed = format!("{allowed}{}", self.origins.because(cause));
        let default = RedisConfig::default();
        for setting in Setting::all().filter(|setting| names.contains(&setting.name)) {
            let value = (setting.text)(self.config);
            if value != (setting.text)(&default) {
                let problem = Problem::new(setting.name, &*allowed, remedy);
                let problem = match setting.secret {
                    true => problem.hidden(),
                    false => problem.found(value.unwrap_or_default()),
                };
                self.add(problem, setting.name, cause);
            }
        }
    }

    fn add(&mut self, problem: Problem, field: &'static str, cause: &'static str) {
        if !self.origins.has_failed(field) && !self.origins.has_failed(cause) {
            self.problems.push(self.origins.name(problem, field));
        }
    }
}
