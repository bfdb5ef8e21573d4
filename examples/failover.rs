//! A service that counts while its master changes, and knows what became of every call.
//!
//! `REDIS_URL` names the Sentinels, such as `redis+sentinel://s1:26379,s2:26379,s3:26379/mymaster`. It counts
//! until Ctrl-C, or as often as the first argument says.

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
        let asked = Instant::now();
        match redis.incr::<_, _, i64>("example:count", 1).await {
            Ok(count) if asked.elapsed() > Duration::from_millis(100) => {
                println!("{count} (waited {:?}: the master changed)", asked.elapsed());
            }
            Ok(_) => {}
            Err(error) => match error.outcome() {
                // It did not run: counting again is safe.
                Outcome::NotSent | Outcome::NotApplied => println!("not counted: {error}"),
                // It may have run: only the one who knows what the count is for can decide.
                outcome => println!("{outcome}: {error}"),
            },
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
