//! Validates a configuration: each setting on its own, and the settings together.

use super::RedisConfig;
use super::error::Problem;
use super::setting::Setting;

/// Returns every mistake in `config`, in the order of the settings.
pub(super) fn check(config: &RedisConfig) -> Vec<Problem> {
    let mut problems: Vec<Problem> = Setting::all()
        .filter(|setting| !(setting.valid)(config))
        .map(|setting| setting.problem(config))
        .collect();
    check_credentials(config, &mut problems);
    check_tls(config, &mut problems);
    check_modes(config, &mut problems);
    problems
}

fn check_credentials(config: &RedisConfig, problems: &mut Vec<Problem>) {
    let credentials = [
        ("password", "username", config.username(), config.password()),
        ("sentinel_password", "sentinel_username", config.sentinel_username(), config.sentinel_password()),
    ];
    for (field, name, username, password) in credentials {
        if username.is_some() && password.is_none() {
            let remedy = format!(
                "set it, or leave {name} out; in a URL, a password without a user name is written :password@host"
            );
            problems.push(Problem::new(field, format!("a password, because {name} is set"), remedy));
        }
    }
}

/// While TLS is off, the other TLS settings have no effect; rejecting them tells users who believe that it is on.
fn check_tls(config: &RedisConfig, problems: &mut Vec<Problem>) {
    if !config.ssl {
        let allowed = "nothing while ssl is off";
        let remedy = "turn ssl on (in a URL by rediss:// or rediss+sentinel://), or leave it out";
        let names = ["ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_server_name"];
        refuse(&names, allowed, remedy, config, problems);
    }
    if !config.sentinel_ssl() {
        let allowed = "nothing while sentinel_ssl is off";
        let remedy = "turn sentinel_ssl on, or leave it out";
        let names = [
            "sentinel_ssl_ca_certs",
            "sentinel_ssl_certfile",
            "sentinel_ssl_keyfile",
            "sentinel_ssl_server_name",
        ];
        refuse(&names, allowed, remedy, config, problems);
    }
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
        let allowed = format!("a file, because {given} is set");
        problems.push(Problem::new(missing, allowed, format!("set both, or leave {given} out")));
    }
}

/// Checks that exactly one of three ways to reach the server is set: host and port, a Unix socket, or Sentinels.
fn check_modes(config: &RedisConfig, problems: &mut Vec<Problem>) {
    if config.use_sentinel {
        let allowed =
            "no host, port or unix_socket together with use_sentinel, since the Sentinels report the master";
        let remedy = "leave it out, or turn use_sentinel off";
        refuse(&["host", "port", "unix_socket"], allowed, remedy, config, problems);
        if config.sentinel_hosts.is_empty() {
            let allowed = "the address of at least one Sentinel, because use_sentinel is on";
            let remedy = "set sentinel_hosts, or turn use_sentinel off";
            problems.push(Problem::new("sentinel_hosts", allowed, remedy));
        }
        return;
    }
    let remedy = "turn use_sentinel on, or leave sentinel_hosts out";
    refuse(&["sentinel_hosts"], "no Sentinels while use_sentinel is off", remedy, config, problems);
    if config.unix_socket.is_some() {
        let allowed = "no host, port or ssl together with unix_socket";
        let remedy = "leave it out, or leave unix_socket out to connect by TCP";
        refuse(&["host", "port", "ssl"], allowed, remedy, config, problems);
    }
}

/// Reports each of the named settings that is not at its default as a mistake.
fn refuse(names: &[&str], allowed: &str, remedy: &str, config: &RedisConfig, problems: &mut Vec<Problem>) {
    let default = RedisConfig::default();
    for setting in Setting::all().filter(|setting| names.contains(&setting.name)) {
        let value = (setting.text)(config);
        if value != (setting.text)(&default) {
            problems.push(Problem::new(setting.name, allowed, remedy).found(value.unwrap_or_default()));
        }
    }
}
