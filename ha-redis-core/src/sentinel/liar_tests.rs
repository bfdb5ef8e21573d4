//! One Sentinel of three says and publishes whatever it likes, at any pace. The two others are honest.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::view::{Companion, Instance, MasterView};
use super::{Action, Event, Follower, Input, NoAnswer, Rules, View};
use crate::address::Address;

const HONEST: [&str; 2] = ["s1", "s2"];
const LIAR: &str = "s3";
/// What the honest ones know: the master and its replicas.
const SERVERS: [&str; 3] = ["m", "r1", "r2"];
/// What the liar speaks of.
const NAMES: [&str; 5] = ["m", "r1", "r2", "x", "y"];

fn address(name: &str) -> Address {
    Address::tcp(name, 6379)
}

fn view(id: &str, master: &str, epoch: u64, servers: &[&str]) -> View {
    let master = MasterView { address: address(master), epoch, flags: "master".to_owned(), quorum: 2 };
    let replica = |server: &&str| Instance {
        address: address(server),
        flags: "slave".to_owned(),
        master_link_up: true,
    };
    let replicas = servers.iter().filter(|server| address(server) != master.address).map(replica).collect();
    let id = Some(id.to_owned());
    View { id, master: Some(master), replicas, ..View::default() }
}

/// What happens next, and how many milliseconds later.
#[derive(Clone, Debug)]
enum Step {
    HonestAnswer(usize),
    HonestSilence,
    Answer { id: &'static str, master: &'static str, epoch: u64, others: Vec<u8> },
    Publish(Event),
    Lost,
    Connected,
    NotMaster,
}

fn step() -> impl Strategy<Value = (u64, Step)> {
    let name = || prop::sample::select(&NAMES[..]);
    let answer = (prop::sample::select(&["s1", "s3", "s9"][..]), name(), any::<u64>(), any::<Vec<u8>>());
    let selected = (name(), name()).prop_map(|(replica, master)| {
        Step::Publish(Event::Selected { replica: address(replica), master: address(master) })
    });
    let step = prop_oneof![
        4 => (0..2_usize).prop_map(Step::HonestAnswer),
        1 => Just(Step::HonestSilence),
        4 => answer.prop_map(|(id, master, epoch, others)| Step::Answer { id, master, epoch, others }),
        4 => selected,
        1 => Just(Step::Publish(Event::Aborted)),
        1 => Just(Step::Publish(Event::News)),
        1 => name().prop_map(|master| Step::Publish(Event::Switched(address(master)))),
        1 => Just(Step::Lost),
        1 => Just(Step::Connected),
        1 => Just(Step::NotMaster),
    ];
    let pause = prop_oneof![3 => Just(0_u64), 3 => 0..20_u64, 1 => 0..3000_u64];
    (pause, step)
}

struct Scene {
    follower: Follower,
    start: Instant,
    now: Instant,
    /// How often each kind of thing was done in each second.
    done: BTreeMap<(u64, &'static str), u32>,
    ticks: u32,
}

impl Scene {
    fn new(require_majority: bool) -> Self {
        let rules = Rules {
            master_name: "mymaster".to_owned(),
            early_promotion: true,
            promotion_hold: Duration::from_secs(2),
            require_majority,
            first_tries: 3,
        };
        let sentinels = [HONEST[0], HONEST[1], LIAR].map(address);
        let now = Instant::now();
        let follower = Follower::new(rules, &sentinels, now);
        let mut scene = Self { follower, start: now, now, done: BTreeMap::new(), ticks: 0 };
        scene.hear(scene.honest(0));
        scene.hear(scene.honest(1));
        scene.hear(Input::Connected);
        scene
    }

    fn honest(&self, number: usize) -> Input {
        let name = HONEST[number];
        Input::Answer {
            sentinel: address(name),
            asked: self.now,
            answer: Ok(view(name, SERVERS[0], 5, &SERVERS)),
        }
    }

    fn wait(&mut self, pause: u64) {
        let until = self.now + Duration::from_millis(pause);
        while self.follower.next_tick() <= until {
            self.now = self.now.max(self.follower.next_tick());
            self.hear(Input::Tick);
            assert!(self.now < self.follower.next_tick(), "a tick is due at once again");
            self.ticks += 1;
        }
        self.now = until;
    }

    /// One of the honest ones answers whenever it is asked, so that the liar is never alone for long.
    fn hear(&mut self, input: Input) {
        let actions = self.follower.handle(input, self.now);
        let asked = actions.contains(&Action::Ask);
        self.carry_out(actions);
        if asked {
            let actions = self.follower.handle(self.honest(1), self.now);
            self.carry_out(actions);
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
                Action::Meet(sentinels) => panic!("{sentinels:?} are known to one Sentinel alone"),
                Action::Ask => "ask",
                _ => continue,
            };
            *self.done.entry((second, kind)).or_default() += 1;
        }
    }

    fn play(&mut self, step: Step) {
        let input = match step {
            Step::HonestAnswer(number) => self.honest(number),
            Step::HonestSilence => {
                let answer = Err(NoAnswer::Refused("gone".to_owned()));
                Input::Answer { sentinel: address(HONEST[0]), asked: self.now, answer }
            }
            Step::Answer { id, master, epoch, others } => {
                let companion = |number: &u8| Companion {
                    address: Address::tcp("10.0.0.9", u16::from(*number) + 1),
                    id: number.to_string(),
                };
                let sentinels = others.iter().map(companion).collect();
                let answer = Ok(View { sentinels, ..view(id, master, epoch, &NAMES) });
                Input::Answer { sentinel: address(LIAR), asked: self.now, answer }
            }
            Step::Publish(event) => Input::Heard { sentinel: address(LIAR), event },
            Step::Lost => Input::Lost,
            Step::Connected => Input::Connected,
            Step::NotMaster => Input::NotMaster,
        };
        self.hear(input);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_liar_leads_to_no_server_of_its_own_and_makes_no_work(
        steps in prop::collection::vec(step(), 0..200),
        require_majority: bool,
    ) {
        let mut scene = Scene::new(require_majority);
        for (pause, step) in steps {
            scene.wait(pause);
            scene.play(step);
        }
        // Left alone, the honest ones are followed to where they lead.
        for number in [0, 1, 0, 1] {
            scene.wait(5000);
            scene.hear(scene.honest(number));
        }
        prop_assert_eq!(scene.follower.topology().unwrap().master, address(SERVERS[0]));
        let seconds = (scene.now - scene.start).as_secs() as u32;
        prop_assert!(scene.ticks <= 16 * (seconds + 1), "{} ticks in {} s", scene.ticks, seconds);
        for ((second, kind), times) in scene.done {
            prop_assert!(times <= 40, "{kind}: {times} times in second {second}");
        }
    }
}
