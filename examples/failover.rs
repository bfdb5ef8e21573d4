//! A service that counts while its master changes, and that reports the outcome of every call.
//!
//! `REDIS_URL` names the Sentinels, such as `redis+sentinel://s1:26379,s2:26379,s3:26379/mymaster`. The program
//! counts until Ctrl-C, or as often as the first argument says.

use std::time::{Duration, Instant};

use ha_redis_tokio::redis::AsyncCommands;
use ha_redis_tokio::{Outcome, RedisClient, RedisConfig, RedisErrorExt};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url =
        std::env::var("REDIS_URL").unwrap_or_else(|_| "redis+sentinel://localhost:26379/mymaster".to_owned());
    let times: u64 = std::env::args().nth(1).map_or(Ok(u64::MAX), |times| times.parse())?;
    let client = RedisClient::connect(url.parse::<RedisConfig>()?).await?;
    println!("{}", client.topology().await?);

    tokio::select! {
        () = count(&client, times) => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    client.close().await;
    Ok(())
}

async fn count(client: &RedisClient, times: u64) {
    let mut redis = client.connection();
    for _ in 0..times {
        let start = Instant::now();
        match redis.incr::<_, _, i64>("example:count", 1).await {
            Ok(count) if start.elapsed() > Duration::from_millis(100) => {
                println!("{count} (waited {:?}: the master changed)", start.elapsed());
            }
            Ok(_) => {}
            Err(error) => match error.outcome() {
                // The increment did not run, so it is safe to retry.
                Outcome::NotSent | Outcome::NotApplied => println!("not counted: {error}"),
                // The increment may have run. Only the application can decide whether to retry.
                outcome => println!("{outcome}: {error}"),
            },
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
