//! A minority of the Sentinels gives the ids of others, none, or made-up ones, at one address or at two: no vote comes of it.
//!
//! In most scenes three Sentinels are configured by name (s1 to s3) and announce other addresses, s1 lies, and `evil` is a
//! server that it alone speaks of.

use std::time::{Duration, Instant};

use super::fixtures::{SERVERS, address, companions, failover_config, view};
use super::{Action, Input, QueryError, SentinelEvent, SentinelMonitor, SentinelReport};
use crate::address::Address;

/// The servers that a liar lists.
const LIES: [&str; 4] = ["m", "r1", "r2", "evil"];
/// The address that each of three announces, and its id.
const ANNOUNCED: [(&str, &str); 3] = [("10.0.0.1", "id1"), ("10.0.0.2", "id2"), ("10.0.0.3", "id3")];

struct Scene {
    follower: SentinelMonitor,
    now: Instant,
    /// All that was done.
    done: Vec<Action>,
}

/// What one answers, and where.
type Answer = (&'static str, SentinelReport);

impl Scene {
    fn new(sentinels: &[&str], require_majority: bool) -> Self {
        let now = Instant::now();
        let sentinels: Vec<_> = sentinels.iter().map(|name| address(name)).collect();
        Self {
            follower: SentinelMonitor::new(failover_config(require_majority), &sentinels, now),
            now,
            done: Vec::new(),
        }
    }

    /// Three that are configured by name, and told the truth until now.
    fn by_name(require_majority: bool) -> Self {
        let mut scene = Self::new(&["s1", "s2", "s3"], require_majority);
        scene.record([("s2", honest(2)), ("s3", honest(3)), ("s1", honest(1))]);
        scene.take(Input::Connected);
        scene
    }

    fn take(&mut self, input: Input) {
        self.done.extend(self.follower.handle(input, self.now));
    }

    fn record(&mut self, answers: impl IntoIterator<Item = Answer>) {
        for (sentinel, view) in answers {
            let answer = Ok(view);
            self.take(Input::Answer { sentinel: address(sentinel), asked_at: self.now, answer });
        }
    }

    /// They answer so again and again, for so many seconds.
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
        while self.follower.next_tick() <= until {
            self.now = self.now.max(self.follower.next_tick());
            self.take(Input::Tick);
        }
        self.now = until;
    }

    /// The liar publishes that its server is selected, which says that it is master.
    fn forge_promotion(&mut self, liar: &str, server: &str) {
        let event = SentinelEvent::Selected { replica: address(server), master: address("m") };
        self.take(Input::Heard { sentinel: address(liar), event });
        self.take(Input::Promoted(address(server)));
    }

    /// Whether it has connected to the server, which gets the password.
    fn has_reached(&self, server: &str) -> bool {
        self.done.iter().any(|action| match action {
            Action::Watch { replica: reached, .. } | Action::Follow(reached) => *reached == address(server),
            _ => false,
        })
    }

    fn master(&self) -> Option<Address> {
        self.follower.topology().ok().map(|topology| topology.master)
    }
}

/// What the others list of the Sentinels, all but the one of this number.
fn others(number: usize) -> Vec<(&'static str, &'static str)> {
    ANNOUNCED
        .into_iter()
        .enumerate()
        .filter(|(place, _)| place + 1 != number)
        .map(|(_, other)| other)
        .collect()
}

/// What the honest Sentinel of this number answers.
fn honest(number: usize) -> SentinelReport {
    names("m", 5, number)
}

fn names(master: &str, epoch: u64, number: usize) -> SentinelReport {
    let (_, id) = ANNOUNCED[number - 1];
    SentinelReport { sentinels: companions(&others(number)), ..view(Some(id), master, epoch, &SERVERS) }
}

/// What the first one answers that lies, under an id or none.
fn lie(id: Option<&str>, master: &str, epoch: u64) -> SentinelReport {
    SentinelReport { sentinels: companions(&others(1)), ..view(id, master, epoch, &LIES) }
}

/// As they list each other since the first has moved to another address.
fn moved(view: SentinelReport) -> SentinelReport {
    let listed = view.sentinels.into_iter().map(|mut other| {
        if other.id == "id1" {
            other.address = address("10.0.0.9");
        }
        other
    });
    SentinelReport { sentinels: listed.collect(), ..view }
}

// One address each.

#[test]
fn two_of_five_with_ids_of_honest_ones_vouch_for_no_server() {
    let mut scene = Scene::new(&["s1", "s2", "s3", "s4", "s5"], true);
    scene.record(["s3", "s4", "s5"].map(|honest| (honest, view(Some(honest), "m", 5, &SERVERS))));
    scene.record([("s1", view(Some("s3"), "m", 5, &LIES)), ("s2", view(Some("s4"), "m", 5, &LIES))]);
    scene.take(Input::Connected);
    scene.forge_promotion("s1", "evil");
    assert!(!scene.has_reached("evil"));
}

#[test]
fn one_of_two_with_the_id_of_the_other_vouches_for_no_server() {
    let mut scene = Scene::new(&["s1", "s2"], true);
    scene.record([("s2", view(Some("s2"), "m", 5, &SERVERS)), ("s1", view(Some("s2"), "m", 5, &LIES))]);
    scene.take(Input::Connected);
    scene.forge_promotion("s1", "evil");
    assert!(!scene.has_reached("evil"));
}

// Two addresses each.

#[test]
fn one_of_three_does_not_choose_the_first_master() {
    let mut scene = Scene::new(&["s1", "s2", "s3"], true);
    let lie = |id| view(Some(id), "evil", u64::MAX, &["evil"]);
    scene.record([("s1", lie("id2")), ("s2", honest(2)), ("s3", honest(3)), ("10.0.0.1", lie("id1"))]);
    scene.record_for(2, || vec![("s2", honest(2)), ("s3", honest(3))]);
    assert!(!scene.has_reached("evil"));
}

#[test]
fn one_of_three_vouches_for_no_server() {
    let mut scene = Scene::by_name(true);
    scene.record_for(3, || {
        let lies = [("s1", lie(Some("id2"), "m", 5)), ("10.0.0.1", lie(Some("id1"), "m", 5))];
        [("s2", honest(2)), ("s3", honest(3))].into_iter().chain(lies).collect()
    });
    scene.forge_promotion("s1", "evil");
    assert!(!scene.has_reached("evil"));
}

#[test]
fn one_of_three_of_which_two_are_configured_leads_to_no_server() {
    let mut scene = Scene::new(&["s1", "s2"], true);
    scene.record([("s2", honest(2)), ("s1", honest(1)), ("10.0.0.3", honest(3))]);
    scene.take(Input::Connected);
    scene.record_for(3, || {
        let lies = [("s1", lie(Some("id3"), "evil", 99)), ("10.0.0.1", lie(Some("id1"), "evil", 99))];
        [("s2", honest(2)), ("10.0.0.3", honest(3))].into_iter().chain(lies).collect()
    });
    assert!(!scene.has_reached("evil"));
}

#[test]
fn one_of_three_closes_no_writes() {
    let mut scene = Scene::by_name(true);
    scene.record_for(3, || {
        let knows_none = |id| SentinelReport { master: None, ..lie(Some(id), "m", 5) };
        vec![("s2", honest(2)), ("s3", honest(3)), ("s1", knows_none("id2")), ("10.0.0.1", knows_none("id1"))]
    });
    assert!(!scene.done.iter().any(|action| matches!(action, Action::Close(_))));
}

#[test]
fn one_of_three_hinders_no_failover() {
    let mut scene = Scene::by_name(false);
    let lies = || [("s1", lie(Some("id2"), "evil", 5)), ("10.0.0.1", lie(Some("id1"), "evil", 5))];
    scene.record(lies());
    scene.wait(Duration::from_secs(70));
    scene.take(Input::Lost);
    scene.record_for(100, || {
        [("s2", names("r1", 6, 2)), ("s3", names("r1", 6, 3))].into_iter().chain(lies()).collect()
    });
    assert_eq!(scene.master(), Some(address("r1")));
}

/// The liar tells no id at its configured address, and its own at the announced one.
fn hear_no_id(evil: &'static str) -> Scene {
    let mut scene = Scene::new(&["s1", "s2", "s3"], true);
    let no_id = |view: SentinelReport| SentinelReport { id: None, ..view };
    scene.record([("s2", honest(2)), ("s3", honest(3)), ("s1", no_id(honest(1)))]);
    scene.take(Input::Connected);
    scene.record_for(2, || {
        let lie = |id| SentinelReport {
            sentinels: companions(&others(1)),
            ..view(id, evil, 99, &["m", "r1", "r2", evil])
        };
        vec![("s1", lie(None)), ("s2", honest(2)), ("s3", honest(3)), ("10.0.0.1", lie(Some("id1")))]
    });
    scene
}

#[test]
fn no_id_is_no_second_vote() {
    // Before the master in the order of addresses, and behind it.
    for evil in ["evil", "zevil"] {
        let mut scene = hear_no_id(evil);
        scene.forge_promotion("s1", evil);
        assert!(!scene.has_reached(evil), "{evil}");
    }
}

// Configured by address, and one moves.

#[test]
fn made_up_id_after_a_move_is_no_second_vote() {
    let mut scene = Scene::new(&["10.0.0.1", "10.0.0.2", "10.0.0.3"], true);
    scene.record([("10.0.0.2", honest(2)), ("10.0.0.3", honest(3)), ("10.0.0.1", honest(1))]);
    scene.take(Input::Connected);
    scene.record_for(3, || {
        let honest = [("10.0.0.2", moved(honest(2))), ("10.0.0.3", moved(honest(3)))];
        let lies =
            [("10.0.0.1", lie(Some("made-up"), "evil", 99)), ("10.0.0.9", lie(Some("id1"), "evil", 99))];
        honest.into_iter().chain(lies).collect()
    });
    scene.forge_promotion("10.0.0.1", "evil");
    assert!(!scene.has_reached("evil"));
    scene.take(Input::Lost);
    scene.record_for(100, || {
        let honest = [("10.0.0.2", moved(names("r1", 6, 2))), ("10.0.0.3", moved(names("r1", 6, 3)))];
        let lies = [("10.0.0.1", lie(Some("made-up"), "evil", 5)), ("10.0.0.9", lie(Some("id1"), "evil", 5))];
        honest.into_iter().chain(lies).collect()
    });
    assert_eq!(scene.master(), Some(address("r1")), "the failover is followed");
}

#[test]
fn no_id_after_a_move_has_no_sentinels_met() {
    let mut scene = Scene::new(&["10.0.0.1", "10.0.0.2", "10.0.0.3"], true);
    let invented = [("10.66.0.1", "x1"), ("10.66.0.2", "x2"), ("10.0.0.9", "id1")];
    for _ in 0..2 {
        let lie = |id| SentinelReport { sentinels: companions(&invented), ..view(id, "m", 5, &LIES) };
        scene.record([("10.0.0.2", moved(honest(2))), ("10.0.0.3", moved(honest(3)))]);
        scene.record([("10.0.0.1", lie(None)), ("10.0.0.9", lie(Some("id1")))]);
        scene.wait(Duration::from_secs(1));
    }
    let invented = [address("10.66.0.1"), address("10.66.0.2")];
    let added = |action: &Action| match action {
        Action::AddSentinels(added) => added.iter().any(|added| invented.contains(added)),
        _ => false,
    };
    assert!(!scene.done.iter().any(added));
}

// A majority is required.

#[test]
fn nobody_is_followed_at_the_start_before_a_majority_of_all_names_it() {
    let mut scene = Scene::new(&["s1", "s2", "s3"], true);
    scene.fail("s1");
    scene.record([("s2", view(Some("s2"), "m", 5, &SERVERS))]);
    scene.record([("s3", view(Some("s3"), "evil", u64::MAX, &["evil"]))]);
    assert_eq!(scene.master(), None);
    scene.record([("s1", view(Some("s1"), "m", 5, &SERVERS))]);
    assert_eq!(scene.master(), Some(address("m")));
}

#[test]
fn one_alone_is_not_followed_at_the_start() {
    let mut scene = Scene::new(&["s1", "s2", "s3"], true);
    scene.fail("s1");
    scene.fail("s2");
    scene.record([("s3", view(Some("s3"), "evil", u64::MAX, &["evil"]))]);
    assert_eq!(scene.master(), None);
}

#[test]
fn one_that_is_left_is_not_followed() {
    let mut scene = Scene::new(&["s1", "s2", "s3"], true);
    scene.record(["s1", "s2", "s3"].map(|name| (name, view(Some(name), "m", 5, &SERVERS))));
    scene.take(Input::Connected);
    scene.fail("s1");
    scene.fail("s2");
    scene.wait(Duration::from_secs(31));
    scene.record((0..2).map(|_| ("s3", view(Some("s3"), "evil", u64::MAX, &["evil"]))));
    assert!(!scene.has_reached("evil"));
}

// Fewer are configured than exist, or the configured ones are late.

/// The addresses that five announce, and their ids.
const FIVE: [(&str, &str); 5] =
    [("10.0.0.1", "id1"), ("10.0.0.2", "id2"), ("10.0.0.3", "id3"), ("10.0.0.4", "id4"), ("10.0.0.5", "id5")];

/// What an honest one of five answers.
fn of_five(number: usize, master: &str, epoch: u64) -> SentinelReport {
    let mut others = FIVE.to_vec();
    let (_, id) = others.remove(number - 1);
    SentinelReport { sentinels: companions(&others), ..view(Some(id), master, epoch, &SERVERS) }
}

/// What a liar answers that lists these Sentinels alone.
fn lie_listing(listed: &[(&str, &str)], master: &str, epoch: u64) -> SentinelReport {
    SentinelReport { sentinels: companions(listed), ..view(Some("liar"), master, epoch, &LIES) }
}

#[test]
fn two_of_five_do_not_leave_out_the_honest_ones_of_three_that_are_configured() {
    let mut scene = Scene::new(&["s1", "s2", "s3"], false);
    let liars = [FIVE[0], FIVE[3], FIVE[4]];
    scene.record([
        ("s1", lie_listing(&liars, "m", 5)),
        ("s2", of_five(2, "m", 5)),
        ("s3", of_five(3, "m", 5)),
    ]);
    scene.take(Input::Connected);
    for round in 0..60 {
        scene.wait(Duration::from_secs(1));
        scene.fail("s1");
        let lies = ["10.0.0.1", "10.0.0.4"].map(|liar| (liar, lie_listing(&liars, "evil", 99 + round)));
        scene.record(lies);
        scene.record([
            ("s2", of_five(2, "m", 5)),
            ("s3", of_five(3, "m", 5)),
            ("10.0.0.5", of_five(5, "m", 5)),
        ]);
    }
    assert!(!scene.has_reached("evil"));
}

#[test]
fn two_of_five_do_not_outvote_two_that_are_configured() {
    let mut scene = Scene::new(&["s1", "s2"], false);
    let honest = || [("s1", of_five(1, "m", 5)), ("s2", of_five(2, "m", 5))];
    scene.record(honest());
    scene.take(Input::Connected);
    scene.record_for(5, || {
        let lies = ["10.0.0.3", "10.0.0.4"].map(|liar| (liar, lie_listing(&FIVE[2..], "evil", 99)));
        honest().into_iter().chain([("10.0.0.5", of_five(5, "m", 5))]).chain(lies).collect()
    });
    assert!(!scene.has_reached("evil"));
}

#[test]
fn one_of_three_does_not_decide_while_the_others_are_late_once() {
    // It lists itself alone, or all, of which the announced addresses of the others cannot be reached.
    for listed in [&ANNOUNCED[..1], &ANNOUNCED] {
        let mut scene = Scene::new(&["s1", "s2", "s3"], false);
        scene.record([("s1", lie_listing(listed, "m", 5)), ("s2", honest(2)), ("s3", honest(3))]);
        scene.take(Input::Connected);
        ["10.0.0.2", "10.0.0.3", "s1", "s2", "s3"].iter().for_each(|sentinel| scene.fail(sentinel));
        scene.record([("10.0.0.1", lie_listing(listed, "evil", 99))]);
        assert!(!scene.has_reached("evil"), "{listed:?}");
    }
}

#[test]
fn one_of_three_of_which_another_is_configured_hinders_no_failover() {
    let mut scene = Scene::new(&["s2"], true);
    let lie = || ("10.0.0.1", lie_listing(&[], "m", 5));
    scene.record([("s2", honest(2)), lie(), ("10.0.0.3", honest(3))]);
    scene.take(Input::Connected);
    scene.record_for(3, || vec![("s2", honest(2)), lie(), ("10.0.0.3", honest(3))]);
    scene.take(Input::Lost);
    scene.record_for(3, || vec![("s2", names("r1", 6, 2)), lie(), ("10.0.0.3", names("r1", 6, 3))]);
    assert_eq!(scene.master(), Some(address("r1")));
}

#[test]
fn one_that_is_configured_alone_has_one_vote() {
    let mut scene = Scene::new(&["s1"], true);
    scene.record([("s1", honest(1)), ("10.0.0.2", honest(2)), ("10.0.0.3", honest(3))]);
    scene.take(Input::Connected);
    scene.record_for(3, || {
        let lies = [("s1", lie(Some("id1"), "evil", 99)), ("10.0.0.1", lie(Some("id1"), "evil", 99))];
        [("10.0.0.2", honest(2)), ("10.0.0.3", honest(3))].into_iter().chain(lies).collect()
    });
    assert!(!scene.has_reached("evil"));
}

#[test]
fn one_of_three_hinders_no_failover_after_another_has_moved() {
    let mut scene = Scene::new(&["10.0.0.1", "10.0.0.2", "10.0.0.3"], true);
    scene.record([("10.0.0.1", honest(1)), ("10.0.0.2", honest(2)), ("10.0.0.3", honest(3))]);
    scene.take(Input::Connected);
    let lie = || ("10.0.0.2", moved(honest(2)));
    for round in 0..40 {
        scene.fail("10.0.0.1");
        scene.record_for(1, || vec![("10.0.0.3", moved(honest(3))), ("10.0.0.9", honest(1)), lie()]);
        if round == 20 {
            scene.take(Input::Lost);
        }
    }
    scene.record_for(1, || {
        vec![("10.0.0.3", moved(names("r1", 6, 3))), ("10.0.0.9", names("r1", 6, 1)), lie()]
    });
    assert_eq!(scene.master(), Some(address("r1")));
}

#[test]
fn one_of_two_does_not_decide_while_the_other_that_is_configured_alone_lists_nobody() {
    let mut scene = Scene::new(&["s2"], true);
    let honest = |listed| {
        ("s2", SentinelReport { sentinels: companions(listed), ..view(Some("id2"), "m", 5, &SERVERS) })
    };
    let lie = |epoch| ("10.0.0.1", lie_listing(&[], "evil", epoch));
    scene.record([honest(&ANNOUNCED[..1]), ("10.0.0.1", lie_listing(&ANNOUNCED[1..2], "m", 5))]);
    scene.take(Input::Connected);
    // It was reset.
    scene.record_for(5, || vec![lie(98), honest(&[]), lie(99)]);
    assert!(!scene.has_reached("evil"));
}
