//! A small Redis: strings, transactions, replication that lags, promotion.

use std::collections::BTreeMap;
use std::time::Duration;

use super::history::{Execution, Write};
use super::host::{Host, SERVERS};
use super::network::ConnectionId;
use super::reply;
use super::session::Said;
use super::trace::Line;
use super::world::{Event, World};

/// Between two attempts of a replica to reach its master.
const REPLICA_RETRY: Duration = Duration::from_millis(50);

pub(super) struct Redis {
    pub(super) role: Role,
    data: BTreeMap<String, String>,
    /// All writes since the data were empty.
    log: Vec<(String, String)>,
    /// Which history the log belongs to: that of the master of this era.
    lineage: u64,
    /// Whether a [`Event::Replicate`] is on its way.
    replicating: bool,
    loading_until: Duration,
    /// When a failover that was to promote it was given up last.
    pub(super) passed_over: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Master { era: u64 },
    Replica { of: usize },
}

impl Redis {
    /// The first is master of the others.
    pub(super) fn new(number: usize) -> Self {
        Self {
            role: if number == 0 { Role::Master { era: 1 } } else { Role::Replica { of: 0 } },
            data: BTreeMap::new(),
            log: Vec::new(),
            lineage: 1,
            replicating: false,
            loading_until: Duration::ZERO,
            passed_over: None,
        }
    }

    pub(super) fn is_master(&self) -> bool {
        matches!(self.role, Role::Master { .. })
    }

    /// How much it knows: the replica that knows most is promoted.
    pub(super) fn offset(&self) -> (u64, usize) {
        (self.lineage, self.log.len())
    }

    pub(super) fn value(&self, key: &str) -> Option<&String> {
        self.data.get(key)
    }
}

/// Commands.
impl World {
    pub(super) fn redis_command(
        &mut self,
        server: usize,
        number: ConnectionId,
        command: Vec<String>,
    ) -> Said {
        let name = command.first().map(|name| name.to_ascii_uppercase()).unwrap_or_default();
        let words = command.iter().map(String::as_str).skip(1).collect::<Vec<_>>();
        if self.servers[server].loading_until > self.now() && !matches!(&*name, "HELLO" | "ROLE") {
            return reply::error("LOADING Redis is loading the dataset in memory").into();
        }
        let Some(session) = self.sessions.get_mut(&number) else { return Vec::new().into() };
        if name == "ROLE" {
            session.is_replicas = !self.servers[server].is_master();
        } else if session.is_replicas && !matches!(&*name, "HELLO" | "PING" | "CLIENT" | "SELECT") {
            let server = Host::Redis(server);
            self.history.violation(format!(
                "{name} came over a connection on which {server} had said that it is a replica"
            ));
        }
        match (&*name, &mut session.queued) {
            ("EXEC", Some(_)) => return self.exec(server, number).into(),
            ("MULTI", None) => {
                session.queued = Some(Vec::new());
                return reply::status("OK").into();
            }
            (_, Some(queued)) => {
                if writes(&name) && !self.servers[server].is_master() {
                    session.discarded = true;
                    return read_only().into();
                }
                queued.push(command);
                return reply::status("QUEUED").into();
            }
            (_, None) => {}
        }
        if name == "BLPOP" && self.servers[server].is_master() {
            let wait = words.last().and_then(|wait| wait.parse().ok()).unwrap_or(0.0);
            return Said::NilAfter(Duration::from_secs_f64(wait));
        }
        self.run(server, &name, &words).into()
    }

    fn run(&mut self, server: usize, name: &str, words: &[&str]) -> Vec<u8> {
        if writes(name) && !self.servers[server].is_master() {
            return read_only();
        }
        match (name, words) {
            ("PING", _) => reply::status("PONG"),
            ("HELLO", _) if self.habits.resp3 => reply::hello(),
            ("CLIENT" | "SELECT" | "WATCH" | "UNWATCH", _) => reply::status("OK"),
            ("ROLE", _) => self.role(server),
            ("ECHO", [text]) => reply::bulk(text),
            ("GET", [key]) => self.servers[server].value(key).map_or_else(reply::nil, |v| reply::bulk(v)),
            ("SET", [key, value]) => {
                self.write(server, key, (*value).to_owned());
                self.log_execution(server, Write::Set, value.rsplit(':').next());
                reply::status("OK")
            }
            ("INCRBY", [key, text]) => {
                let by: i64 = text.parse().unwrap_or_default();
                let before = self.servers[server].value(key).and_then(|value| value.parse::<i64>().ok());
                let after = before.unwrap_or_default() + by;
                self.write(server, key, after.to_string());
                self.log_execution(server, Write::Count, Some(text));
                reply::integer(after)
            }
            _ => reply::error(&format!("ERR unknown command '{name}'")),
        }
    }

    fn exec(&mut self, server: usize, number: ConnectionId) -> Vec<u8> {
        let Some(session) = self.sessions.get_mut(&number) else { return Vec::new() };
        let queued = session.queued.take().unwrap_or_default();
        if std::mem::take(&mut session.discarded) {
            return reply::error("EXECABORT Transaction discarded because of previous errors.");
        }
        if queued.iter().any(|command| writes(&command[0])) && !self.servers[server].is_master() {
            return reply::error("EXECABORT Transaction discarded because of: READONLY You can't write");
        }
        let mut replies = Vec::new();
        for command in queued {
            let words = command.iter().map(String::as_str).skip(1).collect::<Vec<_>>();
            replies.push(self.run(server, &command[0], &words));
        }
        reply::array(&replies)
    }

    fn role(&self, server: usize) -> Vec<u8> {
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

    fn write(&mut self, server: usize, key: &str, value: String) {
        let redis = &mut self.servers[server];
        redis.data.insert(key.to_owned(), value.clone());
        redis.log.push((key.to_owned(), value));
        for replica in 0..SERVERS {
            if self.servers[replica].role == (Role::Replica { of: server }) {
                self.replicate_later(replica, self.habits.replication_lag);
            }
        }
    }

    /// Notes for which call a master has written.
    fn log_execution(&mut self, server: usize, write: Write, call: Option<&str>) {
        let call = call.and_then(|call| call.parse().ok());
        if let (Some(call), Role::Master { era }) = (call, self.servers[server].role) {
            let at = self.now();
            self.history.executions.entry(call).or_default().push(Execution { at, era, write });
            self.note(Line::Executed { call, server: Host::Redis(server), era });
        }
    }
}

fn writes(name: &str) -> bool {
    ["SET", "INCRBY", "BLPOP"].iter().any(|write| name.eq_ignore_ascii_case(write))
}

fn read_only() -> Vec<u8> {
    reply::error("READONLY You can't write against a read only replica.")
}

/// Replication.
impl World {
    fn replicate_later(&mut self, replica: usize, wait: Duration) {
        if !std::mem::replace(&mut self.servers[replica].replicating, true) {
            self.after(wait, Event::Replicate(replica));
        }
    }

    /// The replica takes over what it has not got yet: the rest of the log, or all when its history is another.
    pub(super) fn on_replicate(&mut self, replica: usize) {
        self.servers[replica].replicating = false;
        let Role::Replica { of } = self.servers[replica].role else { return };
        if !self.sees(Host::Redis(replica), Host::Redis(of)) {
            self.replicate_later(replica, REPLICA_RETRY);
            return;
        }
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
            self.say(format!("{} has copied {}", Host::Redis(replica), Host::Redis(of)));
        }
    }

    /// Makes a server master.
    pub(super) fn promote(&mut self, server: usize) -> u64 {
        self.eras += 1;
        let era = self.eras;
        let redis = &mut self.servers[server];
        redis.role = Role::Master { era };
        redis.lineage = era;
        self.say(format!("{} is master, era {era}", Host::Redis(server)));
        era
    }

    /// Makes a server a replica.
    pub(super) fn attach(&mut self, server: usize, of: usize) {
        let was = std::mem::replace(&mut self.servers[server].role, Role::Replica { of });
        if let Role::Master { era } = was {
            self.revoke(era);
        }
        self.say(format!("{} is a replica of {}", Host::Redis(server), Host::Redis(of)));
        let wait = self.between(20, 200);
        self.replicate_later(server, wait);
    }

    /// Notes that a master is none any more, or is to be none: clients may leave it.
    pub(super) fn revoke(&mut self, era: u64) {
        let now = self.now();
        self.history.revoked.entry(era).or_insert(now);
    }

    /// Starts a server again, with its data or without, and loading for a while.
    pub(super) fn restart(&mut self, server: usize, empty: bool, loading: Duration) {
        let now = self.now();
        let redis = &mut self.servers[server];
        redis.loading_until = now + loading;
        if empty {
            redis.data.clear();
            redis.log.clear();
        }
        self.bring_back(Host::Redis(server));
    }
}
