//! Settings for TLS.

use std::path::Path;

use super::{HOST, SWITCH, Setting, SettingKind, is_host, set, switch};

const FILE: &str = "the path of a PEM file, in UTF-8";

pub(super) static SETTINGS: &[Setting] = &[
    Setting {
        name: "ssl",
        about: "Whether connections to the master and its replicas use TLS.",
        kind: SettingKind::Switch,
        secret: false,
        allowed: SWITCH,
        valid: |_| true,
        text: |config| Some(config.ssl.to_string()),
        read: |config, text| set(&mut config.ssl, switch(text)),
    },
    Setting {
        name: "ssl_ca_certs",
        about: "The PEM file of the certificate authorities to trust, in place of the system's.",
        kind: SettingKind::Text,
        secret: false,
        allowed: FILE,
        valid: |config| config.ssl_ca_certs.as_deref().is_none_or(is_file_name),
        text: |config| config.ssl_ca_certs.as_deref().map(shown),
        read: |config, text| set(&mut config.ssl_ca_certs, Some(Some(text.into()))),
    },
    Setting {
        name: "ssl_certfile",
        about: "The PEM file of the client's certificate; it needs ssl_keyfile.",
        kind: SettingKind::Text,
        secret: false,
        allowed: FILE,
        valid: |config| config.ssl_certfile.as_deref().is_none_or(is_file_name),
        text: |config| config.ssl_certfile.as_deref().map(shown),
        read: |config, text| set(&mut config.ssl_certfile, Some(Some(text.into()))),
    },
    Setting {
        name: "ssl_keyfile",
        about: "The PEM file of the client's private key.",
        kind: SettingKind::Text,
        secret: false,
        allowed: FILE,
        valid: |config| config.ssl_keyfile.as_deref().is_none_or(is_file_name),
        text: |config| config.ssl_keyfile.as_deref().map(shown),
        read: |config, text| set(&mut config.ssl_keyfile, Some(Some(text.into()))),
    },
    Setting {
        name: "ssl_server_name",
        about: "The name that the server's certificate must have, in place of the host.",
        kind: SettingKind::Text,
        secret: false,
        allowed: HOST,
        valid: |config| config.ssl_server_name.as_deref().is_none_or(is_host),
        text: |config| config.ssl_server_name.clone(),
        read: |config, text| set(&mut config.ssl_server_name, Some(Some(text.into()))),
    },
    Setting {
        name: "sentinel_ssl",
        about: "Whether connections to Sentinels use TLS; the default is the value of ssl.",
        kind: SettingKind::Switch,
        secret: false,
        allowed: SWITCH,
        valid: |_| true,
        text: |config| config.sentinel_ssl.map(|ssl| ssl.to_string()),
        read: |config, text| set(&mut config.sentinel_ssl, switch(text).map(Some)),
    },
    Setting {
        name: "sentinel_ssl_ca_certs",
        about: "As ssl_ca_certs, for the Sentinels.",
        kind: SettingKind::Text,
        secret: false,
        allowed: FILE,
        valid: |config| config.sentinel_ssl_ca_certs.as_deref().is_none_or(is_file_name),
        text: |config| config.sentinel_ssl_ca_certs.as_deref().map(shown),
        read: |config, text| set(&mut config.sentinel_ssl_ca_certs, Some(Some(text.into()))),
    },
    Setting {
        name: "sentinel_ssl_certfile",
        about: "As ssl_certfile, for the Sentinels.",
        kind: SettingKind::Text,
        secret: false,
        allowed: FILE,
        valid: |config| config.sentinel_ssl_certfile.as_deref().is_none_or(is_file_name),
        text: |config| config.sentinel_ssl_certfile.as_deref().map(shown),
        read: |config, text| set(&mut config.sentinel_ssl_certfile, Some(Some(text.into()))),
    },
    Setting {
        name: "sentinel_ssl_keyfile",
        about: "As ssl_keyfile, for the Sentinels.",
        kind: SettingKind::Text,
        secret: false,
        allowed: FILE,
        valid: |config| config.sentinel_ssl_keyfile.as_deref().is_none_or(is_file_name),
        text: |config| config.sentinel_ssl_keyfile.as_deref().map(shown),
        read: |config, text| set(&mut config.sentinel_ssl_keyfile, Some(Some(text.into()))),
    },
    Setting {
        name: "sentinel_ssl_server_name",
        about: "As ssl_server_name, for the Sentinels.",
        kind: SettingKind::Text,
        secret: false,
        allowed: HOST,
        valid: |config| config.sentinel_ssl_server_name.as_deref().is_none_or(is_host),
        text: |config| config.sentinel_ssl_server_name.clone(),
        read: |config, text| set(&mut config.sentinel_ssl_server_name, Some(Some(text.into()))),
    },
];

fn is_file_name(path: &Path) -> bool {
    path.to_str().is_some_and(|path| !path.is_empty() && !path.contains('\0'))
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}
