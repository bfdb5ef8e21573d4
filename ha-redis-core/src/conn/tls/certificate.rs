//! What errors say about a certificate. rustls checks certificates and describes few of them.

use std::fmt::{Display, Write};
use std::time::{Duration, SystemTime};

use x509_cert::Certificate;
use x509_cert::der::{DateTime, Decode};
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

use crate::peer_text::printable;

/// How many names are printed: [`printable`] cuts them to a line anyway.
const MAX_NAMES: usize = 20;

/// The printable parts of a certificate. A peer may have written it, so that all text is escaped and cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CertificateDescription {
    /// The subject, or the first name if the subject is empty.
    pub(super) subject: String,
    pub(super) issuer: String,
    pub(super) is_self_issued: bool,
    /// The names for which it is valid, separated by commas; empty if there are none.
    pub(super) names: String,
    not_before: DateTime,
    not_after: DateTime,
}

/// When a certificate is valid, compared with the clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Validity {
    NotYet { from: String },
    Now { left: Duration, until: String },
    Expired { on: String },
}

impl CertificateDescription {
    /// Reads a certificate in DER; `None` if it is none that can be read.
    pub(super) fn read(der: &[u8]) -> Option<Self> {
        let certificate = Certificate::from_der(der).ok()?;
        let certificate = certificate.tbs_certificate();
        let names = match certificate.get_extension::<SubjectAltName>() {
            Ok(Some((_, names))) => names.0.iter().filter_map(name).take(MAX_NAMES).collect(),
            _ => Vec::new(),
        };
        let subject = match (certificate.subject().is_empty(), names.first()) {
            (true, Some(name)) => name.clone(),
            (true, None) => "(no subject)".to_owned(),
            (false, _) => text(certificate.subject()),
        };
        let validity = certificate.validity();
        Some(Self {
            subject: printable(&subject),
            issuer: printable(&text(certificate.issuer())),
            is_self_issued: certificate.issuer() == certificate.subject(),
            names: printable(&names.join(", ")),
            not_before: validity.not_before.to_date_time(),
            not_after: validity.not_after.to_date_time(),
        })
    }

    pub(super) fn validity(&self, now: SystemTime) -> Validity {
        let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let (from, until) = (self.not_before.unix_duration(), self.not_after.unix_duration());
        if now < from {
            return Validity::NotYet { from: self.not_before.to_string() };
        }
        match until.checked_sub(now) {
            Some(left) => Validity::Now { left, until: self.not_after.to_string() },
            None => Validity::Expired { on: self.not_after.to_string() },
        }
    }

    /// Returns the time in which it is valid.
    pub(super) fn period(&self) -> String {
        format!("from {} until {}", self.not_before, self.not_after)
    }
}

/// Formats a name of X.501. Unlike `to_string`, it does not panic if that fails.
fn text(name: &impl Display) -> String {
    let mut text = String::new();
    match write!(text, "{name}") {
        Ok(()) => text,
        Err(_) => "(unreadable)".to_owned(),
    }
}

/// Returns a name of a server.
fn name(name: &GeneralName) -> Option<String> {
    match name {
        GeneralName::DnsName(name) => Some(name.as_str().to_owned()),
        GeneralName::IpAddress(ip) => ip_address(ip.as_bytes()),
        _ => None,
    }
}

fn ip_address(bytes: &[u8]) -> Option<String> {
    use std::net::{Ipv4Addr, Ipv6Addr};
    let v4 = <[u8; 4]>::try_from(bytes).map(|octets| Ipv4Addr::from(octets).to_string());
    let v6 = || <[u8; 16]>::try_from(bytes).map(|octets| Ipv6Addr::from(octets).to_string());
    v4.or_else(|_| v6()).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::{CertificateParams, DnType, KeyPair};

    use super::*;

    fn certificate(subject: &str, names: &[&str]) -> Vec<u8> {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, subject);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn text_of_peers_is_escaped_and_cut() {
        let forged =
            certificate("orders\r\n2026 INFO all is well \u{202e}", &["a.example", "10.0.0.1", "::1"]);
        let read = CertificateDescription::read(&forged).unwrap();
        assert_eq!(read.subject, r"CN=orders\0d\0a2026 INFO all is well \u{202e}");
        assert_eq!(read.names, "a.example, 10.0.0.1, ::1");
        let long = CertificateDescription::read(&certificate(&"x".repeat(10_000), &[])).unwrap();
        assert_eq!(long.subject.chars().count(), 201);
        assert_eq!(long.names, "");
    }

    proptest! {
        #[test]
        fn no_certificate_of_a_peer_panics(
            changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..8),
            any in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let mut changed = certificate("orders", &["orders.example"]);
            for (at, byte) in changes {
                let at = at.index(changed.len());
                changed[at] = byte;
            }
            if let Some(read) = CertificateDescription::read(&changed) {
                let _ = read.validity(SystemTime::now());
                let printed = format!("{} {} {}", read.subject, read.issuer, read.names);
                prop_assert!(!printed.contains(char::is_control));
            }
            let _ = CertificateDescription::read(&any);
        }
    }
}
