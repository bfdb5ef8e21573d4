//! Failovers of the simulated Sentinels: one leads, promotes a replica, and reconfigures the other servers.

use std::time::Duration;

use super::host::{Host, SENTINELS, SERVERS};
use super::sentinel::{about_master, about_replica, switched};
use super::world::{Event, World};

/// The interval and number of retries of a state that cannot be completed.
const STATE_RETRY: Duration = Duration::from_millis(100);
const STATE_RETRIES: u32 = 20;
/// The longest that an event may be delayed by a faulty network.
const MAX_EVENT_DELAY: Duration = Duration::from_secs(6);

/// The failover in progress.
pub(super) struct Failover {
    number: u64,
    leader: usize,
    epoch: u64,
    candidate: usize,
    state: State,
    retries: u32,
    /// Whether the failover will be aborted in the next state, for a reason of the Sentinel's own.
    will_abort: bool,
}

/// The next step of the failover.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Select,
    Promote,
    Confirm { era: u64 },
    Finish { old: usize },
}

impl World {
    /// Makes a Sentinel with the newest configuration lead a failover, as an operator would.
    pub(super) fn plan_failover(&mut self) {
        let newest = self.newest_epoch();
        let leader = (0..SENTINELS)
            .filter(|number| self.is_up(Host::Sentinel(*number)) && self.sentinels[*number].monitors)
            .find(|number| self.sentinels[*number].epoch == newest);
        if let Some(leader) = leader.filter(|_| self.failover.is_none()) {
            self.start_failover(leader);
        }
    }

    /// Drops the failover in progress, because its leader has lost its state.
    pub(super) fn cancel_failover(&mut self) {
        if let Some(failover) = self.failover.take()
            && let State::Confirm { era } = failover.state
        {
            self.revoke(era);
        }
    }

    pub(super) fn start_failover(&mut self, leader: usize) {
        let epoch = self.newest_epoch() + 1;
        let will_abort = self.rng.u8(..100) < self.behavior.aborts;
        let (number, state, candidate) = (self.now().as_nanos() as u64, State::Select, 0);
        self.failover = Some(Failover { number, leader, epoch, candidate, state, retries: 0, will_abort });
        self.log_note(format!("{} leads a failover, epoch {epoch}", Host::Sentinel(leader)));
        self.schedule_next_state(60, 100);
    }

    fn schedule_next_state(&mut self, from: u64, to: u64) {
        let wait = self.between(from, to);
        if let Some(failover) = &self.failover {
            let failover = failover.number;
            self.after(wait, Event::Step { failover });
        }
    }

    pub(super) fn on_step(&mut self, number: u64) {
        let Some(failover) = self.failover.take_if(|failover| failover.number == number) else { return };
        let state = failover.state;
        let (leader, candidate) = (failover.leader, failover.candidate);
        self.failover = Some(failover);
        if !self.listens(Host::Sentinel(leader)) {
            // The failover is lost with its leader, and a promotion that was not announced will be undone.
            return self.cancel_failover();
        }
        let reached = self.sees(Host::Sentinel(leader), Host::Redis(candidate));
        match state {
            State::Select => self.select(leader),
            State::Promote if self.will_abort() => self.abort("-failover-abort-slave-timeout"),
            State::Promote | State::Confirm { .. } if !reached => self.retry_state(state),
            State::Promote => {
                let era = self.promote(candidate);
                if self.is_contested(candidate) {
                    self.revoke(era);
                }
                self.enter_state(State::Confirm { era }, self.behavior.late_aborts);
                self.schedule_next_state(10, 1_000);
            }
            State::Confirm { era } if self.will_abort() => {
                self.revoke(era);
                self.abort("-failover-abort-slave-timeout");
            }
            State::Confirm { .. } => self.confirm(leader, candidate),
            State::Finish { old } => {
                self.failover = None;
                self.publish(leader, "+failover-end", &about_master(old));
                self.publish(leader, "+switch-master", &switched(old, candidate));
            }
        }
    }

    /// Returns true if a client may still receive the delayed abort of an earlier promotion of this server, and
    /// apply it to this one.
    fn is_contested(&self, candidate: usize) -> bool {
        let last_aborted_promotion = self.servers[candidate].last_aborted_promotion;
        last_aborted_promotion.is_some_and(|at| self.now() < at + MAX_EVENT_DELAY)
    }

    fn will_abort(&self) -> bool {
        self.failover.as_ref().is_some_and(|failover| failover.will_abort)
    }

    /// Enters the next state, and decides at random whether it will be aborted.
    fn enter_state(&mut self, state: State, aborts: u8) {
        let will_abort = self.rng.u8(..100) < aborts;
        if let Some(failover) = &mut self.failover {
            (failover.state, failover.will_abort, failover.retries) = (state, will_abort, 0);
        }
    }

    fn select(&mut self, leader: usize) {
        let old = self.sentinels[leader].master;
        let replicas = (0..SERVERS).filter(|server| {
            let replica = *server != old && !self.servers[*server].is_master();
            replica && self.sees(Host::Sentinel(leader), Host::Redis(*server))
        });
        let Some(chosen) = replicas.max_by_key(|server| self.servers[*server].offset()) else {
            return self.abort("-failover-abort-no-good-slave");
        };
        if let Some(failover) = &mut self.failover {
            failover.candidate = chosen;
            failover.state = State::Promote;
        }
        let payload = about_replica(chosen, old);
        self.publish(leader, "+selected-slave", &payload);
        self.publish(leader, "+failover-state-send-slaveof-noone", &payload);
        if self.will_abort() {
            self.schedule_next_state(100, 2_500);
        } else {
            self.schedule_next_state(60, 75);
        }
    }

    fn retry_state(&mut self, state: State) {
        let Some(failover) = &mut self.failover else { return };
        failover.retries += 1;
        if failover.retries < STATE_RETRIES {
            let number = failover.number;
            return self.after(STATE_RETRY, Event::Step { failover: number });
        }
        if let State::Confirm { era } = state {
            self.revoke(era);
        }
        self.abort("-failover-abort-slave-timeout");
    }

    fn abort(&mut self, channel: &'static str) {
        if let Some(failover) = self.failover.take() {
            let old = self.sentinels[failover.leader].master;
            if failover.state != State::Select {
                self.servers[failover.candidate].last_aborted_promotion = Some(self.now());
            }
            self.publish(failover.leader, channel, &about_master(old));
        }
    }

    /// The leader has seen that the replica is master. It announces this to clients and to the other Sentinels.
    fn confirm(&mut self, leader: usize, candidate: usize) {
        let Some(failover) = &self.failover else { return };
        let epoch = failover.epoch;
        let old = self.sentinels[leader].master;
        self.publish(leader, "+promoted-slave", &about_replica(candidate, old));
        self.set_master(leader, epoch, candidate);
        for server in (0..SERVERS).filter(|server| ![candidate, old].contains(server)) {
            if self.sees(Host::Sentinel(leader), Host::Redis(server)) {
                self.attach(server, candidate);
            }
        }
        self.enter_state(State::Finish { old }, 0);
        self.schedule_next_state(800, 1_200);
    }
}
