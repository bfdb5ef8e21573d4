//! The program of `on_tokio` and `on_async_std`, on smol.

use ha_redis_smol::{RedisClient, RedisConfig, redis::AsyncCommands};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    smol::block_on(run())
}

async fn run() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::var("REDIS_URL").unwrap_or_else(|_| "redis://localhost:6379".to_owned());
    let client = RedisClient::connect(url.parse::<RedisConfig>()?).await?;

    let mut redis = client.connection();
    let greeting = smol::spawn(async move { redis.set::<_, _, ()>("greeting", "hello").await });
    greeting.await?;
    let greeting: String = client.connection().get("greeting").await?;
    println!("{greeting} from smol");

    client.close().await;
    Ok(())
}
