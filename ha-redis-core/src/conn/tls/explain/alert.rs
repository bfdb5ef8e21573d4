//! The alert with which a server ends a handshake.

use rustls::AlertDescription;

use super::super::session::Details;
use super::{Explanation, OWN, no_common_version};

pub(super) fn describe(alert: AlertDescription, details: &Details) -> Explanation {
    use AlertDescription as Alert;
    match alert {
        Alert::ProtocolVersion => no_common_version(details),
        Alert::CertificateRequired => {
            (format!("the server asks for a client certificate (alert {alert:?})"), Some(give_one(details)))
        }
        Alert::HandshakeFailure if !has_certificate(details) => (
            format!("the server refuses the connection (alert {alert:?})"),
            Some(format!("if the server asks for a client certificate, {}", give_one(details))),
        ),
        Alert::UnknownCA
        | Alert::BadCertificate
        | Alert::UnsupportedCertificate
        | Alert::CertificateRevoked
        | Alert::CertificateExpired
        | Alert::CertificateUnknown
        | Alert::AccessDenied
        | Alert::DecryptError => refused_certificate(alert, details),
        _ => (format!("the server refuses the connection (alert {alert:?})"), None),
    }
}

fn has_certificate(details: &Details) -> bool {
    matches!(details, Details::Application | Details::Files { identity: Some(_), .. })
}

fn give_one(details: &Details) -> String {
    match details {
        Details::Application => "give one in the `TlsConfig`".to_owned(),
        Details::Files { names, .. } => {
            format!("give one with `{}` and `{}`", names.certfile, names.keyfile)
        }
    }
}

/// Explains why a server refuses the client's certificate, as far as the alert tells.
fn refused_certificate(alert: AlertDescription, details: &Details) -> Explanation {
    let (names, file, certificate) = match details {
        Details::Files { names, identity: Some((file, certificate)), .. } => (names, file, certificate),
        Details::Files { .. } => return (unnamed(alert), Some(give_one(details))),
        Details::Application => return (unnamed(alert), Some(OWN.to_owned())),
    };
    let Some(certificate) = certificate else { return (unnamed(alert), Some(give_one(details))) };
    let subject = &certificate.subject;
    let what = format!("the server refuses the client's certificate {subject} from {file} (alert {alert:?})");
    let hint = match alert {
        AlertDescription::UnknownCA => format!(
            "give one of an authority that the server trusts with `{}` and `{}`, or let the server trust {}",
            names.certfile, names.keyfile, certificate.issuer
        ),
        AlertDescription::CertificateExpired => {
            format!("it is valid {}: renew it, or correct the clock of the server", certificate.period())
        }
        _ => format!("give another one with `{}` and `{}`", names.certfile, names.keyfile),
    };
    (what, Some(hint))
}

fn unnamed(alert: AlertDescription) -> String {
    format!("the server refuses the client's certificate (alert {alert:?})")
}
