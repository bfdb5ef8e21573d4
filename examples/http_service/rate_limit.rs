//! A limit on the requests of each client within a minute, for all processes of the service together.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::{Duration, SystemTime};

use ha_redis_tokio::redis::cmd;

use crate::redis_calls::{Failure, RedisCalls};
use crate::sessions::random_id;

const WINDOW: Duration = Duration::from_secs(60);

/// Keeps the requests of the last minute as members of a sorted set, by their time, and never more than the limit.
///
/// A counter (`INCR`, a token bucket) is wrong after a lost reply: sent again, it counts one request twice; not sent
/// again, the request fails. Here each request has an id: run twice, the script counts it once and replies the same. Its
/// time comes from the caller, so that it is the same in every attempt. If the call is still in doubt when its time is
/// over, the request is refused, and at most counts although it was not served. A killed master may lose the latest
/// members, so that a client gets a few requests more.
const SCRIPT: &str = "
    local now, window, limit, id = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4]
    redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - window)
    if redis.call('ZSCORE', KEYS[1], id) then return 0 end
    if redis.call('ZCARD', KEYS[1]) >= limit then
        local oldest = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
        return math.max(oldest[2] + window - now, 1)
    end
    redis.call('ZADD', KEYS[1], now, id)
    redis.call('PEXPIRE', KEYS[1], window)
    return 0
";

/// Counts a request. Returns how long the client should wait if it has reached its limit.
pub async fn count(
    redis: &RedisCalls,
    client: IpAddr,
    limit: NonZeroU32,
) -> Result<Option<Duration>, Failure> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    // The whole script, each time: it is one call, with one bound. `redis::Script` sends its hash, and up to two calls
    // more to a master that does not know it, such as each new one.
    let mut eval = cmd("EVAL");
    eval.arg(SCRIPT).arg(1).arg(format!("requests:{client}"));
    eval.arg(now.as_millis() as u64).arg(WINDOW.as_millis() as u64).arg(limit.get()).arg(random_id());
    let wait: u64 =
        redis.repeatable("rate_limit", async |mut redis| eval.query_async(&mut redis).await).await?;
    Ok((wait > 0).then(|| Duration::from_millis(wait)))
}
