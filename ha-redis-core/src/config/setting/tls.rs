//! Settings for TLS.

use std::path::Path;

use super::{HIDDEN, HOST, PASSWORD, SWITCH, Setting, SettingKind, is_host, set, switch};
use crate::config::password::Password;

const FILE: &str = "the path of a PEM file, in UTF-8";
const VERSION: &str = "1.2 or 1.3";

pub(super) static SETTINGS: &[Setting] = &[
    Setting {
        name: "ssl",
        about: "Whether connections to the master and its replicas use TLS.",
        kind: SettingKind::Switch,
        secret: false,
        changeable: false,
        allowed: SWITCH,
        valid: |_| true,
        text: |config| Some(config.ssl.to_string()),
        read: |config, text| set(&mut config.ssl, switch(text)),
    },
    Setting {
        name: "ssl_ca_certs",
        about: "The PEM file of the certificate authorities to trust, in place of the system's.",
        kind: SettingKind::File,
        secret: false,
        changeable: true,
        allowed: FILE,
        valid: |config| config.ssl_ca_certs.as_deref().is_none_or(is_file_name),
        text: |config| config.ssl_ca_certs.as_deref().map(shown),
        read: |config, text| set(&mut config.ssl_ca_certs, Some(Some(text.into()))),
    },
    Setting {
        name: "ssl_certfile",
        about: "The PEM file of the client's certificate; it needs ssl_keyfile.",
        kind: SettingKind::File,
        secret: false,
        changeable: true,
        allowed: FILE,
        valid: |config| config.ssl_certfile.as_deref().is_none_or(is_file_name),
        text: |config| config.ssl_certfile.as_deref().map(shown),
        read: |config, text| set(&mut config.ssl_certfile, Some(Some(text.into()))),
    },
    Setting {
        name: "ssl_keyfile",
        about: "The PEM file of the client's private key.",
        kind: SettingKind::File,
        secret: false,
        changeable: true,
        allowed: FILE,
        valid: |config| config.ssl_keyfile.as_deref().is_none_or(is_file_name),
        text: |config| config.ssl_keyfile.as_deref().map(shown),
        read: |config, text| set(&mut config.ssl_keyfile, Some(Some(text.into()))),
    },
    Setting {
        name: "ssl_password",
        about: "The password of an encrypted private key in ssl_keyfile.",
        kind: SettingKind::Text,
        secret: true,
        changeable: true,
        allowed: PASSWORD,
        valid: |config| config.ssl_password.as_ref().is_none_or(|password| !password.expose().is_empty()),
        text: |config| config.ssl_password.as_ref().map(|password| password.expose().to_owned()),
        read: |config, text| set(&mut config.ssl_password, Some(Some(Password::new(text)))),
    },
    Setting {
        name: "ssl_server_name",
        about: "The name that the server's certificate must have, in place of the host.",
        kind: SettingKind::Text,
        secret: false,
        changeable: true,
        allowed: HOST,
        valid: |config| config.ssl_server_name.as_deref().is_none_or(is_host),
        text: |config| config.ssl_server_name.clone(),
        read: |config, text| set(&mut config.ssl_server_name, Some(Some(text.into()))),
    },
    Setting {
        name: "ssl_min_version",
        about: "The oldest version of TLS that is accepted.",
        kind: SettingKind::Choice(&["1.2", "1.3"]),
        secret: false,
        changeable: true,
        allowed: VERSION,
        valid: |_| true,
        text: |config| Some(config.ssl_min_version.to_string()),
        read: |config, text| set(&mut config.ssl_min_version, text.parse().ok()),
    },
    Setting {
        name: "ssl_danger_accept_invalid_certs",
        about: "Accepts any certificate of the server: for development only.",
        kind: SettingKind::Switch,
        secret: false,
        changeable: true,
        allowed: SWITCH,
        valid: |_| true,
        text: |config| Some(config.ssl_danger_accept_invalid_certs.to_string()),
        read: |config, text| set(&mut config.ssl_danger_accept_invalid_certs, switch(text)),
    },
    Setting {
        name: "sentinel_ssl",
        about: "Whether connections to Sentinels use TLS; the default is the value of ssl.",
        kind: SettingKind::Switch,
        secret: false,
        changeable: false,
        allowed: SWITCH,
        valid: |_| true,
        text: |config| config.sentinel_ssl.map(|ssl| ssl.to_string()),
        read: |config, text| set(&mut config.sentinel_ssl, switch(text).map(Some)),
    },
    Setting {
        name: "sentinel_ssl_ca_certs",
        about: "As ssl_ca_certs, for the Sentinels.",
        kind: SettingKind::File,
        secret: false,
        changeable: true,
        allowed: FILE,
        valid: |config| config.sentinel_ssl_ca_certs.as_deref().is_none_or(is_file_name),
        text: |config| config.sentinel_ssl_ca_certs.as_deref().map(shown),
        read: |config, text| set(&mut config.sentinel_ssl_ca_certs, Some(Some(text.into()))),
    },
    Setting {
        name: "sentinel_ssl_certfile",
        about: "As ssl_certfile, for the Sentinels.",
        kind: SettingKind::File,
        secret: false,
        changeable: true,
        allowed: FILE,
        valid: |config| config.sentinel_ssl_certfile.as_deref().is_none_or(is_file_name),
        text: |config| config.sentinel_ssl_certfile.as_deref().map(shown),
        read: |config, text| set(&mut config.sentinel_ssl_certfile, Some(Some(text.into()))),
    },
    Setting {
        name: "sentinel_ssl_keyfile",
        about: "As ssl_keyfile, for the Sentinels.",
        kind: SettingKind::File,
        secret: false,
        changeable: true,
        allowed: FILE,
        valid: |config| config.sentinel_ssl_keyfile.as_deref().is_none_or(is_file_name),
        text: |config| config.sentinel_ssl_keyfile.as_deref().map(shown),
        read: |config, text| set(&mut config.sentinel_ssl_keyfile, Some(Some(text.into()))),
    },
    Setting {
        name: "sentinel_ssl_password",
        about: "As ssl_password, for the Sentinels.",
        kind: SettingKind::Text,
        secret: true,
        changeable: true,
        allowed: PASSWORD,
        valid: |config| {
            config.sentinel_ssl_password.as_ref().is_none_or(|password| !password.expose().is_empty())
        },
        text: |config| config.sentinel_ssl_password.as_ref().map(|password| password.expose().to_owned()),
        read: |config, text| set(&mut config.sentinel_ssl_password, Some(Some(Password::new(text)))),
    },
    Setting {
        name: "sentinel_ssl_server_name",
        about: "As ssl_server_name, for the Sentinels.",
        kind: SettingKind::Text,
        secret: false,
        changeable: true,
        allowed: HOST,
        valid: |config| config.sentinel_ssl_server_name.as_deref().is_none_or(is_host),
        text: |config| config.sentinel_ssl_server_name.clone(),
        read: |config, text| set(&mut config.sentinel_ssl_server_name, Some(Some(text.into()))),
    },
    Setting {
        name: "sentinel_ssl_min_version",
        about: "As ssl_min_version, for the Sentinels.",
        kind: SettingKind::Choice(&["1.2", "1.3"]),
        secret: false,
        changeable: true,
        allowed: VERSION,
        valid: |_| true,
        text: |config| config.sentinel_ssl_min_version.map(|version| version.to_string()),
        read: |config, text| set(&mut config.sentinel_ssl_min_version, text.parse().ok().map(Some)),
    },
    Setting {
        name: "sentinel_ssl_danger_accept_invalid_certs",
        about: "As ssl_danger_accept_invalid_certs, for the Sentinels.",
        kind: SettingKind::Switch,
        secret: false,
        changeable: true,
        allowed: SWITCH,
        valid: |_| true,
        text: |config| config.sentinel_ssl_danger_accept_invalid_certs.map(|accept| accept.to_string()),
        read: |config, text| {
            set(&mut config.sentinel_ssl_danger_accept_invalid_certs, switch(text).map(Some))
        },
    },
];

fn is_file_name(path: &Path) -> bool {
    path.to_str().is_some_and(|path| !path.is_empty() && !path.contains('\0') && !is_pem(path))
}

/// Returns true for the contents of a file in place of its path.
fn is_pem(path: &str) -> bool {
    path.contains(['\n', '\r']) || path.contains("-----BEGIN")
}

/// Returns a path as errors quote it. A private key in its place is hidden.
fn shown(path: &Path) -> String {
    let path = path.display().to_string();
    if is_pem(&path) { HIDDEN.to_owned() } else { path }
}
