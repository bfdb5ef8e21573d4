//! Two services that share one configuration file, whose path is in `REDIS_CONFIG_FILE`: [`redis.toml`](redis.toml) is a
//! sample. `shared_configuration cache` loads it once. `shared_configuration sessions` runs until Ctrl-C, and loads it
//! again when it changes, or on SIGHUP.

use std::error::Error;
use std::time::Duration;

use ha_redis_config::Loader;
use ha_redis_tokio::RedisClient;
use ha_redis_tokio::redis::AsyncCommands;
use tokio::signal::ctrl_c;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::spawn_blocking;
use tokio::time::sleep;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    match std::env::args().nth(1).as_deref() {
        Some("cache") => cache().await,
        Some("sessions") => sessions().await,
        _ => Err("name a service: cache or sessions".into()),
    }
}

async fn cache() -> Result<(), Box<dyn Error>> {
    let client = RedisClient::connect(ha_redis_config::load("cache")?).await?;
    client.connection().set_ex::<_, _, ()>("example:cached", "value", 60).await?;
    println!("cached at {}", client.config());
    client.close().await;
    Ok(())
}

async fn sessions() -> Result<(), Box<dyn Error>> {
    let loader = Loader::new();
    let mut loaded = loader.read("sessions");
    let client = RedisClient::connect(loaded.config()?).await?;
    println!("connected to {}", client.config());

    let mut hangup = signal(SignalKind::hangup())?;
    loop {
        let is_asked = tokio::select! {
            _ = ctrl_c() => break,
            _ = hangup.recv() => true,
            () = sleep(Duration::from_secs(1)) => false,
        };
        let (before, again) = (loaded.clone(), loader.clone());
        // Files are read on a thread that may block.
        let read = spawn_blocking(move || (is_asked || before.has_changed()).then(|| again.read("sessions")));
        let Some(changed) = read.await? else { continue };
        loaded = changed;
        // Whatever is wrong, the client keeps the configuration that it has.
        match loaded.config() {
            Ok(config) => match client.reconfigure(config).await {
                Ok(changed) => println!("changed: {}", changed.join(", ")),
                Err(error) => println!("kept: {error}"),
            },
            Err(mistakes) => println!("kept: {mistakes}"),
        }
    }
    client.close().await;
    Ok(())
}
