//! A worker that takes jobs from a list. `BLPOP` waits on a dedicated connection, so that it does not delay other
//! calls of the same client.
//!
//! `REDIS_URL` sets the server; the default is `redis://localhost:6379`. The program ends when there was no job for
//! a second.

use ha_redis_tokio::redis::{AsyncCommands, RedisResult};
use ha_redis_tokio::{RedisClient, RedisConfig};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::var("REDIS_URL").unwrap_or_else(|_| "redis://localhost:6379".to_owned());
    let client = RedisClient::connect(url.parse::<RedisConfig>()?).await?;

    let worker = tokio::spawn(work(client.clone()));
    let mut redis = client.connection();
    for job in 1..=3 {
        redis.rpush::<_, _, ()>("example:jobs", format!("job {job}")).await?;
    }
    println!("{} jobs done", worker.await??);
    client.close().await;
    Ok(())
}

async fn work(client: RedisClient) -> RedisResult<usize> {
    let mut redis = client.connection();
    let mut done = 0;
    while let Some((_list, job)) = redis.blpop::<_, Option<(String, String)>>("example:jobs", 1.0).await? {
        println!("doing {job}");
        done += 1;
    }
    Ok(done)
}
