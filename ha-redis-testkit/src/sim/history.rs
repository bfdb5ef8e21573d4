//! What callers asked for and got, and what servers ran: the evidence.

use std::collections::BTreeMap;
use std::time::Duration;

use ha_redis_core::{Outcome, RetrySafety};

/// A call of one caller.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) kind: Kind,
    /// What its caller allows to run twice.
    pub(super) safety: RetrySafety,
    pub(super) begun: Duration,
    /// When it must have ended.
    pub(super) deadline: Duration,
    pub(super) end: Option<(Duration, End)>,
}

/// What a call does. Each kind brings its call's number along, so that the servers' log tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// `INCRBY` of a key of the call's own, by its own number.
    Count,
    /// `SET` of the caller's register.
    Set,
    /// `GET` of the caller's register.
    Get,
    /// `ECHO` of the number.
    Echo,
    /// A pipeline of `ECHO`, `INCRBY` and `GET`.
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
            Self::Echo => "echo",
            Self::Pipeline => "pipeline",
            Self::Transaction => "transaction",
            Self::Block => "block",
            Self::Dedicated => "dedicated count",
        }
    }

    pub(super) fn writes(self) -> bool {
        !matches!(self, Self::Get | Self::Echo | Self::Block)
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

/// A server has run a call's write.
#[derive(Clone, Copy, Debug)]
pub(super) struct Execution {
    pub(super) at: Duration,
    /// The era of the master that ran it.
    pub(super) era: u64,
    pub(super) write: Write,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Write {
    Count,
    Set,
}

#[derive(Default)]
pub(super) struct History {
    calls: Vec<Call>,
    pub(super) executions: BTreeMap<u64, Vec<Execution>>,
    /// Masters whose promotion was given up, and when.
    pub(super) revoked: BTreeMap<u64, Duration>,
    /// When all Sentinels agreed after the faults, and on the master of which era.
    pub(super) agreed: Option<(Duration, u64)>,
    /// From when on every call has to succeed, and when the client began to close.
    pub(super) recovered: Option<Duration>,
    pub(super) closed: Option<Duration>,
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
