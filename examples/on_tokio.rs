//! The program of `on_async_std` and `on_smol`, on Tokio.

use ha_redis_tokio::{RedisClient, RedisConfig, redis::AsyncCommands};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::var("REDIS_URL").unwrap_or_else(|_| "redis://localhost:6379".to_owned());
    let client = RedisClient::connect(url.parse::<RedisConfig>()?).await?;

    let mut redis = client.connection();
    let greeting = tokio::spawn(async move { redis.set::<_, _, ()>("greeting", "hello").await });
    greeting.await??;
    let greeting: String = client.connection().get("greeting").await?;
    println!("{greeting} from Tokio");

    client.close().await;
    Ok(())
}
