//! A minority of the Sentinels uses the ids of others, none, or invented ones, at one address or at two. This never
//! gains it a vote.
//!
//! In most tests three Sentinels are configured by name (s1 to s3) and announce other addresses, s1 lies, and `evil`
//! is a server that it alone lists.

use std::time::{Duration, Instant};

use super::fixtures::{SERVERS, address, failover_config, report, reported_sentinels};
use super::{Action, Input, QueryError, SentinelEvent, SentinelMonitor, SentinelReport};
use crate::address::Address;

/// The servers that a liar lists.
const LIES: [&str; 4] = ["m", "r1", "r2", "evil"];
/// The announced address of each of three Sentinels, and its id.
const ANNOUNCED: [(&str, &str); 3] = [("10.0.0.1", "id1"), ("10.0.0.2", "id2"), ("10.0.0.3", "id3")];

struct Simulation {
    monitor: SentinelMonitor,
    now: Instant,
    /// All actions so far.
    done: Vec<Action>,
}

/// The address of a Sentinel, and its report.
type Answer = (&'static str, SentinelReport);

impl Simulation {
    fn new(sentinels: &[&str], require_majority: bool) -> Self {
        let now = Instant::now();
        let sentinels: Vec<_> = sentinels.iter().map(|name| address(name)).collect();
        Self {
            monitor: SentinelMonitor::new(failover_config(require_majority), &sentinels, now),
            now,
            done: Vec::new(),
        }
    }

    /// Three Sentinels configured by name, all of which have answered honestly until now.
    fn by_name(require_majority: bool) -> Self {
        let mut simulation = Self::new(&["s1", "s2", "s3"], require_majority);
        simulation.record([("s2", honest(2)), ("s3", honest(3)), ("s1", honest(1))]);
        simulation.take(Input::Connected);
        simulation
    }

    fn take(&mut self, input: Input) {
        self.done.extend(self.monitor.handle(input, self.now));
    }

    fn record(&mut self, answers: impl IntoIterator<Item = Answer>) {
        for (sentinel, report) in answers {
            let answer = Ok(report);
            self.take(Input::Answer { sentinel: address(sentinel), asked_at: self.now, answer });
        }
    }

    /// Has the Sentinels answer this once a second.
    fn record_for(&mut self, seconds: u64, answers: impl Fn() -> Vec<Answer>) {
        for _ in 0..seconds {
            self.wait(Duration::from_secs(1));
            self.record(answers());
        }
    }

    fn fail(&mut self, sentinel: &str) {
        let answer = Err(QueryError::Refused("gone".to_owned()));
        self.take(Input::Answer { sentinel: address(sentinel), asked_at: self.now, answer });
    }

    fn wait(&mut self, pause: Duration) {
        let until = self.now + pause;
        while self.monitor.next_tick() <= until {
            self.now = self.now.max(self.monitor.next_tick());
            self.take(Input::Tick);
        }
        self.now = until;
    }

    /// The liar publishes that it selected its server, and the server replies that it is master.
    fn publish_false_promotion(&mut self, liar: &str, server: &str) {
        let event = SentinelEvent::Selected { replica: address(server), master: address("m") };
        self.take(Input::Event { sentinel: address(liar), event });
        self.take(Input::Promoted(address(server)));
    }

    /// Returns true if the client connected to the server, and thus sent it the password.
    fn has_reached(&self, server: &str) -> bool {
        self.done.iter().any(|action| match action {
            Action::Watch { replica: reached, .. } | Action::Follow(reached) => *reached == address(server),
            _ => false,
        })
    }

    fn master(&self) -> Option<Address> {
        self.monitor.topology().ok().map(|topology| topology.master)
    }
}

/// The other Sentinels that the one of this number lists.
fn others(number: usize) -> Vec<(&'static str, &'static str)> {
    ANNOUNCED
        .into_iter()
        .enumerate()
        .filter(|(place, _)| place + 1 != number)
        .map(|(_, other)| other)
        .collect()
}

/// The report of the honest Sentinel of this number.
fn honest(number: usize) -> SentinelReport {
    honest_naming("m", 5, number)
}

fn honest_naming(master: &str, epoch: u64, number: usize) -> SentinelReport {
    let (_, id) = ANNOUNCED[number - 1];
    SentinelReport {
        sentinels: reported_sentinels(&others(number)),
        ..report(Some(id), master, epoch, &SERVERS)
    }
}

/// The report of the first Sentinel, which lies, under this id or none.
fn lie(id: Option<&str>, master: &str, epoch: u64) -> SentinelReport {
    SentinelReport { sentinels: reported_sentinels(&others(1)), ..report(id, master, epoch, &LIES) }
}

/// Changes a report as if the first Sentinel had moved to another address.
fn moved(report: SentinelReport) -> SentinelReport {
    let listed = report.sentinels.into_iter().map(|mut other| {
        if other.id == "id1" {
            other.address = address("10.0.0.9");
        }
        other
    });
    SentinelReport { sentinels: listed.collect(), ..report }
}

// One address each.

#[test]
fn two_of_five_with_honest_ids_list_no_server() {
    let mut simulation = Simulation::new(&["s1", "s2", "s3", "s4", "s5"], true);
    simulation.record(["s3", "s4", "s5"].map(|honest| (honest, report(Some(honest), "m", 5, &SERVERS))));
    simulation.record([("s1", report(Some("s3"), "m", 5, &LIES)), ("s2", report(Some("s4"), "m", 5, &LIES))]);
    simulation.take(Input::Connected);
    simulation.publish_false_promotion("s1", "evil");
    assert!(!simulation.has_reached("evil"));
}

#[test]
fn one_of_two_with_the_other_id_lists_no_server() {
    let mut simulation = Simulation::new(&["s1", "s2"], true);
    simulation
        .record([("s2", report(Some("s2"), "m", 5, &SERVERS)), ("s1", report(Some("s2"), "m", 5, &LIES))]);
    simulation.take(Input::Connected);
    simulation.publish_false_promotion("s1", "evil");
    assert!(!simulation.has_reached("evil"));
}

// Two addresses each.

#[test]
fn one_of_three_does_not_choose_the_first_master() {
    let mut simulation = Simulation::new(&["s1", "s2", "s3"], true);
    let lie = |id| report(Some(id), "evil", u64::MAX, &["evil"]);
    simulation.record([("s1", lie("id2")), ("s2", honest(2)), ("s3", honest(3)), ("10.0.0.1", lie("id1"))]);
    simulation.record_for(2, || vec![("s2", honest(2)), ("s3", honest(3))]);
    assert!(!simulation.has_reached("evil"));
}

#[test]
fn one_of_three_lists_no_server() {
    let mut simulation = Simulation::by_name(true);
    simulation.record_for(3, || {
        let lies = [("s1", lie(Some("id2"), "m", 5)), ("10.0.0.1", lie(Some("id1"), "m", 5))];
        [("s2", honest(2)), ("s3", honest(3))].into_iter().chain(lies).collect()
    });
    simulation.publish_false_promotion("s1", "evil");
    assert!(!simulation.has_reached("evil"));
}

#[test]
fn one_of_three_with_two_configured_causes_no_switch() {
    let mut simulation = Simulation::new(&["s1", "s2"], true);
    simulation.record([("s2", honest(2)), ("s1", honest(1)), ("10.0.0.3", honest(3))]);
    simulation.take(Input::Connected);
    simulation.record_for(3, || {
        let lies = [("s1", lie(Some("id3"), "evil", 99)), ("10.0.0.1", lie(Some("id1"), "evil", 99))];
        [("s2", honest(2)), ("10.0.0.3", honest(3))].into_iter().chain(lies).collect()
    });
    assert!(!simulation.has_reached("evil"));
}

#[test]
fn one_of_three_closes_no_writes() {
    let mut simulation = Simulation::by_name(true);
    simulation.record_for(3, || {
        let knows_none = |id| SentinelReport { master: None, ..lie(Some(id), "m", 5) };
        vec![("s2", honest(2)), ("s3", honest(3)), ("s1", knows_none("id2")), ("10.0.0.1", knows_none("id1"))]
    });
    assert!(!simulation.done.iter().any(|action| matches!(action, Action::RefuseWrites(_))));
}

#[test]
fn one_of_three_prevents_no_failover() {
    let mut simulation = Simulation::by_name(false);
    let lies = || [("s1", lie(Some("id2"), "evil", 5)), ("10.0.0.1", lie(Some("id1"), "evil", 5))];
    simulation.record(lies());
    simulation.wait(Duration::from_secs(70));
    simulation.take(Input::Lost);
    simulation.record_for(100, || {
        [("s2", honest_naming("r1", 6, 2)), ("s3", honest_naming("r1", 6, 3))]
            .into_iter()
            .chain(lies())
            .collect()
    });
    assert_eq!(simulation.master(), Some(address("r1")));
}

/// The liar gives no id at its configured address, and its own id at the announced one.
fn without_id(evil: &'static str) -> Simulation {
    let mut simulation = Simulation::new(&["s1", "s2", "s3"], true);
    let no_id = |report: SentinelReport| SentinelReport { id: None, ..report };
    simulation.record([("s2", honest(2)), ("s3", honest(3)), ("s1", no_id(honest(1)))]);
    simulation.take(Input::Connected);
    simulation.record_for(2, || {
        let lie = |id| SentinelReport {
            sentinels: reported_sentinels(&others(1)),
            ..report(id, evil, 99, &["m", "r1", "r2", evil])
        };
        vec![("s1", lie(None)), ("s2", honest(2)), ("s3", honest(3)), ("10.0.0.1", lie(Some("id1")))]
    });
    simulation
}

#[test]
fn missing_id_gives_no_second_vote() {
    // Once before the master in the order of addresses, and once behind it.
    for evil in ["evil", "zevil"] {
        let mut simulation = without_id(evil);
        simulation.publish_false_promotion("s1", evil);
        assert!(!simulation.has_reached(evil), "{evil}");
    }
}

// Configured by address, and one moves.

#[test]
fn invented_id_after_move_gives_no_second_vote() {
    let mut simulation = Simulation::new(&["10.0.0.1", "10.0.0.2", "10.0.0.3"], true);
    simulation.record([("10.0.0.2", honest(2)), ("10.0.0.3", honest(3)), ("10.0.0.1", honest(1))]);
    simulation.take(Input::Connected);
    simulation.record_for(3, || {
        let honest = [("10.0.0.2", moved(honest(2))), ("10.0.0.3", moved(honest(3)))];
        let lies =
            [("10.0.0.1", lie(Some("made-up"), "evil", 99)), ("10.0.0.9", lie(Some("id1"), "evil", 99))];
        honest.into_iter().chain(lies).collect()
    });
    simulation.publish_false_promotion("10.0.0.1", "evil");
    assert!(!simulation.has_reached("evil"));
    simulation.take(Input::Lost);
    simulation.record_for(100, || {
        let honest =
            [("10.0.0.2", moved(honest_naming("r1", 6, 2))), ("10.0.0.3", moved(honest_naming("r1", 6, 3)))];
        let lies = [("10.0.0.1", lie(Some("made-up"), "evil", 5)), ("10.0.0.9", lie(Some("id1"), "evil", 5))];
        honest.into_iter().chain(lies).collect()
    });
    assert_eq!(simulation.master(), Some(address("r1")), "the failover is followed");
}

#[test]
fn missing_id_after_move_adds_no_sentinels() {
    let mut simulation = Simulation::new(&["10.0.0.1", "10.0.0.2", "10.0.0.3"], true);
    let invented = [("10.66.0.1", "x1"), ("10.66.0.2", "x2"), ("10.0.0.9", "id1")];
    for _ in 0..2 {
        let lie =
            |id| SentinelReport { sentinels: reported_sentinels(&invented), ..report(id, "m", 5, &LIES) };
        simulation.record([("10.0.0.2", moved(honest(2))), ("10.0.0.3", moved(honest(3)))]);
        simulation.record([("10.0.0.1", lie(None)), ("10.0.0.9", lie(Some("id1")))]);
        simulation.wait(Duration::from_secs(1));
    }
    let invented = [address("10.66.0.1"), address("10.66.0.2")];
    let added = |action: &Action| match action {
        Action::AddSentinels(added) => added.iter().any(|added| invented.contains(added)),
        _ => false,
    };
    assert!(!simulation.done.iter().any(added));
}

// A majority is required.

#[test]
fn no_master_at_start_without_majority() {
    let mut simulation = Simulation::new(&["s1", "s2", "s3"], true);
    simulation.fail("s1");
    simulation.record([("s2", report(Some("s2"), "m", 5, &SERVERS))]);
    simulation.record([("s3", report(Some("s3"), "evil", u64::MAX, &["evil"]))]);
    assert_eq!(simulation.master(), None);
    simulation.record([("s1", report(Some("s1"), "m", 5, &SERVERS))]);
    assert_eq!(simulation.master(), Some(address("m")));
}

#[test]
fn single_sentinel_not_followed_at_start() {
    let mut simulation = Simulation::new(&["s1", "s2", "s3"], true);
    simulation.fail("s1");
    simulation.fail("s2");
    simulation.record([("s3", report(Some("s3"), "evil", u64::MAX, &["evil"]))]);
    assert_eq!(simulation.master(), None);
}

#[test]
fn last_remaining_sentinel_not_followed() {
    let mut simulation = Simulation::new(&["s1", "s2", "s3"], true);
    simulation.record(["s1", "s2", "s3"].map(|name| (name, report(Some(name), "m", 5, &SERVERS))));
    simulation.take(Input::Connected);
    simulation.fail("s1");
    simulation.fail("s2");
    simulation.wait(Duration::from_secs(31));
    simulation.record((0..2).map(|_| ("s3", report(Some("s3"), "evil", u64::MAX, &["evil"]))));
    assert!(!simulation.has_reached("evil"));
}

// Fewer are configured than exist, or the configured ones are late.

/// The announced addresses of five Sentinels, and their ids.
const FIVE: [(&str, &str); 5] =
    [("10.0.0.1", "id1"), ("10.0.0.2", "id2"), ("10.0.0.3", "id3"), ("10.0.0.4", "id4"), ("10.0.0.5", "id5")];

/// The report of an honest Sentinel of five.
fn of_five(number: usize, master: &str, epoch: u64) -> SentinelReport {
    let mut others = FIVE.to_vec();
    let (_, id) = others.remove(number - 1);
    SentinelReport { sentinels: reported_sentinels(&others), ..report(Some(id), master, epoch, &SERVERS) }
}

/// The report of a liar that lists only these Sentinels.
fn lie_listing(listed: &[(&str, &str)], master: &str, epoch: u64) -> SentinelReport {
    SentinelReport { sentinels: reported_sentinels(listed), ..report(Some("liar"), master, epoch, &LIES) }
}

#[test]
fn two_of_five_cannot_exclude_honest_configured_ones() {
    let mut simulation = Simulation::new(&["s1", "s2", "s3"], false);
    let liars = [FIVE[0], FIVE[3], FIVE[4]];
    simulation.record([
        ("s1", lie_listing(&liars, "m", 5)),
        ("s2", of_five(2, "m", 5)),
        ("s3", of_five(3, "m", 5)),
    ]);
    simulation.take(Input::Connected);
    for round in 0..60 {
        simulation.wait(Duration::from_secs(1));
        simulation.fail("s1");
        let lies = ["10.0.0.1", "10.0.0.4"].map(|liar| (liar, lie_listing(&liars, "evil", 99 + round)));
        simulation.record(lies);
        simulation.record([
            ("s2", of_five(2, "m", 5)),
            ("s3", of_five(3, "m", 5)),
            ("10.0.0.5", of_five(5, "m", 5)),
        ]);
    }
    assert!(!simulation.has_reached("evil"));
}

#[test]
fn two_of_five_cannot_outvote_two_configured() {
    let mut simulation = Simulation::new(&["s1", "s2"], false);
    let honest = || [("s1", of_five(1, "m", 5)), ("s2", of_five(2, "m", 5))];
    simulation.record(honest());
    simulation.take(Input::Connected);
    simulation.record_for(5, || {
        let lies = ["10.0.0.3", "10.0.0.4"].map(|liar| (liar, lie_listing(&FIVE[2..], "evil", 99)));
        honest().into_iter().chain([("10.0.0.5", of_five(5, "m", 5))]).chain(lies).collect()
    });
    assert!(!simulation.has_reached("evil"));
}

#[test]
fn one_of_three_does_not_decide_while_others_are_late() {
    // It lists only itself, or all of them, and the announced addresses of the others are unreachable.
    for listed in [&ANNOUNCED[..1], &ANNOUNCED] {
        let mut simulation = Simulation::new(&["s1", "s2", "s3"], false);
        simulation.record([("s1", lie_listing(listed, "m", 5)), ("s2", honest(2)), ("s3", honest(3))]);
        simulation.take(Input::Connected);
        ["10.0.0.2", "10.0.0.3", "s1", "s2", "s3"].iter().for_each(|sentinel| simulation.fail(sentinel));
        simulation.record([("10.0.0.1", lie_listing(listed, "evil", 99))]);
        assert!(!simulation.has_reached("evil"), "{listed:?}");
    }
}

#[test]
fn unconfigured_liar_prevents_no_failover() {
    let mut simulation = Simulation::new(&["s2"], true);
    let lie = || ("10.0.0.1", lie_listing(&[], "m", 5));
    simulation.record([("s2", honest(2)), lie(), ("10.0.0.3", honest(3))]);
    simulation.take(Input::Connected);
    simulation.record_for(3, || vec![("s2", honest(2)), lie(), ("10.0.0.3", honest(3))]);
    simulation.take(Input::Lost);
    simulation.record_for(3, || {
        vec![("s2", honest_naming("r1", 6, 2)), lie(), ("10.0.0.3", honest_naming("r1", 6, 3))]
    });
    assert_eq!(simulation.master(), Some(address("r1")));
}

#[test]
fn single_configured_sentinel_has_one_vote() {
    let mut simulation = Simulation::new(&["s1"], true);
    simulation.record([("s1", honest(1)), ("10.0.0.2", honest(2)), ("10.0.0.3", honest(3))]);
    simulation.take(Input::Connected);
    simulation.record_for(3, || {
        let lies = [("s1", lie(Some("id1"), "evil", 99)), ("10.0.0.1", lie(Some("id1"), "evil", 99))];
        [("10.0.0.2", honest(2)), ("10.0.0.3", honest(3))].into_iter().chain(lies).collect()
    });
    assert!(!simulation.has_reached("evil"));
}

#[test]
fn one_of_three_prevents_no_failover_after_another_moved() {
    let mut simulation = Simulation::new(&["10.0.0.1", "10.0.0.2", "10.0.0.3"], true);
    simulation.record([("10.0.0.1", honest(1)), ("10.0.0.2", honest(2)), ("10.0.0.3", honest(3))]);
    simulation.take(Input::Connected);
    let lie = || ("10.0.0.2", moved(honest(2)));
    for round in 0..40 {
        simulation.fail("10.0.0.1");
        simulation.record_for(1, || vec![("10.0.0.3", moved(honest(3))), ("10.0.0.9", honest(1)), lie()]);
        if round == 20 {
            simulation.take(Input::Lost);
        }
    }
    simulation.record_for(1, || {
        vec![("10.0.0.3", moved(honest_naming("r1", 6, 3))), ("10.0.0.9", honest_naming("r1", 6, 1)), lie()]
    });
    assert_eq!(simulation.master(), Some(address("r1")));
}

#[test]
fn one_of_two_does_not_decide_while_configured_one_lists_nobody() {
    let mut simulation = Simulation::new(&["s2"], true);
    let honest = |listed| {
        (
            "s2",
            SentinelReport { sentinels: reported_sentinels(listed), ..report(Some("id2"), "m", 5, &SERVERS) },
        )
    };
    let lie = |epoch| ("10.0.0.1", lie_listing(&[], "evil", epoch));
    simulation.record([honest(&ANNOUNCED[..1]), ("10.0.0.1", lie_listing(&ANNOUNCED[1..2], "m", 5))]);
    simulation.take(Input::Connected);
    // It was reset.
    simulation.record_for(5, || vec![lie(98), honest(&[]), lie(99)]);
    assert!(!simulation.has_reached("evil"));
}
