//! What is measured: the clients and the loads.

use std::fmt;

use clap::ValueEnum;
use serde::Serialize;

use super::{Options, instructions};
use crate::output::count;

/// The clients, by the names of the measuring program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(super) enum Client {
    HaRedis,
    #[value(skip)]
    HaRedisAsyncStd,
    #[value(skip)]
    HaRedisSmol,
    RedisRs,
    #[value(skip)]
    RedisRsSmol,
    ConnectionManager,
    Fred,
    Rustis,
    DeadpoolRedis,
    Bb8Redis,
    RawSocket,
    /// The harness alone, whose memory is subtracted from that of the others.
    #[value(skip)]
    Nothing,
}

impl Client {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::HaRedis => "ha-redis",
            Self::HaRedisAsyncStd => "ha-redis-async-std",
            Self::HaRedisSmol => "ha-redis-smol",
            Self::RedisRs => "redis-rs",
            Self::RedisRsSmol => "redis-rs-smol",
            Self::ConnectionManager => "connection-manager",
            Self::Fred => "fred",
            Self::Rustis => "rustis",
            Self::DeadpoolRedis => "deadpool-redis",
            Self::Bb8Redis => "bb8-redis",
            Self::RawSocket => "raw-socket",
            Self::Nothing => "nothing",
        }
    }

    /// Returns the client's package.
    pub(super) fn package(self) -> Option<&'static str> {
        match self {
            Self::HaRedis => Some("ha-redis-tokio"),
            Self::RedisRs | Self::RedisRsSmol | Self::ConnectionManager => Some("redis"),
            Self::HaRedisAsyncStd
            | Self::HaRedisSmol
            | Self::Fred
            | Self::Rustis
            | Self::DeadpoolRedis
            | Self::Bb8Redis => Some(self.name()),
            Self::RawSocket | Self::Nothing => None,
        }
    }

    /// Returns true for clients other than ours.
    pub(super) fn is_peer(self) -> bool {
        self.package().is_some() && !matches!(self, Self::HaRedis | Self::HaRedisAsyncStd | Self::HaRedisSmol)
    }
}

/// The runtime of ha-redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Runtime {
    Tokio,
    AsyncStd,
    Smol,
}

impl Runtime {
    /// Returns ha-redis on this runtime.
    pub(super) fn ours(self) -> Client {
        match self {
            Self::Tokio => Client::HaRedis,
            Self::AsyncStd => Client::HaRedisAsyncStd,
            Self::Smol => Client::HaRedisSmol,
        }
    }

    /// Returns the clients of the comparison. On runtimes other than Tokio these are ha-redis on Tokio, and
    /// redis-rs where it supports the runtime, which is only smol.
    fn clients(self, chosen_clients: &[Client]) -> Vec<Client> {
        match self {
            Self::Tokio => chosen(chosen_clients),
            Self::AsyncStd | Self::Smol => vec![self.ours(), Client::RedisRsSmol, Client::HaRedis],
        }
    }
}

/// The loads, by the names of the measuring program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(super) enum Workload {
    /// GET of 64 bytes
    #[value(name = "get64")]
    Get64,
    /// SET of 64 bytes
    #[value(name = "set64")]
    Set64,
    /// Pipelines of 100 SETs of 64 bytes
    #[value(name = "pipeline100")]
    Pipeline100,
    /// GET of 16 KiB
    #[value(name = "get16k")]
    Get16k,
    /// GET of 64 bytes while two other tasks move values of 1 MiB over the same handle
    BesideValues,
    /// GET of 64 bytes while two other tasks send pipelines of 1,000 SETs over the same handle
    BesidePipelines,
}

impl Workload {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Get64 => "get64",
            Self::Set64 => "set64",
            Self::Pipeline100 => "pipeline100",
            Self::Get16k => "get16k",
            Self::BesideValues => "beside-values",
            Self::BesidePipelines => "beside-pipelines",
        }
    }

    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Get64 => "GET 64 B",
            Self::Set64 => "SET 64 B",
            Self::Pipeline100 => "100 SETs a pipeline",
            Self::Get16k => "GET 16 KiB",
            Self::BesideValues => "GET 64 B beside 1 MiB values",
            Self::BesidePipelines => "GET 64 B beside 1,000-SET pipelines",
        }
    }

    /// Describes the tasks' work for readers of the figures.
    pub(super) fn description(self) -> &'static str {
        match self {
            Self::Get64 => "Each task reads a value of 64 bytes, again and again, one of 1,000 keys.",
            Self::Set64 => "Each task writes a value of 64 bytes, again and again, one of 1,000 keys.",
            Self::Pipeline100 => "Each task sends pipelines of 100 SETs of 64 bytes. Each SET counts.",
            Self::Get16k => "Each task reads a value of 16 KiB.",
            Self::BesideValues => {
                "GET 64 B, while two other tasks write and read values of 1 MiB over the same handle. \
                 The small reads count."
            }
            Self::BesidePipelines => {
                "GET 64 B, while two other tasks send pipelines of 1,000 SETs over the same handle. \
                 The small reads count."
            }
        }
    }

    /// Returns the numbers of tasks to measure.
    fn tasks(self, runtime: Runtime, quick: bool) -> &'static [u32] {
        match self {
            Self::Get64 if runtime != Runtime::Tokio => &[64, 1_024],
            _ if runtime != Runtime::Tokio => &[],
            Self::Get64 if quick => &[1, 64, 1_024],
            Self::Set64 if quick => &[64],
            Self::Get16k if quick => &[256],
            Self::BesidePipelines if quick => &[],
            Self::Get64 | Self::Set64 => &[1, 16, 64, 256, 1_024, 10_000],
            Self::Get16k => &[16, 256],
            Self::Pipeline100 | Self::BesideValues | Self::BesidePipelines => &[16],
        }
    }

    /// Returns true if the load can also be measured on a raw socket.
    fn has_limit(self) -> bool {
        !matches!(self, Self::BesideValues | Self::BesidePipelines)
    }
}

/// A load with its number of tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Case {
    pub(super) workload: Workload,
    pub(super) tasks: u32,
}

impl Case {
    /// The case in which memory is compared.
    pub(super) const MEMORY: Self = Self { workload: Workload::Get64, tasks: 10_000 };
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.tasks == 1 { "" } else { "s" };
        write!(f, "{}, {} task{plural}", self.workload.title(), count(self.tasks.into()))
    }
}

impl Serialize for Client {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// The measurements of a run.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) runtime: Runtime,
    pub(super) rounds: u32,
    pub(super) seconds: f64,
    pub(super) clients: Vec<Client>,
    pub(super) cases: Vec<Case>,
    /// The clients whose instructions are counted.
    pub(super) instructions: Vec<Client>,
}

impl Plan {
    pub(super) fn new(options: &Options) -> Result<Self, String> {
        let seconds = options.seconds.unwrap_or(if options.quick { 0.3 } else { 1.0 });
        if !(0.05..=600.0).contains(&seconds) {
            return Err(format!("--seconds must be from 0.05 to 600, not {seconds}"));
        }
        let runtime = options.runtime;
        if runtime != Runtime::Tokio && !options.clients.is_empty() {
            return Err("--clients are for Tokio; omit --clients or --runtime".to_owned());
        }
        let clients = runtime.clients(&options.clients);
        let mut cases = Vec::new();
        for workload in chosen(&options.workloads) {
            let own = workload.tasks(runtime, options.quick && options.workloads.is_empty());
            let tasks = if options.tasks.is_empty() || own.is_empty() { own } else { &options.tasks };
            cases.extend(tasks.iter().map(|tasks| Case { workload, tasks: *tasks }));
        }
        let counted = clients.iter().filter(|client| client.package().is_some());
        let counted =
            counted.filter(|client| !options.quick || !client.is_peer() || **client == Client::RedisRs);
        let instructions = match options.instructions {
            true if runtime == Runtime::Tokio && instructions::can_be_counted() => counted.copied().collect(),
            _ => Vec::new(),
        };
        Ok(Self { runtime, rounds: options.rounds, seconds, clients, cases, instructions })
    }

    /// Returns the clients of `case` in a round, in an order that changes from round to round.
    pub(super) fn round_order(&self, case: Case, round: u32) -> Vec<Client> {
        let mut clients = self.clients.clone();
        clients.retain(|client| *client != Client::RawSocket || case.workload.has_limit());
        if case == Case::MEMORY {
            clients.push(Client::Nothing);
        }
        let first = round as usize % clients.len().max(1);
        clients.rotate_left(first);
        clients
    }

    /// Returns the number of measurements.
    pub(super) fn measurements(&self) -> usize {
        let round: usize = self.cases.iter().map(|case| self.round_order(*case, 0).len()).sum();
        round * self.rounds as usize + self.instructions.len()
    }
}

/// Returns the values that the user has chosen, or all.
fn chosen<T: ValueEnum + Clone>(these: &[T]) -> Vec<T> {
    if these.is_empty() { T::value_variants().to_vec() } else { these.to_vec() }
}
