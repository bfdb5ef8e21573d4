//! The events of a run, line by line, and their hash. The same seed produces the same trace.

use std::collections::VecDeque;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use super::host::Host;

/// The last lines of a run, and the hash of all lines.
pub(super) struct Trace {
    hasher: DefaultHasher,
    lines: VecDeque<(Duration, Line)>,
    max_lines: usize,
}

/// An event.
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
    /// A log line of the client.
    Log(String),
}

impl Trace {
    /// Keeps the last `max_lines` lines.
    pub(super) fn new(max_lines: usize) -> Self {
        Self { hasher: DefaultHasher::new(), lines: VecDeque::new(), max_lines }
    }

    pub(super) fn record(&mut self, at: Duration, line: Line) {
        if !matches!(line, Line::Log(_)) {
            (at, &line).hash(&mut self.hasher);
        }
        if self.lines.len() == self.max_lines {
            self.lines.pop_front();
        }
        self.lines.push_back((at, line));
    }

    /// Hashes an event that is too frequent for a line.
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
