//! Replication between servers: lag, promotion, and restarts after a crash.

use std::time::Duration;

use super::host::{Host, SERVERS};
use super::redis::Role;
use super::reply;
use super::world::{Event, World};

/// The interval of a replica's attempts to reach its master.
const REPLICA_RETRY: Duration = Duration::from_millis(50);

impl World {
    pub(super) fn replicate_later(&mut self, replica: usize, wait: Duration) {
        if !std::mem::replace(&mut self.servers[replica].replicating, true) {
            self.after(wait, Event::Replicate(replica));
        }
    }

    /// The replica copies what it lacks: the rest of the log, or everything if its history differs.
    pub(super) fn on_replicate(&mut self, replica: usize) {
        self.servers[replica].replicating = false;
        let Role::Replica { of } = self.servers[replica].role else { return };
        if !self.sees(Host::Redis(replica), Host::Redis(of)) {
            self.replicate_later(replica, REPLICA_RETRY);
            return;
        }
        self.servers[replica].synced = true;
        let master = &self.servers[of];
        let same = master.lineage == self.servers[replica].lineage
            && master.log.len() >= self.servers[replica].log.len();
        if same {
            let missing = master.log[self.servers[replica].log.len()..].to_vec();
            let redis = &mut self.servers[replica];
            redis.data.extend(missing.iter().cloned());
            redis.log.extend(missing);
        } else {
            let (lineage, data, log) = (master.lineage, master.data.clone(), master.log.clone());
            let redis = &mut self.servers[replica];
            (redis.lineage, redis.data, redis.log) = (lineage, data, log);
            self.log_note(format!("{} has copied {}", Host::Redis(replica), Host::Redis(of)));
        }
    }

    /// Makes a server master.
    pub(super) fn promote(&mut self, server: usize) -> u64 {
        self.eras += 1;
        let era = self.eras;
        self.servers[server].role = Role::Master { era };
        self.servers[server].era = era;
        self.begin_lineage(server);
        self.log_note(format!("{} is master, era {era}", Host::Redis(server)));
        era
    }

    /// Begins a separate history for the writes of a master.
    pub(super) fn begin_lineage(&mut self, server: usize) {
        self.lineages += 1;
        let redis = &mut self.servers[server];
        redis.lineage = self.lineages;
        self.history.begin_lineage(redis.lineage, redis.registers());
    }

    /// Makes a server a replica.
    pub(super) fn attach(&mut self, server: usize, of: usize) {
        let was = std::mem::replace(&mut self.servers[server].role, Role::Replica { of });
        if let Role::Master { era } = was {
            self.revoke(era);
        }
        self.log_note(format!("{} is a replica of {}", Host::Redis(server), Host::Redis(of)));
        self.servers[server].synced = false;
        self.unblock_all(server);
        let wait = self.between(20, 200);
        self.replicate_later(server, wait);
    }

    /// Records that a master has stopped being master, or is about to. Clients may leave it.
    pub(super) fn revoke(&mut self, era: u64) {
        let now = self.now();
        self.history.revoked.entry(era).or_insert(now);
    }

    /// Restarts a server, with or without its data. It loads for a while.
    pub(super) fn restart(&mut self, server: usize, empty: bool, loading: Duration) {
        let now = self.now();
        let redis = &mut self.servers[server];
        redis.loading_until = now + loading;
        if empty {
            redis.data.clear();
            redis.log.clear();
        }
        if empty && redis.is_master() {
            self.begin_lineage(server);
        }
        self.bring_back(Host::Redis(server));
    }

    /// Returns how many replicas copy the master's writes.
    pub(super) fn replicating_replicas(&self, server: usize) -> usize {
        (0..SERVERS).filter(|replica| self.is_replicating(*replica, server)).count()
    }

    /// A hung replica counts for longer than a simulation lasts.
    fn is_replicating(&self, replica: usize, master: usize) -> bool {
        let redis = &self.servers[replica];
        redis.role == (Role::Replica { of: master })
            && redis.synced
            && self.listens(Host::Redis(replica))
            && self.network.reaches(Host::Redis(replica), Host::Redis(master))
    }
}

/// What a server reports about its role.
impl World {
    pub(super) fn role(&self, server: usize) -> Vec<u8> {
        match self.servers[server].role {
            Role::Master { .. } => {
                reply::array(&[reply::bulk("master"), reply::integer(0), reply::array(&[])])
            }
            Role::Replica { of } => {
                let of = Host::Redis(of);
                reply::array(&[
                    reply::bulk("slave"),
                    reply::bulk(&of.to_string()),
                    reply::integer(of.port().into()),
                    reply::bulk("connected"),
                    reply::integer(0),
                ])
            }
        }
    }

    /// Returns the reply to `INFO`, with the process and its replication. A write counts as a hundred bytes.
    pub(super) fn info(&self, server: usize) -> Vec<u8> {
        let redis = &self.servers[server];
        let offset = 100 * redis.log.len();
        let part = match redis.role {
            Role::Master { .. } => {
                let replicas = (0..SERVERS).filter(|replica| self.is_replicating(*replica, server));
                let replicas = replicas.zip(0..).map(|(replica, number)| {
                    let (host, port) = (Host::Redis(replica), Host::Redis(replica).port());
                    format!("\r\nslave{number}:ip={host},port={port},state=online,offset={offset},lag=0")
                });
                let connected = self.replicating_replicas(server);
                format!("role:master\r\nconnected_slaves:{connected}{}", replicas.collect::<String>())
            }
            Role::Replica { of } => {
                let link = if self.has_lost_its_master(server) { "down" } else { "up" };
                let (host, port) = (Host::Redis(of), Host::Redis(of).port());
                format!(
                    "role:slave\r\nmaster_host:{host}\r\nmaster_port:{port}\r\nmaster_link_status:{link}\r\n\
                     slave_repl_offset:{offset}"
                )
            }
        };
        let history = format!("master_replid:{:040}\r\nmaster_repl_offset:{offset}", redis.lineage);
        let run = redis.run;
        reply::bulk(&format!("# Server\r\nrun_id:{run:040}\r\n# Replication\r\n{part}\r\n{history}\r\n"))
    }
}
