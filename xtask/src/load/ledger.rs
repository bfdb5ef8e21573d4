//! What a caller knows of its own writes, held against what the server says: which were lost, which ran twice.
//!
//! A caller does one thing at a time on keys that nobody else touches, so the server can say only what the
//! caller has written. Replication passes writes on in their order: a new master lacks, if anything, the last
//! ones. Hence a repeated write and lost ones can't hide each other: if the first run of a repeated INCR is on the
//! new master, so is all that came before it; if it is not, the INCR ran once as far as anyone can see.

use std::ops::AddAssign;

/// The account of one caller: an own counter, which it increments, and an own register, which it sets and reads.
#[derive(Debug)]
pub(crate) struct Ledger {
    pub(crate) counter: Counter,
    pub(crate) register: Register,
}

impl Ledger {
    pub(crate) fn new(caller: usize) -> Self {
        Self { counter: Counter::default(), register: Register::new(caller) }
    }

    /// Closes the account with the values that the master has in the end.
    pub(crate) fn close(mut self, counter: Option<u64>, register: Option<&str>) -> Tally {
        let counter = counter.unwrap_or(0);
        self.counter.found(counter);
        self.register.read(register);
        Tally {
            counters: counter,
            acknowledged: self.counter.acknowledged,
            maybe_applied: self.counter.maybe_applied,
            ran_twice: self.counter.ran_twice,
            lost_increments: self.counter.lost,
            lost_sets: self.register.lost,
            foreign_reads: self.register.foreign,
        }
    }
}

/// What became of the writes of one caller, or of several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// The counter as the server has it.
    pub(crate) counters: u64,
    /// INCRs that were answered.
    pub(crate) acknowledged: u64,
    /// INCRs that failed with the word that they may have run.
    pub(crate) maybe_applied: u64,
    /// Runs of INCR that no call accounts for.
    pub(crate) ran_twice: u64,
    /// Answered INCRs that the server does not have.
    pub(crate) lost_increments: u64,
    /// Answered SETs that a later GET did not see.
    pub(crate) lost_sets: u64,
    /// GETs that returned what this caller never wrote.
    pub(crate) foreign_reads: u64,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.counters += other.counters;
        self.acknowledged += other.acknowledged;
        self.maybe_applied += other.maybe_applied;
        self.ran_twice += other.ran_twice;
        self.lost_increments += other.lost_increments;
        self.lost_sets += other.lost_sets;
        self.foreign_reads += other.foreign_reads;
    }
}

/// The INCRs of one caller.
#[derive(Debug, Default)]
pub(crate) struct Counter {
    /// The replies that nothing contradicts so far.
    standing: ListedStatus,
    /// INCRs since the last reply that may have run.
    open: u64,
    acknowledged: u64,
    maybe_applied: u64,
    ran_twice: u64,
    lost: u64,
}

impl Counter {
    /// An INCR was answered with the new value.
    pub(crate) fn incremented_to(&mut self, reply: u64) {
        self.found(reply.saturating_sub(1));
        self.standing.0.push(reply);
        self.acknowledged += 1;
        self.open = 0;
    }

    /// An INCR failed and may have run.
    pub(crate) fn maybe_incremented(&mut self) {
        self.maybe_applied += 1;
        self.open += 1;
    }

    /// The server's value turns out to be this.
    fn found(&mut self, value: u64) {
        let lost = self.standing.drop_above(value);
        self.lost += lost;
        if lost == 0 {
            // What a fall of the counter uncovers was accounted for on its way up.
            self.ran_twice += value.saturating_sub(self.standing.last() + self.open);
        }
    }
}

/// The SETs and GETs of one caller. Values are `caller:number`, so that no two callers write the same.
#[derive(Debug)]
pub(crate) struct Register {
    caller: usize,
    /// The numbers of the answered SETs that nothing contradicts so far.
    standing: ListedStatus,
    /// The number of the latest SET, answered or not.
    latest: u64,
    lost: u64,
    foreign: u64,
}

impl Register {
    fn new(caller: usize) -> Self {
        Self { caller, standing: ListedStatus::default(), latest: 0, lost: 0, foreign: 0 }
    }

    /// The value for the next SET.
    pub(crate) fn next(&mut self) -> String {
        self.latest += 1;
        format!("{}:{}", self.caller, self.latest)
    }

    /// The SET with the latest value was answered.
    pub(crate) fn acknowledged(&mut self) {
        self.standing.0.push(self.latest);
    }

    /// A GET returned this.
    pub(crate) fn read(&mut self, value: Option<&str>) {
        match value.map_or(Some(0), |value| self.number(value)) {
            Some(number) => self.lost += self.standing.drop_above(number),
            None => self.foreign += 1,
        }
    }

    fn number(&self, value: &str) -> Option<u64> {
        let (caller, number) = value.split_once(':')?;
        let number = number.parse().ok().filter(|number| *number <= self.latest)?;
        (caller.parse() == Ok(self.caller)).then_some(number)
    }
}

/// The numbers of acknowledged writes, rising.
#[derive(Debug, Default)]
struct ListedStatus(Vec<u64>);

impl ListedStatus {
    fn last(&self) -> u64 {
        self.0.last().copied().unwrap_or(0)
    }

    /// Drops the writes with greater numbers and says how many they were.
    fn drop_above(&mut self, number: u64) -> u64 {
        let kept = self.0.partition_point(|standing| *standing <= number);
        self.0.drain(kept..).count() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `None` is an INCR that may have run.
    fn tally(replies: &[Option<u64>], last: u64) -> Tally {
        let mut ledger = Ledger::new(0);
        for reply in replies {
            match reply {
                Some(reply) => ledger.counter.incremented_to(*reply),
                None => ledger.counter.maybe_incremented(),
            }
        }
        ledger.close(Some(last), None)
    }

    fn lost_and_doubled(replies: &[Option<u64>], last: u64) -> (u64, u64) {
        let tally = tally(replies, last);
        (tally.lost_increments, tally.ran_twice)
    }

    #[test]
    fn an_exact_counter_is_in_order() {
        let tally = tally(&[Some(1), Some(2), None, Some(4), None], 5);
        let expected = Tally { counters: 5, acknowledged: 3, maybe_applied: 2, ..Tally::default() };
        assert_eq!(tally, expected);
        assert_eq!(lost_and_doubled(&[], 0), (0, 0));
    }

    #[test]
    fn what_may_have_run_need_not_have() {
        assert_eq!(lost_and_doubled(&[Some(1), None, None, Some(2), None], 2), (0, 0));
        assert_eq!(lost_and_doubled(&[Some(1), None, None, Some(4), None], 5), (0, 0));
    }

    #[test]
    fn a_jump_is_a_run_that_no_call_accounts_for() {
        assert_eq!(lost_and_doubled(&[Some(1), Some(3)], 3), (0, 1));
        assert_eq!(lost_and_doubled(&[Some(1), None, Some(5)], 5), (0, 2));
        assert_eq!(lost_and_doubled(&[Some(1), None], 3), (0, 1));
        assert_eq!(lost_and_doubled(&[Some(2)], 2), (0, 1));
    }

    #[test]
    fn a_fall_is_a_loss_of_what_was_acknowledged() {
        assert_eq!(lost_and_doubled(&[Some(1), Some(2), Some(3), Some(2)], 2), (2, 0));
        assert_eq!(lost_and_doubled(&[Some(1), Some(2), Some(3)], 0), (3, 0));
    }

    #[test]
    fn a_loss_does_not_count_what_only_may_have_run() {
        // The third to fifth runs are gone, and the fourth was never acknowledged.
        assert_eq!(lost_and_doubled(&[Some(1), Some(2), Some(3), None, Some(5), Some(3)], 3), (2, 0));
    }

    #[test]
    fn losses_and_doubled_runs_do_not_make_up_for_each_other() {
        // Lost twice, then doubled twice: the last value alone would look right.
        let replies = [Some(1), Some(2), Some(3), Some(2), Some(3), Some(5), Some(7)];
        assert_eq!(lost_and_doubled(&replies, 7), (2, 2));
        // Doubled, then lost.
        assert_eq!(lost_and_doubled(&[Some(1), Some(3), Some(4), Some(4)], 4), (1, 1));
        // Twice lost.
        assert_eq!(lost_and_doubled(&[Some(1), Some(2), Some(2), Some(2)], 1), (3, 0));
    }

    /// A server, the truth about which is known.
    #[test]
    fn the_account_agrees_with_the_truth() {
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..500 {
            let (mut ledger, mut truth) = (Ledger::new(0), Tally::default());
            // The runs that the server has, and whether each was acknowledged.
            let mut runs: Vec<bool> = Vec::new();
            for _ in 0..random.usize(..60) {
                match random.u8(..10) {
                    0 => {
                        let kept = random.usize(runs.len().saturating_sub(4)..=runs.len());
                        truth.lost_increments +=
                            runs.drain(kept..).filter(|acknowledged| *acknowledged).count() as u64;
                        // A caller notices with its next reply, which takes one of the lost numbers.
                    }
                    1 => {
                        runs.push(false);
                        truth.ran_twice += 1;
                    }
                    _ => {}
                }
                runs.push(true);
                ledger.counter.incremented_to(runs.len() as u64);
            }
            let tally = ledger.close(Some(runs.len() as u64), None);
            assert_eq!((tally.lost_increments, tally.ran_twice), (truth.lost_increments, truth.ran_twice));
        }
    }

    fn register(values: &[Option<&str>]) -> (u64, u64) {
        let mut register = Register::new(7);
        for _ in 1..=3 {
            register.next();
            register.acknowledged();
        }
        register.next();
        values.iter().for_each(|value| register.read(*value));
        (register.lost, register.foreign)
    }

    #[test]
    fn a_get_sees_the_last_set_or_one_that_may_have_run() {
        assert_eq!(register(&[Some("7:3"), Some("7:4"), Some("7:3")]), (0, 0));
    }

    #[test]
    fn an_older_value_is_a_loss_counted_once() {
        assert_eq!(register(&[Some("7:1"), Some("7:1")]), (2, 0));
        assert_eq!(register(&[None]), (3, 0));
    }

    #[test]
    fn the_reply_of_another_call_is_noticed() {
        assert_eq!(register(&[Some("8:3"), Some("7:5"), Some("OK"), Some("12")]), (0, 4));
    }
}
