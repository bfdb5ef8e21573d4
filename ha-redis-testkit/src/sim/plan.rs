//! What a seed stands for: the client's configuration, the conditions, the callers and the faults.

use std::time::Duration;

use fastrand::Rng;
use ha_redis_core::{Address, RedisConfig, RetrySafety};

use super::fault::Fault;
use super::host::{Host, SENTINELS};
use super::hostile::{Harm, Hostility, PASSWORD};
use super::link_speed::LinkSpeed;
use super::network::Conditions;
use super::sentinel::MASTER_NAME;
use super::users::{Hello, Rights};
use super::world::{Habits, World};

/// The client finds the master within this, whatever was wrong before.
const RECOVERY: Duration = Duration::from_secs(6);

pub(super) struct Plan {
    pub(super) config: RedisConfig,
    pub(super) conditions: Conditions,
    pub(super) habits: Habits,
    pub(super) rights: Rights,
    pub(super) callers: usize,
    /// The longest pause of a caller between two calls.
    pub(super) pause: Duration,
    /// What callers allow to run twice.
    pub(super) safety: RetrySafety,
    /// The longest that a call may take.
    pub(super) call_timeout: Duration,
    /// How long the largest texts are; 0 when all are small.
    pub(super) largest_text: usize,
    /// Whether callers read from replicas too.
    pub(super) reads_replicas: bool,
    /// Whether callers crowd for a single connection of their own.
    pub(super) crowded: bool,
    /// Whether callers sometimes make many calls at the same time.
    pub(super) bursts: bool,
    /// When all callers rest, and until when.
    rest: Option<(Duration, Duration)>,
    /// In order of time. The last is [`Fault::Heal`].
    pub(super) faults: Vec<(Duration, Fault)>,
    /// Nothing goes wrong but failovers that an operator asks for: no acknowledged write may be lost.
    pub(super) lossless: bool,
    pub(super) ending: Ending,
    /// Who means harm, if anybody does.
    pub(super) hostility: Option<Hostility>,
}

/// How a run ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// The callers stop, then the client is closed.
    Quiet,
    /// The client is closed while the callers go on.
    Busy,
    /// All handles are dropped without a word.
    Dropped,
    /// It is closed in the midst of the faults.
    Early,
}

impl Plan {
    pub(super) fn new(rng: &mut Rng) -> Self {
        let lossless = rng.u8(..5) == 0;
        let callers = rng.usize(2..=5);
        let load = Load::new(rng, callers, lossless);
        let lag_bytes = if lossless { millis(rng, 1, 15) } else { millis(rng, 1, 300) };
        let (mut faults, mut rest) = (faults(rng, lossless), None);
        if rng.u8(..4) == 0 {
            rest = Some(rest_amid(rng, &mut faults));
        }
        let named_sentinels = rng.usize(1..=SENTINELS);
        let crowded = rng.u8(..8) == 0;
        Self {
            config: config(rng, &load, named_sentinels, crowded),
            habits: Habits {
                replication_lag: lag_bytes,
                hello: Hello::any(rng),
                named_sentinels,
                min_replicas: usize::from(rng.u8(..3) == 0),
                serves_stale: rng.u8(..4) != 0,
                longest_loading: Duration::from_millis(if rng.u8(..3) == 0 { 3_000 } else { 300 }),
                publish: lossless || rng.u8(..6) != 0,
                // Soon after one that was given up, writes are not held back for the next.
                aborts: if lossless || rng.bool() { 0 } else { 25 },
                late_aborts: if lossless || rng.bool() { 0 } else { 25 },
                leniency: if rng.u8(..4) == 0 { 50 } else { 15 },
            },
            // Failovers that lose nothing need the Sentinels' news and every server's word.
            rights: if lossless { Rights::default() } else { Rights::any(rng) },
            callers,
            pause: millis(rng, 10, 100),
            safety: [RetrySafety::ReadOnly, RetrySafety::Repeatable, RetrySafety::Anything][rng.usize(..3)],
            call_timeout: load.call_timeout,
            largest_text: load.largest_text,
            crowded,
            reads_replicas: rng.u8(..6) == 0,
            bursts: load.max_in_flight > 1_000,
            conditions: load.conditions,
            rest,
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

    /// Adds peers that mean harm. The client knows all Sentinels, and reaches those that are honest.
    pub(super) fn endure(&mut self, hostility: Hostility) {
        let sentinels = (0..SENTINELS).map(|number| Host::Sentinel(number).address());
        let config = self.config.to_builder().password(PASSWORD).sentinel_hosts(sentinels);
        // What was there before is within what the builder allows.
        self.config = config.build().unwrap_or_default();
        self.habits.named_sentinels = SENTINELS;
        self.rights = Rights::default();
        // That nothing is lost is owed to the news of the Sentinel that leads the failover, which may be the hostile one.
        self.lossless = false;
        self.faults.retain(|(_, fault)| hostility.adopt(fault));
        // Nobody else connects to replicas.
        self.reads_replicas |= matches!(hostility.harm, Harm::Replica(_) | Harm::ManyReplicas);
        self.hostility = Some(hostility);
    }

    /// Whether nothing is wrong but that somebody means harm: then no call fails.
    pub(super) fn is_calm(&self) -> bool {
        self.hostility.is_some_and(|hostility| hostility.is_calm())
    }

    /// Whether a replica answers what no Redis does, so that what is read from replicas means nothing.
    pub(super) fn has_hostile_replica(&self) -> bool {
        self.hostility.is_some_and(|hostility| matches!(hostility.harm, Harm::Replica(_)))
    }

    /// Whether a client can see to it that what it gave up on a connection does not come late: by a reset, or by having
    /// the server end that connection, which it must know and find.
    pub(super) fn can_fence(&self) -> bool {
        let knows_number = self.habits.hello == Hello::Known || self.rights.allow("CLIENT ID");
        let finds_and_kills = self.rights.allow("CLIENT LIST") && self.rights.allow("CLIENT KILL");
        self.conditions.honours_resets || (knows_number && finds_and_kills)
    }

    /// Within which time a call succeeds once nothing is wrong any more. It may have to wait behind large ones.
    pub(super) fn recovery(&self) -> Duration {
        let behind_others = self.conditions.speed.map_or(Duration::ZERO, |_| self.call_timeout);
        RECOVERY + behind_others
    }

    /// Whether all that the client asks of replicas is answered.
    pub(super) fn tells_of_replicas(&self) -> bool {
        self.rights.allow("INFO") && !self.rights.hides("SENTINEL REPLICAS")
    }

    /// Says in the trace what this run is like.
    pub(super) fn tell(&self, world: &mut World) {
        world.say(format!("{:?}", self.conditions));
        world.say(format!("{:?}", self.habits));
        world.say(format!("{:?}", self.rights));
        let Self { callers, pause, safety, largest_text, lossless, rest, ending, .. } = self;
        world.say(format!(
            "{callers} callers that pause for {pause:?} and allow {safety}, texts of up to {largest_text}, \
             lossless: {lossless}, rest: {rest:?}, ending: {ending:?}"
        ));
        world.say(format!("{:?}", self.config));
    }

    /// Until when callers rest, if they rest now.
    pub(super) fn rest_until(&self, now: Duration) -> Option<Duration> {
        self.rest.filter(|(begin, end)| (*begin..*end).contains(&now)).map(|(_, end)| end)
    }
}

/// What the connections carry, and the times that fit it.
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
                choppy: rng.bool(),
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

    /// The largest texts take longer than `socket_timeout`, and calls have the time to wait for those of all callers.
    fn slow_down(&mut self, rng: &mut Rng, callers: usize) {
        // How long a place is waited for knows nothing of how long the calls before take.
        self.max_in_flight = 65_536;
        self.largest_text = rng.usize(16_000..60_000);
        let longest = self.socket_timeout.mul_f64(1.0 + 2.0 * rng.f64());
        let speed = (self.largest_text as f64 / longest.as_secs_f64()) as u64;
        // Most connections are as slow one way as the other.
        let faster = if rng.u8(..3) == 0 { 10 } else { 1 };
        let (up, down) = if rng.bool() { (speed, speed * faster) } else { (speed * faster, speed) };
        // A client sees that its bytes move by the room for more.
        self.conditions.window = (speed as f64 * self.socket_timeout.as_secs_f64() / 4.0) as usize;
        self.conditions.speed = Some(LinkSpeed { up, down, segment: self.conditions.window / 4 });
        self.call_timeout += longest * (2 * callers as u32 + 2);
    }
}

fn config(rng: &mut Rng, load: &Load, named: usize, crowded: bool) -> RedisConfig {
    let sentinels = (0..SENTINELS).map(|number| Host::Sentinel(number).address());
    // An address that never answers takes no part.
    let dead = (rng.u8(..8) == 0).then(|| Address::tcp("sentinel.gone", 26379));
    let health_check_interval = if rng.u8(..3) == 0 { 60_000 } else { rng.u64(100..2_000) };
    let builder = RedisConfig::builder()
        .use_sentinel(true)
        // The client learns of the others by itself.
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
    // Every value above is within what the builder allows.
    builder.build().unwrap_or_default()
}

/// A rest in the midst of the faults; those behind its beginning come after it, or go on during it.
fn rest_amid(rng: &mut Rng, faults: &mut [(Duration, Fault)]) -> (Duration, Duration) {
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
