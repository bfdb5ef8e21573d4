//! The callers: tasks that use the client as the tasks of a service do.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ha_redis_tokio::redis::{AsyncCommands, RedisError};
use ha_redis_tokio::{Connection, Outcome, RedisClient, RedisErrorExt};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::ledger::Ledger;
use super::record::{Operation, Recorder};

/// How many callers there are.
pub(crate) const CALLERS: usize = 32;

/// The time from the end of a caller's operation to its next: the servers and the callers share the machine, and
/// latencies mean something only when it is not at its limit.
const PACE: Duration = Duration::from_millis(1);

/// Longer than any call may take: a wait for a master, a reply, and both again for a retry.
const LONGEST_CALL: Duration = Duration::from_secs(30);

/// The keys of a run, which no other run has.
#[derive(Debug)]
pub(crate) struct Keys {
    prefix: String,
}

impl Keys {
    pub(crate) fn new() -> Self {
        Self { prefix: format!("ha-redis-demo:{:016x}", fastrand::u64(..)) }
    }

    fn counter(&self, caller: usize) -> String {
        format!("{}:counter:{caller}", self.prefix)
    }

    fn register(&self, caller: usize) -> String {
        format!("{}:register:{caller}", self.prefix)
    }

    /// All of them: the callers' counters, then their registers.
    pub(crate) fn all(&self) -> Vec<String> {
        let counters = (0..CALLERS).map(|caller| self.counter(caller));
        counters.chain((0..CALLERS).map(|caller| self.register(caller))).collect()
    }
}

/// The running callers. They end when this is dropped.
#[derive(Debug)]
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    callers: JoinSet<Caller>,
}

impl Load {
    pub(crate) fn start(client: &RedisClient, keys: &Keys, recorder: &Arc<Recorder>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut callers = JoinSet::new();
        for number in 0..CALLERS {
            let caller = Caller::new(number, client.connection(), keys, Arc::clone(recorder));
            callers.spawn(caller.run(Arc::clone(&stop)));
        }
        Self { stop, callers }
    }

    /// Lets the callers finish what they are at, and returns them in their order.
    pub(crate) async fn finish(&mut self) -> Result<Vec<Caller>, String> {
        self.stop.store(true, Ordering::Relaxed);
        let mut callers = Vec::new();
        loop {
            match timeout(LONGEST_CALL, self.callers.join_next()).await {
                Ok(Some(caller)) => callers.push(caller.map_err(|error| format!("a caller ended: {error}"))?),
                Ok(None) => break,
                Err(_) => return Err(format!("{} calls did not end", self.callers.len())),
            }
        }
        callers.sort_by_key(|caller| caller.number);
        Ok(callers)
    }

    /// Ends the callers in the midst of what they are at, and returns when they are gone.
    pub(crate) async fn abort(mut self) {
        self.callers.shutdown().await;
    }
}

/// One of the callers.
#[derive(Debug)]
pub(crate) struct Caller {
    number: usize,
    redis: Connection,
    counter: String,
    register: String,
    recorder: Arc<Recorder>,
    pub(crate) ledger: Ledger,
    /// How many INCRs failed.
    pub(crate) failed_increments: u64,
    /// When a call was last answered.
    pub(crate) last_success: Duration,
}

impl Caller {
    fn new(number: usize, redis: Connection, keys: &Keys, recorder: Arc<Recorder>) -> Self {
        Self {
            number,
            redis,
            counter: keys.counter(number),
            register: keys.register(number),
            recorder,
            ledger: Ledger::new(number),
            failed_increments: 0,
            last_success: Duration::ZERO,
        }
    }

    async fn run(mut self, stop: Arc<AtomicBool>) -> Self {
        let mut pace = interval(PACE);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let turns = [Operation::Incr, Operation::Set, Operation::Get];
        for operation in turns.into_iter().cycle().skip(self.number % turns.len()) {
            pace.tick().await;
            if stop.load(Ordering::Relaxed) {
                break;
            }
            match operation {
                Operation::Incr => self.increment().await,
                Operation::Set => self.set().await,
                Operation::Get => self.get().await,
            }
        }
        self
    }

    async fn increment(&mut self) {
        let began = Instant::now();
        let reply: Result<u64, RedisError> = self.redis.incr(&self.counter, 1).await;
        match self.record(Operation::Incr, began, reply) {
            Ok(value) => self.ledger.counter.incremented_to(value),
            Err(outcome) => {
                self.failed_increments += 1;
                if outcome == Outcome::MaybeApplied {
                    self.ledger.counter.maybe_incremented();
                }
            }
        }
    }

    async fn set(&mut self) {
        let value = self.ledger.register.next();
        let began = Instant::now();
        let reply: Result<(), RedisError> = self.redis.set(&self.register, value).await;
        if self.record(Operation::Set, began, reply).is_ok() {
            self.ledger.register.acknowledged();
        }
    }

    async fn get(&mut self) {
        let began = Instant::now();
        let reply: Result<Option<String>, RedisError> = self.redis.get(&self.register).await;
        if let Ok(value) = self.record(Operation::Get, began, reply) {
            self.ledger.register.read(value.as_deref());
        }
    }

    fn record<T>(
        &mut self,
        operation: Operation,
        began: Instant,
        reply: Result<T, RedisError>,
    ) -> Result<T, Outcome> {
        match reply {
            Ok(value) => {
                self.last_success = self.recorder.success(operation, began);
                Ok(value)
            }
            Err(error) => {
                let outcome = error.outcome();
                self.recorder.failure(operation, outcome, || format!("{}: {error}", operation.name()));
                Err(outcome)
            }
        }
    }
}
