//! Which server process gave which cursor of a scan.
//!
//! A cursor is a place in the order of one process's hash tables. To another process, after a failover or a restart, it
//! means other keys, and nobody would notice those that are left out. So a step goes on only in the process that gave
//! its cursor, which is known by the run id that `INFO` tells; where that is refused, one connection is one process.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use crate::command::ScanStep;
use crate::conn::link::Link;
use crate::sync::{Mutex, lock};

/// So many cursors are remembered, the latest. One that is not is taken to be of the process that is asked with it first:
/// another program may have given it to this one.
const REMEMBERED: usize = 1024;

/// A process of a server.
#[derive(Clone, Debug)]
pub(crate) enum Process {
    /// By its run id.
    Run(Arc<str>),
    /// The one at the other end of this connection.
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

/// A step, and the process that gave its cursor.
pub(crate) type Given = (ScanStep, Process);

/// What the handles of a client know together, so that a scan may go on through any of them.
#[derive(Debug, Default)]
pub(crate) struct ScanCursors {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    given: VecDeque<Given>,
    /// The processes behind the connections that are there.
    behind: Vec<(Weak<Link>, Process)>,
}

impl ScanCursors {
    /// The process behind `link`, if it was asked.
    pub(crate) fn known_process(&self, link: &Arc<Link>) -> Option<Process> {
        let state = lock(&self.state);
        let entry = state.behind.iter().find(|(known, _)| known.as_ptr() == Arc::as_ptr(link));
        entry.map(|(_, process)| process.clone())
    }

    /// Remembers the process behind `link`: by the run id that it has told, if it has.
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

    /// The process that gave this step its cursor: `process`, if that is not known.
    pub(crate) fn giver(&self, step: ScanStep, process: &Process) -> Process {
        let mut state = lock(&self.state);
        if let Some((_, giver)) = state.given.iter().find(|(given, _)| *given == step) {
            return giver.clone();
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
        match self.given.iter_mut().find(|(given, _)| *given == step) {
            Some((_, giver)) => *giver = process,
            None => self.given.push_back((step, process)),
        }
        if self.given.len() > REMEMBERED {
            self.given.pop_front();
        }
    }
}
