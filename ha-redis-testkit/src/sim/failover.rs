//! Failovers of the small Sentinels: one leads, promotes a replica, and has the others follow it.

use std::time::Duration;

use super::host::{Host, SENTINELS, SERVERS};
use super::sentinel::{about_master, about_replica, switched};
use super::world::{Event, World};

/// A stage of a failover that cannot be done is tried again after this, and so often.
const STAGE_RETRY: Duration = Duration::from_millis(100);
const STAGE_RETRIES: u32 = 20;
/// What was published may come so late through a network with faults.
const LATEST_NEWS: Duration = Duration::from_secs(6);

/// The failover under way.
pub(super) struct Failover {
    number: u64,
    leader: usize,
    epoch: u64,
    candidate: usize,
    stage: Stage,
    retries: u32,
    /// Whether it will be given up at the next stage, for a reason of the Sentinel's own.
    doomed: bool,
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Select,
    Promote,
    Confirm { era: u64 },
    Finish { old: usize },
}

impl World {
    /// Has a Sentinel with the newest configuration lead a failover, as its operator may ask it.
    pub(super) fn plan_failover(&mut self) {
        let newest = self.newest_epoch();
        let leader = (0..SENTINELS)
            .filter(|number| self.is_up(Host::Sentinel(*number)) && self.sentinels[*number].monitors)
            .find(|number| self.sentinels[*number].epoch == newest);
        if let Some(leader) = leader.filter(|_| self.failover.is_none()) {
            self.start_failover(leader);
        }
    }

    /// The failover that goes on is forgotten by those who should lead it to its end.
    pub(super) fn cancel_failover(&mut self) {
        if let Some(failover) = self.failover.take()
            && let Stage::Confirm { era } = failover.stage
        {
            self.revoke(era);
        }
    }

    pub(super) fn start_failover(&mut self, leader: usize) {
        let epoch = self.newest_epoch() + 1;
        let doomed = self.rng.u8(..100) < self.habits.aborts;
        let (number, stage, candidate) = (self.now().as_nanos() as u64, Stage::Select, 0);
        self.failover = Some(Failover { number, leader, epoch, candidate, stage, retries: 0, doomed });
        self.say(format!("{} leads a failover, epoch {epoch}", Host::Sentinel(leader)));
        self.next_stage(60, 100);
    }

    fn next_stage(&mut self, from: u64, to: u64) {
        let wait = self.between(from, to);
        if let Some(failover) = &self.failover {
            let failover = failover.number;
            self.after(wait, Event::Step { failover });
        }
    }

    pub(super) fn on_step(&mut self, number: u64) {
        let Some(failover) = self.failover.take_if(|failover| failover.number == number) else { return };
        let stage = failover.stage;
        let (leader, candidate) = (failover.leader, failover.candidate);
        self.failover = Some(failover);
        if !self.listens(Host::Sentinel(leader)) {
            // What it was about is lost with it, and a promotion that it has not told of is to be undone.
            return self.cancel_failover();
        }
        let reached = self.sees(Host::Sentinel(leader), Host::Redis(candidate));
        match stage {
            Stage::Select => self.select(leader),
            Stage::Promote if self.is_doomed() => self.abort("-failover-abort-slave-timeout"),
            Stage::Promote | Stage::Confirm { .. } if !reached => self.try_again(stage),
            Stage::Promote => {
                let era = self.promote(candidate);
                if self.is_contested(candidate) {
                    self.revoke(era);
                }
                self.turn(Stage::Confirm { era }, self.habits.late_aborts);
                self.next_stage(10, 1_000);
            }
            Stage::Confirm { era } if self.is_doomed() => {
                self.revoke(era);
                self.abort("-failover-abort-slave-timeout");
            }
            Stage::Confirm { .. } => self.confirm(leader, candidate),
            Stage::Finish { old } => {
                self.failover = None;
                self.publish(leader, "+failover-end", &about_master(old));
                self.publish(leader, "+switch-master", &switched(old, candidate));
            }
        }
    }

    /// Whether a client may still hear, late, that an earlier promotion of this server was given up, and take it for
    /// this one.
    fn is_contested(&self, candidate: usize) -> bool {
        let passed_over = self.servers[candidate].passed_over;
        passed_over.is_some_and(|at| self.now() < at + LATEST_NEWS)
    }

    fn is_doomed(&self) -> bool {
        self.failover.as_ref().is_some_and(|failover| failover.doomed)
    }

    /// Sets what comes next, and how likely it is that it comes to nothing.
    fn turn(&mut self, stage: Stage, aborts: u8) {
        let doomed = self.rng.u8(..100) < aborts;
        if let Some(failover) = &mut self.failover {
            (failover.stage, failover.doomed, failover.retries) = (stage, doomed, 0);
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
            failover.stage = Stage::Promote;
        }
        let payload = about_replica(chosen, old);
        self.publish(leader, "+selected-slave", &payload);
        self.publish(leader, "+failover-state-send-slaveof-noone", &payload);
        if self.is_doomed() {
            self.next_stage(100, 2_500);
        } else {
            self.next_stage(60, 75);
        }
    }

    fn try_again(&mut self, stage: Stage) {
        let Some(failover) = &mut self.failover else { return };
        failover.retries += 1;
        if failover.retries < STAGE_RETRIES {
            let number = failover.number;
            return self.after(STAGE_RETRY, Event::Step { failover: number });
        }
        if let Stage::Confirm { era } = stage {
            self.revoke(era);
        }
        self.abort("-failover-abort-slave-timeout");
    }

    fn abort(&mut self, channel: &'static str) {
        if let Some(failover) = self.failover.take() {
            let old = self.sentinels[failover.leader].master;
            if failover.stage != Stage::Select {
                self.servers[failover.candidate].passed_over = Some(self.now());
            }
            self.publish(failover.leader, channel, &about_master(old));
        }
    }

    /// The leader has seen that the replica is master: from now on it says so, and the others hear of it.
    fn confirm(&mut self, leader: usize, candidate: usize) {
        let Some(failover) = &self.failover else { return };
        let epoch = failover.epoch;
        let old = self.sentinels[leader].master;
        self.publish(leader, "+promoted-slave", &about_replica(candidate, old));
        self.follow(leader, epoch, candidate);
        for server in (0..SERVERS).filter(|server| ![candidate, old].contains(server)) {
            if self.sees(Host::Sentinel(leader), Host::Redis(server)) {
                self.attach(server, candidate);
            }
        }
        self.turn(Stage::Finish { old }, 0);
        self.next_stage(800, 1_200);
    }
}
