//! Adds remedies to rustls's errors.

use std::io;

use rustls::{AlertDescription, CertificateError, Error, InvalidMessage};

use super::Names;
use crate::peer_text::printable;

/// Returns the error as a transport reports it.
pub(super) fn error(error: &Error, names: &Names) -> io::Error {
    let hint = hint(error, names).map(|hint| format!("; {hint}")).unwrap_or_default();
    // The names in a certificate are the peer's text.
    let message = format!("TLS: {}{hint}", printable(&describe(error)));
    let failure = TlsFailure { message, permanent: is_permanent_failure(error) };
    io::Error::new(io::ErrorKind::InvalidData, failure)
}

/// An error of TLS.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
struct TlsFailure {
    message: String,
    permanent: bool,
}

/// Returns true for a TLS error that repeats until somebody changes a setting or a certificate.
pub(crate) fn is_permanent(error: &io::Error) -> bool {
    let failure = error.get_ref().and_then(|inner| inner.downcast_ref::<TlsFailure>());
    failure.is_some_and(|failure| failure.permanent)
}

fn is_permanent_failure(error: &Error) -> bool {
    match error {
        Error::AlertReceived(alert) => !matches!(
            alert,
            AlertDescription::CloseNotify
                | AlertDescription::UserCanceled
                | AlertDescription::InternalError
                | AlertDescription::BadRecordMac
        ),
        Error::InvalidCertificate(_) | Error::InvalidMessage(_) | Error::PeerIncompatible(_) => true,
        _ => false,
    }
}

/// Returns rustls's text, or our own for faults of certificates that rustls does not describe.
fn describe(error: &Error) -> String {
    let Error::InvalidCertificate(CertificateError::Other(other)) = error else { return error.to_string() };
    let fault = match other.0.to_string().as_str() {
        CA_USED_AS_END_ENTITY => "a CA certificate is used as the server's certificate".to_owned(),
        UNSUPPORTED_VERSION => "it is an X.509 version 1 certificate, which has no extensions".to_owned(),
        other => other.to_owned(),
    };
    format!("invalid peer certificate: {fault}")
}

/// The verifier's name for a CA certificate that a server presents as its own.
const CA_USED_AS_END_ENTITY: &str = "CaUsedAsEndEntity";
/// The verifier's name for a certificate of the first version of X.509.
const UNSUPPORTED_VERSION: &str = "UnsupportedCertVersion";

fn hint(error: &Error, names: &Names) -> Option<String> {
    let Names { ssl, ca_certs, certfile, keyfile, server_name } = names;
    match error {
        Error::InvalidCertificate(found) => match found {
            // A recreated authority has its old name and another key.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                Some(format!("give the certificate of the authority that issued it with `{ca_certs}`"))
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                Some(format!("connect to a name in the certificate, or set `{server_name}` to one of them"))
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                Some("renew it, or correct the clock of this machine".into())
            }
            CertificateError::Other(other) if other.0.to_string() == CA_USED_AS_END_ENTITY => Some(format!(
                "`openssl req -x509` creates a CA certificate unless `-addext basicConstraints=CA:FALSE` is given: \
                 create another certificate for the server with that option, or one signed by this authority, and \
                 give the authority with `{ca_certs}`"
            )),
            CertificateError::Other(other) if other.0.to_string() == UNSUPPORTED_VERSION => {
                Some("create a new certificate with extensions, such as the names of the server".into())
            }
            _ => None,
        },
        Error::AlertReceived(alert) => match *alert {
            AlertDescription::CertificateRequired | AlertDescription::HandshakeFailure => Some(format!(
                "if the server requires a client certificate, give one with `{certfile}` and `{keyfile}`"
            )),
            AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::DecryptError => {
                Some(format!("give a certificate that the server trusts with `{certfile}` and `{keyfile}`"))
            }
            _ => None,
        },
        Error::InvalidMessage(InvalidMessage::HandshakePayloadTooLarge) => Some(
            "certificate chains of more than 64 KiB are not read: configure the server to send a shorter one"
                .into(),
        ),
        Error::InvalidMessage(_) => Some(format!(
            "if the server does not speak TLS on this port, use another port, or turn `{ssl}` off"
        )),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::DATA;
    use super::*;

    #[test]
    fn hints_name_the_setting() {
        let unknown = Error::InvalidCertificate(CertificateError::UnknownIssuer);
        assert!(error(&unknown, &DATA).to_string().ends_with("with `ssl_ca_certs`"));
        let refused = Error::AlertReceived(AlertDescription::CertificateRequired);
        assert!(error(&refused, &DATA).to_string().ends_with("`ssl_certfile` and `ssl_keyfile`"));
        assert_eq!(error(&Error::DecryptError, &DATA).to_string(), "TLS: cannot decrypt peer's message");
    }

    #[test]
    fn permanent_errors_detected() {
        let permanent = |cause: &Error| is_permanent(&error(cause, &DATA));
        assert!(permanent(&Error::InvalidCertificate(CertificateError::Expired)));
        assert!(permanent(&Error::AlertReceived(AlertDescription::CertificateRequired)));
        assert!(!permanent(&Error::AlertReceived(AlertDescription::InternalError)));
        assert!(!is_permanent(&io::ErrorKind::ConnectionReset.into()));
    }
}
