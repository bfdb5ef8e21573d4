//! The faults of a run, and how long they last.

use std::time::Duration;

use fastrand::Rng;

use super::host::{Host, SENTINELS, SERVERS};
use super::operator::OperatorAction;
use super::world::{Event, World};

/// A fault. Lasting faults end after a while.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fault {
    /// An operator starts a failover.
    Failover,
    /// The master's process crashes and is restarted after this time, with or without its data.
    CrashMaster {
        empty: bool,
        lasts: Duration,
    },
    Crash {
        host: Host,
        lasts: Duration,
    },
    HangMaster {
        lasts: Duration,
    },
    Hang {
        host: Host,
        lasts: Duration,
    },
    /// Nothing passes between two hosts, in both directions or in one.
    Silence {
        from: Host,
        to: Host,
        both: bool,
        lasts: Duration,
    },
    /// The master and the client are separated from all other hosts.
    Isolate {
        lasts: Duration,
    },
    /// Every connection to a host is cut.
    Cut {
        host: Host,
    },
    /// The replies of a host are lost, and then its connections are cut.
    LoseReplies {
        host: Host,
        lasts: Duration,
    },
    /// Data from the client to the master on the connections that are open now is delayed by this time, whatever
    /// happens to the connections. New connections are not affected.
    Stall {
        lasts: Duration,
    },
    /// A script runs on a server and blocks all other commands.
    Busy {
        server: usize,
        lasts: Duration,
    },
    /// A host refuses new connections.
    Refuse {
        host: Host,
        lasts: Duration,
    },
    Slow {
        host: Host,
        by: Duration,
        lasts: Duration,
    },
    /// An operator's action.
    OperatorAction(OperatorAction),
    /// All faults end.
    Heal,
}

/// The end of a fault.
#[derive(Clone, Copy, Debug)]
pub(super) enum Repair {
    Process { host: Host, empty: bool },
    Silence { from: Host, to: Host },
    LostReplies(Host),
    Refusal(Host),
    Slowness(Host),
    MinReplicas(usize),
}

impl Fault {
    /// A fault that must not lose an acknowledged write: a planned failover.
    pub(super) fn harmless(rng: &mut Rng) -> Self {
        match rng.u8(..4) {
            0 => Self::OperatorAction(OperatorAction::Reset {
                sentinel: rng.bool().then(|| rng.usize(..SENTINELS)),
            }),
            _ => Self::Failover,
        }
    }

    /// Returns any fault except [`Fault::Heal`].
    pub(super) fn random(rng: &mut Rng) -> Self {
        let lasts = Duration::from_millis(match rng.u8(..3) {
            0 => rng.u64(5..200),
            1 => rng.u64(200..1_500),
            _ => rng.u64(1_500..5_000),
        });
        let host = any_host(rng);
        match rng.u8(..29) {
            0..5 => Self::Failover,
            5..7 => Self::CrashMaster { empty: rng.u8(..4) == 0, lasts },
            7..9 => Self::HangMaster { lasts },
            9 | 10 => Self::Crash { host, lasts },
            11 => Self::Hang { host, lasts },
            12 | 13 => Self::Cut { host: Host::Redis(rng.usize(..SERVERS)) },
            14 => Self::Cut { host },
            15 | 16 => Self::Silence { from: Host::Client, to: host, both: rng.bool(), lasts },
            17 => Self::Silence { from: host, to: any_host(rng), both: rng.bool(), lasts },
            18 | 19 => Self::LoseReplies { host, lasts: lasts / 10 },
            20 => Self::Refuse { host, lasts },
            21 | 22 => Self::Stall { lasts },
            23 => Self::Busy { server: rng.usize(..SERVERS), lasts },
            24 | 25 => Self::OperatorAction(OperatorAction::any(rng, lasts)),
            26 => Self::Slow { host, by: Duration::from_millis(rng.u64(5..400)), lasts },
            _ => Self::Isolate { lasts },
        }
    }
}

fn any_host(rng: &mut Rng) -> Host {
    let number = rng.usize(..SERVERS + SENTINELS);
    if number < SERVERS { Host::Redis(number) } else { Host::Sentinel(number - SERVERS) }
}

impl World {
    pub(super) fn on_fault(&mut self, fault: Fault) {
        self.log_note(format!("fault: {fault:?}"));
        match fault {
            Fault::Failover => self.plan_failover(),
            Fault::CrashMaster { empty, lasts } => self.take_down(self.newest_master(), empty, lasts),
            Fault::Crash { host, lasts } => self.take_down(host, false, lasts),
            Fault::HangMaster { lasts } => self.stop(self.newest_master(), lasts),
            Fault::Hang { host, lasts } => self.stop(host, lasts),
            Fault::Silence { from, to, both, lasts } => {
                self.silence(from, to, lasts);
                if both {
                    self.silence(to, from, lasts);
                }
            }
            Fault::Isolate { lasts } => self.isolate(lasts),
            Fault::Cut { host } => self.connections_of(host).into_iter().for_each(|number| self.cut(number)),
            Fault::LoseReplies { host, lasts } => {
                self.network.silence(host, Host::Client, true);
                self.after(lasts, Event::Repair(Repair::LostReplies(host)));
            }
            Fault::Stall { lasts } => self.stall(self.newest_master(), lasts),
            Fault::Busy { server, lasts } => self.servers[server].busy_until = self.now() + lasts,
            Fault::Refuse { host, lasts } => {
                self.network.refuse(host, true);
                self.after(lasts, Event::Repair(Repair::Refusal(host)));
            }
            Fault::Slow { host, by, lasts } => {
                self.network.slow_down(host, by);
                self.after(lasts, Event::Repair(Repair::Slowness(host)));
            }
            Fault::OperatorAction(act) => self.on_operator_action(act),
            Fault::Heal => {
                self.end_bad_connections();
                self.network.heal();
                for server in &mut self.servers {
                    server.busy_until = Duration::ZERO;
                    server.min_replicas = self.behavior.min_replicas;
                }
                Host::servers().for_each(|host| self.bring_back(host));
            }
        }
    }

    pub(super) fn on_repair(&mut self, repair: Repair) {
        self.log_note(format!("fault ends: {repair:?}"));
        match repair {
            Repair::Process { host: Host::Redis(server), empty } if !self.listens(Host::Redis(server)) => {
                let longest = self.behavior.longest_loading.as_millis() as u64;
                let loading = self.between(1, longest);
                self.restart(server, empty, loading);
            }
            Repair::Process { host, .. } => self.bring_back(host),
            Repair::Silence { from, to } => self.network.silence(from, to, false),
            Repair::LostReplies(host) => {
                self.connections_of(host).into_iter().for_each(|number| self.cut(number));
                self.network.silence(host, Host::Client, false);
            }
            Repair::Refusal(host) => self.network.refuse(host, false),
            Repair::MinReplicas(server) => self.servers[server].min_replicas = self.behavior.min_replicas,
            Repair::Slowness(host) => self.network.slow_down(host, Duration::ZERO),
        }
    }

    fn take_down(&mut self, host: Host, empty: bool, lasts: Duration) {
        self.crash(host);
        self.after(lasts, Event::Repair(Repair::Process { host, empty }));
    }

    fn stop(&mut self, host: Host, lasts: Duration) {
        self.hang(host);
        self.after(lasts, Event::Repair(Repair::Process { host, empty: false }));
    }

    fn silence(&mut self, from: Host, to: Host, lasts: Duration) {
        self.network.silence(from, to, true);
        self.after(lasts, Event::Repair(Repair::Silence { from, to }));
    }

    fn isolate(&mut self, lasts: Duration) {
        let master = self.newest_master();
        let rest = Host::servers().filter(|host| *host != master).collect::<Vec<_>>();
        for host in rest {
            for alone in [master, Host::Client] {
                self.silence(alone, host, lasts);
                self.silence(host, alone, lasts);
            }
        }
    }
}
