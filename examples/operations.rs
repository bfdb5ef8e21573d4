//! The common operations on every data type. It writes keys that begin with `example:`, and deletes them.
//!
//! `REDIS_URL` sets the server; the default is `redis://localhost:6379`.

use std::collections::{HashMap, HashSet};

use ha_redis_tokio::redis::{AsyncCommands, RedisResult, Script, pipe};
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
    several(&mut redis).await?;
    keys(&mut redis).await?;

    client.close().await;
    Ok(())
}

async fn strings(redis: &mut Connection) -> RedisResult<()> {
    redis.set::<_, _, ()>("example:user:1:name", "Alice").await?;
    let name: String = redis.get("example:user:1:name").await?;
    println!("name = {name}");

    // With an expiry, in seconds.
    redis.set_ex::<_, _, ()>("example:session:abc", "data", 3600).await?;

    // Counters.
    redis.set::<_, _, ()>("example:counter", 0).await?;
    let one: i64 = redis.incr("example:counter", 1).await?;
    let six: i64 = redis.incr("example:counter", 5).await?;
    println!("counter = {one}, then {six}");
    Ok(())
}

async fn hashes(redis: &mut Connection) -> RedisResult<()> {
    let fields = [("name", "Alice"), ("email", "alice@example.com"), ("age", "30")];
    redis.hset_multiple::<_, _, _, ()>("example:user:1", &fields).await?;
    let user: HashMap<String, String> = redis.hgetall("example:user:1").await?;
    let email: String = redis.hget("example:user:1", "email").await?;
    println!("the user has {} fields, email = {email}", user.len());
    Ok(())
}

async fn lists(redis: &mut Connection) -> RedisResult<()> {
    redis.del::<_, ()>("example:queue:jobs").await?;
    redis.rpush::<_, _, ()>("example:queue:jobs", &["job1", "job2", "job3"]).await?;
    let job: String = redis.lpop("example:queue:jobs", None).await?;
    let waiting: Vec<String> = redis.lrange("example:queue:jobs", 0, -1).await?;
    println!("took {job}, {waiting:?} are waiting");
    Ok(())
}

async fn sets(redis: &mut Connection) -> RedisResult<()> {
    redis.sadd::<_, _, ()>("example:tags:article:1", &["rust", "redis", "async"]).await?;
    let tags: HashSet<String> = redis.smembers("example:tags:article:1").await?;
    let has_rust: bool = redis.sismember("example:tags:article:1", "rust").await?;
    println!("{} tags, rust among them: {has_rust}", tags.len());
    Ok(())
}

async fn sorted_sets(redis: &mut Connection) -> RedisResult<()> {
    let scores = [(100, "alice"), (85, "bob"), (95, "charlie")];
    redis.zadd_multiple::<_, _, _, ()>("example:leaderboard", &scores).await?;
    let top: Vec<(String, f64)> = redis.zrevrange_withscores("example:leaderboard", 0, 2).await?;
    println!("leaders: {top:?}");
    Ok(())
}

async fn several(redis: &mut Connection) -> RedisResult<()> {
    // A pipeline is one round trip. With `atomic()`, no other client's commands run in between (MULTI, EXEC).
    let (visits, visitors): (i64, i64) = pipe()
        .atomic()
        .incr("example:visits", 1)
        .pfadd("example:visitors", "alice")
        .query_async(redis)
        .await?;
    println!("{visits} visits, {visitors} new visitor");

    // A script reads and writes in one step.
    let script = Script::new("return redis.call('SET', KEYS[1], ARGV[1], 'NX') and 1 or 0");
    let is_first: bool = script.key("example:lock").arg("mine").invoke_async(redis).await?;
    println!("the lock was free: {is_first}");
    Ok(())
}

async fn keys(redis: &mut Connection) -> RedisResult<()> {
    let exists: bool = redis.exists("example:user:1:name").await?;
    redis.expire::<_, ()>("example:session:abc", 1800).await?;
    let seconds: i64 = redis.ttl("example:session:abc").await?;
    println!("the name exists: {exists}, the session lives for {seconds} s");
    // SCAN goes through all keys without blocking the server.
    let mut found = Vec::new();
    let mut scan = redis.scan_match::<_, String>("example:*").await?;
    while let Some(key) = scan.next_item().await {
        found.push(key?);
    }
    drop(scan);
    let deleted: usize = redis.del(&found).await?;
    println!("deleted {deleted} of {} keys", found.len());
    Ok(())
}
