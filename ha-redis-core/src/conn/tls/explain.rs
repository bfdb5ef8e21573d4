//! What rustls says, with what the user can do about it.

use std::io;

use rustls::{AlertDescription, CertificateError, Error, InvalidMessage};

use super::Names;
use crate::peer_text::printable;

/// The error as a transport gives it.
pub(super) fn error(error: &Error, names: &Names) -> io::Error {
    let hint = hint(error, names).map(|hint| format!("; {hint}")).unwrap_or_default();
    // The names of a certificate are the peer's words.
    let message = format!("TLS: {}{hint}", printable(&in_words(error)));
    let failure = TlsFailure { message, lasting: lasts(error) };
    io::Error::new(io::ErrorKind::InvalidData, failure)
}

/// What went wrong with TLS.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
struct TlsFailure {
    message: String,
    lasting: bool,
}

/// Whether this is an error of TLS that comes again until somebody changes a setting or a certificate.
pub(crate) fn is_lasting(error: &io::Error) -> bool {
    let failure = error.get_ref().and_then(|inner| inner.downcast_ref::<TlsFailure>());
    failure.is_some_and(|failure| failure.lasting)
}

fn lasts(error: &Error) -> bool {
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

/// What rustls says; for faults of certificates to which it gives no words, our own.
fn in_words(error: &Error) -> String {
    let Error::InvalidCertificate(CertificateError::Other(other)) = error else { return error.to_string() };
    let fault = match other.0.to_string().as_str() {
        CA_USED_AS_END_ENTITY => "it is an authority's, and the server uses it as its own".to_owned(),
        UNSUPPORTED_VERSION => "it is of version 1, which says of no certificate what it is for".to_owned(),
        other => other.to_owned(),
    };
    format!("invalid peer certificate: {fault}")
}

/// What the verifier calls a certificate that stands for an authority, and was presented as a server's.
const CA_USED_AS_END_ENTITY: &str = "CaUsedAsEndEntity";
/// And one of the first version of X.509.
const UNSUPPORTED_VERSION: &str = "UnsupportedCertVersion";

fn hint(error: &Error, names: &Names) -> Option<String> {
    let Names { ssl, ca_certs, certfile, keyfile, server_name } = names;
    match error {
        Error::InvalidCertificate(found) => match found {
            // An authority that was made anew has its old name, and another key.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                Some(format!("give the certificate of the authority that issued it with `{ca_certs}`"))
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                Some(format!("connect to a name that it has, or say with `{server_name}` which one it has"))
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                Some("renew it, or set the clock of this machine".into())
            }
            CertificateError::Other(other) if other.0.to_string() == CA_USED_AS_END_ENTITY => Some(format!(
                "`openssl req -x509` makes an authority's unless it is told `-addext basicConstraints=CA:FALSE`: make \
                 the server another one, of that kind, or one that this authority signs, and give the authority with \
                 `{ca_certs}`"
            )),
            CertificateError::Other(other) if other.0.to_string() == UNSUPPORTED_VERSION => {
                Some("make it anew with extensions, such as the names of the server".into())
            }
            _ => None,
        },
        Error::AlertReceived(alert) => match *alert {
            AlertDescription::CertificateRequired | AlertDescription::HandshakeFailure => Some(format!(
                "if the server asks for a certificate, give one with `{certfile}` and `{keyfile}`"
            )),
            AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::DecryptError => {
                Some(format!("give a certificate that the server trusts with `{certfile}` and `{keyfile}`"))
            }
            _ => None,
        },
        Error::InvalidMessage(InvalidMessage::HandshakePayloadTooLarge) => Some(
            "a chain of certificates of more than 64 KiB is not read: have the server send a shorter one"
                .into(),
        ),
        Error::InvalidMessage(_) => {
            Some(format!("if the server speaks no TLS on this port, take another port, or turn `{ssl}` off"))
        }
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
    fn what_lasts_is_told_apart() {
        let lasting = |cause: &Error| is_lasting(&error(cause, &DATA));
        assert!(lasting(&Error::InvalidCertificate(CertificateError::Expired)));
        assert!(lasting(&Error::AlertReceived(AlertDescription::CertificateRequired)));
        assert!(!lasting(&Error::AlertReceived(AlertDescription::InternalError)));
        assert!(!is_lasting(&io::ErrorKind::ConnectionReset.into()));
    }
}
