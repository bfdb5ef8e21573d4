//! What goes wrong, and how long it lasts.

use std::time::Duration;

use fastrand::Rng;

use super::host::{Host, SENTINELS, SERVERS};
use super::operator::Act;
use super::world::{Event, World};

/// Something that goes wrong. What lasts is mended after a while.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fault {
    /// An operator asks for a failover.
    Failover,
    /// The master's process ends, and is started again after this time: with its data, or without.
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
    /// Nothing passes between two hosts, or only the one way.
    Silence {
        from: Host,
        to: Host,
        both: bool,
        lasts: Duration,
    },
    /// The master and the client are on one side, everybody else on the other.
    Strand {
        lasts: Duration,
    },
    /// Every connection to a host is cut in the middle.
    Cut {
        host: Host,
    },
    /// What a host answers is lost, and then its connections are cut.
    LoseReplies {
        host: Host,
        lasts: Duration,
    },
    /// What the client has sent to the master on the connections that are open now, or sends there, comes this late,
    /// whatever becomes of the connections. New ones are not concerned.
    Stall {
        lasts: Duration,
    },
    /// A script runs on a server, and nobody else's command.
    Busy {
        server: usize,
        lasts: Duration,
    },
    /// A host takes no new connections.
    Refuse {
        host: Host,
        lasts: Duration,
    },
    Slow {
        host: Host,
        by: Duration,
        lasts: Duration,
    },
    /// What an operator does.
    Act(Act),
    /// The end of all faults.
    Heal,
}

/// The end of a fault.
#[derive(Clone, Copy, Debug)]
pub(super) enum Mend {
    Process { host: Host, empty: bool },
    Silence { from: Host, to: Host },
    LostReplies(Host),
    Refusal(Host),
    Slowness(Host),
    MinReplicas(usize),
}

impl Fault {
    /// What an operator does without a thought: no acknowledged write may be lost.
    pub(super) fn harmless(rng: &mut Rng) -> Self {
        match rng.u8(..4) {
            0 => Self::Act(Act::Reset { sentinel: rng.bool().then(|| rng.usize(..SENTINELS)) }),
            _ => Self::Failover,
        }
    }

    /// Any fault but the end of all.
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
            24 | 25 => Self::Act(Act::any(rng, lasts)),
            26 => Self::Slow { host, by: Duration::from_millis(rng.u64(5..400)), lasts },
            _ => Self::Strand { lasts },
        }
    }
}

fn any_host(rng: &mut Rng) -> Host {
    let number = rng.usize(..SERVERS + SENTINELS);
    if number < SERVERS { Host::Redis(number) } else { Host::Sentinel(number - SERVERS) }
}

impl World {
    pub(super) fn on_fault(&mut self, fault: Fault) {
        self.say(format!("fault: {fault:?}"));
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
            Fault::Strand { lasts } => self.strand(lasts),
            Fault::Cut { host } => self.connections_of(host).into_iter().for_each(|number| self.cut(number)),
            Fault::LoseReplies { host, lasts } => {
                self.network.silence(host, Host::Client, true);
                self.after(lasts, Event::Mend(Mend::LostReplies(host)));
            }
            Fault::Stall { lasts } => self.stall(self.newest_master(), lasts),
            Fault::Busy { server, lasts } => self.servers[server].busy_until = self.now() + lasts,
            Fault::Refuse { host, lasts } => {
                self.network.refuse(host, true);
                self.after(lasts, Event::Mend(Mend::Refusal(host)));
            }
            Fault::Slow { host, by, lasts } => {
                self.network.slow_down(host, by);
                self.after(lasts, Event::Mend(Mend::Slowness(host)));
            }
            Fault::Act(act) => self.on_act(act),
            Fault::Heal => {
                self.end_bad_connections();
                self.network.heal();
                for server in &mut self.servers {
                    server.busy_until = Duration::ZERO;
                    server.min_replicas = self.habits.min_replicas;
                }
                Host::servers().for_each(|host| self.bring_back(host));
            }
        }
    }

    pub(super) fn on_mend(&mut self, mend: Mend) {
        self.say(format!("mended: {mend:?}"));
        match mend {
            Mend::Process { host: Host::Redis(server), empty } if !self.listens(Host::Redis(server)) => {
                let longest = self.habits.longest_loading.as_millis() as u64;
                let loading = self.between(1, longest);
                self.restart(server, empty, loading);
            }
            Mend::Process { host, .. } => self.bring_back(host),
            Mend::Silence { from, to } => self.network.silence(from, to, false),
            Mend::LostReplies(host) => {
                self.connections_of(host).into_iter().for_each(|number| self.cut(number));
                self.network.silence(host, Host::Client, false);
            }
            Mend::Refusal(host) => self.network.refuse(host, false),
            Mend::MinReplicas(server) => self.servers[server].min_replicas = self.habits.min_replicas,
            Mend::Slowness(host) => self.network.slow_down(host, Duration::ZERO),
        }
    }

    fn take_down(&mut self, host: Host, empty: bool, lasts: Duration) {
        self.crash(host);
        self.after(lasts, Event::Mend(Mend::Process { host, empty }));
    }

    fn stop(&mut self, host: Host, lasts: Duration) {
        self.hang(host);
        self.after(lasts, Event::Mend(Mend::Process { host, empty: false }));
    }

    fn silence(&mut self, from: Host, to: Host, lasts: Duration) {
        self.network.silence(from, to, true);
        self.after(lasts, Event::Mend(Mend::Silence { from, to }));
    }

    fn strand(&mut self, lasts: Duration) {
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
