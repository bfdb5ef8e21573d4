//! Everything outside the client: the network, the servers, the Sentinels, and the scheduled events.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;

use super::failover::Failover;
use super::fault::{Fault, Repair};
use super::history::{End, History, What};
use super::host::{HOSTS, Host, SENTINELS, SERVERS};
use super::hostile::{Attack, Hostile};
use super::network::{Conditions, ConnectionId, Direction, Network};
use super::permissions::{Hello, Permissions};
use super::redis::Redis;
use super::scheduler::Clock;
use super::sentinel::Sentinel;
use super::session::Session;
use super::stray_writes::StrayWrites;
use super::trace::{Line, Trace};

pub(super) struct World {
    clock: Arc<Clock>,
    agenda: BTreeMap<(Duration, u64), Event>,
    scheduled: u64,
    pub(super) rng: Rng,
    pub(super) network: Network,
    pub(super) sessions: BTreeMap<ConnectionId, Session>,
    /// The last client id of each process.
    pub(super) client_ids: [u64; HOSTS - 1],
    pub(super) processes: [Process; HOSTS - 1],
    pub(super) servers: [Redis; SERVERS],
    /// How many server processes have been started.
    runs: u64,
    pub(super) sentinels: [Sentinel; SENTINELS],
    pub(super) failover: Option<Failover>,
    pub(super) stray_writes: StrayWrites,
    pub(super) behavior: Behavior,
    pub(super) permissions: Permissions,
    /// The hostile peers, in some runs.
    pub(super) hostile: Option<Hostile>,
    /// How many commands have blocked.
    pub(super) waits: u64,
    /// How many promotions there have been, which is the era of the newest master.
    pub(super) eras: u64,
    /// How many lineages of data there have been.
    pub(super) lineages: u64,
    pub(super) history: History,
    pub(super) trace: Trace,
}

/// A scheduled event.
pub(super) enum Event {
    Dial(ConnectionId),
    Answered {
        number: ConnectionId,
        accepted: bool,
    },
    Deliver(ConnectionId, Direction),
    /// The wait of a blocked command times out.
    Unblock(ConnectionId, u64),
    /// A replica copies the writes of its master.
    Replicate(usize),
    /// A Sentinel runs its periodic checks.
    Tick(usize),
    /// The failover takes its next step.
    Step {
        failover: u64,
    },
    Fault(Fault),
    Repair(Repair),
    /// A hostile peer acts on its own.
    Attack(Attack),
    /// An operator makes the Sentinels monitor this server as the master.
    TakeOver {
        by: usize,
    },
}

/// The state of a server's or Sentinel's process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Process {
    Up,
    /// The process accepts connections, but does nothing.
    Hung,
    Down,
}

/// How the servers and Sentinels behave in this run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Behavior {
    pub(super) replication_lag: Duration,
    /// How servers handle HELLO. Without it there is no RESP3.
    pub(super) hello: Hello,
    /// `min-replicas-to-write`.
    pub(super) min_replicas: usize,
    /// How many Sentinels the client's configuration names.
    pub(super) named_sentinels: usize,
    /// Whether a replica without its master answers reads.
    pub(super) serves_stale: bool,
    /// The longest time that a server loads its data.
    pub(super) longest_loading: Duration,
    /// Whether the Sentinels publish events.
    pub(super) publish: bool,
    /// The percentage of failovers that are aborted before and after the promotion.
    pub(super) aborts: u8,
    pub(super) late_aborts: u8,
    /// How many checks of a Sentinel pass on average before it reconfigures a server with the wrong master.
    pub(super) reconfigure_delay: u8,
}

impl World {
    pub(super) fn new(
        clock: &Arc<Clock>,
        seed: u64,
        conditions: Conditions,
        behavior: Behavior,
        permissions: Permissions,
        trace: Trace,
    ) -> Self {
        let mut world = Self {
            clock: Arc::clone(clock),
            agenda: BTreeMap::new(),
            scheduled: 0,
            rng: Rng::with_seed(seed),
            network: Network::new(conditions),
            sessions: BTreeMap::new(),
            client_ids: [2; HOSTS - 1],
            processes: [Process::Up; HOSTS - 1],
            servers: std::array::from_fn(Redis::new),
            runs: SERVERS as u64,
            sentinels: std::array::from_fn(|_| Sentinel::new()),
            failover: None,
            stray_writes: StrayWrites::default(),
            behavior,
            permissions,
            hostile: None,
            waits: 0,
            eras: 1,
            lineages: 1,
            history: History::default(),
            trace,
        };
        for server in &mut world.servers {
            server.min_replicas = behavior.min_replicas;
        }
        for sentinel in 0..SENTINELS {
            world.schedule_tick(sentinel);
        }
        world
    }

    pub(super) fn now(&self) -> Duration {
        self.clock.now()
    }

    pub(super) fn schedule(&mut self, at: Duration, event: Event) {
        self.scheduled += 1;
        self.agenda.insert((at, self.scheduled), event);
    }

    pub(super) fn after(&mut self, wait: Duration, event: Event) {
        let at = self.now() + wait;
        self.schedule(at, event);
    }

    /// Returns the time of the next event.
    pub(super) fn next_event(&self) -> Option<Duration> {
        self.agenda.first_key_value().map(|((at, _), _)| *at)
    }

    /// Runs all events that are due.
    pub(super) fn run_due(&mut self) {
        while let Some(first) = self.agenda.first_entry()
            && first.key().0 <= self.clock.now()
        {
            let event = first.remove();
            self.trace.mark(std::mem::discriminant(&event));
            self.happen(event);
        }
    }

    fn happen(&mut self, event: Event) {
        if matches!(event, Event::Tick(_) | Event::Fault(_) | Event::Repair(_)) {
            self.update_unlisted_servers();
        }
        match event {
            Event::Dial(number) => self.on_dial(number),
            Event::Answered { number, accepted } => self.on_answered(number, accepted),
            Event::Deliver(number, direction) => self.on_deliver(number, direction),
            Event::Unblock(number, begun) => self.on_unblock(number, begun),
            Event::Replicate(replica) => self.on_replicate(replica),
            Event::Tick(sentinel) => self.on_tick(sentinel),
            Event::Step { failover } => self.on_step(failover),
            Event::Fault(fault) => self.on_fault(fault),
            Event::Repair(repair) => self.on_repair(repair),
            Event::Attack(attack) => self.on_attack(attack),
            Event::TakeOver { by } => self.take_over(by),
        }
    }

    pub(super) fn note(&mut self, line: Line) {
        self.trace.record(self.clock.now(), line);
    }

    pub(super) fn log_note(&mut self, note: impl Into<String>) {
        self.note(Line::Note(note.into()));
    }

    /// Returns a random duration between two values in milliseconds.
    pub(super) fn between(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_micros(self.rng.u64(from * 1_000..to * 1_000))
    }

    // Processes.

    pub(super) fn process(&self, host: Host) -> Process {
        self.processes[host.index() - 1]
    }

    pub(super) fn is_up(&self, host: Host) -> bool {
        self.process(host) == Process::Up
    }

    pub(super) fn listens(&self, host: Host) -> bool {
        self.process(host) != Process::Down
    }

    /// Returns true if `watcher` can reach `host` and the process is up.
    pub(super) fn sees(&self, watcher: Host, host: Host) -> bool {
        self.is_up(watcher) && self.is_up(host) && self.network.reaches(watcher, host)
    }

    /// Returns true if a Sentinel gets a reply from a server that counts as a sign of life.
    pub(super) fn answers(&self, sentinel: usize, server: usize) -> bool {
        let busy = self.servers[server].busy_until > self.now();
        self.sees(Host::Sentinel(sentinel), Host::Redis(server)) && !busy
    }

    pub(super) fn crash(&mut self, host: Host) {
        self.processes[host.index() - 1] = Process::Down;
        self.client_ids[host.index() - 1] = 2;
        if let Host::Redis(server) = host {
            self.runs += 1;
            self.servers[server].run = self.runs;
        }
        for number in self.connections_of(host) {
            self.reset(number);
        }
    }

    pub(super) fn hang(&mut self, host: Host) {
        if self.is_up(host) {
            self.processes[host.index() - 1] = Process::Hung;
        }
    }

    /// Starts a process that is down, or resumes one that hangs.
    pub(super) fn bring_back(&mut self, host: Host) {
        if matches!(host, Host::Sentinel(sentinel) if self.sentinels[sentinel].removed) {
            return;
        }
        let was = std::mem::replace(&mut self.processes[host.index() - 1], Process::Up);
        match was {
            Process::Up => {}
            Process::Down => self.log_note(format!("{host} is started")),
            Process::Hung => {
                self.log_note(format!("{host} resumes"));
                let mut connections = self.connections_of(host);
                self.rng.shuffle(&mut connections);
                connections.into_iter().for_each(|number| self.serve(number));
            }
        }
    }

    pub(super) fn connections_of(&self, host: Host) -> Vec<ConnectionId> {
        let sessions = self.sessions.iter().filter(|(_, session)| session.host == host);
        sessions.map(|(number, _)| *number).collect()
    }

    /// Returns the acknowledged counts that the master lacks.
    pub(super) fn lost_counts(&self) -> Vec<u64> {
        let Host::Redis(master) = self.newest_master() else { return Vec::new() };
        let acknowledged = self.history.calls().filter(|(number, call)| {
            let counted = self.history.executions(*number).iter().any(|run| run.what == What::Count);
            counted && matches!(call.end, Some((_, End::Done)))
        });
        let lost = acknowledged
            .filter(|(number, _)| self.servers[master].value(&format!("count:{number}")).is_none());
        lost.map(|(number, _)| number).collect()
    }
}
