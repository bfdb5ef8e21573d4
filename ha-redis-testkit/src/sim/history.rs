//! What callers asked for and got, and what servers ran: the evidence.

use std::collections::BTreeMap;
use std::time::Duration;

use ha_redis_core::{Outcome, RetrySafety};

use super::host::Host;
use super::network::ConnectionId;

/// So many calls use one register, so that its history stays short.
const CALLS_OF_A_REGISTER: u32 = 24;

/// A call of one caller.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) kind: Kind,
    /// The register that it reads or sets, if its kind does.
    pub(super) register: u64,
    /// What its caller allows to run twice.
    pub(super) safety: RetrySafety,
    pub(super) begun: Duration,
    /// When it must have ended.
    pub(super) deadline: Duration,
    /// When it got a connection of its own, if it wanted one.
    pub(super) served: Option<Duration>,
    pub(super) end: Option<(Duration, End)>,
    /// Which refusal it was told in the end that passes by itself.
    pub(super) told: Option<&'static str>,
    /// What it has read of its register: which call has set it, if any.
    pub(super) read: Option<Option<u64>>,
}

/// What a call does. Each kind brings its call's number along, so that the servers' log tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// `INCRBY` of a key of the call's own, by its own number.
    Count,
    /// `SET` of a register to a text with the number.
    Set,
    /// `GETRANGE` of a register, up to a place beyond all texts that tells the number.
    Get,
    /// `GETRANGE` of a register on a replica.
    ReplicaGet,
    /// `XREAD` of what is new in a stream, and of no more entries than the number.
    NewEntries,
    /// A step of a `SCAN`, with the number as its count.
    Scan,
    /// `ECHO` of a text with the number.
    Echo,
    /// Many `ECHO`s at the same time.
    Burst,
    /// A pipeline of `ECHO`, `INCRBY` and `GETRANGE`.
    Pipeline,
    /// `MULTI`, `INCRBY`, `SET`, `EXEC`.
    Transaction,
    /// `BLPOP` of a list that stays empty.
    Block,
    /// `INCRBY` on a connection of its own.
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
    /// Its caller dropped it.
    Cancelled,
}

/// A server has run a command of a call.
#[derive(Clone, Copy, Debug)]
pub(super) struct Execution {
    pub(super) at: Duration,
    /// The era of the master that ran it; of one that is none any more, the last of its eras.
    pub(super) era: u64,
    pub(super) on_master: bool,
    /// To which line of data its server belonged.
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

/// The client has tried to connect to a host, or to an address that is nobody's.
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
    /// How many more calls may use the register of this number.
    open_registers: BTreeMap<u64, u32>,
    /// Which call had set each register when a lineage began.
    registers_at_first: BTreeMap<u64, BTreeMap<u64, u64>>,
    /// Masters whose promotion was given up, and when.
    pub(super) revoked: BTreeMap<u64, Duration>,
    /// When all Sentinels agreed after the faults, and on the master of which era.
    pub(super) agreed: Option<(Duration, u64)>,
    /// From when on every call has to succeed, and when the client began to close.
    pub(super) recovered: Option<Duration>,
    pub(super) closed: Option<Duration>,
    pub(super) attempts: Vec<Attempt>,
    /// The longest for which the client has kept a connection that had turned bad.
    pub(super) kept_bad: Duration,
    /// What was seen to be wrong on the way.
    pub(super) violations: Vec<String>,
}

impl History {
    pub(super) fn violation(&mut self, what: impl Into<String>) {
        self.violations.push(what.into());
    }

    /// Takes a call in, and gives it its number. They begin at 1, so that each changes a counter.
    pub(super) fn begin(&mut self, call: Call) -> u64 {
        self.calls.push(call);
        self.calls.len() as u64
    }

    /// The register for a call to use: there are always two, the `chosen` of which is taken.
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

    /// Notes which call had set each register when a lineage began.
    pub(super) fn begin_lineage(&mut self, lineage: u64, registers: BTreeMap<u64, u64>) {
        self.registers_at_first.insert(lineage, registers);
    }

    /// Which call had set a register when a lineage began.
    pub(super) fn known_at_first(&self, lineage: u64, register: u64) -> Option<u64> {
        self.registers_at_first.get(&lineage)?.get(&register).copied()
    }

    /// A wait for new entries over a connection that a server has refused in the end counts for nothing.
    pub(super) fn take_back_wait(&mut self, connection: ConnectionId) {
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
