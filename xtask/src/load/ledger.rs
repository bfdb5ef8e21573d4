//! Compares a caller's record of its own writes with the server's data: which were lost, and which ran twice.
//!
//! A caller makes one call at a time on keys that no other caller uses, so the server can only have what the caller
//! has written. Replication keeps the order of writes: a new master lacks only the last ones, if any. So a repeated
//! write and lost ones cannot hide each other. If the first run of a repeated INCR is on the new master, so is
//! everything before it. If it is not, the INCR ran only once as far as anyone can see.

use std::ops::AddAssign;

/// The ledger of one caller: its counter, which it increments, and its register, which it sets and reads.
#[derive(Debug)]
pub(crate) struct Ledger {
    pub(crate) counter: Counter,
    pub(crate) register: Register,
}

impl Ledger {
    pub(crate) fn new(caller: usize) -> Self {
        Self { counter: Counter::default(), register: Register::new(caller) }
    }

    /// Closes the ledger with the final values on the master.
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

/// The outcomes of the writes of one or more callers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// The counter on the server.
    pub(crate) counters: u64,
    /// INCRs that were answered.
    pub(crate) acknowledged: u64,
    /// INCRs that failed and may have run.
    pub(crate) maybe_applied: u64,
    /// Runs of INCR without a matching call.
    pub(crate) ran_twice: u64,
    /// Answered INCRs that the server lacks.
    pub(crate) lost_increments: u64,
    /// Answered SETs that a later GET did not see.
    pub(crate) lost_sets: u64,
    /// GETs that returned a value that this caller never wrote.
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
    /// The replies that are not contradicted so far.
    standing: ListedStatus,
    /// INCRs since the last reply that may have run.
    open: u64,
    acknowledged: u64,
    maybe_applied: u64,
    ran_twice: u64,
    lost: u64,
}

impl Counter {
    /// Records the reply to an INCR.
    pub(crate) fn incremented_to(&mut self, reply: u64) {
        self.found(reply.saturating_sub(1));
        self.standing.0.push(reply);
        self.acknowledged += 1;
        self.open = 0;
    }

    /// Records an INCR that failed and may have run.
    pub(crate) fn maybe_incremented(&mut self) {
        self.maybe_applied += 1;
        self.open += 1;
    }

    /// Records the server's value.
    fn found(&mut self, value: u64) {
        let lost = self.standing.drop_above(value);
        self.lost += lost;
        if lost == 0 {
            // What a fall of the counter reveals was counted while the counter rose.
            self.ran_twice += value.saturating_sub(self.standing.last() + self.open);
        }
    }
}

/// The SETs and GETs of one caller. Values are `caller:number`, so that no two callers write the same value.
#[derive(Debug)]
pub(crate) struct Register {
    caller: usize,
    /// The numbers of the answered SETs that are not contradicted so far.
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

    /// Returns the value for the next SET.
    pub(crate) fn next(&mut self) -> String {
        self.latest += 1;
        format!("{}:{}", self.caller, self.latest)
    }

    /// Records that the SET of the latest value was answered.
    pub(crate) fn acknowledged(&mut self) {
        self.standing.0.push(self.latest);
    }

    /// Records the value that a GET returned.
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

/// The numbers of acknowledged writes, in ascending order.
#[derive(Debug, Default)]
struct ListedStatus(Vec<u64>);

impl ListedStatus {
    fn last(&self) -> u64 {
        self.0.last().copied().unwrap_or(0)
    }

    /// Removes the writes with greater numbers, and returns how many there were.
    fn drop_above(&mut self, number: u64) -> u64 {
        let ascending = self.0.partition_point(|standing| *standing <= number);
        self.0.drain(ascending..).count() as u64
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
    fn exact_counter_has_no_errors() {
        let tally = tally(&[Some(1), Some(2), None, Some(4), None], 5);
        let expected = Tally { counters: 5, acknowledged: 3, maybe_applied: 2, ..Tally::default() };
        assert_eq!(tally, expected);
        assert_eq!(lost_and_doubled(&[], 0), (0, 0));
    }

    #[test]
    fn unknown_increment_may_not_have_run() {
        assert_eq!(lost_and_doubled(&[Some(1), None, None, Some(2), None], 2), (0, 0));
        assert_eq!(lost_and_doubled(&[Some(1), None, None, Some(4), None], 5), (0, 0));
    }

    #[test]
    fn jump_is_an_unexplained_run() {
        assert_eq!(lost_and_doubled(&[Some(1), Some(3)], 3), (0, 1));
        assert_eq!(lost_and_doubled(&[Some(1), None, Some(5)], 5), (0, 2));
        assert_eq!(lost_and_doubled(&[Some(1), None], 3), (0, 1));
        assert_eq!(lost_and_doubled(&[Some(2)], 2), (0, 1));
    }

    #[test]
    fn fall_is_a_loss_of_acknowledged_runs() {
        assert_eq!(lost_and_doubled(&[Some(1), Some(2), Some(3), Some(2)], 2), (2, 0));
        assert_eq!(lost_and_doubled(&[Some(1), Some(2), Some(3)], 0), (3, 0));
    }

    #[test]
    fn loss_excludes_unknown_runs() {
        // The third to fifth runs are lost, and the fourth was never acknowledged.
        assert_eq!(lost_and_doubled(&[Some(1), Some(2), Some(3), None, Some(5), Some(3)], 3), (2, 0));
    }

    #[test]
    fn losses_and_double_runs_do_not_cancel() {
        // Lost twice, then run twice: the last value alone would look right.
        let replies = [Some(1), Some(2), Some(3), Some(2), Some(3), Some(5), Some(7)];
        assert_eq!(lost_and_doubled(&replies, 7), (2, 2));
        // Run twice, then lost.
        assert_eq!(lost_and_doubled(&[Some(1), Some(3), Some(4), Some(4)], 4), (1, 1));
        // Lost twice.
        assert_eq!(lost_and_doubled(&[Some(1), Some(2), Some(2), Some(2)], 1), (3, 0));
    }

    /// Compares the ledger with a simulated server whose runs are known.
    #[test]
    fn ledger_matches_simulated_server() {
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..500 {
            let (mut ledger, mut truth) = (Ledger::new(0), Tally::default());
            // The runs on the server, and whether each was acknowledged.
            let mut runs: Vec<bool> = Vec::new();
            for _ in 0..random.usize(..60) {
                match random.u8(..10) {
                    0 => {
                        let ascending = random.usize(runs.len().saturating_sub(4)..=runs.len());
                        truth.lost_increments +=
                            runs.drain(ascending..).filter(|acknowledged| *acknowledged).count() as u64;
                        // A caller detects a loss with its next reply, which repeats one of the lost numbers.
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
    fn get_returns_last_or_unknown_set() {
        assert_eq!(register(&[Some("7:3"), Some("7:4"), Some("7:3")]), (0, 0));
    }

    #[test]
    fn older_value_is_one_loss() {
        assert_eq!(register(&[Some("7:1"), Some("7:1")]), (2, 0));
        assert_eq!(register(&[None]), (3, 0));
    }

    #[test]
    fn foreign_reply_detected() {
        assert_eq!(register(&[Some("8:3"), Some("7:5"), Some("OK"), Some("12")]), (0, 4));
    }
}
