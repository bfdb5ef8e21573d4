//! What the scenarios cannot tell: the words of a message, bounds, and intervals.

use super::*;
use crate::topology::sentinel::fixtures::failover_config;
use crate::topology::sentinel::report::{ReportedMaster, ReportedSentinel};
use crate::topology::sentinel::scenario::name;
use crate::topology::sentinel::votes::MAX_SENTINELS;

impl SentinelMonitor {
    /// The state, as a scenario tells it.
    pub(in crate::topology::sentinel) fn describe(&self) -> String {
        let Some(master) = &self.master else { return "following nobody".to_owned() };
        let mut state = vec![format!("following {}", name(&master.address))];
        state.extend(master.early_switch.is_some().then(|| "provisional".to_owned()));
        state.extend(master.demoted_at.is_some().then(|| "disowned".to_owned()));
        if let Some(promotion) = &self.promotion {
            state.extend(promotion.held_until.is_some().then(|| "holding".to_owned()));
            state.push(format!("watching {}", name(&promotion.candidate)));
        }
        state.extend(self.unconfirmed.is_some().then(|| "unconfirmed".to_owned()));
        state.extend(self.disagreement.is_some().then(|| "outvoted".to_owned()));
        state.extend(self.closed.then(|| "closed".to_owned()));
        state.join(", ")
    }
}

fn sentinel(number: u16) -> Address {
    Address::tcp("10.0.0.9", number)
}

fn follower(now: Instant) -> SentinelMonitor {
    SentinelMonitor::new(failover_config(false), &[sentinel(1), sentinel(2), sentinel(3)], now)
}

fn answer(number: u16, asked_at: Instant, answer: Result<SentinelReport, &str>) -> Input {
    let answer = answer.map_err(|why| QueryError::Refused(why.to_owned()));
    Input::Answer { sentinel: sentinel(number), asked_at, answer }
}

#[test]
fn when_nobody_knows_the_name_each_answer_is_told() {
    let now = Instant::now();
    let mut follower = follower(now);
    follower.handle(answer(1, now, Ok(SentinelReport::default())), now);
    follower.handle(answer(2, now, Err("connection refused")), now);
    let actions = follower.handle(answer(3, now, Ok(SentinelReport::default())), now);
    let [Action::Fail(explain)] = &actions[..] else { panic!("no account: {actions:?}") };
    assert!(explain.contains("know no master named `mymaster`"), "{explain}");
    assert!(explain.contains("10.0.0.9:2 did not answer: connection refused"), "{explain}");
}

#[test]
fn sentinels_are_asked_more_often_while_there_is_no_connection() {
    let now = Instant::now();
    let mut follower = follower(now);
    follower.handle(Input::Connected, now);
    follower.handle(Input::Tick, now);
    assert_eq!(follower.next_tick(), now + POLL);
    follower.handle(Input::Lost, now);
    assert_eq!(follower.next_tick(), now + URGENT_POLL);
}

/// What a Sentinel answers that names `m`, and lists these others.
fn view(others: impl Iterator<Item = u16>) -> SentinelReport {
    let companion = |number: u16| ReportedSentinel { address: sentinel(number), id: number.to_string() };
    let master =
        ReportedMaster { address: Address::tcp("m", 6379), epoch: 1, flags: "master".to_owned(), quorum: 2 };
    SentinelReport {
        master: Some(master),
        sentinels: others.map(companion).collect(),
        ..SentinelReport::default()
    }
}

#[test]
fn other_sentinels_are_met_up_to_a_bound() {
    let now = Instant::now();
    let mut follower = follower(now);
    let alone = follower.handle(answer(1, now, Ok(view(3..100))), now);
    assert_eq!(alone, [], "a majority has to list them");
    let actions = follower.handle(answer(2, now, Ok(view(3..100))), now);
    let [Action::AddSentinels(added), ..] = &actions[..] else { panic!("{actions:?}") };
    assert_eq!(added.len(), MAX_SENTINELS - 3);
    assert!(!added.contains(&sentinel(3)), "that one is known");
    let warns = |actions: &[Action]| actions.iter().any(|action| matches!(action, Action::Warn(_)));
    assert!(warns(&actions), "{actions:?}");
    assert!(!warns(&follower.handle(answer(2, now, Ok(view(3..100))), now)), "it is told once");
}

#[test]
fn those_that_one_alone_lists_give_way_to_new_ones() {
    let start = Instant::now();
    let mut follower = follower(start);
    let most = MAX_SENTINELS as u16;
    (1..=3).for_each(|number| drop(follower.handle(answer(number, start, Ok(view(4..=most))), start)));
    (4..=most).for_each(|number| drop(follower.handle(answer(number, start, Err("gone")), start)));
    let later = start + Duration::from_secs(60);
    let lists = |number| if number == 3 { 4..=most } else { 100..=100 };
    let mut record = |number| follower.handle(answer(number, later, Ok(view(lists(number)))), later);
    let actions: Vec<_> = [3, 1, 2, 1].into_iter().flat_map(&mut record).collect();
    let forgotten = actions.iter().filter(|action| matches!(action, Action::RemoveSentinel(_))).count();
    assert_eq!(forgotten, MAX_SENTINELS - 3);
    assert!(actions.contains(&Action::AddSentinels(vec![sentinel(100)])), "{actions:?}");
}

#[test]
fn who_is_master_is_told_as_the_sentinels_tell_it() {
    let now = Instant::now();
    let mut follower = follower(now);
    (1..=3).for_each(|number| drop(follower.handle(answer(number, now, Ok(view(1..4))), now)));
    assert_eq!(follower.naming(), Naming::Named);
    (1..=3).for_each(|number| drop(follower.handle(answer(number, now, Ok(SentinelReport::default())), now)));
    assert_eq!(follower.naming(), Naming::Unnamed);
    (1..=3).for_each(|number| drop(follower.handle(answer(number, now, Err("gone")), now)));
    assert_eq!(follower.naming(), Naming::NamedLast);
}

#[test]
fn a_topology_counts_addresses_whatever_ids_are_claimed() {
    let now = Instant::now();
    let mut follower = follower(now);
    let named = |id: &str| Ok(SentinelReport { id: Some(id.to_owned()), ..view([].into_iter()) });
    follower.handle(answer(1, now, named("a")), now);
    follower.handle(answer(2, now, named("a")), now);
    follower.handle(answer(3, now, Err("gone")), now);
    let topology = follower.topology().unwrap();
    assert_eq!((topology.sentinels, topology.known_sentinels, topology.quorum), (2, 2, 2));
    assert_eq!(topology.sentinel_states.len(), 3);
    follower.handle(answer(3, now, named("c")), now);
    let topology = follower.topology().unwrap();
    assert_eq!((topology.sentinels, topology.known_sentinels), (3, 3));
}

#[test]
fn a_majority_that_flaps_is_not_followed_at_every_turn() {
    let start = Instant::now();
    let mut follower = follower(start);
    let mut followed = 0;
    for ms in 0..10_000_u64 {
        let now = start + Duration::from_millis(ms);
        for number in 1..=3 {
            let mut view = view([].into_iter());
            let master = view.master.as_mut().unwrap();
            (master.address, master.epoch) = (Address::tcp("m", 1 + (ms % 2) as u16), ms);
            let actions = follower.handle(answer(number, now, Ok(view)), now);
            followed += actions.iter().filter(|action| matches!(action, Action::Follow(_))).count();
        }
    }
    assert!((8..=18).contains(&followed), "{followed} in ten seconds");
}

#[test]
fn events_do_not_have_the_sentinels_asked_all_the_time() {
    let start = Instant::now();
    let mut follower = follower(start);
    let mut asked_at = 0;
    for ms in 0..10_000_u64 {
        let now = start + Duration::from_millis(ms);
        let mut inputs = vec![Input::Heard { sentinel: sentinel(3), event: SentinelEvent::News }];
        inputs.extend((follower.next_tick() <= now).then_some(Input::Tick));
        for input in inputs {
            asked_at += follower.handle(input, now).iter().filter(|action| **action == Action::Ask).count();
        }
    }
    assert!((50..=250).contains(&asked_at), "{asked_at} times in ten seconds");
}

/// A minute in which a Sentinel selects a replica every tenth of a second, and the replica says that it is master, but only
/// to whoever watches it. Returns how often a master was followed, and for how long commands were held back.
fn play_with_a_lying_replica() -> (usize, Duration) {
    let (start, [master, replica]) = (Instant::now(), ["m", "r"].map(|host| Address::tcp(host, 6379)));
    let mut follower = follower(start);
    let (mut followed, mut held, mut held_since) = (0, Duration::ZERO, None);
    for ms in (0..60_000_u64).step_by(10) {
        let now = start + Duration::from_millis(ms);
        let mut inputs: Vec<_> = (1..=3)
            .map(|number| {
                let instance = ReportedReplica {
                    address: replica.clone(),
                    flags: "slave".to_owned(),
                    master_link_up: true,
                };
                answer(number, now, Ok(SentinelReport { replicas: vec![instance], ..view([].into_iter()) }))
            })
            .collect();
        if ms % 100 == 0 {
            let event = SentinelEvent::Selected { replica: replica.clone(), master: master.clone() };
            inputs.push(Input::Heard { sentinel: sentinel(3), event });
        }
        inputs.push(Input::Promoted(replica.clone()));
        inputs.extend((follower.next_tick() <= now).then_some(Input::Tick));
        for input in inputs {
            for action in follower.handle(input, now) {
                match action {
                    Action::Follow(server) => {
                        followed += 1;
                        held += held_since.take().map_or(Duration::ZERO, |since| now - since);
                        let news = if server == replica { Input::NotMaster } else { Input::Connected };
                        follower.handle(news, now);
                    }
                    Action::Hold => held_since = Some(now),
                    Action::Release => held += held_since.take().map_or(Duration::ZERO, |since| now - since),
                    _ => {}
                }
            }
        }
    }
    (followed, held)
}

#[test]
fn a_replica_that_is_no_master_when_it_is_followed_is_followed_less_and_less_often() {
    let (followed, held) = play_with_a_lying_replica();
    assert!((3..=20).contains(&followed), "{followed} times in a minute");
    assert!(held <= Duration::from_secs(14), "commands were held back for {held:?} of a minute");
}

#[test]
fn tilt_that_comes_and_goes_does_not_close_and_open_writes_all_the_time() {
    let start = Instant::now();
    let mut follower =
        SentinelMonitor::new(failover_config(true), &[sentinel(1), sentinel(2), sentinel(3)], start);
    (1..=3).for_each(|number| drop(follower.handle(answer(number, start, Ok(view(1..4))), start)));
    follower.handle(answer(1, start, Err("gone")), start);
    let mut turns = 0;
    for ms in 0..10_000_u64 {
        let event = SentinelEvent::Tilt(ms % 2 == 0);
        let input = Input::Heard { sentinel: sentinel(3), event };
        let actions = follower.handle(input, start + Duration::from_millis(ms));
        let is_turn = |action: &&Action| matches!(action, Action::Close(_) | Action::Open);
        turns += actions.iter().filter(is_turn).count();
    }
    assert!((2..=150).contains(&turns), "{turns} times in ten seconds");
}
