//! What an application brings to its client besides the configuration.

use crate::credentials::CredentialsProvider;
use crate::topology::TopologySource;

/// What an application brings to its client besides the configuration: where credentials and the topology come from.
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
}

impl ClientOptions {
    /// Returns no options: the configuration says everything.
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
}
