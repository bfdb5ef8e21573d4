//! Checks the certificates of servers.

use std::fmt;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, Error, OtherError, SignatureScheme};

use super::certificate::CertificateDescription;

/// How many certificates of a chain are followed to its authority: as many as the verifier of rustls follows.
const MAX_CHAIN: usize = 6;

/// Checks certificates as rustls does, and adds a description to those that it refuses.
#[derive(Debug)]
pub(super) struct DescribingVerifier {
    verifier: Arc<WebPkiServerVerifier>,
    /// The authorities that are trusted, as errors call them.
    authorities: String,
}

/// A certificate that was refused.
#[derive(Debug)]
pub(super) struct RefusedCertificate {
    pub(super) cause: CertificateError,
    /// `None` if it cannot be read.
    pub(super) certificate: Option<CertificateDescription>,
    /// The name of the authority to which its chain leads.
    pub(super) authority: String,
    /// The authorities that are trusted.
    pub(super) trusted: String,
}

impl DescribingVerifier {
    pub(super) fn new(verifier: Arc<WebPkiServerVerifier>, authorities: String) -> Self {
        Self { verifier, authorities }
    }

    fn refuse(
        &self,
        cause: CertificateError,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
    ) -> Error {
        let certificate = CertificateDescription::read(end_entity);
        let authority = certificate.as_ref().map(|certificate| last_issuer(certificate, intermediates));
        let refused = RefusedCertificate {
            cause,
            certificate,
            authority: authority.unwrap_or_default(),
            trusted: self.authorities.clone(),
        };
        Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(refused))))
    }
}

/// Follows the chain that the server has sent, and returns the last issuer.
fn last_issuer(certificate: &CertificateDescription, intermediates: &[CertificateDer<'_>]) -> String {
    let read = intermediates.iter().take(MAX_CHAIN).filter_map(|der| CertificateDescription::read(der));
    let chain: Vec<_> = read.collect();
    let mut issuer = certificate.issuer.clone();
    for _ in 0..chain.len() {
        match chain.iter().find(|above| above.subject == issuer) {
            Some(above) if above.issuer != issuer => issuer.clone_from(&above.issuer),
            _ => break,
        }
    }
    issuer
}

impl ServerCertVerifier for DescribingVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified =
            self.verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        verified.map_err(|error| match error {
            Error::InvalidCertificate(cause) => self.refuse(cause, end_entity, intermediates),
            error => error,
        })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}

impl fmt::Display for RefusedCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.cause.fmt(f)
    }
}

impl std::error::Error for RefusedCertificate {}

/// Accepts every certificate whose key the server has, for `ssl_danger_accept_invalid_certs`.
#[derive(Debug)]
pub(super) struct AcceptingVerifier(pub(super) Arc<CryptoProvider>);

impl ServerCertVerifier for AcceptingVerifier {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
