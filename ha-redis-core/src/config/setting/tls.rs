//! Settings for TLS.

use std::path::Path;

use super::{HOST, SWITCH, Setting, is_host, set};

const FILE: &str = "the path of a PEM file, in UTF-8";

pub(super) static SETTINGS: &[Setting] = &[
    Setting {
        name: "ssl",
        secret: false,
        allowed: SWITCH,
        valid: |_| true,
        text: |config| Some(config.ssl.to_string()),
        read: None,
    },
    Setting {
        name: "ssl_ca_certs",
        secret: false,
        allowed: FILE,
        valid: |config| config.ssl_ca_certs.as_deref().is_none_or(is_file_name),
        text: |config| config.ssl_ca_certs.as_deref().map(shown),
        read: Some(|config, text| set(&mut config.ssl_ca_certs, Some(Some(text.into())))),
    },
    Setting {
        name: "ssl_certfile",
        secret: false,
        allowed: FILE,
        valid: |config| config.ssl_certfile.as_deref().is_none_or(is_file_name),
        text: |config| config.ssl_certfile.as_deref().map(shown),
        read: Some(|config, text| set(&mut config.ssl_certfile, Some(Some(text.into())))),
    },
    Setting {
        name: "ssl_keyfile",
        secret: false,
        allowed: FILE,
        valid: |config| config.ssl_keyfile.as_deref().is_none_or(is_file_name),
        text: |config| config.ssl_keyfile.as_deref().map(shown),
        read: Some(|config, text| set(&mut config.ssl_keyfile, Some(Some(text.into())))),
    },
    Setting {
        name: "ssl_server_name",
        secret: false,
        allowed: HOST,
        valid: |config| config.ssl_server_name.as_deref().is_none_or(is_host),
        text: |config| config.ssl_server_name.clone(),
        read: Some(|config, text| set(&mut config.ssl_server_name, Some(Some(text.into())))),
    },
    Setting {
        name: "sentinel_ssl",
        secret: false,
        allowed: SWITCH,
        valid: |_| true,
        text: |config| config.sentinel_ssl.map(|ssl| ssl.to_string()),
        read: Some(|config, text| set(&mut config.sentinel_ssl, text.parse().ok().map(Some))),
    },
    Setting {
        name: "sentinel_ssl_ca_certs",
        secret: false,
        allowed: FILE,
        valid: |config| config.sentinel_ssl_ca_certs.as_deref().is_none_or(is_file_name),
        text: |config| config.sentinel_ssl_ca_certs.as_deref().map(shown),
        read: Some(|config, text| set(&mut config.sentinel_ssl_ca_certs, Some(Some(text.into())))),
    },
    Setting {
        name: "sentinel_ssl_certfile",
        secret: false,
        allowed: FILE,
        valid: |config| config.sentinel_ssl_certfile.as_deref().is_none_or(is_file_name),
        text: |config| config.sentinel_ssl_certfile.as_deref().map(shown),
        read: Some(|config, text| set(&mut config.sentinel_ssl_certfile, Some(Some(text.into())))),
    },
    Setting {
        name: "sentinel_ssl_keyfile",
        secret: false,
        allowed: FILE,
        valid: |config| config.sentinel_ssl_keyfile.as_deref().is_none_or(is_file_name),
        text: |config| config.sentinel_ssl_keyfile.as_deref().map(shown),
        read: Some(|config, text| set(&mut config.sentinel_ssl_keyfile, Some(Some(text.into())))),
    },
    Setting {
        name: "sentinel_ssl_server_name",
        secret: false,
        allowed: HOST,
        valid: |config| config.sentinel_ssl_server_name.as_deref().is_none_or(is_host),
        text: |config| config.sentinel_ssl_server_name.clone(),
        read: Some(|config, text| set(&mut config.sentinel_ssl_server_name, Some(Some(text.into())))),
    },
];

fn is_file_name(path: &Path) -> bool {
    path.to_str().is_some_and(|path| !path.is_empty() && !path.contains('\0'))
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}
