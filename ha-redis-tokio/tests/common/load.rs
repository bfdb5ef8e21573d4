//! Callers that go on while things break, and what they saw.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use ha_redis_testkit::Topology;
use ha_redis_tokio::redis::AsyncCommands;
use ha_redis_tokio::{Outcome, RedisClient, RedisErrorExt};

use super::{BOUND, until};

const CALLERS: usize = 32;

/// What one caller saw of its own counter and register.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    acknowledged: i64,
    pub(crate) maybe: i64,
    pub(crate) other_errors: Vec<String>,
}

/// Callers that work on keys of their own until they are told to stop.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    callers: Vec<tokio::task::JoinHandle<Seen>>,
}

impl Load {
    pub(crate) fn start(client: &RedisClient) -> Self {
        let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let caller = |caller| call(caller, client.clone(), Arc::clone(&stop), Arc::clone(&done));
        let callers = (0..CALLERS).map(|number| tokio::spawn(caller(number))).collect();
        Self { stop, done, callers }
    }

    /// Waits until `more` calls have succeeded from now on.
    pub(crate) async fn progress(&self, more: u64) {
        let target = self.done.load(Ordering::Relaxed) + more;
        until("the callers go on", || self.done.load(Ordering::Relaxed) >= target).await;
    }

    pub(crate) async fn finish(self) -> Vec<Seen> {
        self.stop.store(true, Ordering::Relaxed);
        let mut seen = Vec::new();
        for caller in self.callers {
            seen.push(tokio::time::timeout(BOUND, caller).await.unwrap().unwrap());
        }
        seen
    }
}

async fn call(caller: usize, client: RedisClient, stop: Arc<AtomicBool>, done: Arc<AtomicU64>) -> Seen {
    let mut redis = client.connection();
    let (counter, register) = (format!("counter:{caller}"), format!("register:{caller}"));
    let mut seen = Seen::default();
    let mut written = 0_u64;
    while !stop.load(Ordering::Relaxed) {
        match redis.incr::<_, _, i64>(&counter, 1).await {
            Ok(_) => seen.acknowledged += 1,
            Err(error) if error.outcome() == Outcome::MaybeApplied => seen.maybe += 1,
            Err(error) => seen.other_errors.push(format!("INCR: {error}")),
        }
        written += 1;
        if let Err(error) = redis.set::<_, _, ()>(&register, written).await {
            seen.other_errors.push(format!("SET: {error}"));
        }
        if let Err(error) = redis.get::<_, Option<u64>>(&register).await {
            seen.other_errors.push(format!("GET: {error}"));
        }
        done.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    seen
}

/// What every failover promises. Returns how many acknowledged increments the new master does not have.
pub(crate) fn check(topology: &Topology, seen: &[Seen]) -> i64 {
    let master = topology.master().unwrap();
    let mut lost = 0;
    for (caller, seen) in seen.iter().enumerate() {
        assert!(seen.other_errors.is_empty(), "caller {caller}: {:?}", seen.other_errors);
        assert!(seen.maybe <= 1, "caller {caller} was left in doubt {} times", seen.maybe);
        let value = master.query(&["GET", &format!("counter:{caller}")]).unwrap();
        let value: i64 = value.text().unwrap().parse().unwrap();
        assert!(value <= seen.acknowledged + seen.maybe, "caller {caller}: an increment ran twice");
        lost += (seen.acknowledged - value).max(0);
    }
    lost
}
