//! One Sentinel of three says and publishes whatever it likes, at any pace, at both of its addresses if it has two, and
//! under any id. The two others are honest.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::fixtures::{SERVERS, address, failover_config, view};
use super::report::ReportedSentinel;
use super::{Action, Input, QueryError, SentinelEvent, SentinelMonitor, SentinelReport};
use crate::address::Address;

/// The names of the Sentinels in the configuration, unless that has their addresses.
const HOSTS: [&str; 3] = ["s1", "s2", "s3"];
/// The addresses by which they list each other.
const ANNOUNCED: [&str; 3] = ["10.0.0.1", "10.0.0.2", "10.0.0.3"];
const IDS: [&str; 3] = ["id1", "id2", "id3"];
/// What the liar speaks of.
const NAMES: [&str; 5] = ["m", "r1", "r2", "x", "y"];

/// What happens next, and how many milliseconds later.
#[derive(Clone, Debug)]
enum Step {
    HonestAnswer(usize),
    HonestSilence,
    Answer(Lie),
    Silence { announced: bool },
    Publish(SentinelEvent),
    Lost,
    Connected,
    NotMaster,
}

/// What the liar answers, and at which of its addresses.
#[derive(Clone, Debug)]
struct Lie {
    announced: bool,
    id: Option<&'static str>,
    master: &'static str,
    epoch: u64,
    others: Vec<u8>,
    /// Which of the Sentinels it lists.
    listed: [bool; 3],
}

/// Who is who.
#[derive(Clone, Copy, Debug)]
struct Cast {
    liar: usize,
    by_name: bool,
    /// Whether the addresses by which the honest ones list each other can be reached.
    reachable: bool,
}

fn cast() -> impl Strategy<Value = Cast> {
    (0..3_usize, any::<bool>(), any::<bool>()).prop_map(|(liar, by_name, reachable)| Cast {
        liar,
        by_name,
        reachable,
    })
}

fn step() -> impl Strategy<Value = (u64, Step)> {
    let name = || prop::sample::select(&NAMES[..]);
    let ids = &[None, Some("id1"), Some("id2"), Some("id3"), Some("made-up")][..];
    let epoch = prop_oneof![0..8_u64, any::<u64>()];
    let listed = (any::<Vec<u8>>(), any::<[bool; 3]>());
    let answer = (any::<bool>(), prop::sample::select(ids), name(), epoch, listed);
    let lie = answer.prop_map(|(announced, id, master, epoch, (others, listed))| {
        Step::Answer(Lie { announced, id, master, epoch, others, listed })
    });
    let selected = (name(), name()).prop_map(|(replica, master)| {
        Step::Publish(SentinelEvent::Selected { replica: address(replica), master: address(master) })
    });
    let step = prop_oneof![
        4 => (0..2_usize).prop_map(Step::HonestAnswer),
        1 => Just(Step::HonestSilence),
        8 => lie,
        1 => any::<bool>().prop_map(|announced| Step::Silence { announced }),
        4 => selected,
        1 => Just(Step::Publish(SentinelEvent::Aborted)),
        1 => Just(Step::Publish(SentinelEvent::News)),
        1 => name().prop_map(|master| Step::Publish(SentinelEvent::Switched(address(master)))),
        1 => Just(Step::Lost),
        1 => Just(Step::Connected),
        1 => Just(Step::NotMaster),
    ];
    let pause = prop_oneof![3 => Just(0_u64), 3 => 0..20_u64, 1 => 0..3000_u64];
    (pause, step)
}

fn companion(place: usize) -> ReportedSentinel {
    ReportedSentinel { address: address(ANNOUNCED[place]), id: IDS[place].to_owned() }
}

struct Scene {
    follower: SentinelMonitor,
    cast: Cast,
    start: Instant,
    now: Instant,
    /// How often each kind of thing was done in each second.
    done: BTreeMap<(u64, &'static str), u32>,
    ticks: u32,
}

impl Scene {
    fn new(require_majority: bool, cast: Cast) -> Self {
        let sentinels = if cast.by_name { HOSTS } else { ANNOUNCED }.map(address);
        let now = Instant::now();
        let follower = SentinelMonitor::new(failover_config(require_majority), &sentinels, now);
        let mut scene = Self { follower, cast, start: now, now, done: BTreeMap::new(), ticks: 0 };
        scene.honest_answer(0);
        scene.honest_answer(1);
        scene.record(Input::Connected);
        scene
    }

    /// The place of an honest one among the three.
    fn honest(&self, number: usize) -> usize {
        (self.cast.liar + 1 + number) % 3
    }

    fn configured(&self, place: usize) -> Address {
        address(if self.cast.by_name { HOSTS[place] } else { ANNOUNCED[place] })
    }

    fn answer(&self, sentinel: Address, view: SentinelReport) -> Input {
        Input::Answer { sentinel, asked_at: self.now, answer: Ok(view) }
    }

    fn silence(&self, sentinel: Address) -> Input {
        Input::Answer { sentinel, asked_at: self.now, answer: Err(QueryError::Refused("gone".to_owned())) }
    }

    /// What an honest one answers, at both of its addresses.
    fn truth(&self, number: usize) -> [Input; 2] {
        let place = self.honest(number);
        let others = (0..3).filter(|other| *other != place).map(companion).collect();
        let view = SentinelReport { sentinels: others, ..view(Some(IDS[place]), SERVERS[0], 5, &SERVERS) };
        let announced = address(ANNOUNCED[place]);
        let at_announced = match self.cast.reachable || !self.cast.by_name {
            true => self.answer(announced, view.clone()),
            false => self.silence(announced),
        };
        [self.answer(self.configured(place), view), at_announced]
    }

    fn honest_answer(&mut self, number: usize) {
        for input in self.truth(number) {
            self.record(input);
        }
    }

    fn wait(&mut self, pause: u64) {
        let until = self.now + Duration::from_millis(pause);
        while self.follower.next_tick() <= until {
            self.now = self.now.max(self.follower.next_tick());
            self.record(Input::Tick);
            assert!(self.now < self.follower.next_tick(), "a tick is due at once again");
            self.ticks += 1;
        }
        self.now = until;
    }

    /// One of the honest ones answers whenever it is asked, so that the liar is never alone for long.
    fn record(&mut self, input: Input) {
        let actions = self.follower.handle(input, self.now);
        let asked_at = actions.contains(&Action::Ask);
        self.carry_out(actions);
        if asked_at {
            for input in self.truth(1) {
                let actions = self.follower.handle(input, self.now);
                self.carry_out(actions);
            }
        }
    }

    fn carry_out(&mut self, actions: Vec<Action>) {
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
                Action::Ask => "ask",
                _ => continue,
            };
            *self.done.entry((second, kind)).or_default() += 1;
        }
    }

    fn play(&mut self, step: Step) {
        let liar = self.configured(self.cast.liar);
        let at = |announced: bool| if announced { address(ANNOUNCED[self.cast.liar]) } else { liar.clone() };
        let input = match step {
            Step::HonestAnswer(number) => return self.honest_answer(number),
            Step::HonestSilence => self.silence(self.configured(self.honest(0))),
            Step::Silence { announced } => self.silence(at(announced)),
            Step::Answer(Lie { announced, id, master, epoch, others, listed }) => {
                let invented = |number: &u8| ReportedSentinel {
                    address: Address::tcp("10.66.0.9", u16::from(*number) + 1),
                    id: number.to_string(),
                };
                let real = (0..3).filter(|place| listed[*place]).map(companion);
                let sentinels = others.iter().map(invented).chain(real).collect();
                self.answer(at(announced), SentinelReport { sentinels, ..view(id, master, epoch, &NAMES) })
            }
            Step::Publish(event) => Input::Heard { sentinel: liar, event },
            Step::Lost => Input::Lost,
            Step::Connected => Input::Connected,
            Step::NotMaster => Input::NotMaster,
        };
        self.record(input);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_liar_leads_to_no_server_of_its_own_and_makes_no_work(
        steps in prop::collection::vec(step(), 0..200),
        require_majority: bool,
        cast in cast(),
    ) {
        let mut scene = Scene::new(require_majority, cast);
        for (pause, step) in steps {
            scene.wait(pause);
            scene.play(step);
        }
        // Left alone, the honest ones are followed to where they lead.
        for number in [0, 1, 0, 1] {
            scene.wait(5000);
            scene.honest_answer(number);
        }
        prop_assert_eq!(scene.follower.topology().unwrap().master, address(SERVERS[0]));
        let seconds = (scene.now - scene.start).as_secs() as u32;
        prop_assert!(scene.ticks <= 16 * (seconds + 1), "{} ticks in {} s", scene.ticks, seconds);
        for ((second, kind), times) in scene.done {
            prop_assert!(times <= 40, "{kind}: {times} times in second {second}");
        }
    }
}
