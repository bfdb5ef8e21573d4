//! A TLS configuration of the application's own.

use std::fmt;
use std::sync::Arc;

use rustls::ClientConfig;

/// A TLS configuration of your own, in place of the files and versions that the settings name: for keys in hardware,
/// certificates from a service, another verifier, or a provider of your choice.
///
/// It is used as it is. The client adds the name that it expects in the server's certificate: the host that it connects
/// to, or the setting `ssl_server_name`. To change certificates while the client runs, give the configuration a
/// resolver and a verifier that do.
///
/// ```
/// use std::sync::Arc;
///
/// use ha_redis_core::TlsConfig;
/// use ha_redis_core::rustls::{ClientConfig, RootCertStore};
///
/// # fn config(provider: Arc<ha_redis_core::rustls::crypto::CryptoProvider>, authorities: RootCertStore)
/// #     -> Result<TlsConfig, ha_redis_core::rustls::Error> {
/// let rustls = ClientConfig::builder_with_provider(provider)
///     .with_safe_default_protocol_versions()?
///     .with_root_certificates(authorities)
///     .with_no_client_auth();
/// let tls = TlsConfig::from(rustls);
/// # Ok(tls)
/// # }
/// ```
#[derive(Clone)]
#[cfg_attr(docsrs, doc(cfg(feature = "tls")))]
pub struct TlsConfig(pub(super) Arc<ClientConfig>);

impl From<ClientConfig> for TlsConfig {
    fn from(config: ClientConfig) -> Self {
        Self(Arc::new(config))
    }
}

impl From<Arc<ClientConfig>> for TlsConfig {
    fn from(config: Arc<ClientConfig>) -> Self {
        Self(config)
    }
}

/// Prints nothing of the configuration, which may hold keys.
impl fmt::Debug for TlsConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsConfig").finish_non_exhaustive()
    }
}

/// The TLS configurations that the application gives to a client.
#[derive(Clone, Debug, Default)]
pub(crate) struct ApplicationTls {
    /// For masters and replicas, and for Sentinels unless they have settings or a configuration of their own.
    pub(crate) data: Option<TlsConfig>,
    /// For Sentinels.
    #[cfg(feature = "sentinel")]
    pub(crate) sentinels: Option<TlsConfig>,
}
