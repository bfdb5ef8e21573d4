//! Counts while the master changes, and reports each failover and the outcome of every call that failed.
//!
//! `REDIS_URL` names the Sentinels, such as `redis+sentinel://s1:26379,s2:26379,s3:26379/mymaster`. The program
//! counts until Ctrl-C, or as often as the first argument says.

use std::time::Duration;

use ha_redis_tokio::redis::AsyncCommands;
use ha_redis_tokio::{Connection, Event, Events, Outcome, RedisClient, RedisConfig, RedisErrorExt};
use tokio::time::sleep;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url =
        std::env::var("REDIS_URL").unwrap_or_else(|_| "redis+sentinel://localhost:26379/mymaster".to_owned());
    let times: u64 = std::env::args().nth(1).map_or(Ok(u64::MAX), |times| times.parse())?;
    let client = RedisClient::connect(url.parse::<RedisConfig>()?).await?;
    println!("{}", client.topology().await?);

    tokio::spawn(watch(client.events()));
    tokio::select! {
        () = count(client.connection(), times) => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    client.close().await;
    Ok(())
}

async fn count(mut redis: Connection, times: u64) {
    for _ in 0..times {
        if let Err(error) = redis.incr::<_, _, ()>("example:count", 1).await {
            match error.outcome() {
                // The increment did not run, so it is safe to send it again.
                Outcome::NotSent | Outcome::NotApplied => println!("not counted: {error}"),
                // It may have run. Only the application can decide what to do.
                outcome => println!("{outcome}: {error}"),
            }
        }
        sleep(Duration::from_millis(10)).await;
    }
}

/// Prints what happens, until the client is closed.
async fn watch(mut events: Events) {
    while let Some(event) = events.next().await {
        match event {
            Event::Lost { address, why } => println!("lost {address}: {why}"),
            Event::Switched { to, .. } => println!("the master is {to}"),
            // A second later: how long it took, and how many calls waited or failed.
            Event::Failover(report) => println!("{report}"),
            _ => {}
        }
    }
}
