//! Failovers, as the state machine sees them.

use super::*;
use crate::sentinel::view::MasterView;

const SECOND: Duration = Duration::from_secs(1);

fn node(port: u16) -> Address {
    Address::tcp("10.0.0.1", port)
}

fn sentinel(number: u16) -> Address {
    Address::tcp("10.0.0.9", number)
}

/// Three Sentinels, numbered from 1, and a clock that only the test moves.
struct Stage {
    follower: Follower,
    now: Instant,
}

impl Stage {
    fn new() -> Self {
        let now = Instant::now();
        let sentinels = [sentinel(1), sentinel(2), sentinel(3)];
        Self { follower: Follower::new("mymaster", &sentinels, now), now }
    }

    /// All agree on master 7000 in epoch 1, and there is a connection to it.
    fn following() -> Self {
        let mut stage = Self::new();
        (1..=3).for_each(|number| _ = stage.says(number, 7000, 1));
        stage.input(Input::Connected);
        stage
    }

    fn input(&mut self, input: Input) -> Vec<Action> {
        self.follower.handle(input, self.now)
    }

    fn says(&mut self, number: u16, port: u16, epoch: u64) -> Vec<Action> {
        let master = MasterView {
            address: node(port),
            epoch,
            flags: "master".to_owned(),
            quorum: 2,
            other_sentinels: 2,
        };
        let id = Some(format!("id-{number}"));
        self.answer(number, Ok(View { id, master: Some(master), ..View::default() }))
    }

    fn answer(&mut self, number: u16, answer: Result<View, String>) -> Vec<Action> {
        self.input(Input::Answer { sentinel: sentinel(number), answer })
    }

    fn unreachable(&mut self, number: u16) -> Vec<Action> {
        self.answer(number, Err("connection refused".to_owned()))
    }

    fn selected(&mut self, port: u16) -> Vec<Action> {
        self.input(Input::Heard { sentinel: sentinel(1), event: Event::Selected(node(port)) })
    }

    fn aborted(&mut self, number: u16) -> Vec<Action> {
        self.input(Input::Heard { sentinel: sentinel(number), event: Event::Aborted })
    }

    fn followed(&self) -> Address {
        self.follower.master.as_ref().unwrap().address.clone()
    }

    fn wait(&mut self, time: Duration) -> Vec<Action> {
        self.now += time;
        self.input(Input::Tick)
    }
}

#[test]
fn a_majority_of_answers_names_the_first_master() {
    let mut stage = Stage::new();
    assert_eq!(stage.says(1, 7000, 1), []);
    assert_eq!(stage.says(2, 7000, 1), [Action::Follow(node(7000))]);
    assert_eq!(stage.says(3, 7000, 1), []);
}

#[test]
fn an_old_view_that_comes_first_is_not_believed() {
    let mut stage = Stage::new();
    assert_eq!(stage.says(1, 7000, 1), []);
    assert_eq!(stage.says(2, 7001, 2), [Action::Follow(node(7001))]);
    assert_eq!(stage.says(1, 7000, 1), []);
}

#[test]
fn a_sentinel_with_two_addresses_has_one_vote() {
    let mut stage = Stage::new();
    let view = View { id: Some("same".to_owned()), ..View::default() };
    stage.says(1, 7000, 1);
    let twice = stage.follower.sentinels[&sentinel(1)].answer.clone().unwrap().unwrap();
    let twice = View { id: Some("id-1".to_owned()), ..twice };
    assert_eq!(stage.answer(2, Ok(twice)), []);
    let nobody = stage.answer(3, Ok(view));
    assert_eq!(nobody, [Action::Follow(node(7000))], "all have been heard: one vote must do");
}

#[test]
fn when_nobody_knows_the_name_each_answer_is_told() {
    let mut stage = Stage::new();
    stage.answer(1, Ok(View::default()));
    stage.unreachable(2);
    let [Action::Fail(account)] = &stage.answer(3, Ok(View::default()))[..] else { panic!("no account") };
    assert!(account.contains("know no master named `mymaster`"), "{account}");
    assert!(account.contains("10.0.0.9:2 did not answer: connection refused"), "{account}");
}

#[test]
fn a_failover_is_followed_from_the_selection_of_the_replica() {
    let mut stage = Stage::following();
    assert_eq!(stage.selected(7001), [Action::Hold, Action::Watch(node(7001))]);
    assert_eq!(stage.selected(7001), [], "the next event of the same failover");
    let promoted = stage.input(Input::Promoted(node(7001)));
    assert_eq!(promoted, [Action::Unwatch, Action::Follow(node(7001)), Action::Ask]);
    // For a second the Sentinels still name the old master.
    for number in 1..=3 {
        assert_eq!(stage.says(number, 7000, 1), [], "an old answer does not undo the switch");
    }
    for number in 1..=3 {
        assert_eq!(stage.says(number, 7001, 2), []);
    }
}

#[test]
fn a_failover_whose_events_were_missed_shows_in_the_answers() {
    let mut stage = Stage::following();
    assert_eq!(stage.wait(POLL), [Action::Ask]);
    assert_eq!(stage.says(2, 7001, 2), [Action::Follow(node(7001))], "the higher epoch is right at once");
    assert_eq!(stage.says(1, 7000, 1), []);
}

#[test]
fn an_aborted_failover_lets_commands_go_on() {
    let mut stage = Stage::following();
    stage.selected(7001);
    assert_eq!(stage.aborted(2), [Action::Ask], "of a Sentinel that does not lead");
    assert_eq!(stage.aborted(1), [Action::Unwatch, Action::Release, Action::Ask]);
    assert_eq!(stage.input(Input::Promoted(node(7001))), [], "nobody asked any more");
}

#[test]
fn commands_are_not_held_for_longer_than_the_bound() {
    let mut stage = Stage::following();
    stage.selected(7001);
    assert!(stage.follower.next_tick() <= stage.now + HOLD);
    assert!(stage.wait(HOLD).contains(&Action::Release));
    let late = stage.input(Input::Promoted(node(7001)));
    assert_eq!(late[..2], [Action::Unwatch, Action::Follow(node(7001))], "it is still watched");
}

#[test]
fn a_promotion_that_is_undone_leads_back_to_the_old_master() {
    let mut stage = Stage::following();
    stage.selected(7001);
    stage.input(Input::Promoted(node(7001)));
    // The leader died: the others make the replica a replica again.
    stage.input(Input::NotMaster);
    stage.says(1, 7000, 1);
    stage.says(2, 7000, 1);
    stage.says(3, 7000, 1);
    assert_eq!(stage.followed(), node(7000));
}

#[test]
fn without_any_sentinel_the_master_is_kept() {
    let mut stage = Stage::following();
    for number in 1..=3 {
        assert_eq!(stage.unreachable(number), []);
    }
    assert_eq!(stage.input(Input::Lost), [Action::Ask]);
    assert_eq!(stage.followed(), node(7000));
}

#[test]
fn two_failovers_in_a_row_are_followed() {
    let mut stage = Stage::following();
    stage.says(1, 7001, 2);
    stage.input(Input::Connected);
    stage.selected(7000);
    let back = stage.input(Input::Promoted(node(7000)));
    assert_eq!(back, [Action::Unwatch, Action::Follow(node(7000)), Action::Ask]);
    assert_eq!(stage.says(2, 7001, 2), []);
    assert_eq!(stage.says(2, 7000, 3), []);
}

#[test]
fn a_configuration_made_anew_by_hand_is_followed_when_all_agree() {
    let mut stage = Stage::following();
    stage.wait(POLL);
    assert_eq!(stage.says(1, 7005, 0), []);
    assert_eq!(stage.says(2, 7005, 0), []);
    assert_eq!(stage.says(3, 7005, 0), [Action::Follow(node(7005))]);
}

#[test]
fn sentinels_are_asked_more_often_while_there_is_no_connection() {
    let mut stage = Stage::following();
    stage.wait(POLL);
    assert_eq!(stage.follower.next_tick(), stage.now + POLL);
    stage.input(Input::Lost);
    assert_eq!(stage.follower.next_tick(), stage.now + URGENT_POLL);
}

#[test]
fn other_sentinels_are_met_up_to_a_bound() {
    let mut stage = Stage::new();
    let many = View { sentinels: (3..100).map(sentinel).collect(), ..View::default() };
    let actions = stage.answer(1, Ok(many));
    let [Action::Meet(met)] = &actions[..] else { panic!("{actions:?}") };
    assert_eq!(met.len(), MOST_SENTINELS - 3);
    assert!(!met.contains(&sentinel(3)), "that one is known");
    assert_eq!(stage.wait(SECOND), [Action::Ask]);
}

#[test]
fn the_new_epoch_stands_although_its_witness_falls_silent() {
    let mut stage = Stage::following();
    stage.wait(POLL);
    assert_eq!(stage.says(1, 7001, 2), [Action::Follow(node(7001))]);
    assert_eq!(stage.unreachable(1), []);
    stage.says(2, 7000, 1);
    stage.says(3, 7000, 1);
    assert_eq!(stage.followed(), node(7001), "two old answers are old");
}

#[test]
fn a_promotion_that_nobody_confirms_does_not_bind_for_ever() {
    let mut stage = Stage::following();
    stage.selected(7001);
    stage.input(Input::Promoted(node(7001)));
    // It dies before any Sentinel has seen it as master.
    stage.input(Input::Lost);
    (1..=3).for_each(|number| _ = stage.says(number, 7000, 1));
    assert_eq!(stage.followed(), node(7001), "they have not had the time yet");
    stage.wait(CONFIRMATION);
    (1..=3).for_each(|number| _ = stage.says(number, 7000, 1));
    assert_eq!(stage.followed(), node(7000));
}

#[test]
fn a_promotion_seen_while_starting_is_not_undone_by_older_answers() {
    let mut stage = Stage::new();
    stage.says(1, 7000, 1);
    stage.selected(7001);
    stage.input(Input::Promoted(node(7001)));
    (1..=3).for_each(|number| _ = stage.says(number, 7000, 1));
    assert_eq!(stage.followed(), node(7001));
    stage.says(2, 7001, 2);
    assert_eq!(stage.followed(), node(7001));
}

#[test]
fn one_sentinel_will_do_when_the_others_fail_at_their_own_times() {
    let mut stage = Stage::new();
    stage.unreachable(2);
    stage.wait(URGENT_POLL);
    stage.unreachable(3);
    stage.wait(URGENT_POLL);
    assert_eq!(stage.says(1, 7000, 1), [Action::Follow(node(7000))]);
}

#[test]
fn a_met_sentinel_that_is_gone_is_forgotten() {
    let mut stage = Stage::following();
    let naming = |others: &[u16]| {
        let sentinels = others.iter().copied().map(sentinel).collect();
        Ok(View { id: Some("id-1".to_owned()), sentinels, ..View::default() })
    };
    assert_eq!(stage.answer(1, naming(&[2, 3, 4])), [Action::Meet(vec![sentinel(4)])]);
    assert_eq!(stage.unreachable(4), [], "the others still name it");
    assert_eq!(stage.answer(1, naming(&[2, 3])), [Action::Forget(sentinel(4))]);
    assert_eq!(stage.unreachable(3), [], "configured ones are kept");
}
