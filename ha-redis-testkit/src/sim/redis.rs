//! A simulated Redis: strings, counters and transactions.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::history::{Execution, Kind, What};
use super::host::{Host, SERVERS};
use super::network::ConnectionId;
use super::payload::Payload;
use super::reply;
use super::session::Response;
use super::trace::Line;
use super::workload::MAX_TEXT_END;
use super::world::World;

/// The number of cursors of a process.
const CURSORS: u64 = 1_000;

pub(super) struct Redis {
    pub(super) role: Role,
    /// The era in which the server was last master, or 0.
    pub(super) era: u64,
    pub(super) data: BTreeMap<String, Arc<str>>,
    /// All writes since the data was empty.
    pub(super) log: Vec<(String, Arc<str>)>,
    /// The lineage of the data. Each promotion begins a new one, and so does each master that starts empty.
    pub(super) lineage: u64,
    /// Whether an `Event::Replicate` is scheduled.
    pub(super) replicating: bool,
    /// The number of this process among all processes.
    pub(super) run: u64,
    pub(super) loading_until: Duration,
    pub(super) busy_until: Duration,
    /// Whether the replica has copied the data that its master had when replication began.
    pub(super) synced: bool,
    /// `min-replicas-to-write`.
    pub(super) min_replicas: usize,
    /// When a failover that was to promote this server was last aborted.
    pub(super) last_aborted_promotion: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Master { era: u64 },
    Replica { of: usize },
}

impl Redis {
    /// The first server is the master of the others.
    pub(super) fn new(number: usize) -> Self {
        Self {
            role: if number == 0 { Role::Master { era: 1 } } else { Role::Replica { of: 0 } },
            era: if number == 0 { 1 } else { 0 },
            data: BTreeMap::new(),
            log: Vec::new(),
            lineage: 1,
            replicating: false,
            run: number as u64 + 1,
            loading_until: Duration::ZERO,
            busy_until: Duration::ZERO,
            synced: true,
            min_replicas: 0,
            last_aborted_promotion: None,
        }
    }

    pub(super) fn is_master(&self) -> bool {
        matches!(self.role, Role::Master { .. })
    }

    /// Returns the replication offset. The replica with the highest one is promoted.
    pub(super) fn offset(&self) -> (u64, usize) {
        (self.lineage, self.log.len())
    }

    /// Returns which call has set each register.
    pub(super) fn registers(&self) -> BTreeMap<u64, u64> {
        let registers = self.data.iter().filter_map(|(key, value)| {
            let register = key.strip_prefix("register:")?.parse().ok()?;
            Some((register, Payload::call_of(value)?))
        });
        registers.collect()
    }

    pub(super) fn value(&self, key: &str) -> Option<&str> {
        self.data.get(key).map(|value| &**value)
    }
}

/// Commands.
impl World {
    pub(super) fn redis_command(
        &mut self,
        server: usize,
        number: ConnectionId,
        command: Vec<String>,
    ) -> Response {
        let name = command.first().map(|name| name.to_ascii_uppercase()).unwrap_or_default();
        let args = command.iter().map(String::as_str).skip(1).collect::<Vec<_>>();
        let refusal = self.refusal(server, &name, &args);
        let Some(session) = self.sessions.get_mut(&number) else { return Vec::new().into() };
        if let Some(refusal) = refusal {
            session.discarded = session.queued.is_some();
            return refusal.into();
        }
        if name == "ROLE" {
            session.is_replica = !self.servers[server].is_master();
        } else if session.is_replica
            && matches!(&*name, "SET" | "INCRBY" | "BLPOP" | "MULTI" | "ECHO" | "XREAD")
        {
            let server = Host::Redis(server);
            self.history.violation(format!(
                "{name} came over a connection on which {server} had reported that it is a replica"
            ));
        }
        match (&*name, &mut session.queued) {
            ("EXEC", Some(_)) => return self.exec(server, number).into(),
            ("MULTI", None) => {
                session.queued = Some(Vec::new());
                return reply::status("OK").into();
            }
            (_, Some(queued)) => {
                queued.push(command);
                return reply::status("QUEUED").into();
            }
            (_, None) => {}
        }
        if name == "BLPOP" {
            let wait = args.last().and_then(|wait| wait.parse().ok()).unwrap_or(0.0);
            return Response::NilAfter(Duration::from_secs_f64(wait));
        }
        if let ("XREAD", ["COUNT", call, "BLOCK", wait, _, _, "$"]) = (&*name, &args[..]) {
            let wait = Duration::from_millis(wait.parse().unwrap_or_default());
            self.log_execution(server, number, What::NewEntries, call.parse().ok());
            return Response::NilAfter(wait);
        }
        self.run(server, number, &name, &args).into()
    }

    fn run(&mut self, server: usize, number: ConnectionId, name: &str, args: &[&str]) -> Vec<u8> {
        match (name, args) {
            ("PING", _) => reply::status("PONG"),
            ("HELLO", _) => self.hello(number, args),
            ("CLIENT", _) => self.client_command(number, args),
            ("SELECT" | "WATCH" | "UNWATCH" | "AUTH", _) => reply::status("OK"),
            ("ROLE", _) => self.role(server),
            ("INFO", _) => self.info(server),
            ("ECHO", [text]) => {
                self.log_execution(server, number, What::Echo, Payload::call_of(text));
                reply::bulk(text)
            }
            ("GETRANGE", [key, _, end]) => {
                let call = end.parse::<u64>().ok().and_then(|end| end.checked_sub(MAX_TEXT_END));
                self.log_execution(server, number, What::Get, call);
                reply::bulk(self.servers[server].value(key).unwrap_or_default())
            }
            ("SCAN", [cursor, _, call]) => {
                self.log_execution(server, number, What::Scan, call.parse().ok());
                self.scan(server, cursor)
            }
            ("SET", [key, value]) => {
                self.write(server, key, (*value).into());
                self.log_execution(server, number, What::Set, Payload::call_of(value));
                reply::status("OK")
            }
            ("INCRBY", [key, text]) => {
                let by: i64 = text.parse().unwrap_or_default();
                let before = self.servers[server].value(key).and_then(|value| value.parse::<i64>().ok());
                let after = before.unwrap_or_default() + by;
                self.write(server, key, after.to_string().into());
                self.log_execution(server, number, What::Count, text.parse().ok());
                reply::integer(after)
            }
            _ => reply::error(&format!("ERR unknown command '{name}'")),
        }
    }

    /// Runs a step of a scan. Cursors are valid only in this process.
    fn scan(&mut self, server: usize, cursor: &str) -> Vec<u8> {
        let run = self.servers[server].run;
        let of = cursor.parse::<u64>().unwrap_or_default() / CURSORS;
        if of != 0 && of != run {
            let server = Host::Redis(server);
            self.history.violation(format!("a scan continued at {server} with a cursor of another process"));
        }
        let next = if self.rng.u8(..4) == 0 { 0 } else { run * CURSORS + self.rng.u64(..CURSORS) };
        reply::array(&[reply::bulk(&next.to_string()), reply::array(&[])])
    }

    fn exec(&mut self, server: usize, number: ConnectionId) -> Vec<u8> {
        let Some(session) = self.sessions.get_mut(&number) else { return Vec::new() };
        let queued = session.queued.take().unwrap_or_default();
        if std::mem::take(&mut session.discarded) {
            return reply::error("EXECABORT Transaction discarded because of previous errors.");
        }
        let refusal = queued.iter().find_map(|command| self.refusal_of_state(server, &command[0]));
        if let Some(refusal) = refusal {
            return reply::error(&format!("EXECABORT Transaction discarded because of: {refusal}"));
        }
        let mut replies = Vec::new();
        for command in queued {
            let args = command.iter().map(String::as_str).skip(1).collect::<Vec<_>>();
            replies.push(self.run(server, number, &command[0], &args));
        }
        reply::array(&replies)
    }

    fn write(&mut self, server: usize, key: &str, value: Arc<str>) {
        let redis = &mut self.servers[server];
        redis.data.insert(key.to_owned(), value.clone());
        redis.log.push((key.to_owned(), value));
        for replica in 0..SERVERS {
            if self.servers[replica].role == (Role::Replica { of: server }) {
                self.replicate_later(replica, self.behavior.replication_lag);
            }
        }
    }

    /// Records what a server has run, and for which call.
    fn log_execution(&mut self, server: usize, connection: ConnectionId, what: What, call: Option<u64>) {
        let Some(call) = call else { return };
        let redis = &self.servers[server];
        let (at, era, lineage, on_master) = (self.now(), redis.era, redis.lineage, redis.is_master());
        let execution = Execution { at, era, lineage, on_master, connection, what };
        self.history.executions.entry(call).or_default().push(execution);
        let is_replica = self.sessions.get(&connection).is_some_and(|session| session.is_replica);
        if what == What::Get && is_replica && self.history.call(call).kind != Kind::ReplicaGet {
            let server = Host::Redis(server);
            self.history.violation(format!(
                "call {call} read from {server}, which had reported that it is a replica"
            ));
        }
        if what.writes() {
            self.record_write(server, call);
        }
        self.note(Line::Executed { call, what: what.name(), server: Host::Redis(server), era });
    }
}
