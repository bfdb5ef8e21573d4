//! Reads the certificate authorities that are trusted.

use std::env;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{self, PemObject};

use super::files::{Content, unreadable, wrong};
use super::names::Names;
use super::pem_file;
use crate::config::Problem;

pub(super) const CERTIFICATES: &str = "a PEM file with at least one certificate";

/// The environment variable in which rustls-native-certs finds the system's certificate authorities, if it is set.
const SYSTEM_FILE: &str = "SSL_CERT_FILE";

/// Reads the authorities of a file.
pub(super) fn given(file: &Path, content: &Content, names: &Names) -> Result<Arc<RootCertStore>, Problem> {
    let mut roots = RootCertStore::empty();
    for (index, certificate) in certificates(file, content, names.ca_certs)?.into_iter().enumerate() {
        roots.add(certificate).map_err(|_| {
            let why = format!("certificate {} in the file is malformed", index + 1);
            wrong(names.ca_certs, file, CERTIFICATES, why)
        })?;
    }
    Ok(Arc::new(roots))
}

/// Reads the authorities that the system trusts.
pub(super) fn of_system(names: &Names) -> Result<Arc<RootCertStore>, Problem> {
    if let Some(file) = env::var_os(SYSTEM_FILE).map(PathBuf::from) {
        pem_file::check_if_exists(&file)
            .map_err(|error| unreadable(names.ca_certs, &file, CERTIFICATES, in_environment(&error)))?;
    }
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // Certificates that rustls cannot parse are skipped.
    roots.add_parsable_certificates(found.certs);
    if !roots.is_empty() {
        return Ok(Arc::new(roots));
    }
    let errors = found.errors.iter().take(3).map(|error| format!(" ({error})")).collect::<String>();
    let allowed = format!("{CERTIFICATES}, since the system names no certificate authorities{errors}");
    Err(Problem::new(names.ca_certs, allowed, "set it, or install the system's CA certificates"))
}

/// Reads the certificates of a file, at least one.
pub(super) fn certificates(
    file: &Path,
    content: &Content,
    setting: &'static str,
) -> Result<Vec<CertificateDer<'static>>, Problem> {
    let text = content.as_ref().map_err(|error| unreadable(setting, file, CERTIFICATES, error))?;
    let wrong = |why: &str| wrong(setting, file, CERTIFICATES, why);
    match CertificateDer::pem_slice_iter(text).collect::<Result<Vec<_>, _>>() {
        Ok(certificates) if certificates.is_empty() => Err(wrong(match has_key(text) {
            true => "it has a private key and no certificate",
            false => "it has no certificate",
        })),
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(wrong(describe(&error))),
    }
}

fn has_key(text: &[u8]) -> bool {
    text.windows(KEY_END.len()).any(|end| end == KEY_END)
}

/// The end of the line that begins a private key, of any kind.
const KEY_END: &[u8] = b"PRIVATE KEY-----";

/// Describes a faulty PEM file. The error's own text may quote a line, which may be the key.
pub(super) fn describe(error: &pem::Error) -> &'static str {
    match error {
        pem::Error::NoItemsFound => "it has no private key",
        pem::Error::MissingSectionEnd { .. } => "a section has no END line",
        pem::Error::IllegalSectionStart { .. } => "a BEGIN line is malformed",
        pem::Error::Base64Decode(_) => "a section is not Base64",
        _ => "it is malformed",
    }
}

fn in_environment(error: &io::Error) -> String {
    format!("the environment variable {SYSTEM_FILE} names this file, and {error}")
}
