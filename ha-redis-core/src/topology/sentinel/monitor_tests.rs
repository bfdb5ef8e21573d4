//! What the scenarios cannot express: the text of messages, limits, and intervals.

use super::*;
use crate::topology::sentinel::fixtures::failover_config;
use crate::topology::sentinel::report::{ReportedMaster, ReportedSentinel};
use crate::topology::sentinel::scenario::name;
use crate::topology::sentinel::votes::MAX_SENTINELS;

impl SentinelMonitor {
    /// The state, in the words of the scenarios.
    pub(in crate::topology::sentinel) fn describe(&self) -> String {
        let Some(master) = &self.master else { return "following nobody".to_owned() };
        let mut state = vec![format!("following {}", name(&master.address))];
        state.extend(master.early_switch.is_some().then(|| "provisional".to_owned()));
        state.extend(master.demoted_at.is_some().then(|| "disowned".to_owned()));
        if let Some(promotion) = &self.promotion {
            state.extend(promotion.held_until.is_some().then(|| "holding".to_owned()));
            state.push(format!("watching {}", name(&promotion.candidate)));
        }
        state.extend(self.unconfirmed_since.is_some().then(|| "unconfirmed".to_owned()));
        state.extend(self.disagreement.is_some().then(|| "outvoted".to_owned()));
        state.extend(self.writes_closed.then(|| "closed".to_owned()));
        state.join(", ")
    }
}

fn sentinel(number: u16) -> Address {
    Address::tcp("10.0.0.9", number)
}

fn monitor(now: Instant) -> SentinelMonitor {
    SentinelMonitor::new(failover_config(false), &[sentinel(1), sentinel(2), sentinel(3)], now)
}

fn answer(number: u16, asked_at: Instant, answer: Result<SentinelReport, &str>) -> Input {
    let answer = answer.map_err(|why| QueryError::Refused(why.to_owned()));
    Input::Answer { sentinel: sentinel(number), asked_at, answer }
}

#[test]
fn unknown_master_name_lists_every_answer() {
    let now = Instant::now();
    let mut monitor = monitor(now);
    monitor.handle(answer(1, now, Ok(SentinelReport::default())), now);
    monitor.handle(answer(2, now, Err("connection refused")), now);
    let actions = monitor.handle(answer(3, now, Ok(SentinelReport::default())), now);
    let [Action::Fail(explain)] = &actions[..] else { panic!("no failure: {actions:?}") };
    assert!(explain.contains("no Sentinel monitors a master named `mymaster`"), "{explain}");
    assert!(explain.contains("10.0.0.9:2 did not answer: connection refused"), "{explain}");
}

#[test]
fn polls_more_often_without_connection() {
    let now = Instant::now();
    let mut monitor = monitor(now);
    monitor.handle(Input::Connected, now);
    monitor.handle(Input::Tick, now);
    assert_eq!(monitor.next_tick(), now + POLL);
    monitor.handle(Input::Lost, now);
    assert_eq!(monitor.next_tick(), now + URGENT_POLL);
}

/// The report of a Sentinel that names `m` and lists these others.
fn report(others: impl Iterator<Item = u16>) -> SentinelReport {
    let reported_sentinel =
        |number: u16| ReportedSentinel { address: sentinel(number), id: number.to_string() };
    let master =
        ReportedMaster { address: Address::tcp("m", 6379), epoch: 1, flags: "master".to_owned(), quorum: 2 };
    SentinelReport {
        master: Some(master),
        sentinels: others.map(reported_sentinel).collect(),
        ..SentinelReport::default()
    }
}

#[test]
fn discovered_sentinels_are_limited() {
    let now = Instant::now();
    let mut monitor = monitor(now);
    let alone = monitor.handle(answer(1, now, Ok(report(3..100))), now);
    assert_eq!(alone, [], "a majority has to list them");
    let actions = monitor.handle(answer(2, now, Ok(report(3..100))), now);
    let [Action::AddSentinels(added), ..] = &actions[..] else { panic!("{actions:?}") };
    assert_eq!(added.len(), MAX_SENTINELS - 3);
    assert!(!added.contains(&sentinel(3)), "already known");
    let warns = |actions: &[Action]| actions.iter().any(|action| matches!(action, Action::Warn(_)));
    assert!(warns(&actions), "{actions:?}");
    assert!(!warns(&monitor.handle(answer(2, now, Ok(report(3..100))), now)), "only one warning");
}

#[test]
fn sentinels_listed_by_one_make_room_for_new_ones() {
    let start = Instant::now();
    let mut monitor = monitor(start);
    let max = MAX_SENTINELS as u16;
    (1..=3).for_each(|number| drop(monitor.handle(answer(number, start, Ok(report(4..=max))), start)));
    (4..=max).for_each(|number| drop(monitor.handle(answer(number, start, Err("gone")), start)));
    let later = start + Duration::from_secs(60);
    let lists = |number| if number == 3 { 4..=max } else { 100..=100 };
    let mut record = |number| monitor.handle(answer(number, later, Ok(report(lists(number)))), later);
    let actions: Vec<_> = [3, 1, 2, 1].into_iter().flat_map(&mut record).collect();
    let forgotten = actions.iter().filter(|action| matches!(action, Action::RemoveSentinel(_))).count();
    assert_eq!(forgotten, MAX_SENTINELS - 3);
    assert!(actions.contains(&Action::AddSentinels(vec![sentinel(100)])), "{actions:?}");
}

#[test]
fn naming_follows_the_answers() {
    let now = Instant::now();
    let mut monitor = monitor(now);
    (1..=3).for_each(|number| drop(monitor.handle(answer(number, now, Ok(report(1..4))), now)));
    assert_eq!(monitor.naming(), Naming::Named);
    (1..=3).for_each(|number| drop(monitor.handle(answer(number, now, Ok(SentinelReport::default())), now)));
    assert_eq!(monitor.naming(), Naming::Unnamed);
    (1..=3).for_each(|number| drop(monitor.handle(answer(number, now, Err("gone")), now)));
    assert_eq!(monitor.naming(), Naming::NamedLast);
}

#[test]
fn topology_counts_addresses_not_ids() {
    let now = Instant::now();
    let mut monitor = monitor(now);
    let with_id = |id: &str| Ok(SentinelReport { id: Some(id.to_owned()), ..report([].into_iter()) });
    monitor.handle(answer(1, now, with_id("a")), now);
    monitor.handle(answer(2, now, with_id("a")), now);
    monitor.handle(answer(3, now, Err("gone")), now);
    let topology = monitor.topology().unwrap();
    assert_eq!((topology.sentinels, topology.known_sentinels, topology.quorum), (2, 2, 2));
    assert_eq!(topology.sentinel_states.len(), 3);
    monitor.handle(answer(3, now, with_id("c")), now);
    let topology = monitor.topology().unwrap();
    assert_eq!((topology.sentinels, topology.known_sentinels), (3, 3));
}

#[test]
fn flapping_majority_switches_are_limited() {
    let start = Instant::now();
    let mut monitor = monitor(start);
    let mut followed = 0;
    for ms in 0..10_000_u64 {
        let now = start + Duration::from_millis(ms);
        for number in 1..=3 {
            let mut report = report([].into_iter());
            let master = report.master.as_mut().unwrap();
            (master.address, master.epoch) = (Address::tcp("m", 1 + (ms % 2) as u16), ms);
            let actions = monitor.handle(answer(number, now, Ok(report)), now);
            followed += actions.iter().filter(|action| matches!(action, Action::Follow(_))).count();
        }
    }
    assert!((8..=18).contains(&followed), "{followed} in ten seconds");
}

#[test]
fn queries_triggered_by_events_are_limited() {
    let start = Instant::now();
    let mut monitor = monitor(start);
    let mut asked_at = 0;
    for ms in 0..10_000_u64 {
        let now = start + Duration::from_millis(ms);
        let mut inputs = vec![Input::Event { sentinel: sentinel(3), event: SentinelEvent::News }];
        inputs.extend((monitor.next_tick() <= now).then_some(Input::Tick));
        for input in inputs {
            asked_at +=
                monitor.handle(input, now).iter().filter(|action| **action == Action::QuerySentinels).count();
        }
    }
    assert!((50..=250).contains(&asked_at), "{asked_at} times in ten seconds");
}

/// Plays a minute in which a Sentinel selects a replica every tenth of a second, and the replica claims to be master
/// only while it is being watched. Returns how often the master changed, and for how long commands were held.
fn play_with_a_lying_replica() -> (usize, Duration) {
    let (start, [master, replica]) = (Instant::now(), ["m", "r"].map(|host| Address::tcp(host, 6379)));
    let mut monitor = monitor(start);
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
                answer(number, now, Ok(SentinelReport { replicas: vec![instance], ..report([].into_iter()) }))
            })
            .collect();
        if ms % 100 == 0 {
            let event = SentinelEvent::Selected { replica: replica.clone(), master: master.clone() };
            inputs.push(Input::Event { sentinel: sentinel(3), event });
        }
        inputs.push(Input::Promoted(replica.clone()));
        inputs.extend((monitor.next_tick() <= now).then_some(Input::Tick));
        for input in inputs {
            for action in monitor.handle(input, now) {
                match action {
                    Action::Follow(server) => {
                        followed += 1;
                        held += held_since.take().map_or(Duration::ZERO, |since| now - since);
                        let news = if server == replica { Input::NotMaster } else { Input::Connected };
                        monitor.handle(news, now);
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
fn lying_replica_followed_less_and_less_often() {
    let (followed, held) = play_with_a_lying_replica();
    assert!((3..=20).contains(&followed), "{followed} times in a minute");
    assert!(held <= Duration::from_secs(14), "commands were held back for {held:?} of a minute");
}

#[test]
fn flapping_tilt_rarely_closes_writes() {
    let start = Instant::now();
    let mut monitor =
        SentinelMonitor::new(failover_config(true), &[sentinel(1), sentinel(2), sentinel(3)], start);
    (1..=3).for_each(|number| drop(monitor.handle(answer(number, start, Ok(report(1..4))), start)));
    monitor.handle(answer(1, start, Err("gone")), start);
    let mut turns = 0;
    for ms in 0..10_000_u64 {
        let event = SentinelEvent::Tilt(ms % 2 == 0);
        let input = Input::Event { sentinel: sentinel(3), event };
        let actions = monitor.handle(input, start + Duration::from_millis(ms));
        let is_turn = |action: &&Action| matches!(action, Action::RefuseWrites(_) | Action::AllowWrites);
        turns += actions.iter().filter(is_turn).count();
    }
    assert!((2..=150).contains(&turns), "{turns} times in ten seconds");
}
