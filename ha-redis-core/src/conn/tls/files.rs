//! Builds the TLS configuration of the client from the configured files.

use std::env;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::WantsClientCert;
use rustls::crypto::ring;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, ConfigBuilder, RootCertStore};

use super::{Names, pem_file};
use crate::config::{Problem, cut};
use crate::peer_text::escaped;

const CERTIFICATES: &str = "a PEM file with at least one certificate";
const KEY: &str = "a PEM file with an unencrypted private key";

/// The environment variable in which rustls-native-certs finds the system's certificate authorities, if it is set.
const SYSTEM_FILE: &str = "SSL_CERT_FILE";

/// The files of the certificates and the key.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Files {
    /// The trusted authorities; without a file, those that the system trusts.
    ca_certs: Option<PathBuf>,
    /// The client's certificate, and its key.
    identity: Option<(PathBuf, PathBuf)>,
}

impl Files {
    pub(super) fn new(ca_certs: Option<&Path>, identity: Option<(&Path, &Path)>) -> Self {
        let identity = identity.map(|(certificate, key)| (certificate.to_owned(), key.to_owned()));
        Self { ca_certs: ca_certs.map(Path::to_owned), identity }
    }

    /// Returns the files with their settings.
    pub(super) fn list(&self, names: &Names) -> String {
        let file = |setting: &str, file: &Path| {
            format!("`{setting}` {}", escaped(&cut(&file.display().to_string())))
        };
        let authorities = match &self.ca_certs {
            Some(certificates) => file(names.ca_certs, certificates),
            None => "the certificate authorities of the system".to_owned(),
        };
        let identity = self.identity.as_ref().map(|(certificate, key)| {
            format!(", {}, {}", file(names.certfile, certificate), file(names.keyfile, key))
        });
        authorities + &identity.unwrap_or_default()
    }
}

/// Reads the files.
///
/// # Errors
/// Everything that is wrong with them.
pub(super) fn client_config(files: &Files, names: &Names) -> Result<ClientConfig, Vec<Problem>> {
    let roots = match &files.ca_certs {
        Some(file) => given_roots(file, names),
        None => system_roots(names),
    };
    let identity = files.identity.as_ref().map(|(certificate, key)| {
        let certificates = read_certificates(certificate, names.certfile);
        (certificates, read_key(key, names.keyfile), key)
    });
    let mut problems = Vec::new();
    let mut record = |problem| problems.push(problem);
    let roots = roots.map_err(&mut record).ok();
    let identity = identity.map(|(certificates, key, file)| {
        (certificates.map_err(&mut record).ok(), key.map_err(&mut record).ok(), file)
    });
    let built = match (roots, identity) {
        (Some(roots), None) => builder(roots, names).map(|builder| builder.with_no_client_auth()),
        (Some(roots), Some((Some(certificates), Some(key), file))) => {
            builder(roots, names).and_then(|builder| {
                let built = builder.with_client_auth_cert(certificates, key);
                built.map_err(|error| wrong(names.keyfile, file, "the key of the certificate", error))
            })
        }
        _ => return Err(problems),
    };
    built.map_err(|problem| vec![problem])
}

/// Uses ring as the provider, whatever the process has set as rustls's default.
fn builder(
    roots: RootCertStore,
    names: &Names,
) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, Problem> {
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().map_err(|error| {
        Problem::new(names.ssl, "a build of rustls with TLS 1.2 or 1.3", error.to_string())
    })?;
    Ok(builder.with_root_certificates(roots))
}

fn given_roots(file: &Path, names: &Names) -> Result<RootCertStore, Problem> {
    let mut roots = RootCertStore::empty();
    for certificate in read_certificates(file, names.ca_certs)? {
        roots.add(certificate).map_err(|error| wrong(names.ca_certs, file, CERTIFICATES, error))?;
    }
    Ok(roots)
}

fn system_roots(names: &Names) -> Result<RootCertStore, Problem> {
    if let Some(file) = env::var_os(SYSTEM_FILE).map(PathBuf::from) {
        pem_file::check_if_exists(&file)
            .map_err(|error| wrong(names.ca_certs, &file, CERTIFICATES, in_environment(&error)))?;
    }
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // Certificates that rustls cannot parse are skipped.
    roots.add_parsable_certificates(found.certs);
    if !roots.is_empty() {
        return Ok(roots);
    }
    let errors = found.errors.iter().take(3).map(|error| format!(" ({error})")).collect::<String>();
    let allowed = format!("{CERTIFICATES}, since the system names no certificate authorities{errors}");
    Err(Problem::new(names.ca_certs, allowed, "set it, or install the system's CA certificates"))
}

fn read_certificates(file: &Path, setting: &'static str) -> Result<Vec<CertificateDer<'static>>, Problem> {
    let text = pem_file::read(file).map_err(|error| wrong(setting, file, CERTIFICATES, error))?;
    let certificates = CertificateDer::pem_slice_iter(&text).collect::<Result<Vec<_>, _>>();
    match certificates {
        Ok(certificates) if certificates.is_empty() => {
            Err(wrong(setting, file, CERTIFICATES, "the file has none"))
        }
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(wrong(setting, file, CERTIFICATES, describe(&error))),
    }
}

fn read_key(file: &Path, setting: &'static str) -> Result<PrivateKeyDer<'static>, Problem> {
    let text = pem_file::read(file).map_err(|error| wrong(setting, file, KEY, error))?;
    PrivateKeyDer::from_pem_slice(&text).map_err(|error| wrong(setting, file, KEY, describe(&error)))
}

/// Describes a faulty PEM file. The error's own text may quote a line, which may be the key.
fn describe(error: &pem::Error) -> &'static str {
    match error {
        pem::Error::MissingSectionEnd { .. } => "a section has no END line",
        pem::Error::IllegalSectionStart { .. } => "a BEGIN line is malformed",
        pem::Error::Base64Decode(_) => "a section is not Base64",
        pem::Error::NoItemsFound => "the file has none",
        _ => "it is malformed",
    }
}

fn in_environment(error: &io::Error) -> String {
    format!("the environment variable {SYSTEM_FILE} names this file, and {error}")
}

fn wrong(setting: &'static str, file: &Path, expected: &str, why: impl std::fmt::Display) -> Problem {
    let allowed = format!("{expected}, {}", pem_file::ORDINARY);
    Problem::new(setting, allowed, format!("correct the path or the file: {why}"))
        .found(file.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::super::DATA;
    use super::*;

    #[test]
    fn files_are_listed_by_their_settings() {
        let path = |text: &'static str| Path::new(text);
        let all = Files::new(Some(path("/ca")), Some((path("/cert"), path("/key"))));
        assert_eq!(all.list(&DATA), "`ssl_ca_certs` /ca, `ssl_certfile` /cert, `ssl_keyfile` /key");
        assert_eq!(Files::new(None, None).list(&DATA), "the certificate authorities of the system");
    }
}
