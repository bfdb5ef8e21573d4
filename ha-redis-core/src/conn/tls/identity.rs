//! Reads the client's certificate together with its key.

use std::sync::Arc;
use std::time::SystemTime;

use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys};

use super::authorities::{CERTIFICATES, certificates};
use super::certificate::{CertificateDescription, Validity};
use super::files::{Content, IdentityFiles, wrong};
use super::key::{self, KEY};
use super::names::Names;
use super::provider::provider;
use crate::config::Problem;

/// The client's certificate and key, which fit.
pub(super) struct Identity {
    pub(super) certified_key: Arc<CertifiedKey>,
    /// `None` if rustls reads the certificate and we do not.
    pub(super) certificate: Option<CertificateDescription>,
}

/// Reads a certificate and its key.
///
/// # Errors
/// Everything that is wrong with either, that they do not fit, or that the certificate is not valid at `now`.
pub(super) fn read(
    files: &IdentityFiles,
    certificate: &Content,
    key: &Content,
    names: &Names,
    now: SystemTime,
) -> Result<Identity, Vec<Problem>> {
    let chain = certificates(&files.certfile, certificate, names.certfile);
    let key = key::read(files, key, names);
    let (chain, key) = match (chain, key) {
        (Ok(chain), Ok(key)) => (chain, key),
        (chain, key) => return Err(chain.err().into_iter().chain(key.err()).collect()),
    };
    let description = chain.first().and_then(|first| CertificateDescription::read(first));
    let subject = description.as_ref().map_or("(unreadable)", |certificate| &certificate.subject);
    let certified_key = CertifiedKey::from_der(chain, key, &provider()).map_err(|error| match error {
        Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
            let expected = format!("the key of the certificate {subject} in {:?}", files.certfile);
            wrong(names.keyfile, &files.keyfile, &expected, "it is the key of another certificate")
        }
        Error::InvalidCertificate(_) => {
            let why = "the first certificate in the file is malformed";
            wrong(names.certfile, &files.certfile, CERTIFICATES, why)
        }
        _ => wrong(
            names.keyfile,
            &files.keyfile,
            KEY,
            "it is not an RSA, ECDSA or Ed25519 key that TLS can use",
        ),
    });
    let certified_key = certified_key.map_err(|problem| vec![problem])?;
    match description.as_ref().map(|certificate| certificate.validity(now)) {
        Some(Validity::Expired { on }) => {
            let why = format!("renew it, or correct the clock of this machine: {subject} expired on {on}");
            Err(vec![invalid(files, names, why)])
        }
        Some(Validity::NotYet { from }) => {
            let why =
                format!("correct the clock of this machine, or wait: {subject} is not valid before {from}");
            Err(vec![invalid(files, names, why)])
        }
        _ => Ok(Identity { certified_key: Arc::new(certified_key), certificate: description }),
    }
}

fn invalid(files: &IdentityFiles, names: &Names, remedy: String) -> Problem {
    let problem = Problem::new(names.certfile, "a certificate that is valid now", remedy);
    problem.found(files.certfile.display().to_string())
}
