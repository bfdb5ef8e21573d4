//! One run: a client and its callers in a world that goes wrong, from the beginning to after the end.

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
use super::operator::Act;
use super::plan::{Ending, Plan};
use super::runtime::SimRuntime;
use super::scheduler::{Clock, Owner, Scheduler, lock};
use super::trace::Trace;
use super::workload::Caller;
use super::world::{Event, World};

/// No run takes so long.
const LONGEST: Duration = Duration::from_secs(200);
/// The Sentinels and servers agree again within this, once the faults have stopped.
const SETTLING: Duration = Duration::from_secs(80);
/// So long all goes well before the client is closed.
const CALM: Duration = Duration::from_millis(500);
/// Where a connection is made well within its bound.
const SHORT_LATENCY: Duration = Duration::from_millis(5);
/// Then replicas are read from within this, and go on to be while the Sentinels have forgotten them.
const REPLICAS_ARE_READ: Duration = Duration::from_secs(3);
const RESET_LASTS: Duration = Duration::from_secs(5);
/// Callers end so much after the last of their deadlines, and tasks so much after the client.
const LAST_ORDERS: Duration = Duration::from_millis(100);
/// What closing may take beyond its own bounds.
const CLOSING: Duration = Duration::from_millis(1_010);

/// What came of a run.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Report {
    /// What the run was made from.
    pub seed: u64,
    /// What did not hold. Empty when all is well.
    pub violations: Vec<String>,
    /// The last lines of what happened.
    pub trace: Vec<String>,
    /// A hash of all that happened: the same for the same seed.
    pub hash: u64,
    /// How many calls were made.
    pub calls: usize,
    /// How long it took, in virtual time.
    pub elapsed: Duration,
}

/// Runs the scenario of a seed. The report has the last `lines` of its trace, with what the client logged if `log`.
pub fn run(seed: u64, lines: usize, log: bool) -> Report {
    run_with_harm(seed, None, lines, log)
}

/// As [`run`], with peers that mean harm in every run: any, or those whose name begins with `harm`.
pub fn run_with_harm(seed: u64, harm: Option<&str>, lines: usize, log: bool) -> Report {
    let mut rng = Rng::with_seed(seed);
    let mut plan = Plan::new(&mut rng);
    if let Some(hostility) = Hostility::of(seed, harm) {
        plan.endure(hostility);
    }
    let plan = Arc::new(plan);
    let mut scheduler = Scheduler::new(rng.u64(..));
    let clock = Arc::clone(scheduler.clock());
    let trace = Trace::new(lines);
    let world = World::new(&clock, rng.u64(..), plan.conditions, plan.habits, plan.rights.clone(), trace);
    let world = Arc::new(Mutex::new(world));
    plan.tell(&mut lock(&world));
    plan.hostility.into_iter().for_each(|hostility| lock(&world).begin_hostility(hostility));
    for (at, fault) in &plan.faults {
        lock(&world).schedule(*at, Event::Fault(*fault));
    }
    let runtime = SimRuntime::new(&clock, &world, rng.u64(..));
    let directed = Arc::new(AtomicBool::new(false));
    let stage =
        Stage { plan: Arc::clone(&plan), clock: Arc::clone(&clock), world: Arc::clone(&world), runtime };
    let (done, rng) = (Arc::clone(&directed), rng.fork());
    let direct = async move {
        stage.direct(rng).await;
        done.store(true, Ordering::Relaxed);
    };
    clock.spawn(Owner::Workload, Box::pin(direct));
    let mut act = || {
        play(&mut scheduler, &world, LONGEST, |_| directed.load(Ordering::Relaxed));
        let end = clock.now() + LAST_ORDERS;
        let gone = |scheduler: &Scheduler| scheduler.client_tasks() == 0 && lock(&world).network.held() == 0;
        play(&mut scheduler, &world, end, gone);
    };
    match log {
        true => tracing::subscriber::with_default(Log::new(&world), act),
        false => act(),
    }
    report(seed, &plan, &scheduler, &mut lock(&world))
}

/// Lets tasks and the world go on, until `done` or `end`.
fn play(scheduler: &mut Scheduler, world: &Mutex<World>, end: Duration, done: impl Fn(&Scheduler) -> bool) {
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
        let left = format!("{tasks} tasks and {connections} connections were left after the end");
        violations.push(left);
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

/// What the run's director has at hand.
struct Stage {
    plan: Arc<Plan>,
    clock: Arc<Clock>,
    world: Arc<Mutex<World>>,
    runtime: SimRuntime,
}

impl Stage {
    async fn direct(&self, mut rng: Rng) {
        let client = Client::new(self.plan.config.clone(), Arc::new(self.runtime.clone()));
        if self.plan.lossless || self.plan.is_calm() {
            // One that starts in the midst of a failover has missed the news.
            let mut initialized = client.initialize().await;
            // Its bounds may be too short for one of the attempts.
            while self.plan.is_calm() && initialized.is_err() && self.clock.now() < self.plan.recovery() {
                initialized = client.initialize().await;
            }
            if self.plan.is_calm() {
                self.history(|history| history.recovered = Some(self.clock.now()));
                if let Err(error) = initialized {
                    self.violation(&format!("no connection could be made although all is well: {error}"));
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
            self.look(&client).await;
            self.runtime.sleep(CALM).await;
            if self.plan.reads_replicas {
                self.reset_the_sentinels().await;
            }
        }
        if self.plan.ending == Ending::Busy {
            self.close(&client).await;
        }
        stop.store(true, Ordering::Relaxed);
        let idle = || running.load(Ordering::Relaxed) == 0;
        self.wait(self.plan.call_timeout * 2 + self.plan.pause + LAST_ORDERS, idle).await;
        if self.plan.ending == Ending::Quiet {
            self.close(&client).await;
        }
        if self.plan.lossless && self.plan.ending != Ending::Early {
            self.nothing_is_lost();
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

    /// The client says of itself that it is well, and of the Sentinels what they agree on: for that no command is needed
    /// that a user may lack. Where answers take long, the bounds of these two questions may be too short.
    async fn look(&self, client: &Client) {
        let conditions = self.plan.conditions;
        if conditions.speed.is_some() || conditions.latency > SHORT_LATENCY {
            return;
        }
        let health = client.health_check().await;
        if !health.is_healthy() {
            self.violation(&format!("the health check found fault with a master that is well: {health:?}"));
        }
        let named = lock(&self.world).newest_master().address();
        match client.topology().await {
            Ok(topology) if topology.master == named => {}
            Ok(topology) => {
                let told = topology.master;
                self.violation(&format!(
                    "topology() told that {told} is master, and all Sentinels name {named}"
                ));
            }
            Err(error) => self.violation(&format!("topology() failed although all is well: {error}")),
        }
    }

    /// What no call may notice: that Sentinels forget for a while which replicas there are.
    async fn reset_the_sentinels(&self) {
        self.runtime.sleep(REPLICAS_ARE_READ).await;
        lock(&self.world).on_act(Act::Reset { sentinel: None });
        self.runtime.sleep(RESET_LASTS).await;
    }

    /// Waits until the servers agree again, and then for the client to find them.
    async fn recover(&self, probe: Caller) {
        self.wait(SETTLING, || lock(&self.world).agreed_era().is_some()).await;
        let agreed = lock(&self.world).agreed_era();
        self.history(|history| history.agreed = agreed.map(|era| (self.clock.now(), era)));
        if !self.wait(SETTLING, || lock(&self.world).is_settled()).await {
            self.violation("the servers did not settle after the faults: the simulation is at fault");
        }
        lock(&self.world).say("all is settled");
        let probing = async {
            probe.probe().await;
            true
        };
        let in_time = async {
            self.runtime.sleep(self.plan.recovery()).await;
            false
        };
        if !future::or(probing, in_time).await {
            self.violation("no call succeeded after the faults had stopped");
        }
        lock(&self.world).say("the client has recovered");
        self.history(|history| _ = history.recovered.get_or_insert(self.clock.now()));
    }

    async fn close(&self, client: &Client) {
        let begun = self.clock.now();
        self.history(|history| history.closed = Some(begun));
        lock(&self.world).say("the client is being closed");
        client.close().await;
        if self.clock.now() > begun + self.plan.config.socket_timeout() + CLOSING {
            self.violation("closing took longer than its bounds");
        }
    }

    /// What was acknowledged is there, on the last master.
    fn nothing_is_lost(&self) {
        let mut world = lock(&self.world);
        let lost = world.lost_counts();
        for call in lost {
            world.history.violation(format!("call {call} was acknowledged, and lost in a planned failover"));
        }
    }

    /// Looks again and again whether it is so. False when it is not in time.
    async fn wait(&self, patience: Duration, so: impl Fn() -> bool) -> bool {
        let end = self.clock.now() + patience;
        while !so() {
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
