//! Callers that run while servers fail, and a record of what they saw.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use ha_redis_core::{Client, Outcome, RedisErrorExt};
use redis::AsyncCommands;

use super::kit::{Kit, Spawned};
use crate::Topology;

const CALLERS: usize = 32;

/// What one caller saw of its own counter and register.
#[derive(Debug, Default)]
pub(super) struct Seen {
    acknowledged: i64,
    pub(super) maybe: i64,
    pub(super) other_errors: Vec<String>,
}

/// Callers that work on keys of their own until they are stopped.
pub(super) struct Load {
    kit: Kit,
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    callers: Vec<Spawned<Seen>>,
}

impl Load {
    pub(super) fn start(kit: &Kit, client: &Client) -> Self {
        let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let caller = |caller| call(kit.clone(), caller, client.clone(), Arc::clone(&stop), Arc::clone(&done));
        let callers = (0..CALLERS).map(|number| kit.spawn(caller(number))).collect();
        Self { kit: kit.clone(), stop, done, callers }
    }

    /// Waits until the callers have completed `more` further rounds.
    pub(super) async fn progress(&self, more: u64) {
        let target = self.done.load(Ordering::Relaxed) + more;
        self.kit.until("the callers make progress", || self.done.load(Ordering::Relaxed) >= target).await;
    }

    pub(super) async fn finish(mut self) -> Vec<Seen> {
        self.stop.store(true, Ordering::Relaxed);
        self.kit.all(std::mem::take(&mut self.callers)).await
    }
}

/// Stops the callers also when the test fails, because tests may share the runtime.
impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

async fn call(kit: Kit, caller: usize, client: Client, stop: Arc<AtomicBool>, done: Arc<AtomicU64>) -> Seen {
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
        kit.sleep(Duration::from_millis(1)).await;
    }
    seen
}

/// Checks that every call has succeeded.
pub(super) fn none_failed(seen: &[Seen]) {
    for (caller, seen) in seen.iter().enumerate() {
        assert!(seen.other_errors.is_empty(), "caller {caller}: {:?}", seen.other_errors);
        assert_eq!(seen.maybe, 0, "caller {caller}");
    }
}

/// Checks the guarantees that hold for every failover. Returns how many acknowledged increments the new master
/// lacks.
pub(super) fn check(topology: &Topology, seen: &[Seen]) -> i64 {
    let master = topology.master().unwrap();
    let mut lost = 0;
    for (caller, seen) in seen.iter().enumerate() {
        assert!(seen.other_errors.is_empty(), "caller {caller}: {:?}", seen.other_errors);
        assert!(seen.maybe <= 1, "caller {caller} had {} calls with an unknown outcome", seen.maybe);
        let value = master.query(&["GET", &format!("counter:{caller}")]).unwrap();
        let value: i64 = value.text().unwrap().parse().unwrap();
        assert!(value <= seen.acknowledged + seen.maybe, "caller {caller}: an increment ran twice");
        lost += (seen.acknowledged - value).max(0);
    }
    lost
}
