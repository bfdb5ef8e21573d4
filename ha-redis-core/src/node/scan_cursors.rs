//! Which server process issued which scan cursor.
//!
//! A cursor is a position in the hash tables of one process. To another process, after a failover or a restart, it
//! means other keys, and the missing keys would go unnoticed. So a step continues only in the process that issued its
//! cursor, identified by the run id in `INFO`. Where `INFO` is refused, each connection counts as one process.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use crate::command::ScanStep;
use crate::conn::link::Link;
use crate::sync::{Mutex, lock};

/// The maximum number of cursors to remember; the latest stay. An unknown cursor is attributed to the process that
/// receives it first: another program may have passed it on.
const MAX_CURSORS: usize = 1024;

/// A process of a server.
#[derive(Clone, Debug)]
pub(crate) enum Process {
    /// Identified by its run id.
    Run(Arc<str>),
    /// The process at the other end of this connection.
    Behind(Weak<Link>),
}

impl PartialEq for Process {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Run(run), Self::Run(other)) => run == other,
            (Self::Behind(link), Self::Behind(other)) => Weak::ptr_eq(link, other),
            _ => false,
        }
    }
}

/// A step, and the process that issued its cursor.
pub(crate) type Given = (ScanStep, Process);

/// The cursors known to all handles of a client, so that a scan may continue through any of them.
#[derive(Debug, Default)]
pub(crate) struct ScanCursors {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    issued: VecDeque<Given>,
    /// The processes behind the open connections.
    behind: Vec<(Weak<Link>, Process)>,
}

impl ScanCursors {
    /// Returns the process behind `link`, if it is known.
    pub(crate) fn known_process(&self, link: &Arc<Link>) -> Option<Process> {
        let state = lock(&self.state);
        let entry = state.behind.iter().find(|(known, _)| known.as_ptr() == Arc::as_ptr(link));
        entry.map(|(_, process)| process.clone())
    }

    /// Records the process behind `link`: by its run id, if the server reported one.
    pub(crate) fn learn_process(&self, link: &Arc<Link>, run_id: Option<String>) -> Process {
        let process = match run_id {
            Some(run) => Process::Run(run.into()),
            None => Process::Behind(Arc::downgrade(link)),
        };
        let mut state = lock(&self.state);
        state.behind.retain(|(known, _)| known.strong_count() > 0);
        state.behind.push((Arc::downgrade(link), process.clone()));
        process
    }

    /// Returns the process that issued this step's cursor, or records `process` if none is known.
    pub(crate) fn giver(&self, step: ScanStep, process: &Process) -> Process {
        let mut state = lock(&self.state);
        if let Some((_, issuer)) = state.issued.iter().find(|(issued, _)| *issued == step) {
            return issuer.clone();
        }
        state.remember((step, process.clone()));
        process.clone()
    }

    pub(crate) fn remember(&self, given: Given) {
        lock(&self.state).remember(given);
    }
}

impl State {
    fn remember(&mut self, (step, process): Given) {
        match self.issued.iter_mut().find(|(issued, _)| *issued == step) {
            Some((_, issuer)) => *issuer = process,
            None => self.issued.push_back((step, process)),
        }
        if self.issued.len() > MAX_CURSORS {
            self.issued.pop_front();
        }
    }
}
