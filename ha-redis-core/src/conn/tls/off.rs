//! Replaces TLS if the cargo feature `tls` is off: connections with TLS fail, so that nothing is sent unencrypted.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::address::Address;
use crate::config::RedisConfig;
use crate::error::{Error, Kind};
use crate::runtime::{Runtime, Transport};

#[derive(Debug)]
pub(crate) struct Tls {
    ssl: &'static str,
}

impl Tls {
    pub(crate) async fn secure(
        &self,
        _: &Address,
        _: Box<dyn Transport>,
        _: &dyn Runtime,
        _: Duration,
    ) -> Result<(Box<dyn Transport>, u64), Error> {
        Err(self.refusal())
    }

    pub(crate) fn session_id(&self) -> u64 {
        0
    }

    pub(crate) async fn look(&self, _: &dyn Runtime, _: Duration) {}

    pub(crate) fn timeout_hint(&self) -> String {
        String::new()
    }

    fn refusal(&self) -> Error {
        let message = format!(
            "the configuration has {} = true, which needs the cargo feature `tls` or `tls-aws-lc-rs` of the runtime \
             crate (such as ha-redis-tokio)",
            self.ssl
        );
        Error::new(Kind::Config, message)
    }
}

pub(crate) fn is_permanent(_: &io::Error) -> bool {
    false
}

/// There are no configurations of the application's own.
#[derive(Clone, Debug, Default)]
pub(crate) struct ApplicationTls {}

/// There are no files.
pub(crate) struct StagedTls;

impl StagedTls {
    pub(crate) fn on_trial(&self) -> Option<Arc<Tls>> {
        None
    }
}

#[derive(Debug)]
pub(crate) struct ClientTls {
    data: Option<Arc<Tls>>,
    #[cfg(feature = "sentinel")]
    sentinels: Option<Arc<Tls>>,
}

impl ClientTls {
    pub(crate) fn new(config: &RedisConfig, _: ApplicationTls) -> Self {
        Self {
            data: config.ssl().then(|| Arc::new(Tls { ssl: "ssl" })),
            #[cfg(feature = "sentinel")]
            sentinels: (config.use_sentinel() && config.sentinel_ssl())
                .then(|| Arc::new(Tls { ssl: "sentinel_ssl" })),
        }
    }

    pub(crate) fn data(&self) -> Option<Arc<Tls>> {
        self.data.clone()
    }

    #[cfg(feature = "sentinel")]
    pub(crate) fn sentinels(&self) -> Option<Arc<Tls>> {
        self.sentinels.clone()
    }

    /// There is nothing to read: a client without TLS cannot turn it on.
    pub(crate) async fn stage(
        &self,
        _: &RedisConfig,
        _: &dyn Runtime,
        _: Instant,
    ) -> Result<StagedTls, Error> {
        Ok(StagedTls)
    }

    pub(crate) fn install(&self, _: StagedTls) {}

    /// Returns an error if TLS is on.
    pub(crate) async fn prepare(&self, _: &dyn Runtime, _: Instant) -> Result<(), Error> {
        let refused = self.data.as_deref();
        #[cfg(feature = "sentinel")]
        let refused = refused.or(self.sentinels.as_deref());
        refused.map_or(Ok(()), |tls| Err(tls.refusal()))
    }
}
