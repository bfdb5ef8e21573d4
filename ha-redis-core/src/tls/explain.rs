//! What rustls says, with what the user can do about it.

use std::io;

use rustls::{AlertDescription, CertificateError, Error};

use super::Names;

/// The error as a transport gives it.
pub(super) fn error(error: &Error, names: &Names) -> io::Error {
    let message = match hint(error, names) {
        Some(hint) => format!("TLS: {error}; {hint}"),
        None => format!("TLS: {error}"),
    };
    io::Error::new(io::ErrorKind::InvalidData, message)
}

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
}
