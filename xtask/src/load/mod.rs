//! The callers: tasks that use the client as the tasks of a service do.

pub(crate) mod ledger;
pub(crate) mod record;

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ha_redis_testkit::Server;
use ha_redis_tokio::redis::{AsyncCommands, RedisError};
use ha_redis_tokio::runtime::Runtime;
use ha_redis_tokio::{Client, Connection, Outcome, RedisErrorExt};
use tokio::sync::{oneshot, watch};
use tokio::time::timeout;

use self::ledger::{Ledger, Tally};
use self::record::{Each, Operation, Recorder};

/// The number of callers, and their operations.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Work {
    pub(crate) callers: usize,
    /// The operations that each caller repeats.
    pub(crate) operations: &'static [Operation],
}

/// The shortest time between two operations of a caller. The servers and the callers share the machine, and
/// latencies are meaningful only below its limit.
const PACE: Duration = Duration::from_millis(1);

/// Longer than any call may take: a wait for a master, a reply, and both again for a retry.
const MAX_CALL_TIME: Duration = Duration::from_secs(30);

/// The keys of a run, which are unique to the run.
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

    /// Returns all keys: the callers' counters, then their registers.
    pub(crate) fn all(&self) -> Vec<String> {
        let counters = (0..self.callers).map(|caller| self.counter(caller));
        counters.chain((0..self.callers).map(|caller| self.register(caller))).collect()
    }

    /// Returns the values of all keys on a server, queried directly and not through the client.
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
    /// Dropping this ends the callers in the middle of their calls.
    abort_on_drop: watch::Sender<()>,
    callers: Vec<oneshot::Receiver<Caller>>,
}

impl Load {
    /// Starts the callers of `client` on its runtime.
    pub(crate) fn start(
        client: &Client,
        runtime: &Arc<dyn Runtime>,
        keys: &Keys,
        work: Work,
        recorder: &Arc<Recorder>,
    ) -> Result<Self, String> {
        let stop = Arc::new(AtomicBool::new(false));
        let (abort_on_drop, aborted) = watch::channel(());
        let mut callers = Vec::new();
        for number in 0..work.callers {
            let caller = Caller::new(number, client.connection(), keys, Arc::clone(recorder));
            let (ended, end) = oneshot::channel();
            let (mut aborted, stop, pace) = (aborted.clone(), Arc::clone(&stop), Arc::clone(runtime));
            let task = async move {
                tokio::select! {
                    // The receiver may be gone.
                    caller = caller.run(work.operations, stop, &*pace) => { let _ = ended.send(caller); }
                    _ = aborted.changed() => {}
                }
            };
            runtime.spawn(Box::pin(task)).map_err(|error| format!("cannot start a caller: {error}"))?;
            callers.push(end);
        }
        Ok(Self { stop, abort_on_drop, callers })
    }

    /// Lets the callers finish their calls, and returns them in order.
    pub(crate) async fn finish(&mut self) -> Result<Vec<Caller>, String> {
        self.stop.store(true, Ordering::Relaxed);
        let mut callers = Vec::new();
        for caller in self.callers.drain(..) {
            match timeout(MAX_CALL_TIME, caller).await {
                Ok(Ok(caller)) => callers.push(caller),
                Ok(Err(_)) => return Err("a caller has panicked".to_owned()),
                Err(_) => return Err("a call did not end".to_owned()),
            }
        }
        Ok(callers)
    }

    /// Ends the callers in the middle of their calls, and returns when they have ended.
    pub(crate) async fn abort(self) {
        drop(self.abort_on_drop);
        for caller in self.callers {
            let _ = caller.await;
        }
    }
}

/// One caller.
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
    /// The time of the last reply.
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

    async fn run(mut self, operations: &[Operation], stop: Arc<AtomicBool>, runtime: &dyn Runtime) -> Self {
        let mut next = runtime.now();
        let mut timer = runtime.timer(next);
        for operation in operations.iter().copied().cycle().skip(self.number % operations.len()) {
            poll_fn(|cx| timer.poll(cx)).await;
            // A late caller does not catch up.
            next = (next + PACE).max(runtime.now());
            timer.reset(next);
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

/// The final results of the callers, compared with the server.
#[derive(Debug, Default)]
pub(crate) struct Account {
    pub(crate) tally: Tally,
    /// The most failed calls of one caller.
    pub(crate) most_failed: Each<u64>,
    /// When each caller got its last reply.
    pub(crate) last_answers: Vec<Duration>,
}

impl Account {
    /// Closes the callers' ledgers with the master's values of [`Keys::all`].
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

    /// Returns how many callers got a reply after `time`.
    pub(crate) fn answered_after(&self, time: Duration) -> usize {
        self.last_answers.iter().filter(|answer| **answer > time).count()
    }
}
