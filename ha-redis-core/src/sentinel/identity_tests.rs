//! A minority of the Sentinels claims the ids of others, none, or made-up ones, at one address or at two: it leads nowhere.

use std::time::{Duration, Instant};

use super::view::{Companion, Instance, MasterView};
use super::{Action, Event, Follower, Input, Rules, View};
use crate::address::Address;

fn address(name: &str) -> Address {
    Address::tcp(name, 6379)
}

fn view(id: &str, master: &str, epoch: u64, servers: &[&str], others: &[(&str, &str)]) -> View {
    let master = MasterView { address: address(master), epoch, flags: "master".to_owned(), quorum: 2 };
    let replica = |server: &&str| Instance {
        address: address(server),
        flags: "slave".to_owned(),
        master_link_up: true,
    };
    let replicas = servers.iter().filter(|server| address(server) != master.address).map(replica).collect();
    let sentinels =
        others.iter().map(|(a, id)| Companion { address: address(a), id: (*id).to_owned() }).collect();
    View { id: Some(id.to_owned()), master: Some(master), replicas, sentinels, ..View::default() }
}

struct Scene {
    follower: Follower,
    now: Instant,
}

impl Scene {
    fn new(sentinels: &[&str], require_majority: bool) -> Self {
        let rules = Rules {
            master_name: "mymaster".to_owned(),
            early_promotion: true,
            promotion_hold: Duration::from_secs(2),
            require_majority,
            first_tries: 3,
        };
        let now = Instant::now();
        let sentinels: Vec<_> = sentinels.iter().map(|s| address(s)).collect();
        Self { follower: Follower::new(rules, &sentinels, now), now }
    }
    fn input(&mut self, what: &str, input: Input) -> Vec<Action> {
        let actions = self.follower.handle(input, self.now);
        let _ = what;
        actions
    }
    fn answer(&mut self, at: &str, view: View) -> Vec<Action> {
        let what = format!(
            "{at} answers as {:?} naming {}",
            view.id.as_ref().unwrap(),
            view.master.as_ref().unwrap().address
        );
        self.input(&what, Input::Answer { sentinel: address(at), asked: self.now, answer: Ok(view) })
    }
    fn fails(&mut self, at: &str) -> Vec<Action> {
        self.input(
            &format!("{at} fails"),
            Input::Answer {
                sentinel: address(at),
                asked: self.now,
                answer: Err(super::NoAnswer::Refused("gone".to_owned())),
            },
        )
    }
    fn wait(&mut self, ms: u64) {
        let until = self.now + Duration::from_millis(ms);
        while self.follower.next_tick() <= until {
            self.now = self.now.max(self.follower.next_tick());
            self.follower.handle(Input::Tick, self.now);
        }
        self.now = until;
    }
    fn selected(&mut self, by: &str, replica: &str, master: &str) -> Vec<Action> {
        let event = Event::Selected { replica: address(replica), master: address(master) };
        self.input(
            &format!("{by} publishes +selected-slave {replica}"),
            Input::Heard { sentinel: address(by), event },
        )
    }
}

const SERVERS: [&str; 3] = ["m", "r1", "r2"];
const EVIL: [&str; 4] = ["m", "r1", "r2", "evil"];

/// 2 liars of 5, each under the id of an honest one, whose address comes later.
#[test]
fn two_of_five_under_the_ids_of_honest_ones_lead_to_no_server() {
    let all = ["s1", "s2", "s3", "s4", "s5"];
    let mut s = Scene::new(&all, true);
    for honest in ["s3", "s4", "s5"] {
        s.answer(honest, view(honest, "m", 5, &SERVERS, &[]));
    }
    s.answer("s1", view("s3", "m", 5, &EVIL, &[]));
    s.answer("s2", view("s4", "m", 5, &EVIL, &[]));
    s.input("connected", Input::Connected);
    let mut seen = s.selected("s1", "evil", "m");
    seen.extend(s.input("evil says master", Input::Promoted(address("evil"))));
    assert!(
        !seen.iter().any(|a| matches!(a, Action::Watch { .. } | Action::Follow(_))),
        "evil is connected to"
    );
}

/// 1 of 2.
#[test]
fn one_of_two_under_the_id_of_the_other_leads_to_no_server() {
    let mut s = Scene::new(&["s1", "s2"], true);
    s.answer("s2", view("s2", "m", 5, &SERVERS, &[]));
    s.answer("s1", view("s2", "m", 5, &EVIL, &[]));
    s.input("connected", Input::Connected);
    let mut seen = s.selected("s1", "evil", "m");
    seen.extend(s.input("evil says master", Input::Promoted(address("evil"))));
    assert!(
        !seen.iter().any(|a| matches!(a, Action::Watch { .. } | Action::Follow(_))),
        "evil is connected to"
    );
}

fn others(but: usize) -> Vec<(&'static str, &'static str)> {
    let all = [("10.0.0.1", "id1"), ("10.0.0.2", "id2"), ("10.0.0.3", "id3")];
    all.into_iter().enumerate().filter(|(n, _)| *n != but).map(|(_, o)| o).collect()
}

/// Sentinels configured by name, announced by IP: the liar has two addresses, and takes id of an honest one at the named one.
/// All three are there.
#[test]
fn one_of_three_with_two_addresses_does_not_choose_the_first_master() {
    let mut s = Scene::new(&["s1", "s2", "s3"], true);
    let all = [("10.0.0.1", "id1"), ("10.0.0.3", "id3")];
    let mut seen = vec![];
    seen.extend(s.answer("s1", view("id2", "evil", u64::MAX, &["evil"], &all)));
    seen.extend(s.answer("s2", view("id2", "m", 5, &SERVERS, &others(1))));
    seen.extend(s.answer("s3", view("id3", "m", 5, &SERVERS, &others(2))));
    seen.extend(s.answer("10.0.0.1", view("id1", "evil", u64::MAX, &["evil"], &all)));
    for _ in 0..2 {
        s.wait(250);
        seen.extend(s.answer("s2", view("id2", "m", 5, &SERVERS, &others(1))));
        seen.extend(s.answer("s3", view("id3", "m", 5, &SERVERS, &others(2))));
    }
    assert!(
        !seen
            .iter()
            .any(|a| matches!(a, Action::Watch { .. } | Action::Follow(_))
                && format!("{a:?}").contains("evil")),
        "evil is connected to"
    );
}

/// As before, with the liar in place first: the liar answers before the third one: no majority can be had.
#[test]
fn one_of_three_with_two_addresses_vouches_for_no_server() {
    let mut s = Scene::new(&["s1", "s2", "s3"], true);
    let mut seen = vec![];
    s.answer("s2", view("id2", "m", 5, &SERVERS, &others(1)));
    s.answer("s3", view("id3", "m", 5, &SERVERS, &others(2)));
    s.answer("s1", view("id1", "m", 5, &SERVERS, &others(0)));
    s.input("connected", Input::Connected);
    // attack begins: s1 speaks as id2
    for _ in 0..3 {
        s.wait(1000);
        seen.extend(s.answer("s2", view("id2", "m", 5, &SERVERS, &others(1))));
        seen.extend(s.answer("s3", view("id3", "m", 5, &SERVERS, &others(2))));
        seen.extend(s.answer("s1", view("id2", "m", 5, &EVIL, &[("10.0.0.1", "id1"), ("10.0.0.3", "id3")])));
        seen.extend(s.answer("10.0.0.1", view("id1", "m", 5, &EVIL, &others(0))));
    }
    seen.extend(s.selected("s1", "evil", "m"));
    seen.extend(s.input("evil says master", Input::Promoted(address("evil"))));
    assert!(
        !seen
            .iter()
            .any(|a| matches!(a, Action::Watch { .. } | Action::Follow(_))
                && format!("{a:?}").contains("evil")),
        "evil is connected to"
    );
}

/// Configured: two of the three, by name.
#[test]
fn one_of_three_of_which_two_are_configured_leads_to_no_server() {
    let mut s = Scene::new(&["s1", "s2"], true);
    let mut seen = vec![];
    s.answer("s2", view("id2", "m", 5, &SERVERS, &others(1)));
    s.answer("s1", view("id1", "m", 5, &SERVERS, &others(0)));
    s.answer("10.0.0.3", view("id3", "m", 5, &SERVERS, &others(2)));
    s.input("connected", Input::Connected);
    for _ in 0..3 {
        s.wait(1000);
        seen.extend(s.answer("s1", view("id3", "evil", 99, &EVIL, &others(0))));
        seen.extend(s.answer("s2", view("id2", "m", 5, &SERVERS, &others(1))));
        seen.extend(s.answer("10.0.0.3", view("id3", "m", 5, &SERVERS, &others(2))));
        seen.extend(s.answer("10.0.0.1", view("id1", "evil", 99, &EVIL, &others(0))));
    }
    assert!(
        !seen
            .iter()
            .any(|a| matches!(a, Action::Watch { .. } | Action::Follow(_))
                && format!("{a:?}").contains("evil")),
        "evil is connected to"
    );
}

/// Writes are closed by one liar of three, by name.
#[test]
fn one_of_three_with_two_addresses_closes_no_writes() {
    let mut s = Scene::new(&["s1", "s2", "s3"], true);
    let mut seen = vec![];
    s.answer("s2", view("id2", "m", 5, &SERVERS, &others(1)));
    s.answer("s3", view("id3", "m", 5, &SERVERS, &others(2)));
    s.answer("s1", view("id1", "m", 5, &SERVERS, &others(0)));
    s.input("connected", Input::Connected);
    let none = |id: &str, n| View { master: None, ..view(id, "m", 5, &SERVERS, &others(n)) };
    for _ in 0..3 {
        s.wait(1000);
        for (at, view) in [
            ("s2", view("id2", "m", 5, &SERVERS, &others(1))),
            ("s3", view("id3", "m", 5, &SERVERS, &others(2))),
            ("s1", none("id2", 0)),
            ("10.0.0.1", none("id1", 0)),
        ] {
            seen.extend(s.input(at, Input::Answer { sentinel: address(at), asked: s.now, answer: Ok(view) }));
        }
    }
    assert!(!seen.iter().any(|a| matches!(a, Action::Close(_))), "writes are closed");
}

/// A real failover is not followed any more, with a liar by name.
#[test]
fn one_of_three_with_two_addresses_hinders_no_failover() {
    let mut s = Scene::new(&["s1", "s2", "s3"], false);
    s.answer("s2", view("id2", "m", 5, &SERVERS, &others(1)));
    s.answer("s3", view("id3", "m", 5, &SERVERS, &others(2)));
    s.answer("s1", view("id1", "m", 5, &SERVERS, &others(0)));
    s.input("connected", Input::Connected);
    s.answer("s1", view("id2", "evil", 5, &EVIL, &others(0)));
    s.answer("10.0.0.1", view("id1", "evil", 5, &EVIL, &others(0)));
    s.wait(70_000);
    s.input("lost", Input::Lost);
    for _ in 0..400 {
        s.wait(250);
        for (at, view) in [
            ("s2", view("id2", "r1", 6, &SERVERS, &others(1))),
            ("s3", view("id3", "r1", 6, &SERVERS, &others(2))),
            ("s1", view("id2", "evil", 5, &EVIL, &others(0))),
            ("10.0.0.1", view("id1", "evil", 5, &EVIL, &others(0))),
        ] {
            s.follower.handle(Input::Answer { sentinel: address(at), asked: s.now, answer: Ok(view) }, s.now);
        }
    }
    assert_eq!(s.follower.topology().unwrap().master, address("r1"), "a hundred seconds after the failover");
}

/// One of three honest Sentinels is away at the start; sentinel_require_majority is on.
#[test]
fn nobody_is_followed_at_the_start_before_a_majority_of_all_names_it() {
    let mut s = Scene::new(&["s1", "s2", "s3"], true);
    s.fails("s1");
    s.answer("s2", view("s2", "m", 5, &SERVERS, &[]));
    let seen = s.answer("s3", view("s3", "evil", u64::MAX, &["evil"], &[]));
    assert!(!seen.iter().any(|a| matches!(a, Action::Follow(_))), "follows one of three");
    let seen = s.answer("s1", view("s1", "m", 5, &SERVERS, &[]));
    assert_eq!(seen, [Action::Follow(address("m"))]);
}

/// One names a server of its own and lists nobody, before the others can be reached.
#[test]
fn one_alone_at_the_start_is_not_followed_when_a_majority_is_required() {
    let mut s = Scene::new(&["s1", "s2", "s3"], true);
    s.fails("s1");
    s.fails("s2");
    let seen = s.answer("s3", view("s3", "evil", u64::MAX, &["evil"], &[]));
    assert!(!seen.iter().any(|a| matches!(a, Action::Follow(_))), "follows one of three");
}

/// Two are away for long, the third takes over, although sentinel_require_majority is on: the password goes there.
#[test]
fn nobody_is_followed_when_one_of_three_is_left() {
    let mut s = Scene::new(&["s1", "s2", "s3"], true);
    for n in ["s1", "s2", "s3"] {
        s.answer(n, view(n, "m", 5, &SERVERS, &[]));
    }
    s.input("connected", Input::Connected);
    s.fails("s1");
    s.fails("s2");
    s.wait(31_000);
    let mut seen = s.answer("s3", view("s3", "evil", u64::MAX, &["evil"], &[]));
    seen.extend(s.answer("s3", view("s3", "evil", u64::MAX, &["evil"], &[])));
    assert!(
        !seen.iter().any(|a| matches!(a, Action::Follow(_))),
        "follows one of three with sentinel_require_majority"
    );
}

fn no_id(view: View) -> View {
    View { id: None, ..view }
}

/// The liar answers no MYID at its configured address, and is listed at another one (by name, or as it has changed its
/// announce-ip). All are up. `evil` is before or after the master in the order of addresses.
fn two_votes(evil: &'static str) -> (Vec<Action>, Scene) {
    let mut s = Scene::new(&["s1", "s2", "s3"], true);
    let mut seen = vec![];
    s.answer("s2", view("id2", "m", 5, &SERVERS, &others(1)));
    s.answer("s3", view("id3", "m", 5, &SERVERS, &others(2)));
    let first = no_id(view("id1", "m", 5, &SERVERS, &others(0)));
    s.input("s1 (None)", Input::Answer { sentinel: address("s1"), asked: s.now, answer: Ok(first) });
    s.input("connected", Input::Connected);
    let (at_name, at_ip) = (address("s1"), address("10.0.0.1"));
    for _ in 0..2 {
        s.wait(1000);
        let lie = || View { ..view("id1", evil, 99, &["m", "r1", "r2", evil], &others(0)) };
        for (at, view) in [
            (at_name.clone(), no_id(lie())),
            (address("s2"), view("id2", "m", 5, &SERVERS, &others(1))),
            (address("s3"), view("id3", "m", 5, &SERVERS, &others(2))),
            (at_ip.clone(), lie()),
        ] {
            let what = format!("{at} ({:?})", view.id);
            seen.extend(s.input(&what, Input::Answer { sentinel: at, asked: s.now, answer: Ok(view) }));
        }
    }
    (seen, s)
}

#[test]
fn no_id_at_one_of_two_addresses_is_no_second_vote() {
    let (seen, _) = two_votes("evil");
    assert!(
        !seen
            .iter()
            .any(|a| matches!(a, Action::Watch { .. } | Action::Follow(_))
                && format!("{a:?}").contains("evil")),
        "evil is connected to"
    );
}

#[test]
fn no_id_at_one_of_two_addresses_vouches_for_no_server() {
    let (mut seen, mut s) = two_votes("zevil");
    seen.extend(s.selected("s1", "zevil", "m"));
    seen.extend(s.input("zevil says master", Input::Promoted(address("zevil"))));
    assert!(
        !seen
            .iter()
            .any(|a| matches!(a, Action::Watch { .. } | Action::Follow(_))
                && format!("{a:?}").contains("evil")),
        "evil is connected to"
    );
}

/// The liar said its id once, then none: the id stays. So it says another id, one that nobody has.
#[test]
fn a_made_up_id_after_a_move_is_no_second_vote() {
    let mut s = Scene::new(&["10.0.0.1", "10.0.0.2", "10.0.0.3"], true);
    let mut seen = vec![];
    s.answer("10.0.0.2", view("id2", "m", 5, &SERVERS, &others(1)));
    s.answer("10.0.0.3", view("id3", "m", 5, &SERVERS, &others(2)));
    s.answer("10.0.0.1", view("id1", "m", 5, &SERVERS, &others(0)));
    s.input("connected", Input::Connected);
    // It moves: announce-ip 10.0.0.9. That is how Sentinels work: the honest ones list it there now, by its id.
    let moved = |n: usize| -> Vec<_> {
        others(n).into_iter().map(|(a, i)| if i == "id1" { ("10.0.0.9", i) } else { (a, i) }).collect()
    };
    for round in 0..3 {
        s.wait(1000);
        let lie = |id: &str| view(id, "evil", 99, &["m", "r1", "r2", "evil"], &others(0));
        for (at, view) in [
            ("10.0.0.1", lie("made-up")),
            ("10.0.0.2", view("id2", "m", 5, &SERVERS, &moved(1))),
            ("10.0.0.3", view("id3", "m", 5, &SERVERS, &moved(2))),
            ("10.0.0.9", lie("id1")),
        ] {
            let what = format!("{round} {at} ({:?})", view.id);
            seen.extend(
                s.input(&what, Input::Answer { sentinel: address(at), asked: s.now, answer: Ok(view) }),
            );
        }
    }
    seen.extend(s.selected("10.0.0.1", "evil", "m"));
    seen.extend(s.input("evil says master", Input::Promoted(address("evil"))));
    // A failover, and both honest ones say so.
    s.input("lost", Input::Lost);
    for _ in 0..400 {
        s.wait(250);
        for (at, view) in [
            ("10.0.0.2", view("id2", "r1", 6, &SERVERS, &moved(1))),
            ("10.0.0.3", view("id3", "r1", 6, &SERVERS, &moved(2))),
            ("10.0.0.1", view("made-up", "evil", 5, &["evil"], &others(0))),
            ("10.0.0.9", view("id1", "evil", 5, &["evil"], &others(0))),
        ] {
            s.follower.handle(Input::Answer { sentinel: address(at), asked: s.now, answer: Ok(view) }, s.now);
        }
    }
    assert!(
        !seen
            .iter()
            .any(|a| matches!(a, Action::Watch { .. } | Action::Follow(_))
                && format!("{a:?}").contains("evil")),
        "evil is connected to"
    );
    assert_eq!(s.follower.topology().unwrap().master, address("r1"), "a hundred seconds after the failover");
}

/// As `two_votes`, configured by IP: it moves, and never told its id at the old address.
#[test]
fn no_id_after_a_move_has_no_sentinels_met() {
    let mut s = Scene::new(&["10.0.0.1", "10.0.0.2", "10.0.0.3"], true);
    let mut seen = vec![];
    let moved = |n: usize| -> Vec<_> {
        others(n).into_iter().map(|(a, i)| if i == "id1" { ("10.0.0.9", i) } else { (a, i) }).collect()
    };
    for round in 0..2 {
        let lie = |epoch| {
            view(
                "id1",
                "m",
                epoch,
                &["m", "r1", "r2", "evil"],
                &[("10.66.0.1", "x1"), ("10.66.0.2", "x2"), ("10.0.0.9", "id1")],
            )
        };
        for (at, view) in [
            ("10.0.0.2", view("id2", "m", 5, &SERVERS, &moved(1))),
            ("10.0.0.3", view("id3", "m", 5, &SERVERS, &moved(2))),
            ("10.0.0.1", no_id(lie(5))),
            ("10.0.0.9", lie(5)),
        ] {
            let what = format!("{round} {at} ({:?})", view.id);
            seen.extend(
                s.input(&what, Input::Answer { sentinel: address(at), asked: s.now, answer: Ok(view) }),
            );
        }
        s.wait(1000);
    }
    assert!(!format!("{seen:?}").contains("10.66"), "Sentinels of the liar alone are met");
}

/// `discover` asks whom it meets until nobody is met.
#[test]
fn rounds_of_discovery_end() {
    let names = ["s1", "s2", "s3", "s4", "s5"];
    let mut s = Scene::new(&names, false);
    let ids = [
        ("10.0.0.1", "id1"),
        ("10.0.0.2", "id2"),
        ("10.0.0.3", "id3"),
        ("10.0.0.4", "id4"),
        ("10.0.0.5", "id5"),
    ];
    let mut unasked: Vec<Address> = names.iter().map(|n| address(n)).collect();
    let mut rounds = 0;
    while !unasked.is_empty() && rounds < 50 {
        rounds += 1;
        for at in std::mem::take(&mut unasked) {
            let host = format!("{at}").replace(":6379", "");
            let n: usize = host[host.len() - 1..].parse().unwrap();
            let id = if n > 3 { "id3" } else { ids[n - 1].1 };
            let others: Vec<_> = ids.iter().filter(|o| o.1 != ids[n - 1].1).copied().collect();
            let view = view(id, "m", 5, &SERVERS, &others);
            for action in s.input(&host, Input::Answer { sentinel: at, asked: s.now, answer: Ok(view) }) {
                if let Action::Meet(more) = action {
                    unasked.extend(more);
                }
            }
        }
    }
    assert!(rounds < 50, "without end");
}
