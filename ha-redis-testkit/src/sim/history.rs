//! The record of a run: what callers requested and got, and what servers ran.

use std::collections::BTreeMap;
use std::time::Duration;

use ha_redis_core::{Outcome, RetrySafety};

use super::host::Host;
use super::network::ConnectionId;

/// How many calls use one register, so that its history stays short.
const CALLS_OF_A_REGISTER: u32 = 24;

/// A call of one caller.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) kind: Kind,
    /// The register that the call reads or sets, if its kind does.
    pub(super) register: u64,
    /// Which commands the caller allows to be retried.
    pub(super) safety: RetrySafety,
    pub(super) begun: Duration,
    /// When the call must have ended.
    pub(super) deadline: Duration,
    /// When the call got a dedicated connection, if it needed one.
    pub(super) connected_at: Option<Duration>,
    pub(super) end: Option<(Duration, End)>,
    /// The temporary refusal that the call ended with, if any.
    pub(super) temporary_refusal: Option<&'static str>,
    /// The value that the call has read from its register: the call that set it, if any.
    pub(super) read: Option<Option<u64>>,
}

/// What a call does. Each kind includes the call's number in its command, so that the servers can record it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// `INCRBY` of a key used by this call only, by the call's number.
    Count,
    /// `SET` of a register to a text with the number.
    Set,
    /// `GETRANGE` of a register, to an end offset beyond all texts that encodes the number.
    Get,
    /// `GETRANGE` of a register on a replica.
    ReplicaGet,
    /// `XREAD` of new entries of a stream, with the number as its count.
    NewEntries,
    /// One step of a `SCAN`, with the number as its count.
    Scan,
    /// `ECHO` of a text with the number.
    Echo,
    /// Many concurrent `ECHO`s.
    Burst,
    /// A pipeline of `ECHO`, `INCRBY` and `GETRANGE`.
    Pipeline,
    /// `MULTI`, `INCRBY`, `SET`, `EXEC`.
    Transaction,
    /// `BLPOP` of a list that stays empty.
    Block,
    /// `INCRBY` on a dedicated connection.
    Dedicated,
}

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Count => "count",
            Self::Set => "set",
            Self::Get => "get",
            Self::ReplicaGet => "get from a replica",
            Self::NewEntries => "read of new entries",
            Self::Scan => "scan",
            Self::Echo => "echo",
            Self::Burst => "burst of echoes",
            Self::Pipeline => "pipeline",
            Self::Transaction => "transaction",
            Self::Block => "block",
            Self::Dedicated => "dedicated count",
        }
    }

    pub(super) fn writes(self) -> bool {
        matches!(self, Self::Count | Self::Set | Self::Pipeline | Self::Transaction | Self::Dedicated)
    }

    pub(super) fn uses_register(self) -> bool {
        matches!(self, Self::Set | Self::Get | Self::ReplicaGet | Self::Pipeline | Self::Transaction)
    }
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Done,
    Failed(Outcome),
    /// The caller dropped the call.
    Cancelled,
}

/// A command that a server ran for a call.
#[derive(Clone, Copy, Debug)]
pub(super) struct Execution {
    pub(super) at: Duration,
    /// The era of the master that ran it. For a former master, its last era.
    pub(super) era: u64,
    pub(super) on_master: bool,
    /// The lineage of the server's data.
    pub(super) lineage: u64,
    pub(super) connection: ConnectionId,
    pub(super) what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum What {
    Count,
    Set,
    Get,
    NewEntries,
    Scan,
    Echo,
}

impl What {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Count => "count",
            Self::Set => "set",
            Self::Get => "get",
            Self::NewEntries => "read of new entries",
            Self::Scan => "scan",
            Self::Echo => "echo",
        }
    }

    pub(super) fn writes(self) -> bool {
        matches!(self, Self::Count | Self::Set)
    }
}

/// An attempt of the client to connect to a host, or to an address that no host has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attempt {
    pub(super) at: Duration,
    pub(super) to: Option<Host>,
}

#[derive(Default)]
pub(super) struct History {
    calls: Vec<Call>,
    pub(super) executions: BTreeMap<u64, Vec<Execution>>,
    registers: u64,
    /// How many more calls may use each register.
    open_registers: BTreeMap<u64, u32>,
    /// Which call had set each register when a lineage began.
    initial_registers: BTreeMap<u64, BTreeMap<u64, u64>>,
    /// Masters whose promotion was undone, and when.
    pub(super) revoked: BTreeMap<u64, Duration>,
    /// When all Sentinels agreed after the faults, and on the master of which era.
    pub(super) agreed: Option<(Duration, u64)>,
    /// When the client had recovered, so that every later call must succeed, and when the client began to close.
    pub(super) recovered: Option<Duration>,
    pub(super) closed: Option<Duration>,
    pub(super) attempts: Vec<Attempt>,
    /// The longest time that the client kept a connection after it had turned bad.
    pub(super) longest_bad_connection: Duration,
    /// The violations that were detected during the run.
    pub(super) violations: Vec<String>,
}

impl History {
    pub(super) fn violation(&mut self, what: impl Into<String>) {
        self.violations.push(what.into());
    }

    /// Adds a call and returns its number. Numbers begin at 1, so that each call changes its counter.
    pub(super) fn begin(&mut self, call: Call) -> u64 {
        self.calls.push(call);
        self.calls.len() as u64
    }

    /// Returns the register for a call. There are always two to choose from.
    pub(super) fn register(&mut self, chosen: usize) -> u64 {
        while self.open_registers.len() < 2 {
            self.registers += 1;
            self.open_registers.insert(self.registers, CALLS_OF_A_REGISTER);
        }
        let register = self.open_registers.keys().nth(chosen).copied().unwrap_or_default();
        if let Some(left) = self.open_registers.get_mut(&register) {
            *left -= 1;
        }
        self.open_registers.retain(|_, left| *left > 0);
        register
    }

    /// Records which call had set each register when a lineage began.
    pub(super) fn begin_lineage(&mut self, lineage: u64, registers: BTreeMap<u64, u64>) {
        self.initial_registers.insert(lineage, registers);
    }

    /// Returns which call had set a register when a lineage began.
    pub(super) fn initial_value(&self, lineage: u64, register: u64) -> Option<u64> {
        self.initial_registers.get(&lineage)?.get(&register).copied()
    }

    /// Discards a wait for new entries on a connection whose wait the server ended with a refusal.
    pub(super) fn discard_wait(&mut self, connection: ConnectionId) {
        let waited = |run: &Execution| run.connection == connection && run.what == What::NewEntries;
        if let Some(runs) = self.executions.values_mut().rev().find(|runs| runs.last().is_some_and(waited)) {
            runs.pop();
        }
    }

    pub(super) fn calls(&self) -> impl Iterator<Item = (u64, &Call)> {
        (1..).zip(&self.calls)
    }

    pub(super) fn call(&mut self, number: u64) -> &mut Call {
        &mut self.calls[number as usize - 1]
    }

    pub(super) fn executions(&self, call: u64) -> &[Execution] {
        self.executions.get(&call).map_or(&[], Vec::as_slice)
    }
}
