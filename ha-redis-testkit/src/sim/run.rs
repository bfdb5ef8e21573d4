//! One run: a client and its callers in a world with faults, from the start until after the end.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fastrand::Rng;
use futures_lite::future;
use ha_redis_core::Client;

use super::check::check;
use super::history::History;
use super::hostile::Hostility;
use super::log::Log;
use super::operator::OperatorAction;
use super::plan::{Ending, Plan};
use super::runtime::SimRuntime;
use super::scheduler::{Clock, Owner, Scheduler, lock};
use super::trace::Trace;
use super::workload::Caller;
use super::world::{Event, World};

/// The limit of a run.
const MAX_RUN: Duration = Duration::from_secs(200);
/// How long the Sentinels and servers may take to agree after the faults.
const MAX_SETTLING: Duration = Duration::from_secs(80);
/// How long everything works before the client is closed.
const CALM_TIME: Duration = Duration::from_millis(500);
/// A latency at which connecting takes much less time than its timeout.
const SHORT_LATENCY: Duration = Duration::from_millis(5);
/// At this latency, replicas are used within this time, and remain in use while the Sentinels have lost them.
const REPLICA_DETECTION: Duration = Duration::from_secs(3);
const RESET_LASTS: Duration = Duration::from_secs(5);
/// How long callers may take to end after their last deadline, and tasks after the client.
const SHUTDOWN_GRACE: Duration = Duration::from_millis(100);
/// How long closing may take beyond its own timeout.
const CLOSING: Duration = Duration::from_millis(1_010);

/// The result of a run.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Report {
    /// The seed of the run.
    pub seed: u64,
    /// The rules that were violated. Empty if the run passed.
    pub violations: Vec<String>,
    /// The last lines of the trace.
    pub trace: Vec<String>,
    /// A hash of all events, which is equal for equal seeds.
    pub hash: u64,
    /// How many calls were made.
    pub calls: usize,
    /// The duration of the run, in virtual time.
    pub elapsed: Duration,
}

/// Runs the scenario of a seed. The report contains the last `lines` of its trace, with the client's log if `log`
/// is set.
pub fn run(seed: u64, lines: usize, log: bool) -> Report {
    run_with_harm(seed, None, lines, log)
}

/// Like [`run`], with hostile peers in every run: of any kind, or of the kinds whose name begins with `harm`.
pub fn run_with_harm(seed: u64, harm: Option<&str>, lines: usize, log: bool) -> Report {
    let mut rng = Rng::with_seed(seed);
    let mut plan = Plan::new(&mut rng);
    if let Some(hostility) = Hostility::of(seed, harm) {
        plan.add_hostility(hostility);
    }
    let plan = Arc::new(plan);
    let mut scheduler = Scheduler::new(rng.u64(..));
    let clock = Arc::clone(scheduler.clock());
    let trace = Trace::new(lines);
    let world =
        World::new(&clock, rng.u64(..), plan.conditions, plan.behavior, plan.permissions.clone(), trace);
    let world = Arc::new(Mutex::new(world));
    plan.log_conditions(&mut lock(&world));
    plan.hostility.into_iter().for_each(|hostility| lock(&world).begin_hostility(hostility));
    for (at, fault) in &plan.faults {
        lock(&world).schedule(*at, Event::Fault(*fault));
    }
    let runtime = SimRuntime::new(&clock, &world, rng.u64(..));
    let finished = Arc::new(AtomicBool::new(false));
    let director =
        Director { plan: Arc::clone(&plan), clock: Arc::clone(&clock), world: Arc::clone(&world), runtime };
    let (done, rng) = (Arc::clone(&finished), rng.fork());
    let direct = async move {
        director.direct(rng).await;
        done.store(true, Ordering::Relaxed);
    };
    clock.spawn(Owner::Workload, Box::pin(direct));
    let mut act = || {
        run_until(&mut scheduler, &world, MAX_RUN, |_| finished.load(Ordering::Relaxed));
        let end = clock.now() + SHUTDOWN_GRACE;
        let removed =
            |scheduler: &Scheduler| scheduler.client_tasks() == 0 && lock(&world).network.held() == 0;
        run_until(&mut scheduler, &world, end, removed);
    };
    match log {
        true => tracing::subscriber::with_default(Log::new(&world), act),
        false => act(),
    }
    report(seed, &plan, &scheduler, &mut lock(&world))
}

/// Runs tasks and events until `done` or `end`.
fn run_until(
    scheduler: &mut Scheduler,
    world: &Mutex<World>,
    end: Duration,
    done: impl Fn(&Scheduler) -> bool,
) {
    let clock = Arc::clone(scheduler.clock());
    while clock.now() < end && !done(scheduler) {
        lock(world).run_due();
        if let Some(task) = scheduler.run_one() {
            lock(world).trace.mark(task);
            continue;
        }
        let events = lock(world).next_event();
        let next = [clock.next_timer(), events].into_iter().flatten().min();
        clock.advance(next.unwrap_or(end));
    }
}

fn report(seed: u64, plan: &Plan, scheduler: &Scheduler, world: &mut World) -> Report {
    let mut violations = check(&world.history, plan);
    violations.extend(scheduler.panics().iter().map(|panic| format!("a task panicked: {panic}")));
    let (tasks, connections) = (scheduler.client_tasks(), world.network.held());
    if tasks + connections > 0 {
        let message = format!("{tasks} tasks and {connections} connections were left at the end");
        violations.push(message);
    }
    Report {
        seed,
        violations,
        trace: world.trace.lines(),
        hash: world.trace.hash(),
        calls: world.history.calls().count(),
        elapsed: world.now(),
    }
}

/// What directs a run: starts the callers, and checks and closes the client.
struct Director {
    plan: Arc<Plan>,
    clock: Arc<Clock>,
    world: Arc<Mutex<World>>,
    runtime: SimRuntime,
}

impl Director {
    async fn direct(&self, mut rng: Rng) {
        let client = Client::new(self.plan.config.clone(), Arc::new(self.runtime.clone()));
        if self.plan.lossless || self.plan.is_calm() {
            // A client that starts in the middle of a failover has missed its events.
            let mut initialized = client.initialize().await;
            // Its timeouts may be too short for one of the attempts.
            while self.plan.is_calm() && initialized.is_err() && self.clock.now() < self.plan.recovery() {
                initialized = client.initialize().await;
            }
            if self.plan.is_calm() {
                self.history(|history| history.recovered = Some(self.clock.now()));
                if let Err(error) = initialized {
                    self.violation(&format!("no connection could be made without any fault: {error}"));
                }
            }
        }
        let (stop, running) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        for _ in 0..self.plan.callers {
            let caller = self.caller(&client, &mut rng);
            let (stop, running) = (Arc::clone(&stop), Arc::clone(&running));
            running.fetch_add(1, Ordering::Relaxed);
            let call = async move {
                caller.run(stop).await;
                running.fetch_sub(1, Ordering::Relaxed);
            };
            self.clock.spawn(Owner::Workload, Box::pin(call));
        }
        let faults_end = self.plan.faults.last().map_or(Duration::ZERO, |(at, _)| *at);
        if self.plan.ending == Ending::Early {
            self.runtime.sleep(faults_end.mul_f64(rng.f64())).await;
            self.close(&client).await;
        } else {
            self.runtime.sleep(faults_end).await;
            self.recover(self.caller(&client, &mut rng)).await;
            self.check_health(&client).await;
            self.runtime.sleep(CALM_TIME).await;
            if self.plan.reads_replicas {
                self.reset_sentinels().await;
            }
        }
        if self.plan.ending == Ending::Busy {
            self.close(&client).await;
        }
        stop.store(true, Ordering::Relaxed);
        let idle = || running.load(Ordering::Relaxed) == 0;
        self.wait_until(self.plan.call_timeout * 2 + self.plan.pause + SHUTDOWN_GRACE, idle).await;
        if self.plan.ending == Ending::Quiet {
            self.close(&client).await;
        }
        if self.plan.lossless && self.plan.ending != Ending::Early {
            self.check_no_lost_writes();
        }
    }

    fn caller(&self, client: &Client, rng: &mut Rng) -> Caller {
        Caller {
            client: client.clone(),
            connection: client.connection().with_retry_safety(self.plan.safety),
            replicas: self.plan.reads_replicas.then(|| client.replica_connection()),
            runtime: self.runtime.clone(),
            world: Arc::clone(&self.world),
            cursor: 0,
            rng: rng.fork(),
            plan: Arc::clone(&self.plan),
        }
    }

    /// Checks that the client reports a healthy state and the master that the Sentinels agree on. This needs no
    /// command that a user may lack. With a high latency the timeouts of these two queries may be too short.
    async fn check_health(&self, client: &Client) {
        let conditions = self.plan.conditions;
        if conditions.speed.is_some() || conditions.latency > SHORT_LATENCY {
            return;
        }
        let health = client.health_check().await;
        if !health.is_healthy() {
            self.violation(&format!("the health check failed for a healthy master: {health:?}"));
        }
        let named = lock(&self.world).newest_master().address();
        match client.topology().await {
            Ok(topology) if topology.master == named => {}
            Ok(topology) => {
                let reported = topology.master;
                self.violation(&format!(
                    "topology() returned {reported} as master, but all Sentinels name {named}"
                ));
            }
            Err(error) => self.violation(&format!("topology() failed without any fault: {error}")),
        }
    }

    /// Makes the Sentinels lose their replicas for a while, which no call may notice.
    async fn reset_sentinels(&self) {
        self.runtime.sleep(REPLICA_DETECTION).await;
        lock(&self.world).on_operator_action(OperatorAction::Reset { sentinel: None });
        self.runtime.sleep(RESET_LASTS).await;
    }

    /// Waits until the servers agree again, and then until the client has found them.
    async fn recover(&self, probe: Caller) {
        self.wait_until(MAX_SETTLING, || lock(&self.world).agreed_era().is_some()).await;
        let agreed = lock(&self.world).agreed_era();
        self.history(|history| history.agreed = agreed.map(|era| (self.clock.now(), era)));
        if !self.wait_until(MAX_SETTLING, || lock(&self.world).is_settled()).await {
            self.violation("the servers did not settle after the faults: this is a bug of the simulation");
        }
        lock(&self.world).log_note("the servers have settled");
        let probing = async {
            probe.probe().await;
            true
        };
        let in_time = async {
            self.runtime.sleep(self.plan.recovery()).await;
            false
        };
        if !future::or(probing, in_time).await {
            self.violation("no call succeeded after the faults had ended");
        }
        lock(&self.world).log_note("the client has recovered");
        self.history(|history| _ = history.recovered.get_or_insert(self.clock.now()));
    }

    async fn close(&self, client: &Client) {
        let begun = self.clock.now();
        self.history(|history| history.closed = Some(begun));
        lock(&self.world).log_note("the client is being closed");
        client.close().await;
        if self.clock.now() > begun + self.plan.config.socket_timeout() + CLOSING {
            self.violation("closing took longer than its bounds");
        }
    }

    /// Checks that the last master has all acknowledged writes.
    fn check_no_lost_writes(&self) {
        let mut world = lock(&self.world);
        let lost = world.lost_counts();
        for call in lost {
            world.history.violation(format!("call {call} was acknowledged but lost in a planned failover"));
        }
    }

    /// Polls a condition. Returns false if it is not met in time.
    async fn wait_until(&self, timeout: Duration, condition: impl Fn() -> bool) -> bool {
        let end = self.clock.now() + timeout;
        while !condition() {
            if self.clock.now() >= end {
                return false;
            }
            self.runtime.sleep(Duration::from_millis(10)).await;
        }
        true
    }

    fn violation(&self, what: &str) {
        self.history(|history| history.violation(what));
    }

    fn history(&self, change: impl FnOnce(&mut History)) {
        change(&mut lock(&self.world).history);
    }
}
