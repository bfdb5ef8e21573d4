//! What happened, line by line, and a hash of it: the same seed gives the same.

use std::collections::VecDeque;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use super::host::Host;

/// The last lines of a run, and the hash of all.
pub(super) struct Trace {
    hasher: DefaultHasher,
    lines: VecDeque<(Duration, Line)>,
    kept: usize,
}

/// Something that happened.
#[derive(Clone, Debug, Hash)]
pub(super) enum Line {
    Begun {
        call: u64,
        what: &'static str,
    },
    Ended {
        call: u64,
        how: String,
    },
    Executed {
        call: u64,
        what: &'static str,
        server: Host,
        era: u64,
    },
    Connection {
        number: usize,
        server: Host,
        what: &'static str,
    },
    Published {
        sentinel: Host,
        channel: &'static str,
    },
    Note(String),
    /// What the client logged.
    Log(String),
}

impl Trace {
    /// Keeps the last `kept` lines.
    pub(super) fn new(kept: usize) -> Self {
        Self { hasher: DefaultHasher::new(), lines: VecDeque::new(), kept }
    }

    pub(super) fn record(&mut self, at: Duration, line: Line) {
        if !matches!(line, Line::Log(_)) {
            (at, &line).hash(&mut self.hasher);
        }
        if self.lines.len() == self.kept {
            self.lines.pop_front();
        }
        self.lines.push_back((at, line));
    }

    /// Hashes what is too common for a line.
    pub(super) fn mark(&mut self, what: impl Hash) {
        what.hash(&mut self.hasher);
    }

    pub(super) fn hash(&self) -> u64 {
        self.hasher.finish()
    }

    pub(super) fn lines(&self) -> Vec<String> {
        self.lines.iter().map(|(at, line)| format!("{:>10.6} {line}", at.as_secs_f64())).collect()
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Begun { call, what } => write!(f, "call {call}: {what}"),
            Self::Ended { call, how } => write!(f, "call {call} ended: {how}"),
            Self::Executed { call, what, server, era } => {
                write!(f, "call {call}: {what} ran on {server}, era {era}")
            }
            Self::Connection { number, server, what } => {
                write!(f, "connection {number} to {server} {what}")
            }
            Self::Published { sentinel, channel } => write!(f, "{sentinel} publishes {channel}"),
            Self::Note(note) => write!(f, "{note}"),
            Self::Log(log) => write!(f, "    {log}"),
        }
    }
}
