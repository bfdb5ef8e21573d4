//! Words rustls's errors for operators: which certificate, what is wrong with it, and what to do.

mod alert;
mod certificate;

use std::io;

use rustls::{AlertDescription, Error, InvalidMessage, PeerIncompatible};

use super::session::Details;
use crate::config::TlsVersion;
use crate::peer_text::printable;

/// What an operator changes when the configuration is the application's.
const OWN: &str = "change the server, or the `TlsConfig` that the application gives to the client";

/// Returns the error as a transport reports it.
pub(super) fn error(error: &Error, details: &Details) -> io::Error {
    let (what, hint) = match error {
        Error::InvalidCertificate(cause) => certificate::describe(cause, details),
        Error::AlertReceived(alert) => alert::describe(*alert, details),
        Error::PeerIncompatible(
            PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
            | PeerIncompatible::ServerDoesNotSupportTls12Or13,
        ) => no_common_version(details),
        Error::InvalidMessage(InvalidMessage::HandshakePayloadTooLarge) => (
            "the server's certificate chain is too long".to_owned(),
            Some(
                "chains of more than 64 KiB are not read: configure the server to send a shorter one"
                    .to_owned(),
            ),
        ),
        Error::InvalidMessage(_) => not_tls(error, details),
        _ => (printable(&error.to_string()), None),
    };
    let hint = hint.map(|hint| format!("; {hint}")).unwrap_or_default();
    let failure =
        TlsFailure { message: format!("TLS: {what}{hint}"), permanent: is_permanent_failure(error) };
    io::Error::new(io::ErrorKind::InvalidData, failure)
}

/// An error of TLS.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
struct TlsFailure {
    message: String,
    permanent: bool,
}

/// What is wrong, and what to do.
type Explanation = (String, Option<String>);

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

fn no_common_version(details: &Details) -> Explanation {
    let server = "in the server (`tls-protocols` in redis.conf)";
    match details {
        Details::Application => {
            ("the server supports none of the client's versions of TLS".to_owned(), Some(OWN.to_owned()))
        }
        Details::Files { min_version: TlsVersion::Tls12, .. } => (
            "the server supports neither TLS 1.2 nor TLS 1.3".to_owned(),
            Some(format!("turn one of them on {server}")),
        ),
        Details::Files { names, min_version: TlsVersion::Tls13, .. } => (
            "the server does not support TLS 1.3".to_owned(),
            Some(format!("turn it on {server}, or set `{}` to 1.2", names.min_version)),
        ),
    }
}

fn not_tls(error: &Error, details: &Details) -> Explanation {
    let hint = match details {
        Details::Application => "if the server does not speak TLS on this port, use another port".to_owned(),
        Details::Files { names, .. } => format!(
            "if the server does not speak TLS on this port, use another port, or turn `{}` off",
            names.ssl
        ),
    };
    (format!("the server does not reply in TLS ({})", printable(&error.to_string())), Some(hint))
}

#[cfg(test)]
mod tests {
    use rustls::CertificateError;

    use super::super::names::DATA;
    use super::*;

    fn details() -> Details {
        Details::Files { names: &DATA, min_version: TlsVersion::Tls12, identity: None }
    }

    #[test]
    fn hints_name_the_setting() {
        let text = |cause: Error| error(&cause, &details()).to_string();
        assert_eq!(
            text(Error::AlertReceived(AlertDescription::CertificateRequired)),
            "TLS: the server asks for a client certificate (alert CertificateRequired); give one with \
             `ssl_certfile` and `ssl_keyfile`"
        );
        assert_eq!(
            text(Error::AlertReceived(AlertDescription::ProtocolVersion)),
            "TLS: the server supports neither TLS 1.2 nor TLS 1.3; turn one of them on in the server \
             (`tls-protocols` in redis.conf)"
        );
        assert_eq!(text(Error::DecryptError), "TLS: cannot decrypt peer's message");
    }

    #[test]
    fn configuration_of_the_application_is_named() {
        let text = |cause: Error| error(&cause, &Details::Application).to_string();
        assert_eq!(
            text(Error::InvalidCertificate(CertificateError::UnknownIssuer)),
            "TLS: the server's certificate is refused: UnknownIssuer; change the server, or the `TlsConfig` that the \
             application gives to the client"
        );
    }

    #[test]
    fn permanent_errors_detected() {
        let permanent = |cause: &Error| is_permanent(&error(cause, &details()));
        assert!(permanent(&Error::InvalidCertificate(CertificateError::Expired)));
        assert!(permanent(&Error::AlertReceived(AlertDescription::CertificateRequired)));
        assert!(!permanent(&Error::AlertReceived(AlertDescription::InternalError)));
        assert!(!is_permanent(&io::ErrorKind::ConnectionReset.into()));
    }
}
