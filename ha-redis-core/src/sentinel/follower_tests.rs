//! What the scenarios cannot tell: the words of a message, bounds, and intervals.

use super::*;
use crate::sentinel::council::MOST_SENTINELS;
use crate::sentinel::scenario::name;

impl Follower {
    /// The state, as a scenario tells it.
    pub(in crate::sentinel) fn describe(&self) -> String {
        let Some(master) = &self.master else { return "following nobody".to_owned() };
        let mut state = vec![format!("following {}", name(&master.address))];
        state.extend(master.provisional.is_some().then(|| "provisional".to_owned()));
        state.extend(master.disowned.is_some().then(|| "disowned".to_owned()));
        if let Some(promotion) = &self.promotion {
            state.extend(promotion.held_until.is_some().then(|| "holding".to_owned()));
            state.push(format!("watching {}", name(&promotion.candidate)));
        }
        state.extend(self.unconfirmed.is_some().then(|| "unconfirmed".to_owned()));
        state.extend(self.closed.then(|| "closed".to_owned()));
        state.join(", ")
    }
}

fn sentinel(number: u16) -> Address {
    Address::tcp("10.0.0.9", number)
}

fn follower(now: Instant) -> Follower {
    let rules = Rules {
        master_name: "mymaster".to_owned(),
        early_promotion: true,
        promotion_hold: Duration::from_secs(2),
        require_majority: false,
    };
    Follower::new(rules, &[sentinel(1), sentinel(2), sentinel(3)], now)
}

fn answer(number: u16, asked: Instant, answer: Result<View, &str>) -> Input {
    Input::Answer { sentinel: sentinel(number), asked, answer: answer.map_err(str::to_owned) }
}

#[test]
fn when_nobody_knows_the_name_each_answer_is_told() {
    let now = Instant::now();
    let mut follower = follower(now);
    follower.handle(answer(1, now, Ok(View::default())), now);
    follower.handle(answer(2, now, Err("connection refused")), now);
    let actions = follower.handle(answer(3, now, Ok(View::default())), now);
    let [Action::Fail(account)] = &actions[..] else { panic!("no account: {actions:?}") };
    assert!(account.contains("know no master named `mymaster`"), "{account}");
    assert!(account.contains("10.0.0.9:2 did not answer: connection refused"), "{account}");
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

#[test]
fn other_sentinels_are_met_up_to_a_bound() {
    let now = Instant::now();
    let mut follower = follower(now);
    let many = View { sentinels: (3..100).map(sentinel).collect(), ..View::default() };
    let actions = follower.handle(answer(1, now, Ok(many)), now);
    let [Action::Meet(met)] = &actions[..] else { panic!("{actions:?}") };
    assert_eq!(met.len(), MOST_SENTINELS - 3);
    assert!(!met.contains(&sentinel(3)), "that one is known");
}
