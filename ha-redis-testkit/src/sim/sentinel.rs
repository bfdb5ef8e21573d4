//! Small Sentinels: each has its own view, gossips, and may lead a failover, at the pace of the real ones.

use std::time::Duration;

use super::host::{Host, SENTINELS, SERVERS};
use super::network::ConnectionId;
use super::redis::Role;
use super::reply;
use super::trace::Line;
use super::world::{Event, World};

pub(super) const MASTER_NAME: &str = "mymaster";
const QUORUM: usize = 2;
/// A master that cannot be reached for so long is down.
const DOWN_AFTER: Duration = Duration::from_millis(500);
/// A stage of a failover that cannot be done is tried again after this, and so often.
const STAGE_RETRY: Duration = Duration::from_millis(100);
const STAGE_RETRIES: u32 = 20;
/// What was published may come so late through a network with faults.
const LATEST_NEWS: Duration = Duration::from_secs(6);

#[derive(Default)]
pub(super) struct Sentinel {
    pub(super) epoch: u64,
    pub(super) master: usize,
    /// Since when it has not reached the master.
    missing_since: Option<Duration>,
    /// Whether it has published that enough of them miss the master.
    odown: bool,
}

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

/// Answers.
impl World {
    pub(super) fn sentinel_command(
        &mut self,
        sentinel: usize,
        number: ConnectionId,
        command: &[String],
    ) -> Vec<u8> {
        let words = command.iter().map(|word| word.to_ascii_uppercase()).collect::<Vec<_>>();
        let words = words.iter().map(String::as_str).collect::<Vec<_>>();
        if let Some(refusal) = self.refusal_of_user(Host::Sentinel(sentinel), &words) {
            return refusal;
        }
        match words[..] {
            ["HELLO", ..] => {
                let words = command.iter().map(String::as_str).skip(1).collect::<Vec<_>>();
                self.hello(number, &words)
            }
            ["PING"] if self.speaks_resp3() || !self.is_subscribed(number) => reply::status("PONG"),
            ["PING"] => reply::bulks(&["pong", ""]),
            ["SUBSCRIBE", ..] => self.subscribe(number, &command[1..]),
            ["INFO", ..] => reply::bulk("# Sentinel\r\nsentinel_tilt:0\r\n"),
            ["SENTINEL", "MYID"] => reply::bulk(&format!("id-{sentinel}")),
            ["SENTINEL", "GET-MASTER-ADDR-BY-NAME", _] => {
                let master = Host::Redis(self.sentinels[sentinel].master);
                reply::bulks(&[&master.to_string(), &master.port().to_string()])
            }
            ["SENTINEL", "MASTER", _] => self.describe_master(sentinel),
            ["SENTINEL", "REPLICAS", _] => {
                let master = self.sentinels[sentinel].master;
                let replicas = (0..SERVERS).filter(|server| *server != master);
                let replicas = replicas.map(|server| {
                    let up = self.sees(Host::Sentinel(sentinel), Host::Redis(server));
                    instance(
                        Host::Redis(server),
                        &[
                            ("flags", if up { "slave" } else { "s_down,slave" }),
                            ("master-link-status", if up { "ok" } else { "err" }),
                        ],
                    )
                });
                reply::array(&replicas.collect::<Vec<_>>())
            }
            ["SENTINEL", "SENTINELS", _] => {
                let others = (0..SENTINELS).filter(|other| *other != sentinel);
                let others = others.map(|other| instance(Host::Sentinel(other), &[]));
                reply::array(&others.collect::<Vec<_>>())
            }
            _ => reply::error(&format!("ERR unknown command '{}'", words.join(" "))),
        }
    }

    fn is_subscribed(&self, number: ConnectionId) -> bool {
        self.sessions.get(&number).is_some_and(|session| session.subscribed)
    }

    fn subscribe(&mut self, number: ConnectionId, channels: &[String]) -> Vec<u8> {
        if let Some(session) = self.sessions.get_mut(&number) {
            session.subscribed = true;
        }
        let confirmed = channels.iter().zip(1..).flat_map(|(channel, count)| {
            self.message(&[reply::bulk("subscribe"), reply::bulk(channel), reply::integer(count)])
        });
        confirmed.collect()
    }

    fn message(&self, items: &[Vec<u8>]) -> Vec<u8> {
        if self.speaks_resp3() { reply::push(items) } else { reply::array(items) }
    }

    fn describe_master(&self, sentinel: usize) -> Vec<u8> {
        let view = &self.sentinels[sentinel];
        let (epoch, quorum, others) = (view.epoch.to_string(), QUORUM.to_string(), SENTINELS - 1);
        instance(
            Host::Redis(view.master),
            &[
                ("flags", if view.missing_since.is_some() { "s_down,master" } else { "master" }),
                ("config-epoch", &epoch),
                ("quorum", &quorum),
                ("num-other-sentinels", &others.to_string()),
            ],
        )
    }

    fn publish(&mut self, sentinel: usize, channel: &'static str, payload: &str) {
        self.note(Line::Published { sentinel: Host::Sentinel(sentinel), channel });
        if !self.habits.publish {
            return;
        }
        for number in self.connections_of(Host::Sentinel(sentinel)) {
            if self.is_subscribed(number) {
                let message = [reply::bulk("message"), reply::bulk(channel), reply::bulk(payload)];
                self.reply(number, self.message(&message));
            }
        }
    }
}

fn instance(host: Host, more: &[(&str, &str)]) -> Vec<u8> {
    let (name, port) = (host.to_string(), host.port().to_string());
    let mut fields = vec!["ip", &name, "port", &port];
    fields.extend(more.iter().flat_map(|(key, value)| [*key, *value]));
    reply::bulks(&fields)
}

/// Looking round.
impl World {
    pub(super) fn look_later(&mut self, sentinel: usize) {
        let wait = self.between(80, 120);
        self.after(wait, Event::Look(sentinel));
    }

    pub(super) fn on_look(&mut self, number: usize) {
        self.look_later(number);
        if self.is_up(Host::Sentinel(number)) {
            self.gossip(number);
            self.judge(number);
            self.tend(number);
        }
    }

    /// Takes over the configuration of a Sentinel that knows of a later failover.
    fn gossip(&mut self, number: usize) {
        let mine = self.sentinels[number].epoch;
        let newer = (0..SENTINELS).find(|other| {
            let reached = self.sees(Host::Sentinel(number), Host::Sentinel(*other));
            reached && self.sentinels[*other].epoch > mine
        });
        let Some(newer) = newer.filter(|_| self.rng.bool()) else { return };
        let (epoch, master) = (self.sentinels[newer].epoch, self.sentinels[newer].master);
        let old =
            std::mem::replace(&mut self.sentinels[number], Sentinel { epoch, master, ..Sentinel::default() });
        self.publish(number, "+config-update-from", &about_master(old.master));
        self.publish(number, "+switch-master", &switched(old.master, master));
    }

    /// Finds out whether the master is there, and what the others think of that.
    fn judge(&mut self, number: usize) {
        let (now, me) = (self.now(), Host::Sentinel(number));
        let master = self.sentinels[number].master;
        if self.answers(number, master) && self.servers[master].is_master() {
            self.sentinels[number].missing_since = None;
            self.sentinels[number].odown = false;
            return;
        }
        self.sentinels[number].missing_since.get_or_insert(now);
        let misses = |sentinel: &Sentinel| {
            sentinel.master == master && sentinel.missing_since.is_some_and(|since| since + DOWN_AFTER <= now)
        };
        if !misses(&self.sentinels[number]) {
            return;
        }
        let others = (0..SENTINELS).filter(|other| self.sees(me, Host::Sentinel(*other)));
        if others.filter(|other| misses(&self.sentinels[*other])).count() < QUORUM {
            return;
        }
        if !std::mem::replace(&mut self.sentinels[number].odown, true) {
            self.publish(number, "+odown", &format!("{} #quorum 2/2", about_master(master)));
        }
        if self.failover.is_none() && self.rng.u8(..3) == 0 {
            self.start_failover(number);
        }
    }

    /// Has servers follow the master that do not, as the first of those Sentinels that know best.
    fn tend(&mut self, number: usize) {
        let newest = self.sentinels.iter().map(|sentinel| sentinel.epoch).max();
        let me = Host::Sentinel(number);
        let mut knowing = (0..SENTINELS).filter(|other| {
            self.is_up(Host::Sentinel(*other)) && Some(self.sentinels[*other].epoch) == newest
        });
        let master = self.sentinels[number].master;
        let sane = self.sees(me, Host::Redis(master)) && self.servers[master].is_master();
        if knowing.next() != Some(number) || !sane || self.failover.is_some() {
            return;
        }
        for server in (0..SERVERS).filter(|server| *server != master) {
            let stray = self.servers[server].role != (Role::Replica { of: master });
            if stray && self.sees(me, Host::Redis(server)) && self.rng.u8(..self.habits.leniency) == 0 {
                self.attach(server, master);
            }
        }
    }
}

/// Failing over.
impl World {
    /// Has a Sentinel with the newest configuration lead a failover, as its operator may ask it.
    pub(super) fn plan_failover(&mut self) {
        let newest = self.sentinels.iter().map(|sentinel| sentinel.epoch).max();
        let leader = (0..SENTINELS)
            .filter(|number| self.is_up(Host::Sentinel(*number)))
            .find(|number| Some(self.sentinels[*number].epoch) == newest);
        if let Some(leader) = leader.filter(|_| self.failover.is_none()) {
            self.start_failover(leader);
        }
    }

    fn start_failover(&mut self, leader: usize) {
        let newest = self.sentinels.iter().map(|sentinel| sentinel.epoch).max().unwrap_or_default();
        let epoch = newest + 1;
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
        if !self.listens(Host::Sentinel(failover.leader)) {
            // What it was about is lost with it, and a promotion that it has not told of is to be undone.
            if let Stage::Confirm { era } = failover.stage {
                self.revoke(era);
            }
            return;
        }
        let stage = failover.stage;
        let (leader, candidate) = (failover.leader, failover.candidate);
        self.failover = Some(failover);
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
        self.sentinels[leader] = Sentinel { epoch, master: candidate, ..Sentinel::default() };
        for server in (0..SERVERS).filter(|server| ![candidate, old].contains(server)) {
            if self.sees(Host::Sentinel(leader), Host::Redis(server)) {
                self.attach(server, candidate);
            }
        }
        self.turn(Stage::Finish { old }, 0);
        self.next_stage(800, 1_200);
    }

    /// The era of the master on which all agree, when nothing is going on.
    pub(super) fn agreed_era(&self) -> Option<u64> {
        let Sentinel { epoch, master, .. } = self.sentinels[0];
        let agreed =
            self.sentinels.iter().all(|sentinel| (sentinel.epoch, sentinel.master) == (epoch, master));
        let quiet = self.failover.is_none() && Host::servers().all(|host| self.is_up(host));
        match self.servers[master].role {
            Role::Master { era } if agreed && quiet => Some(era),
            _ => None,
        }
    }

    /// Whether, besides, all other servers follow that master.
    pub(super) fn is_settled(&self) -> bool {
        let of = self.sentinels[0].master;
        let others = self.servers.iter().enumerate().filter(|(server, _)| *server != of);
        let followed = others.map(|(_, server)| server.role).all(|role| role == Role::Replica { of });
        self.agreed_era().is_some() && followed
    }
}

fn about_master(master: usize) -> String {
    let master = Host::Redis(master);
    format!("master {MASTER_NAME} {master} {}", master.port())
}

fn about_replica(replica: usize, master: usize) -> String {
    let (replica, master) = (Host::Redis(replica), Host::Redis(master));
    let (port, master_port) = (replica.port(), master.port());
    format!("slave {replica}:{port} {replica} {port} @ {MASTER_NAME} {master} {master_port}")
}

fn switched(old: usize, new: usize) -> String {
    let (old, new) = (Host::Redis(old), Host::Redis(new));
    format!("{MASTER_NAME} {old} {} {new} {}", old.port(), new.port())
}
