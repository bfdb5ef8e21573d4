//! Replaces TLS if the cargo feature `tls` is off: connections with TLS fail, so that nothing is sent unencrypted.

use std::io;
use std::time::Instant;

use crate::address::Address;
use crate::config::RedisConfig;
use crate::error::{Error, Kind};
use crate::runtime::{Runtime, Transport};

#[derive(Debug)]
pub(crate) struct Tls {
    ssl: &'static str,
}

impl Tls {
    pub(crate) fn of_data(config: &RedisConfig) -> Option<Self> {
        config.ssl().then_some(Self { ssl: "ssl" })
    }

    #[cfg(feature = "sentinel")]
    pub(crate) fn of_sentinels(config: &RedisConfig) -> Option<Self> {
        (config.use_sentinel() && config.sentinel_ssl()).then_some(Self { ssl: "sentinel_ssl" })
    }

    pub(crate) async fn secure(
        &self,
        _: &Address,
        _: Box<dyn Transport>,
    ) -> Result<Box<dyn Transport>, Error> {
        Err(self.refusal())
    }

    pub(crate) fn timeout_hint(&self) -> String {
        String::new()
    }

    fn refusal(&self) -> Error {
        let message = format!(
            "the configuration has {} = true, which needs the cargo feature `tls` of the runtime crate (such as \
             ha-redis-tokio)",
            self.ssl
        );
        Error::new(Kind::Config, message)
    }
}

pub(crate) fn is_permanent(_: &io::Error) -> bool {
    false
}

/// Reads nothing.
#[derive(Debug, Default)]
pub(crate) struct FileReader {}

pub(crate) async fn prepare(
    all: Vec<&Tls>,
    _: &FileReader,
    _: &dyn Runtime,
    _: Instant,
) -> Result<(), Error> {
    all.first().map_or(Ok(()), |tls| Err(tls.refusal()))
}
