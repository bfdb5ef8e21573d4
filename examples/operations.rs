//! The common operations on every data type. `REDIS_URL` sets the server; the default is `redis://localhost:6379`.

use std::collections::{HashMap, HashSet};

use ha_redis_tokio::redis::{AsyncCommands, RedisResult};
use ha_redis_tokio::{Connection, RedisClient, RedisConfig};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::var("REDIS_URL").unwrap_or_else(|_| "redis://localhost:6379".to_owned());
    let client = RedisClient::connect(url.parse::<RedisConfig>()?).await?;
    let mut redis = client.connection();

    strings(&mut redis).await?;
    hashes(&mut redis).await?;
    lists(&mut redis).await?;
    sets(&mut redis).await?;
    sorted_sets(&mut redis).await?;
    keys(&mut redis).await?;

    client.close().await;
    Ok(())
}

async fn strings(redis: &mut Connection) -> RedisResult<()> {
    redis.set::<_, _, ()>("user:1:name", "Alice").await?;
    let name: String = redis.get("user:1:name").await?;
    println!("user:1:name = {name}");

    // With an expiry, in seconds.
    redis.set_ex::<_, _, ()>("session:abc", "data", 3600).await?;

    // Counters.
    redis.set::<_, _, ()>("counter", 0).await?;
    let one: i64 = redis.incr("counter", 1).await?;
    let six: i64 = redis.incr("counter", 5).await?;
    println!("counter = {one}, then {six}");
    Ok(())
}

async fn hashes(redis: &mut Connection) -> RedisResult<()> {
    let fields = [("name", "Alice"), ("email", "alice@example.com"), ("age", "30")];
    redis.hset_multiple::<_, _, _, ()>("user:1", &fields).await?;
    let user: HashMap<String, String> = redis.hgetall("user:1").await?;
    let email: String = redis.hget("user:1", "email").await?;
    println!("user:1 has {} fields, email = {email}", user.len());
    Ok(())
}

async fn lists(redis: &mut Connection) -> RedisResult<()> {
    redis.del::<_, ()>("queue:jobs").await?;
    redis.rpush::<_, _, ()>("queue:jobs", &["job1", "job2", "job3"]).await?;
    let job: String = redis.lpop("queue:jobs", None).await?;
    let waiting: Vec<String> = redis.lrange("queue:jobs", 0, -1).await?;
    println!("took {job}, {waiting:?} are waiting");
    Ok(())
}

async fn sets(redis: &mut Connection) -> RedisResult<()> {
    redis.sadd::<_, _, ()>("tags:article:1", &["rust", "redis", "async"]).await?;
    let tags: HashSet<String> = redis.smembers("tags:article:1").await?;
    let has_rust: bool = redis.sismember("tags:article:1", "rust").await?;
    println!("{} tags, rust among them: {has_rust}", tags.len());
    Ok(())
}

async fn sorted_sets(redis: &mut Connection) -> RedisResult<()> {
    let scores = [(100, "alice"), (85, "bob"), (95, "charlie")];
    redis.zadd_multiple::<_, _, _, ()>("leaderboard", &scores).await?;
    let top: Vec<(String, f64)> = redis.zrevrange_withscores("leaderboard", 0, 2).await?;
    println!("leaders: {top:?}");
    Ok(())
}

async fn keys(redis: &mut Connection) -> RedisResult<()> {
    let exists: bool = redis.exists("user:1:name").await?;
    redis.expire::<_, ()>("session:abc", 1800).await?;
    let seconds: i64 = redis.ttl("session:abc").await?;
    println!("user:1:name exists: {exists}, session:abc lives for {seconds} s");
    let deleted: i64 = redis.del(&["user:1:name", "user:1", "counter", "session:abc"]).await?;
    println!("deleted {deleted} keys");
    Ok(())
}
