//! What an application brings to its client besides the configuration.

use crate::conn::tls::ApplicationTls;
#[cfg(feature = "__tls")]
use crate::conn::tls::TlsConfig;
use crate::credentials::CredentialsProvider;
use crate::topology::TopologySource;

/// What an application brings to its client besides the configuration: where credentials and the topology come from, and
/// TLS of its own.
///
/// ```
/// use ha_redis_core::{ClientOptions, FileCredentials};
///
/// let password = FileCredentials::new("/run/secrets/redis-password").username("app");
/// let options = ClientOptions::new().credentials(password);
/// ```
#[derive(Debug, Default)]
#[must_use = "options do nothing until a client is created with them"]
pub struct ClientOptions {
    pub(super) topology_source: Option<Box<dyn TopologySource>>,
    pub(super) credentials: Option<Box<dyn CredentialsProvider>>,
    pub(super) sentinel_credentials: Option<Box<dyn CredentialsProvider>>,
    pub(super) tls: ApplicationTls,
}

impl ClientOptions {
    /// Returns empty options.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the source that names the master and the replicas, instead of an address or Sentinels in the
    /// configuration.
    pub fn topology_source(mut self, source: impl TopologySource) -> Self {
        self.topology_source = Some(Box::new(source));
        self
    }

    /// Sets the provider of the credentials for the Redis servers, instead of `username` and `password` in the
    /// configuration.
    pub fn credentials(mut self, provider: impl CredentialsProvider) -> Self {
        self.credentials = Some(Box::new(provider));
        self
    }

    /// Sets the provider of the credentials for the Sentinels, instead of `sentinel_username` and `sentinel_password`
    /// in the configuration.
    pub fn sentinel_credentials(mut self, provider: impl CredentialsProvider) -> Self {
        self.sentinel_credentials = Some(Box::new(provider));
        self
    }

    /// Sets a TLS configuration for the Redis servers, in place of the files and versions of the settings, and turns TLS
    /// on. The Sentinels use it too, unless they have settings or a configuration of their own.
    #[cfg(feature = "__tls")]
    #[cfg_attr(docsrs, doc(cfg(feature = "tls")))]
    pub fn tls(mut self, config: impl Into<TlsConfig>) -> Self {
        self.tls.data = Some(config.into());
        self
    }

    /// Sets a TLS configuration for the Sentinels, and turns TLS on for them.
    #[cfg(all(feature = "__tls", feature = "sentinel"))]
    #[cfg_attr(docsrs, doc(cfg(all(feature = "tls", feature = "sentinel"))))]
    pub fn sentinel_tls(mut self, config: impl Into<TlsConfig>) -> Self {
        self.tls.sentinels = Some(config.into());
        self
    }
}
