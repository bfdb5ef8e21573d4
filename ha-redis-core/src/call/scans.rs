//! Which server process gave which cursor of a scan.
//!
//! A cursor is a place in the order of one process's hash tables. To another process, after a failover or a restart, it
//! means other keys, and nobody would notice those that are left out. So a step goes on only in the process that gave
//! its cursor, which is known by the run id that `INFO` tells; where that is refused, one connection is one process.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::time::Instant;

use redis::{Pipeline, Value};

use crate::call::caller::Caller;
use crate::call::exchange::{Attempt, Failure, exchange_in_turn};
use crate::command::{Scan, ScanStep, scan_step};
use crate::conn::link::{Call, Generation, Link, ReplySlot, SubmitError};
use crate::error::{Error, Kind};
use crate::node::core::Core;
use crate::proto::{Reply, ReplyBound, read_run_id, run_id_question};
use crate::sync::{Mutex, lock};

/// So many cursors are remembered, the latest. One that is not is taken to be of the process that is asked with it first:
/// another program may have given it to this one.
const REMEMBERED: usize = 1024;

/// A process of a server.
#[derive(Clone, Debug)]
enum Process {
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
type Given = (ScanStep, Process);

/// What the handles of a client know together, so that a scan may go on through any of them.
#[derive(Debug, Default)]
pub(crate) struct Scans {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    given: VecDeque<Given>,
    /// The processes behind the connections that are there.
    behind: Vec<(Weak<Link>, Process)>,
}

impl Scans {
    /// The process behind `link`, which is asked for its run id once.
    async fn process(
        &self,
        core: &Core,
        link: &Arc<Link>,
        bound: Instant,
        deadline: Option<Instant>,
    ) -> Result<Process, SubmitError> {
        let known = |state: &State| {
            let entry = state.behind.iter().find(|(known, _)| known.as_ptr() == Arc::as_ptr(link));
            entry.map(|(_, process)| process.clone())
        };
        if let Some(process) = known(&lock(&self.state)) {
            return Ok(process);
        }
        let question = run_id_question();
        let reply_bound = ReplyBound { within: Some(core.config.socket_timeout()), by: deadline };
        let slot = Arc::new(ReplySlot::default());
        let asked = exchange_in_turn(link, &slot, Call::Command(&question), reply_bound, core, bound).await;
        let process = match asked {
            Ok(Reply::One(reply)) => read_run_id(&reply).map(|run| Process::Run(run.into())),
            Ok(Reply::Many(_)) => None,
            Err(Failure::SubmitError(not_taken)) => return Err(not_taken),
            // It cannot be had within the limits on replies.
            Err(Failure::Error(error)) if error.kind() == Kind::ReplyTooLarge => None,
            Err(Failure::Error(error)) => return Err(SubmitError::Ended(error)),
            Err(Failure::Late(late)) => return Err(SubmitError::Ended(late.into_error(core))),
        };
        let process = process.unwrap_or_else(|| Process::Behind(Arc::downgrade(link)));
        let mut state = lock(&self.state);
        state.behind.retain(|(known, _)| known.strong_count() > 0);
        state.behind.push((Arc::downgrade(link), process.clone()));
        Ok(process)
    }

    /// The process that gave this step its cursor: `process`, if that is not known.
    fn giver(&self, step: ScanStep, process: &Process) -> Process {
        let mut state = lock(&self.state);
        if let Some((_, giver)) = state.given.iter().find(|(given, _)| *given == step) {
            return giver.clone();
        }
        state.remember((step, process.clone()));
        process.clone()
    }

    fn remember(&self, given: Given) {
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

/// What one handle knows. Two handles may have got the same cursor from two processes.
#[derive(Debug)]
pub(crate) struct Scanning {
    /// The process that was asked last.
    process: Process,
    /// The cursor that this handle was given last.
    given: Option<Given>,
}

impl Caller {
    /// An attempt at a call with steps of scans, at the master.
    pub(super) async fn scan(
        &mut self,
        call: Call<'_>,
        slot: &Arc<ReplySlot>,
        bound: Instant,
        deadline: Option<Instant>,
    ) -> Result<(Attempt, Generation), Error> {
        let link = self.master_link(bound).await?;
        let generation = link.generation;
        let process = match self.core.scans.process(&self.core, &link, bound, deadline).await {
            Ok(process) => process,
            Err(not_taken) => return Ok((Err(Failure::SubmitError(not_taken)), generation)),
        };
        let given = self.scanning.take().and_then(|scanning| scanning.given);
        let scanning = self.scanning.insert(Box::new(Scanning { process, given }));
        for (step, _) in steps(call, None).filter(|(step, _)| step.kind() == Scan::GoesOn) {
            let own = scanning.given.as_ref().filter(|(given, _)| *given == step);
            let giver = own.map(|(_, giver)| giver.clone());
            let giver = giver.unwrap_or_else(|| self.core.scans.giver(step, &scanning.process));
            if giver != scanning.process {
                return Err(cursor_lost());
            }
        }
        let reply_bound = self.reply_bound(deadline);
        let link = self.link.insert(link);
        Ok((exchange_in_turn(link, slot, call, reply_bound, &self.core, bound).await, generation))
    }

    /// Remembers the cursors in the reply to a call that [`scan`](Self::scan) has sent.
    pub(super) fn remember_cursors(&mut self, call: Call<'_>, reply: &Reply) {
        let Some(scanning) = &mut self.scanning else { return };
        for (step, reply) in steps(call, Some(reply)) {
            if let Some(next) = reply.and_then(|reply| step.next(reply)) {
                let given = (next, scanning.process.clone());
                scanning.given = Some(given.clone());
                self.core.scans.remember(given);
            }
        }
    }
}

/// The steps in a call, each with its reply.
fn steps<'a>(
    call: Call<'a>,
    reply: Option<&'a Reply>,
) -> impl Iterator<Item = (ScanStep, Option<&'a Value>)> {
    let (commands, replies): (Vec<_>, &[Value]) = match (call, reply) {
        (Call::Command(command), Some(Reply::One(reply))) => (vec![command], std::slice::from_ref(reply)),
        (Call::Command(command), _) => (vec![command], &[]),
        (Call::Pipeline(pipeline), Some(Reply::Many(replies))) => {
            (pipeline.cmd_iter().collect(), of_commands(pipeline, replies))
        }
        (Call::Pipeline(pipeline), _) => (pipeline.cmd_iter().collect(), &[]),
    };
    let steps = commands.into_iter().enumerate();
    steps.filter_map(|(index, command)| Some((scan_step(command)?, replies.get(index))))
}

/// A transaction's replies are in that of EXEC, the last.
fn of_commands<'a>(pipeline: &Pipeline, replies: &'a [Value]) -> &'a [Value] {
    match replies.last() {
        Some(Value::Array(executed)) if pipeline.is_transaction() => executed,
        _ if pipeline.is_transaction() => &[],
        _ => replies,
    }
}

/// To another process the cursor would mean other keys: some would be left out, and nobody would know.
fn cursor_lost() -> Error {
    let message = "the scan cannot go on: the server process that gave its cursor is not known to be the one that is master \
                   now; begin again with cursor 0";
    Error::new(Kind::Refused, message)
}
