//! The runtime of the client and its callers.

use std::sync::Arc;

use clap::ValueEnum;
use ha_redis_async_std::AsyncStdRuntime;
use ha_redis_smol::SmolRuntime;
use ha_redis_tokio::runtime::Runtime as ClientRuntime;
use ha_redis_tokio::{Client, RedisConfig, TokioRuntime};

/// An async runtime. Observers and output always run on Tokio.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Runtime {
    Tokio,
    AsyncStd,
    Smol,
}

impl Runtime {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Tokio => "Tokio",
            Self::AsyncStd => "async-std",
            Self::Smol => "smol",
        }
    }

    /// Starts the runtime for a client and its callers.
    pub(crate) fn start(self) -> Arc<dyn ClientRuntime> {
        match self {
            Self::Tokio => Arc::new(TokioRuntime::new()),
            Self::AsyncStd => Arc::new(AsyncStdRuntime::new()),
            Self::Smol => Arc::new(SmolRuntime::new()),
        }
    }
}

/// Returns a client that is connected to the master.
pub(crate) async fn connect(config: RedisConfig, runtime: &Arc<dyn ClientRuntime>) -> Result<Client, String> {
    let client = Client::new(config, Arc::clone(runtime));
    client.initialize().await.map_err(|error| error.to_string())?;
    Ok(client)
}
