//! The settings that decide on a TLS configuration: files, and what is used of them.

use std::fmt::Display;
use std::path::{Path, PathBuf};

use super::names::Names;
use super::pem_file;
use crate::config::{Password, Problem, RedisConfig, TlsVersion, cut};
use crate::peer_text::escaped;

/// The files, and how they are used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Files {
    /// The trusted authorities; without a file, those that the system trusts.
    pub(super) ca_certs: Option<PathBuf>,
    pub(super) identity: Option<IdentityFiles>,
    pub(super) min_version: TlsVersion,
    pub(super) accepts_invalid_certs: bool,
}

/// The files of the client's certificate and key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct IdentityFiles {
    pub(super) certfile: PathBuf,
    pub(super) keyfile: PathBuf,
    pub(super) password: Option<Password>,
    /// The password is that of another key: this one may be unencrypted.
    pub(super) is_password_inherited: bool,
}

impl Files {
    pub(super) fn of_data(config: &RedisConfig) -> Self {
        let identity = config.ssl_certfile().zip(config.ssl_keyfile());
        let identity = identity.map(|(certfile, keyfile)| IdentityFiles {
            certfile: certfile.to_owned(),
            keyfile: keyfile.to_owned(),
            password: config.ssl_password().map(Password::new),
            is_password_inherited: false,
        });
        Self {
            ca_certs: config.ssl_ca_certs().map(Path::to_owned),
            identity,
            min_version: config.ssl_min_version(),
            accepts_invalid_certs: config.ssl_danger_accept_invalid_certs(),
        }
    }

    #[cfg(feature = "sentinel")]
    pub(super) fn of_sentinels(config: &RedisConfig) -> Self {
        let identity = config.sentinel_ssl_certfile().zip(config.sentinel_ssl_keyfile());
        let identity = identity.map(|(certfile, keyfile)| IdentityFiles {
            certfile: certfile.to_owned(),
            keyfile: keyfile.to_owned(),
            password: config.sentinel_ssl_password().map(Password::new),
            is_password_inherited: Some(keyfile) != config.ssl_keyfile()
                && config.sentinel_ssl_password() == config.ssl_password(),
        });
        Self {
            ca_certs: config.sentinel_ssl_ca_certs().map(Path::to_owned),
            identity,
            min_version: config.sentinel_ssl_min_version(),
            accepts_invalid_certs: config.sentinel_ssl_danger_accept_invalid_certs(),
        }
    }

    /// Returns the settings in which both differ.
    pub(super) fn differences(&self, other: &Self, names: &Names) -> Vec<&'static str> {
        let identity = self.identity != other.identity;
        let differ = [
            (self.ca_certs != other.ca_certs, names.ca_certs),
            (identity, names.certfile),
            (identity, names.keyfile),
            (self.min_version != other.min_version, names.min_version),
            (self.accepts_invalid_certs != other.accepts_invalid_certs, names.danger_accept_invalid_certs),
        ];
        differ.into_iter().filter(|(differs, _)| *differs).map(|(_, setting)| setting).collect()
    }

    /// Returns the files with their settings.
    pub(super) fn list(&self, names: &Names) -> String {
        let file = |setting: &str, file: &Path| {
            format!("`{setting}` {}", escaped(&cut(&file.display().to_string())))
        };
        let identity = self.identity.as_ref().map(|identity| {
            let certificate = file(names.certfile, &identity.certfile);
            format!(", {certificate}, {}", file(names.keyfile, &identity.keyfile))
        });
        self.authorities(names) + &identity.unwrap_or_default()
    }

    /// Returns the trusted authorities, as errors call them.
    pub(super) fn authorities(&self, names: &Names) -> String {
        match &self.ca_certs {
            _ if self.accepts_invalid_certs => "no certificate authorities".to_owned(),
            Some(file) => format!("`{}` {}", names.ca_certs, escaped(&cut(&file.display().to_string()))),
            None => "the certificate authorities of the system".to_owned(),
        }
    }
}

/// The bytes of a file, or why there are none.
pub(super) type Content = Result<Vec<u8>, String>;

/// Reads a file.
pub(super) fn content(file: &Path) -> Content {
    pem_file::read(file).map_err(|error| error.to_string())
}

/// Returns the problem of a file that cannot be read.
pub(super) fn unreadable(setting: &'static str, file: &Path, expected: &str, why: impl Display) -> Problem {
    let allowed = format!("{expected}, {}", pem_file::ORDINARY);
    Problem::new(setting, allowed, format!("correct the path or the file: {why}"))
        .found(file.display().to_string())
}

/// Returns the problem of a file with the wrong content.
pub(super) fn wrong(setting: &'static str, file: &Path, expected: &str, why: impl Display) -> Problem {
    Problem::new(setting, expected, format!("correct the path or the file: {why}"))
        .found(file.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::super::names::DATA;
    use super::*;

    #[test]
    fn files_are_listed_by_their_settings() {
        let config = RedisConfig::builder().ssl(true);
        let all = config.clone().ssl_ca_certs("/ca").ssl_certfile("/cert").ssl_keyfile("/key");
        assert_eq!(
            Files::of_data(&all.build().unwrap()).list(&DATA),
            "`ssl_ca_certs` /ca, `ssl_certfile` /cert, `ssl_keyfile` /key"
        );
        assert_eq!(
            Files::of_data(&config.build().unwrap()).list(&DATA),
            "the certificate authorities of the system"
        );
    }
}
