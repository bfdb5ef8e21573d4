//! A worker that takes jobs from a list, and loses none when it ends in the middle of one or when a reply is lost.
//!
//! `BLMOVE` moves a job to a list of this worker, from which only a finished job is removed. With `BLPOP`, a job would be
//! gone whenever the reply is lost. In return, a job may be done twice: jobs have ids, or the second time does no harm.
//!
//! `REDIS_URL` sets the server; the default is `redis://localhost:6379`. The program adds three jobs, and ends when
//! there was no job for a second.

use std::time::Duration;

use ha_redis_tokio::redis::{AsyncCommands, Direction, RedisResult};
use ha_redis_tokio::{Connection, RedisClient, RedisConfig, RetrySafety};
use tokio::time::sleep;

const JOBS: &str = "example:jobs";

/// The jobs that this worker has taken. Each worker has its own list, and the same one after a restart.
const TAKEN: &str = "example:jobs:worker-1";

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::var("REDIS_URL").unwrap_or_else(|_| "redis://localhost:6379".to_owned());
    let client = RedisClient::connect(url.parse::<RedisConfig>()?).await?;
    let mut redis = client.connection();
    redis.rpush::<_, _, ()>(JOBS, &["job 1", "job 2", "job 3"]).await?;

    let mut done = 0;
    while let Err(error) = work(&mut redis, &mut done).await {
        println!("cannot work on jobs, trying again in a second: {error}");
        sleep(Duration::from_secs(1)).await;
    }
    println!("{done} jobs done");
    client.close().await;
    Ok(())
}

/// Does jobs until there was none for a second. A worker that never ends would go on instead.
async fn work(redis: &mut Connection, done: &mut usize) -> RedisResult<()> {
    // From a run that has ended too early, or from a call whose reply was lost.
    let left: Vec<String> = redis.lrange(TAKEN, 0, -1).await?;
    for job in &left {
        finish(redis, job).await?;
        *done += 1;
    }
    while let Some(job) = take(redis).await? {
        finish(redis, &job).await?;
        *done += 1;
    }
    Ok(())
}

/// Waits for a job, on a connection of its own, so that other calls of the client are not delayed.
async fn take(redis: &mut Connection) -> RedisResult<Option<String>> {
    redis.blmove(JOBS, TAKEN, Direction::Left, Direction::Right, 1.0).await
}

async fn finish(redis: &Connection, job: &str) -> RedisResult<()> {
    println!("doing {job}");
    // Removing it twice does no harm, so that a lost reply is no error.
    let mut redis = redis.clone().with_retry_safety(RetrySafety::Anything);
    redis.lrem(TAKEN, 1, job).await
}
