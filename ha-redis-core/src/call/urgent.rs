//! Commands that end what may block every other connection. Each gets a connection of its own.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_lite::future;
use redis::{Cmd, Value};

use crate::call::caller::Caller;
use crate::conn::raw_connection::RawConnection;
use crate::error::{Error, Kind, Outcome};
use crate::node::core::{Core, closed, not_driven};
use crate::node::shard::Shard;
use crate::proto::Role;
use crate::retry::Backoff;
use crate::tasks::start::start;
use crate::time::{Elapsed, sleep, until};

/// How late a task of the client may be.
const GRACE: Duration = Duration::from_millis(200);

/// Sends the command to the master once. Other connections may be busy, full or impossible to open, because a server
/// that runs a script refuses `SELECT`.
pub(super) async fn ask(caller: &Caller, command: &Cmd) -> Result<Value, Error> {
    let deadline = caller.deadline();
    start(&caller.core, deadline).await?;
    let bound = caller.wait_bound(deadline);
    let (answer, answered) = async_channel::bounded(1);
    let (core, shard) = (Arc::clone(&caller.core), Arc::clone(&caller.shard_route.shard));
    let command = command.clone();
    // A task of the client does it, since the caller may be on another runtime.
    caller.core.spawn(Box::pin(async move {
        let core = &**core;
        let closing = async {
            core.lifecycle.closing().await;
            Err(closed())
        };
        // The caller may have been dropped.
        let _ =
            answer.send(future::or(closing, exchange(core, &shard, command, bound, deadline)).await).await;
    }))?;
    // If nobody drives the client's runtime, the task's own bounds do not hold.
    let bound = bound + caller.core.config().socket_timeout() + GRACE;
    match until(&*caller.core.runtime, bound, answered.recv()).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(_)) => Err(Error::new(Kind::Closed, "the runtime on which the client was started has ended")),
        Err(Elapsed) => Err(not_driven().with_outcome(Outcome::MaybeApplied)),
    }
}

async fn exchange(
    core: &Core,
    shard: &Shard,
    command: Cmd,
    bound: Instant,
    deadline: Option<Instant>,
) -> Result<Value, Error> {
    let runtime = &*core.runtime;
    let mut last = None;
    let connected = until(runtime, bound, connect(core, shard, &mut last)).await;
    let mut raw =
        connected.unwrap_or_else(|Elapsed| Err(last.unwrap_or_else(|| shard.no_connection_error())))?;
    let patience = core.config().socket_timeout();
    let bound = runtime.now() + patience;
    let bound = deadline.map_or(bound, |deadline| deadline.min(bound));
    let failed = match until(runtime, bound, raw.query(&[command])).await {
        Ok(Ok(mut values)) => return Ok(values.pop().unwrap_or(Value::Nil)),
        Ok(Err(error)) => error,
        Err(Elapsed) => Error::new(Kind::Timeout, "the server did not answer in time"),
    };
    Err(failed.with_outcome(Outcome::MaybeApplied))
}

/// Connects to the master. Repeats that until it succeeds, or fails for a reason that waiting does not change.
async fn connect(core: &Core, shard: &Shard, last: &mut Option<Error>) -> Result<RawConnection, Error> {
    let mut failures = 0;
    loop {
        shard.released().await;
        let followed = shard.current_master().await.ok_or_else(closed)?;
        let error = match core.urgent.connect(&followed.address, &followed.address_source).await {
            Ok((_, greeting)) if core.source.names_master() && greeting.role == Some(Role::Replica) => {
                shard.on_wrong_role(followed.generation);
                Error::new(
                    Kind::NotMaster,
                    format!("{}: expected a master, found a replica", followed.address),
                )
            }
            Ok((raw, _)) => return Ok(raw),
            Err(error) if error.is_permanent() => return Err(error),
            Err(error) => error,
        };
        *last = Some(error);
        let pause = Backoff::RECONNECT.delay(failures, core.runtime.random());
        future::or(sleep(&*core.runtime, pause), shard.master_changed(followed.generation)).await;
        failures += 1;
    }
}
