//! What a seed determines: the client's configuration, the conditions, the callers and the faults.

use std::time::Duration;

use fastrand::Rng;
use ha_redis_core::{Address, RedisConfig, RetrySafety};

use super::fault::Fault;
use super::host::{Host, SENTINELS};
use super::hostile::{Harm, Hostility, PASSWORD};
use super::link_speed::LinkSpeed;
use super::network::Conditions;
use super::permissions::{Hello, Permissions};
use super::sentinel::MASTER_NAME;
use super::world::{Behavior, World};

/// How long the client may take to find the master after the faults.
const RECOVERY: Duration = Duration::from_secs(6);

pub(super) struct Plan {
    pub(super) config: RedisConfig,
    pub(super) conditions: Conditions,
    pub(super) behavior: Behavior,
    pub(super) permissions: Permissions,
    pub(super) callers: usize,
    /// The longest pause of a caller between two calls.
    pub(super) pause: Duration,
    /// Which commands callers allow to be retried.
    pub(super) safety: RetrySafety,
    /// The longest that a call may take.
    pub(super) call_timeout: Duration,
    /// The length of the largest texts; 0 if all are small.
    pub(super) largest_text: usize,
    /// Whether callers also read from replicas.
    pub(super) reads_replicas: bool,
    /// Whether callers compete for a single dedicated connection.
    pub(super) crowded: bool,
    /// Whether callers sometimes make many concurrent calls.
    pub(super) bursts: bool,
    /// The period in which all callers are idle.
    idle_period: Option<(Duration, Duration)>,
    /// Ordered by time. The last is [`Fault::Heal`].
    pub(super) faults: Vec<(Duration, Fault)>,
    /// Whether the only faults are planned failovers, which must not lose acknowledged writes.
    pub(super) lossless: bool,
    pub(super) ending: Ending,
    /// The hostile peers, if there are any.
    pub(super) hostility: Option<Hostility>,
}

/// How a run ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// The callers stop, then the client is closed.
    Quiet,
    /// The client is closed while the callers run.
    Busy,
    /// All handles are dropped without closing the client.
    Dropped,
    /// The client is closed during the faults.
    Early,
}

impl Plan {
    pub(super) fn new(rng: &mut Rng) -> Self {
        let lossless = rng.u8(..5) == 0;
        let callers = rng.usize(2..=5);
        let load = Load::new(rng, callers, lossless);
        let replication_lag = if lossless { millis(rng, 1, 15) } else { millis(rng, 1, 300) };
        let (mut faults, mut idle_period) = (faults(rng, lossless), None);
        if rng.u8(..4) == 0 {
            idle_period = Some(insert_idle_period(rng, &mut faults));
        }
        let named_sentinels = rng.usize(1..=SENTINELS);
        let crowded = rng.u8(..8) == 0;
        Self {
            config: config(rng, &load, named_sentinels, crowded),
            behavior: Behavior {
                replication_lag,
                hello: Hello::any(rng),
                named_sentinels,
                min_replicas: usize::from(rng.u8(..3) == 0),
                serves_stale: rng.u8(..4) != 0,
                longest_loading: Duration::from_millis(if rng.u8(..3) == 0 { 3_000 } else { 300 }),
                publish: lossless || rng.u8(..6) != 0,
                // Soon after an aborted failover, the client does not hold writes back for the next one.
                aborts: if lossless || rng.bool() { 0 } else { 25 },
                late_aborts: if lossless || rng.bool() { 0 } else { 25 },
                reconfigure_delay: if rng.u8(..4) == 0 { 50 } else { 15 },
            },
            // Lossless failovers need the Sentinels' events and the replies of every server.
            permissions: if lossless { Permissions::default() } else { Permissions::any(rng) },
            callers,
            pause: millis(rng, 10, 100),
            safety: [RetrySafety::ReadOnly, RetrySafety::Repeatable, RetrySafety::Anything][rng.usize(..3)],
            call_timeout: load.call_timeout,
            largest_text: load.largest_text,
            crowded,
            reads_replicas: rng.u8(..6) == 0,
            bursts: load.max_in_flight > 1_000,
            conditions: load.conditions,
            idle_period,
            faults,
            lossless,
            ending: match rng.u8(..8) {
                0..4 => Ending::Quiet,
                4 | 5 => Ending::Busy,
                6 => Ending::Dropped,
                _ => Ending::Early,
            },
            hostility: None,
        }
    }

    /// Adds hostile peers. The client knows all Sentinels, and reaches the honest ones.
    pub(super) fn add_hostility(&mut self, hostility: Hostility) {
        let sentinels = (0..SENTINELS).map(|number| Host::Sentinel(number).address());
        let config = self.config.to_builder().password(PASSWORD).sentinel_hosts(sentinels);
        // The previous values are within the limits of the builder.
        self.config = config.build().unwrap_or_default();
        self.behavior.named_sentinels = SENTINELS;
        self.permissions = Permissions::default();
        // A lossless failover needs the events of the Sentinel that leads it, which may be the hostile one.
        self.lossless = false;
        self.faults.retain(|(_, fault)| hostility.permits(fault));
        // Without reads from replicas, the client does not connect to them.
        self.reads_replicas |= matches!(hostility.harm, Harm::Replica(_) | Harm::ManyReplicas);
        self.hostility = Some(hostility);
    }

    /// Returns true if hostile peers are the only fault. Then no call may fail.
    pub(super) fn is_calm(&self) -> bool {
        self.hostility.is_some_and(|hostility| hostility.is_calm())
    }

    /// Returns true if a replica violates the protocol, so that reads from replicas have no reliable result.
    pub(super) fn has_hostile_replica(&self) -> bool {
        self.hostility.is_some_and(|hostility| matches!(hostility.harm, Harm::Replica(_)))
    }

    /// Returns true if the client can prevent the late execution of abandoned calls: by a reset, or by CLIENT KILL,
    /// for which it must know and find its connection.
    pub(super) fn can_fence(&self) -> bool {
        let knows_number = self.behavior.hello == Hello::Known || self.permissions.allow("CLIENT ID");
        let finds_and_kills = self.permissions.allow("CLIENT LIST") && self.permissions.allow("CLIENT KILL");
        self.conditions.honours_resets || (knows_number && finds_and_kills)
    }

    /// Returns how long a call may take to succeed after the faults. It may have to wait behind large ones.
    pub(super) fn recovery(&self) -> Duration {
        let behind_others = self.conditions.speed.map_or(Duration::ZERO, |_| self.call_timeout);
        RECOVERY + behind_others
    }

    /// Returns true if the client's queries about replicas are answered.
    pub(super) fn replica_queries_allowed(&self) -> bool {
        self.permissions.allow("INFO") && !self.permissions.hides("SENTINEL REPLICAS")
    }

    /// Writes the properties of the run to the trace.
    pub(super) fn log_conditions(&self, world: &mut World) {
        world.log_note(format!("{:?}", self.conditions));
        world.log_note(format!("{:?}", self.behavior));
        world.log_note(format!("{:?}", self.permissions));
        let Self { callers, pause, safety, largest_text, lossless, idle_period, ending, .. } = self;
        world.log_note(format!(
            "{callers} callers that pause for {pause:?} and allow {safety}, texts of up to {largest_text}, \
             lossless: {lossless}, idle: {idle_period:?}, ending: {ending:?}"
        ));
        world.log_note(format!("{:?}", self.config));
    }

    /// Returns when the idle period of the callers ends, if it is now.
    pub(super) fn idle_until(&self, now: Duration) -> Option<Duration> {
        self.idle_period.filter(|(begin, end)| (*begin..*end).contains(&now)).map(|(_, end)| end)
    }
}

/// The load on the connections, and the timeouts that fit it.
struct Load {
    conditions: Conditions,
    largest_text: usize,
    max_in_flight: u32,
    socket_timeout: Duration,
    call_timeout: Duration,
}

impl Load {
    fn new(rng: &mut Rng, callers: usize, lossless: bool) -> Self {
        let narrow = rng.u8(..4) == 0;
        let latency = if lossless || narrow { 3_000 } else { 20_000 };
        let mut load = Self {
            conditions: Conditions {
                latency: Duration::from_micros(rng.u64(100..latency)),
                window: if narrow { rng.usize(60..400) } else { 64 << 10 },
                fragmented: rng.bool(),
                honours_resets: rng.u8(..3) != 0,
                speed: None,
            },
            largest_text: 0,
            max_in_flight: if rng.u8(..3) == 0 { rng.u32(1..4) } else { 65_536 },
            socket_timeout: millis(rng, 100, 1_000),
            call_timeout: millis(rng, 400, 4_000),
        };
        match rng.u8(..4) {
            0 if !narrow => load.largest_text = rng.usize(1_000..100_000),
            1 if !lossless => load.slow_down(rng, callers),
            _ => {}
        }
        load
    }

    /// Makes the largest texts take longer than `socket_timeout`, and gives calls enough time to wait for those of
    /// all callers.
    fn slow_down(&mut self, rng: &mut Rng, callers: usize) {
        // The wait for a slot does not take the duration of the calls before it into account.
        self.max_in_flight = 65_536;
        self.largest_text = rng.usize(16_000..60_000);
        let longest = self.socket_timeout.mul_f64(1.0 + 2.0 * rng.f64());
        let speed = (self.largest_text as f64 / longest.as_secs_f64()) as u64;
        // Most connections have the same speed in both directions.
        let faster = if rng.u8(..3) == 0 { 10 } else { 1 };
        let (up, down) = if rng.bool() { (speed, speed * faster) } else { (speed * faster, speed) };
        // The client observes the progress of its writes by the space in the window.
        self.conditions.window = (speed as f64 * self.socket_timeout.as_secs_f64() / 4.0) as usize;
        self.conditions.speed = Some(LinkSpeed { up, down, segment: self.conditions.window / 4 });
        self.call_timeout += longest * (2 * callers as u32 + 2);
    }
}

fn config(rng: &mut Rng, load: &Load, named: usize, crowded: bool) -> RedisConfig {
    let sentinels = (0..SENTINELS).map(|number| Host::Sentinel(number).address());
    // An address that never answers is ignored.
    let dead = (rng.u8(..8) == 0).then(|| Address::tcp("sentinel.gone", 26379));
    let health_check_interval = if rng.u8(..3) == 0 { 60_000 } else { rng.u64(100..2_000) };
    let builder = RedisConfig::builder()
        .use_sentinel(true)
        // The client discovers the other Sentinels.
        .sentinel_hosts(dead.into_iter().chain(sentinels.take(named)))
        .sentinel_master_name(MASTER_NAME)
        .sentinel_socket_timeout(millis(rng, 100, 500))
        .sentinel_socket_connect_timeout(millis(rng, 150, 500))
        .socket_timeout(load.socket_timeout)
        .socket_connect_timeout(millis(rng, 150, 500))
        .health_check_interval(Duration::from_millis(health_check_interval))
        .failover_wait(millis(rng, 500, 5_000))
        .retry_attempts(rng.u32(..4))
        .retry_base_delay(millis(rng, 1, 100))
        .max_connections(if crowded { 2 } else { rng.usize(2..6) })
        .replica_fallback(rng.bool())
        .max_in_flight(load.max_in_flight)
        .call_timeout(load.call_timeout);
    // All values above are within the limits of the builder.
    builder.build().unwrap_or_default()
}

/// Inserts an idle period between the faults. Later faults come after it or during it.
fn insert_idle_period(rng: &mut Rng, faults: &mut [(Duration, Fault)]) -> (Duration, Duration) {
    let end = faults.last().map_or(Duration::ZERO, |(at, _)| *at);
    let begin = end.mul_f64(rng.f64());
    let lasts = match rng.u8(..8) {
        0 => Duration::from_secs(rng.u64(10..90)),
        _ => millis(rng, 1_200, 6_000),
    };
    if rng.bool() {
        faults.iter_mut().filter(|(at, _)| *at >= begin).for_each(|(at, _)| *at += lasts);
    } else if let Some((heal, _)) = faults.last_mut() {
        *heal = (*heal).max(begin + lasts);
    }
    (begin, begin + lasts)
}

fn faults(rng: &mut Rng, lossless: bool) -> Vec<(Duration, Fault)> {
    let (count, last) = (rng.u64(1..=6), rng.u64(2_000..7_000));
    let mut faults = (0..count)
        .map(|_| {
            let at = Duration::from_millis(rng.u64(50..last));
            (at, if lossless { Fault::harmless(rng) } else { Fault::random(rng) })
        })
        .collect::<Vec<_>>();
    faults.sort_by_key(|(at, _)| *at);
    faults.push((Duration::from_millis(last + 500), Fault::Heal));
    faults
}

fn millis(rng: &mut Rng, from: u64, to: u64) -> Duration {
    Duration::from_millis(rng.u64(from..to))
}
