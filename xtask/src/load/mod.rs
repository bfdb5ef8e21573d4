//! The callers: tasks that use the client as the tasks of a service do.

pub(crate) mod ledger;
pub(crate) mod record;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ha_redis_testkit::Server;
use ha_redis_tokio::redis::{AsyncCommands, RedisError};
use ha_redis_tokio::{Connection, Outcome, RedisClient, RedisErrorExt};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};

use self::ledger::{Ledger, Tally};
use self::record::{Each, Operation, Recorder};

/// Who calls, and what.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Work {
    pub(crate) callers: usize,
    /// What each caller does, again and again.
    pub(crate) turns: &'static [Operation],
}

/// The time from the end of a caller's operation to its next: the servers and the callers share the machine, and
/// latencies mean something only when it is not at its limit.
const PACE: Duration = Duration::from_millis(1);

/// Longer than any call may take: a wait for a master, a reply, and both again for a retry.
const LONGEST_CALL: Duration = Duration::from_secs(30);

/// The keys of a run, which no other run has.
#[derive(Debug)]
pub(crate) struct Keys {
    prefix: String,
    callers: usize,
}

impl Keys {
    pub(crate) fn new(callers: usize) -> Self {
        Self { prefix: format!("ha-redis:{:016x}", fastrand::u64(..)), callers }
    }

    fn counter(&self, caller: usize) -> String {
        format!("{}:counter:{caller}", self.prefix)
    }

    fn register(&self, caller: usize) -> String {
        format!("{}:register:{caller}", self.prefix)
    }

    /// All of them: the callers' counters, then their registers.
    pub(crate) fn all(&self) -> Vec<String> {
        let counters = (0..self.callers).map(|caller| self.counter(caller));
        counters.chain((0..self.callers).map(|caller| self.register(caller))).collect()
    }

    /// What a server has under all of them: asked directly, not through the client.
    pub(crate) fn values_on(&self, server: &Server) -> Result<Vec<Option<String>>, String> {
        let keys = self.all();
        let command: Vec<&str> = ["MGET"].into_iter().chain(keys.iter().map(String::as_str)).collect();
        let values = server.query(&command).map_err(|error| error.to_string())?;
        Ok(values.items().iter().map(|value| value.text().map(str::to_owned)).collect())
    }
}

/// The running callers. They end when this is dropped.
#[derive(Debug)]
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    callers: JoinSet<Caller>,
}

impl Load {
    pub(crate) fn start(client: &RedisClient, keys: &Keys, work: Work, recorder: &Arc<Recorder>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut callers = JoinSet::new();
        for number in 0..work.callers {
            let caller = Caller::new(number, client.connection(), keys, Arc::clone(recorder));
            callers.spawn(caller.run(work.turns, Arc::clone(&stop)));
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
    ledger: Ledger,
    /// How many calls failed.
    failed: Each<u64>,
    /// When a call was last answered.
    last_answer: Duration,
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
            failed: Each::default(),
            last_answer: Duration::ZERO,
        }
    }

    async fn run(mut self, turns: &[Operation], stop: Arc<AtomicBool>) -> Self {
        let mut pace = interval(PACE);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for operation in turns.iter().copied().cycle().skip(self.number % turns.len()) {
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
            Err(Outcome::MaybeApplied) => self.ledger.counter.maybe_incremented(),
            Err(_) => {}
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
                self.last_answer = self.recorder.success(operation, began);
                Ok(value)
            }
            Err(error) => {
                let outcome = error.outcome();
                *self.failed.of_mut(operation) += 1;
                self.recorder.failure(operation, outcome, || format!("{}: {error}", operation.name()));
                Err(outcome)
            }
        }
    }
}

/// What the callers and the server say in the end.
#[derive(Debug, Default)]
pub(crate) struct Account {
    pub(crate) tally: Tally,
    /// The most calls of one caller that failed.
    pub(crate) most_failed: Each<u64>,
    /// When each caller was last answered.
    pub(crate) last_answers: Vec<Duration>,
}

impl Account {
    /// Closes the callers' ledgers with what the master has under [`Keys::all`].
    pub(crate) fn close(callers: Vec<Caller>, values: &[Option<String>]) -> Self {
        let (counters, registers) = values.split_at(callers.len().min(values.len()));
        let mut account = Self::default();
        for (caller, (counter, register)) in callers.into_iter().zip(counters.iter().zip(registers)) {
            account.last_answers.push(caller.last_answer);
            account.most_failed = account.most_failed.max(caller.failed);
            let counter = counter.as_deref().and_then(|counter| counter.parse().ok());
            account.tally += caller.ledger.close(counter, register.as_deref());
        }
        account
    }

    /// How many callers were answered after `time`.
    pub(crate) fn answered_after(&self, time: Duration) -> usize {
        self.last_answers.iter().filter(|answer| **answer > time).count()
    }
}
