//! Steps of scans. Each continues only in the server process that returned its cursor.

use std::sync::Arc;

use redis::{Pipeline, Value};

use crate::call::attempt::{AttemptBounds, Attempted};
use crate::call::caller::Caller;
use crate::call::exchange::{Failure, exchange_in_turn};
use crate::command::{Scan, ScanStep, scan_step};
use crate::conn::link::{Call, Link, ReplySlot, SubmitError};
use crate::error::{Error, Kind};
use crate::node::core::Core;
use crate::node::scan_cursors::{Given, Process};
use crate::proto::{Reply, ReplyBound, read_run_id, run_id_command};

/// The scans of one handle. Two handles may have the same cursor from two processes.
#[derive(Debug)]
pub(crate) struct Scanning {
    /// The process that ran the last step.
    process: Process,
    /// The last cursor that this handle received.
    given: Option<Given>,
}

impl Caller {
    /// Sends a call with steps of scans to the master once.
    pub(super) async fn scan(
        &mut self,
        call: Call<'_>,
        slot: &Arc<ReplySlot>,
        bounds: AttemptBounds,
    ) -> Result<Attempted, Error> {
        let link = self.master_link(bounds.wait).await?;
        let generation = link.generation;
        let process = match process(&self.core, &link, bounds).await {
            Ok(process) => process,
            Err(error) => return Ok(Attempted { result: Err(Failure::NotSubmitted(error)), generation }),
        };
        let given = self.shard_route.scanning.take().and_then(|scanning| scanning.given);
        let scanning = self.shard_route.scanning.insert(Box::new(Scanning { process, given }));
        for (step, _) in steps(call, None).filter(|(step, _)| step.kind() == Scan::Continues) {
            let own = scanning.given.as_ref().filter(|(given, _)| *given == step);
            let giver = own.map(|(_, giver)| giver.clone());
            let giver = giver.unwrap_or_else(|| self.core.scan_cursors.giver(step, &scanning.process));
            if giver != scanning.process {
                return Err(cursor_lost());
            }
        }
        let reply_bound = self.reply_bound(bounds.deadline);
        let link = self.shard_route.link.insert(link);
        let result = exchange_in_turn(link, slot, call, reply_bound, &self.core, bounds.wait).await;
        Ok(Attempted { result, generation })
    }

    /// Remembers the cursors in the reply to a call that [`scan`](Self::scan) sent.
    pub(super) fn remember_cursors(&mut self, call: Call<'_>, reply: &Reply) {
        let Some(scanning) = &mut self.shard_route.scanning else { return };
        for (step, reply) in steps(call, Some(reply)) {
            if let Some(next) = reply.and_then(|reply| step.next(reply)) {
                let given = (next, scanning.process.clone());
                scanning.given = Some(given.clone());
                self.core.scan_cursors.remember(given);
            }
        }
    }
}

/// Returns the process behind `link`. It is asked for its run id once.
async fn process(core: &Core, link: &Arc<Link>, bounds: AttemptBounds) -> Result<Process, SubmitError> {
    if let Some(process) = core.scan_cursors.known_process(link) {
        return Ok(process);
    }
    let question = run_id_command();
    let reply_bound = ReplyBound { within: Some(core.config().socket_timeout()), by: bounds.deadline };
    let slot = Arc::new(ReplySlot::default());
    let asked = exchange_in_turn(link, &slot, Call::Command(&question), reply_bound, core, bounds.wait).await;
    let run_id = match asked {
        Ok(Reply::One(reply)) => read_run_id(&reply),
        Ok(Reply::Many(_)) => None,
        Err(Failure::NotSubmitted(error)) => return Err(error),
        // The reply is larger than the limits allow.
        Err(Failure::Error(error)) if error.kind() == Kind::ReplyTooLarge => None,
        Err(Failure::Error(error)) => return Err(SubmitError::Ended(error)),
        Err(Failure::Late(late)) => return Err(SubmitError::Ended(late.into_error(core))),
    };
    Ok(core.scan_cursors.learn_process(link, run_id))
}

/// Returns the steps in a call, each with its reply.
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

/// Returns the replies of the commands. Those of a transaction are in the last one, EXEC's.
fn of_commands<'a>(pipeline: &Pipeline, replies: &'a [Value]) -> &'a [Value] {
    match replies.last() {
        Some(Value::Array(executed)) if pipeline.is_transaction() => executed,
        _ if pipeline.is_transaction() => &[],
        _ => replies,
    }
}

/// In another process the cursor would stand for other keys, and the scan would silently miss some.
fn cursor_lost() -> Error {
    let message = "the scan cannot continue: its cursor may come from a server process other than the current master; begin again with cursor 0";
    Error::new(Kind::Refused, message)
}
