//! The program of `on_tokio` and `on_smol`, on async-std.

use ha_redis_async_std::{RedisClient, RedisConfig, redis::AsyncCommands};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    async_std::task::block_on(run())
}

async fn run() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::var("REDIS_URL").unwrap_or_else(|_| "redis://localhost:6379".to_owned());
    let client = RedisClient::connect(url.parse::<RedisConfig>()?).await?;

    let mut redis = client.connection();
    let greeting = async_std::task::spawn(async move { redis.set::<_, _, ()>("greeting", "hello").await });
    greeting.await?;
    let greeting: String = client.connection().get("greeting").await?;
    println!("{greeting} from async-std");

    client.close().await;
    Ok(())
}
