//! The certificate of a server that the client refuses.

use std::time::{Duration, SystemTime};

use rustls::CertificateError as Fault;
use rustls::pki_types::UnixTime;

use super::super::certificate::{CertificateDescription, Validity};
use super::super::names::Names;
use super::super::session::Details;
use super::super::verifier::RefusedCertificate;
use super::{Explanation, OWN};
use crate::peer_text::printable;

/// The verifier's name for a CA certificate that a server presents as its own.
const CA_USED_AS_END_ENTITY: &str = "CaUsedAsEndEntity";
/// The verifier's name for a certificate of the first version of X.509.
const UNSUPPORTED_VERSION: &str = "UnsupportedCertVersion";

/// Explains why a certificate is refused.
pub(super) fn describe(fault: &Fault, details: &Details) -> Explanation {
    let refused = match fault {
        Fault::Other(other) => other.0.downcast_ref::<RefusedCertificate>(),
        _ => None,
    };
    match (details, refused) {
        (Details::Files { names, .. }, Some(refused)) => explain(refused, names),
        (Details::Files { .. }, None) => (unnamed(fault), None),
        (Details::Application, _) => (unnamed(fault), Some(OWN.to_owned())),
    }
}

fn unnamed(fault: &Fault) -> String {
    format!("the server's certificate is refused: {}", printable(&fault.to_string()))
}

fn explain(refused: &RefusedCertificate, names: &Names) -> Explanation {
    let RefusedCertificate { cause, certificate, authority, trusted } = refused;
    let Some(certificate) = certificate else {
        return ("the server's certificate cannot be read".into(), Some("create another one".into()));
    };
    let subject = &certificate.subject;
    let the = format!("the server's certificate {subject}");
    match cause {
        Fault::Expired
        | Fault::ExpiredContext { .. }
        | Fault::NotValidYet
        | Fault::NotValidYetContext { .. } => not_valid_now(cause, certificate),
        Fault::UnknownIssuer if certificate.is_self_issued => (
            format!("{the} is self-signed and not in {trusted}"),
            Some(format!("give it with `{}`", names.ca_certs)),
        ),
        Fault::UnknownIssuer => (
            format!("{the} is from the authority {authority}, which is not in {trusted}"),
            Some(format!("give the certificate of that authority with `{}`", names.ca_certs)),
        ),
        Fault::BadSignature => (
            format!(
                "{the} is not signed by the authority {authority} in {trusted}, but by another of its name"
            ),
            Some(format!("give the certificate of the authority that signed it with `{}`", names.ca_certs)),
        ),
        Fault::NotValidForName | Fault::NotValidForNameContext { .. } => {
            wrong_name(cause, certificate, names)
        }
        Fault::InvalidPurpose | Fault::InvalidPurposeContext { .. } => (
            format!("{the} is not for servers"),
            Some("create one with the extended key usage serverAuth, or with none".into()),
        ),
        Fault::Other(other) => unusual(&the, &other.0.to_string(), names),
        cause => (format!("{the} is refused: {}", printable(&cause.to_string())), None),
    }
}

/// Explains faults for which rustls has no name.
fn unusual(the: &str, fault: &str, names: &Names) -> Explanation {
    match fault {
        CA_USED_AS_END_ENTITY => (
            format!("{the} is that of a certificate authority"),
            Some(format!(
                "`openssl req -x509` creates a CA certificate unless `-addext basicConstraints=CA:FALSE` is given: \
                 create another certificate for the server with that option, or one signed by this authority, and \
                 give the authority with `{}`",
                names.ca_certs
            )),
        ),
        UNSUPPORTED_VERSION => (
            format!("{the} is of X.509 version 1, which has no extensions"),
            Some("create a new certificate with extensions, such as the names of the server".into()),
        ),
        fault => (format!("{the} is refused: {}", printable(fault)), None),
    }
}

/// Explains a certificate, or one above it in its chain, whose time has passed or is still to come.
fn not_valid_now(cause: &Fault, certificate: &CertificateDescription) -> Explanation {
    let the = format!("the server's certificate {}", certificate.subject);
    let renew = Some("renew it, or correct the clock of this machine".to_owned());
    let wait = Some("correct the clock of this machine, or wait".to_owned());
    match (certificate.validity(verified_at(cause)), cause) {
        (Validity::Expired { on }, _) => (format!("{the} expired on {on}"), renew),
        (Validity::NotYet { from }, _) => (format!("{the} is not valid before {from}"), wait),
        (Validity::Now { .. }, Fault::Expired | Fault::ExpiredContext { .. }) => {
            (format!("a certificate authority in the chain of {the} has expired"), renew)
        }
        (Validity::Now { .. }, _) => {
            (format!("a certificate authority in the chain of {the} is not valid yet"), wait)
        }
    }
}

/// Returns the time at which the certificate was verified.
fn verified_at(cause: &Fault) -> SystemTime {
    match cause {
        Fault::ExpiredContext { time, .. } | Fault::NotValidYetContext { time, .. } => system_time(*time),
        _ => SystemTime::now(),
    }
}

fn system_time(time: UnixTime) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(time.as_secs())
}

fn wrong_name(cause: &Fault, certificate: &CertificateDescription, names: &Names) -> Explanation {
    let the = format!("the server's certificate {}", certificate.subject);
    let expected = match cause {
        Fault::NotValidForNameContext { expected, .. } => {
            format!("the name {}", printable(&expected.to_str()))
        }
        _ => "this name".to_owned(),
    };
    match certificate.names.as_str() {
        "" => (
            format!("{the} is not valid for {expected}: it has no names"),
            Some(
                "create one with the names of the server (subjectAltName); the common name does not count"
                    .into(),
            ),
        ),
        has => (
            format!("{the} is not valid for {expected}, but for {has}"),
            Some(format!("connect to one of these names, or set `{}` to one", names.server_name)),
        ),
    }
}
