//! What a connection needs of the files: a TLS configuration, and what errors say about it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustls::client::{ResolvesClientCert, WebPkiServerVerifier};
use rustls::sign::SingleCertAndKey;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};

use super::application::TlsConfig;
use super::certificate::CertificateDescription;
use super::files::Files;
use super::identity::Identity;
use super::names::Names;
use super::provider::provider;
use super::verifier::{AcceptingVerifier, DescribingVerifier};
use crate::config::{Problem, TlsVersion, cut};
use crate::peer_text::escaped;

/// A TLS configuration that connections use until the files change.
#[derive(Clone)]
pub(super) struct Session {
    /// Later ones have larger numbers.
    pub(super) id: u64,
    pub(super) rustls: Arc<ClientConfig>,
    pub(super) details: Arc<Details>,
}

/// Returns a number for the next session.
fn next_id() -> u64 {
    static SESSIONS: AtomicU64 = AtomicU64::new(1);
    SESSIONS.fetch_add(1, Ordering::Relaxed)
}

/// What errors say about the client's side.
#[derive(Debug)]
pub(super) enum Details {
    /// The configuration is the application's: no setting changes it.
    Application,
    Files {
        names: &'static Names,
        min_version: TlsVersion,
        /// The client's certificate as errors call it, if there is one.
        identity: Option<(String, Option<CertificateDescription>)>,
    },
}

impl Session {
    pub(super) fn of_application(config: &TlsConfig) -> Self {
        Self { id: next_id(), rustls: Arc::clone(&config.0), details: Arc::new(Details::Application) }
    }

    /// Builds the configuration from what was read; `authorities` is `None` if none are needed.
    pub(super) fn new(
        files: &Files,
        names: &'static Names,
        authorities: Option<Arc<RootCertStore>>,
        identity: Option<&Identity>,
    ) -> Result<Self, Problem> {
        let provider = Arc::new(provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider));
        let builder = builder.with_protocol_versions(versions(files.min_version)).map_err(|error| {
            Problem::new(names.min_version, "a version that this build of rustls has", error.to_string())
        })?;
        let builder = match authorities {
            Some(authorities) => {
                let verifier = WebPkiServerVerifier::builder_with_provider(authorities, provider)
                    .build()
                    .map_err(|error| Problem::new(names.ca_certs, "usable authorities", error.to_string()))?;
                let verifier = DescribingVerifier::new(verifier, files.authorities(names));
                builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier))
            }
            None => {
                let verifier = Arc::new(AcceptingVerifier(provider));
                builder.dangerous().with_custom_certificate_verifier(verifier)
            }
        };
        let rustls = match identity {
            Some(identity) => {
                let key = SingleCertAndKey::from(Arc::clone(&identity.certified_key));
                builder.with_client_cert_resolver(Arc::new(key) as Arc<dyn ResolvesClientCert>)
            }
            None => builder.with_no_client_auth(),
        };
        let identity = identity.zip(files.identity.as_ref()).map(|(identity, files)| {
            let file =
                format!("`{}` {}", names.certfile, escaped(&cut(&files.certfile.display().to_string())));
            (file, identity.certificate.clone())
        });
        let details = Details::Files { names, min_version: files.min_version, identity };
        Ok(Self { id: next_id(), rustls: Arc::new(rustls), details: Arc::new(details) })
    }
}

static FROM_1_2: &[&SupportedProtocolVersion] = &[&TLS13, &TLS12];
static FROM_1_3: &[&SupportedProtocolVersion] = &[&TLS13];

fn versions(min: TlsVersion) -> &'static [&'static SupportedProtocolVersion] {
    match min {
        TlsVersion::Tls12 => FROM_1_2,
        TlsVersion::Tls13 => FROM_1_3,
    }
}
