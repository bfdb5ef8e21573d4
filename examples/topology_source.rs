//! Follows the master that a file names: the pattern for Consul, a Kubernetes API or a cloud's own.
//!
//! `MASTER_FILE` is a file with one line, `host:port`. Whoever promotes a replica writes it anew; until then calls wait. The
//! program counts to its first argument (10), one step every tenth of a second.

use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use ha_redis_tokio::redis::AsyncCommands;
use ha_redis_tokio::{Address, ClientOptions, RedisClient, RedisConfig, TopologySource, TopologyUpdate};
use tokio::time::sleep;

/// How often the file is read.
const INTERVAL: Duration = Duration::from_millis(50);

#[derive(Debug)]
struct MasterFile {
    path: PathBuf,
    /// The master that was reported last.
    reported: Option<Address>,
}

#[async_trait]
impl TopologySource for MasterFile {
    async fn next_update(&mut self) -> Result<TopologyUpdate, Box<dyn Error + Send + Sync>> {
        loop {
            let line = tokio::fs::read_to_string(&self.path)
                .await
                .map_err(|error| format!("cannot read {}: {error}", self.path.display()))?;
            let master: Address = line.trim().parse()?;
            if self.reported.as_ref() != Some(&master) {
                self.reported = Some(master.clone());
                return Ok(TopologyUpdate::new(master));
            }
            sleep(INTERVAL).await;
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::var("MASTER_FILE").map_err(|_| "set MASTER_FILE to a file with `host:port`")?;
    let count: i64 = std::env::args().nth(1).map_or(Ok(10), |argument| argument.parse())?;
    let source = MasterFile { path: path.into(), reported: None };
    let client =
        RedisClient::with_options(RedisConfig::default(), ClientOptions::new().topology_source(source));
    client.initialize().await?;
    let mut redis = client.connection();
    for number in 1..=count {
        redis.set::<_, _, ()>("example:number", number).await?;
        println!("{number} at {}", client.discover_master().await?);
        sleep(Duration::from_millis(100)).await;
    }
    client.close().await;
    Ok(())
}
