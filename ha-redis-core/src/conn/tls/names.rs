//! The names of the settings, for errors.

/// The settings of one kind of connections.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Names {
    pub(super) ssl: &'static str,
    pub(super) ca_certs: &'static str,
    pub(super) certfile: &'static str,
    pub(super) keyfile: &'static str,
    pub(super) password: &'static str,
    pub(super) server_name: &'static str,
    pub(super) min_version: &'static str,
    pub(super) danger_accept_invalid_certs: &'static str,
}

pub(super) static DATA: Names = Names {
    ssl: "ssl",
    ca_certs: "ssl_ca_certs",
    certfile: "ssl_certfile",
    keyfile: "ssl_keyfile",
    password: "ssl_password",
    server_name: "ssl_server_name",
    min_version: "ssl_min_version",
    danger_accept_invalid_certs: "ssl_danger_accept_invalid_certs",
};

pub(super) static SENTINELS: Names = Names {
    ssl: "sentinel_ssl",
    ca_certs: "sentinel_ssl_ca_certs",
    certfile: "sentinel_ssl_certfile",
    keyfile: "sentinel_ssl_keyfile",
    password: "sentinel_ssl_password",
    server_name: "sentinel_ssl_server_name",
    min_version: "sentinel_ssl_min_version",
    danger_accept_invalid_certs: "sentinel_ssl_danger_accept_invalid_certs",
};
