//! A minority of the Sentinels reports and publishes anything, at any pace, at both of its addresses if it has two,
//! and under any id. The others are honest, and so are most of the configured ones, which may not be all. They answer
//! every query, and are late once in between.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::fixtures::{SERVERS, address, failover_config, report};
use super::report::ReportedSentinel;
use super::{Action, Input, QueryError, SentinelEvent, SentinelMonitor, SentinelReport};
use crate::address::Address;

/// The names of the Sentinels in the configuration, unless it has their addresses.
const HOSTS: [&str; 5] = ["s1", "s2", "s3", "s4", "s5"];
/// The addresses by which the Sentinels list each other.
const ANNOUNCED: [&str; 5] = ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5"];
const IDS: [&str; 5] = ["id1", "id2", "id3", "id4", "id5"];
/// The servers that the liar names.
const NAMES: [&str; 5] = ["m", "r1", "r2", "x", "y"];

/// One step. Liars and honest Sentinels are given by number.
#[derive(Clone, Debug)]
enum Step {
    HonestAnswer(usize),
    HonestLate(usize),
    Answer(usize, Lie),
    Silence(usize, At),
    Publish(usize, SentinelEvent),
    Promoted(&'static str),
    Lost,
    Connected,
    NotMaster,
}

/// One of the addresses of a liar.
#[derive(Clone, Copy, Debug)]
enum At {
    Configured,
    Announced,
}

/// What a liar answers.
#[derive(Clone, Debug)]
struct Lie {
    at: At,
    id: Option<&'static str>,
    master: &'static str,
    epoch: u64,
    others: Vec<u8>,
    /// The real Sentinels that it lists.
    listed: [bool; 5],
}

/// The roles of the Sentinels.
#[derive(Clone, Debug)]
struct Cast {
    liars: Vec<usize>,
    honest: Vec<usize>,
    configured: Vec<usize>,
    by_name: bool,
    /// Whether the addresses by which the honest ones list each other are reachable.
    reachable: bool,
}

impl Cast {
    /// Returns true if most of the Sentinels, and most of the configured ones, are honest and reachable.
    fn has_majority(&self) -> bool {
        let liars = self.configured.iter().filter(|place| self.liars.contains(place)).count();
        let can_reach = self.reachable || self.configured.len() == self.liars.len() + self.honest.len();
        can_reach && 2 * liars < self.configured.len() && self.liars.len() < self.honest.len()
    }
}

fn cast() -> impl Strategy<Value = Cast> {
    let total = prop::sample::select(&[3_usize, 5][..]);
    let places = (total, any::<[bool; 5]>(), any::<[bool; 5]>());
    let cast = (places, any::<bool>(), any::<bool>()).prop_map(
        |((total, is_liar, is_configured), by_name, reachable)| {
            let (liars, honest) = (0..total).partition(|place| is_liar[*place]);
            let configured = (0..total).filter(|place| is_configured[*place]).collect();
            Cast { liars, honest, configured, by_name, reachable }
        },
    );
    cast.prop_filter("no majority is honest", Cast::has_majority)
}

/// A step of a liar.
fn lie_step() -> impl Strategy<Value = Step> {
    let name = || prop::sample::select(&NAMES[..]);
    let at = || prop::sample::select(&[At::Configured, At::Announced][..]);
    let ids = &[None, Some("id1"), Some("id2"), Some("id3"), Some("made-up")][..];
    let epoch = prop_oneof![0..8_u64, any::<u64>()];
    let listed = (any::<Vec<u8>>(), any::<[bool; 5]>());
    let answer = (0..2_usize, at(), prop::sample::select(ids), name(), epoch, listed);
    let lie = answer.prop_map(|(liar, at, id, master, epoch, (others, listed))| {
        Step::Answer(liar, Lie { at, id, master, epoch, others, listed })
    });
    let selected = (name(), name()).prop_map(|(replica, master)| SentinelEvent::Selected {
        replica: address(replica),
        master: address(master),
    });
    let event = prop_oneof![
        4 => selected,
        1 => Just(SentinelEvent::Aborted),
        1 => Just(SentinelEvent::News),
        1 => any::<bool>().prop_map(SentinelEvent::Tilt),
        1 => name().prop_map(|master| SentinelEvent::Switched(address(master))),
    ];
    prop_oneof![
        4 => lie,
        1 => (0..2_usize, at()).prop_map(|(liar, at)| Step::Silence(liar, at)),
        4 => (0..2_usize, event).prop_map(|(liar, event)| Step::Publish(liar, event)),
    ]
}

/// A step, and the milliseconds before it.
fn step() -> impl Strategy<Value = (u64, Step)> {
    let step = prop_oneof![
        18 => lie_step(),
        4 => (0..5_usize).prop_map(Step::HonestAnswer),
        2 => (0..5_usize).prop_map(Step::HonestLate),
        1 => prop::sample::select(&NAMES[..]).prop_map(Step::Promoted),
        1 => Just(Step::Lost),
        1 => Just(Step::Connected),
        1 => Just(Step::NotMaster),
    ];
    let pause = prop_oneof![3 => Just(0_u64), 3 => 0..20_u64, 1 => 0..3000_u64];
    (pause, step)
}

fn reported_sentinel(place: usize) -> ReportedSentinel {
    ReportedSentinel { address: address(ANNOUNCED[place]), id: IDS[place].to_owned() }
}

struct Simulation {
    monitor: SentinelMonitor,
    cast: Cast,
    /// The master that the honest Sentinels name, and its epoch.
    truth: (&'static str, u64),
    start: Instant,
    now: Instant,
    /// How often each action was taken, by second.
    done: BTreeMap<(u64, &'static str), u32>,
    ticks: u32,
}

impl Simulation {
    fn new(require_majority: bool, cast: Cast) -> Self {
        let names = if cast.by_name { HOSTS } else { ANNOUNCED };
        let sentinels: Vec<_> = cast.configured.iter().map(|place| address(names[*place])).collect();
        let now = Instant::now();
        let monitor = SentinelMonitor::new(failover_config(require_majority), &sentinels, now);
        let (truth, done) = ((SERVERS[0], 5), BTreeMap::new());
        Self { monitor, cast, truth, start: now, now, done, ticks: 0 }
    }

    /// The address of a Sentinel; `None` if it is not configured and the configured address is wanted.
    fn address_of(&self, place: usize, at: At) -> Option<Address> {
        match at {
            At::Announced => Some(address(ANNOUNCED[place])),
            At::Configured if !self.cast.configured.contains(&place) => None,
            At::Configured => Some(address(if self.cast.by_name { HOSTS } else { ANNOUNCED }[place])),
        }
    }

    fn liar(&self, number: usize) -> Option<usize> {
        self.cast.liars.get(number).copied()
    }

    fn answer(&self, sentinel: Address, answer: Result<SentinelReport, QueryError>) -> Input {
        Input::Answer { sentinel, asked_at: self.now, answer }
    }

    /// The answers of an honest Sentinel at both of its addresses.
    fn truth(&self, place: usize) -> Vec<Input> {
        let total = self.cast.liars.len() + self.cast.honest.len();
        let others = (0..total).filter(|other| *other != place).map(reported_sentinel).collect();
        let (master, epoch) = self.truth;
        let report =
            SentinelReport { sentinels: others, ..report(Some(IDS[place]), master, epoch, &SERVERS) };
        let configured = self.address_of(place, At::Configured);
        let configured = configured.map(|sentinel| self.answer(sentinel, Ok(report.clone())));
        let announced = (self.cast.reachable || !self.cast.by_name).then_some(report);
        let unreachable = || QueryError::Refused("gone".to_owned());
        let announced = self.answer(address(ANNOUNCED[place]), announced.ok_or_else(unreachable));
        configured.into_iter().chain([announced]).collect()
    }

    fn honest_answer(&mut self, number: usize) {
        let Some(place) = self.cast.honest.get(number) else { return };
        self.truth(*place).into_iter().for_each(|input| self.record(input));
    }

    fn honest_late(&mut self, number: usize) {
        let Some(place) = self.cast.honest.get(number).copied() else { return };
        for sentinel in [At::Configured, At::Announced].map(|at| self.address_of(place, at)) {
            let late = |sentinel| self.answer(sentinel, Err(QueryError::Late("slow".to_owned())));
            sentinel.map(late).into_iter().for_each(|input| self.record(input));
        }
    }

    fn wait(&mut self, pause: u64) {
        let until = self.now + Duration::from_millis(pause);
        while self.monitor.next_tick() <= until {
            self.now = self.now.max(self.monitor.next_tick());
            self.record(Input::Tick);
            assert!(self.now < self.monitor.next_tick(), "the next tick is already due");
            self.ticks += 1;
        }
        self.now = until;
    }

    /// Handles an input; the honest Sentinels answer every query.
    fn record(&mut self, input: Input) {
        let actions = self.monitor.handle(input, self.now);
        let asked_at = actions.contains(&Action::QuerySentinels);
        self.run_action(actions);
        if asked_at {
            for input in self.cast.honest.iter().flat_map(|place| self.truth(*place)).collect::<Vec<_>>() {
                let actions = self.monitor.handle(input, self.now);
                self.run_action(actions);
            }
        }
    }

    fn run_action(&mut self, actions: Vec<Action>) {
        let second = (self.now - self.start).as_secs();
        for action in actions {
            let kind = match action {
                Action::Watch { replica: server, .. } | Action::Follow(server) => {
                    assert!(
                        SERVERS.map(address).contains(&server),
                        "{server} is known to one Sentinel alone"
                    );
                    "connect"
                }
                Action::AddSentinels(sentinels) => {
                    let is_real = |added: &Address| ANNOUNCED.map(address).contains(added);
                    assert!(sentinels.iter().all(is_real), "{sentinels:?} are known to one Sentinel alone");
                    continue;
                }
                Action::QuerySentinels => "ask",
                Action::Hold => "hold",
                Action::RefuseWrites(_) => "close",
                _ => continue,
            };
            *self.done.entry((second, kind)).or_default() += 1;
        }
    }

    fn play(&mut self, step: Step) {
        let input = match step {
            Step::HonestAnswer(number) => return self.honest_answer(number),
            Step::HonestLate(number) => return self.honest_late(number),
            Step::Silence(liar, at) => {
                let sentinel = self.liar(liar).and_then(|place| self.address_of(place, at));
                sentinel.map(|sentinel| self.answer(sentinel, Err(QueryError::Refused("gone".to_owned()))))
            }
            Step::Answer(liar, lie) => self.lie(liar, lie),
            Step::Publish(liar, event) => self
                .liar(liar)
                .and_then(|place| self.address_of(place, At::Configured))
                .map(|sentinel| Input::Event { sentinel, event }),
            Step::Promoted(server) => Some(Input::Promoted(address(server))),
            Step::Lost => Some(Input::Lost),
            Step::Connected => Some(Input::Connected),
            Step::NotMaster => Some(Input::NotMaster),
        };
        input.into_iter().for_each(|input| self.record(input));
    }

    fn lie(&self, liar: usize, lie: Lie) -> Option<Input> {
        let Lie { at, id, master, epoch, others, listed } = lie;
        let sentinel = self.address_of(self.liar(liar)?, at)?;
        let invented = |number: &u8| ReportedSentinel {
            address: Address::tcp("10.66.0.9", u16::from(*number) + 1),
            id: number.to_string(),
        };
        let real = (0..5).filter(|place| listed[*place]).map(reported_sentinel);
        let sentinels = others.iter().map(invented).chain(real).collect();
        Some(self.answer(sentinel, Ok(SentinelReport { sentinels, ..report(id, master, epoch, &NAMES) })))
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn lying_minority_gains_no_server_and_no_work(
        lies_at_the_start in prop::collection::vec(lie_step(), 0..20),
        steps in prop::collection::vec(step(), 0..150),
        lies in prop::collection::vec(lie_step(), 0..100),
        require_majority: bool,
        cast in cast(),
    ) {
        let mut simulation = Simulation::new(require_majority, cast);
        lies_at_the_start.into_iter().for_each(|lie| simulation.play(lie));
        (0..5).for_each(|number| simulation.honest_answer(number));
        simulation.record(Input::Connected);
        for (pause, step) in steps {
            simulation.wait(pause);
            simulation.play(step);
        }
        // Left alone, the client follows the honest Sentinels.
        simulation.wait(10_000);
        prop_assert_eq!(simulation.monitor.topology().unwrap().master, address(SERVERS[0]));
        // It also follows their next failover, while the liars continue.
        let second = (simulation.now - simulation.start).as_secs() + 1;
        simulation.wait(1000);
        simulation.truth = (SERVERS[1], 6);
        let bound = simulation.now + Duration::from_secs(10);
        for lie in lies {
            simulation.wait(100);
            simulation.play(lie);
        }
        simulation.wait(u64::try_from(bound.saturating_duration_since(simulation.now).as_millis()).unwrap());
        let sum = |what: &str| {
            let since = simulation.done.iter().filter(|((at, kind), _)| second <= *at && *kind == what);
            since.map(|(_, times)| times).sum::<u32>()
        };
        prop_assert_eq!(sum("close"), 0, "writes are refused");
        prop_assert!(sum("hold") <= 4, "commands were held back {} times in eleven seconds", sum("hold"));
        prop_assert_eq!(simulation.monitor.topology().unwrap().master, address(SERVERS[1]));
        let seconds = (simulation.now - simulation.start).as_secs() as u32;
        prop_assert!(simulation.ticks <= 16 * (seconds + 1), "{} ticks in {} s", simulation.ticks, seconds);
        for ((second, kind), times) in simulation.done {
            prop_assert!(times <= 40, "{kind}: {times} times in second {second}");
        }
    }
}
