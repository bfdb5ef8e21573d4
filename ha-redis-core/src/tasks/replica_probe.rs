//! The tasks behind reads from replicas: one asks the master how far it is, and one for each replica keeps a
//! connection to it and asks it how it is.

use std::future::poll_fn;
use std::mem;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures_lite::future;
use redis::Value;

use crate::address::Address;
use crate::conn::driver::{OnSilence, unresponsive};
use crate::conn::link::{Call, Generation, Link, NoReply, ReplySlot, SubmitError};
use crate::conn::raw_connection::ConnectionParts;
use crate::conn::reconnect_backoff::ReconnectBackoff;
use crate::error::{Error, Kind, said, will_pass};
use crate::node::core::Core;
use crate::node::shard::{AddressSource, CurrentMaster};
use crate::proto::{Replication, Reply, ReplyBound, Role, read_replication, replication_question};
use crate::time::{Elapsed, sleep, until};
use crate::topology::{MAX_REPLICAS, Replica};

/// How often master and replicas are asked.
const INTERVAL: Duration = Duration::from_secs(1);
/// How often a replica is asked that may not be read from: it may soon.
const URGENT_INTERVAL: Duration = Duration::from_millis(250);
/// A replica that owes replies and has sent none for so long is not read from until it answers.
const SILENCE: Duration = Duration::from_secs(1);

/// Has a connection kept to every replica, for as long as the client lives.
pub(crate) async fn run(core: Arc<Core>) {
    let tasks = future::or(appoint(&core), ask_master(&core));
    future::or(tasks, core.pool.closing()).await;
}

/// Starts a task for each replica that has none.
async fn appoint(core: &Arc<Core>) {
    loop {
        for address in core.pool.unkept_replicas().await {
            let keeper = Arc::clone(core);
            let task = async move { future::or(keep(&keeper, &address), keeper.pool.closing()).await };
            if let Err(error) = core.spawn(Box::pin(task)) {
                core.pool.fail(error);
            }
        }
    }
}

/// Asks the master how far it is; without Sentinels also for its replicas.
async fn ask_master(core: &Core) {
    let runtime = &*core.runtime;
    let mut has_warned = false;
    loop {
        let link =
            match core.pool.link(0, runtime, runtime.now() + core.config.socket_connect_timeout()).await {
                Ok(link) => link,
                Err(error) => {
                    core.pool.miss_master(None, error.message());
                    sleep(runtime, INTERVAL).await;
                    continue;
                }
            };
        match ask(core, &link).await {
            Ok(answer) if answer.role != Role::Master => {
                let why = format!("{} is no master but a {}", link.address, answer.role);
                core.pool.miss_master(Some(link.generation), &why);
                // Without Sentinels a client may be pointed at a replica on purpose.
                if core.config.use_sentinel() {
                    core.on_not_master(link.generation);
                }
            }
            Ok(answer) => {
                if !core.config.use_sentinel() {
                    let listed = answer.replicas.len();
                    if listed > MAX_REPLICAS && !mem::replace(&mut has_warned, true) {
                        tracing::warn!(master = %link.address, listed, MAX_REPLICAS, "some of the replicas are left out");
                    }
                    let replicas = answer.replicas.into_iter().take(MAX_REPLICAS);
                    core.pool.list_replicas(replicas.map(|address| Replica::new(address, true)).collect());
                }
                core.pool.place_master(link.generation, answer.position);
            }
            Err(error) => core.pool.miss_master(Some(link.generation), error.message()),
        }
        future::or(sleep(runtime, INTERVAL), core.pool.master_changed(link.generation)).await;
    }
}

/// Keeps a connection to a replica until it is none any more.
async fn keep(core: &Arc<Core>, address: &Address) {
    let mut reconnect = ReconnectBackoff::default();
    while core.pool.wait_until_replica_wanted(address).await {
        let attempt = async { Some(open(core, address).await) };
        let unwanted = async {
            core.pool.wait_until_replica_unwanted(address).await;
            None
        };
        match future::or(attempt, unwanted).await {
            None => continue,
            Some(Ok(link)) => {
                look_after(core, &link).await;
                reconnect.lost(core.runtime.now() - link.opened);
            }
            Some(Err(error)) => {
                tracing::debug!(replica = %address, %error, "no connection");
                core.pool.replica_failed(address, error.message());
                reconnect.failed(&error);
            }
        }
        let pause = reconnect.pause(core.runtime.random());
        future::or(sleep(&*core.runtime, pause), core.pool.wait_until_replica_unwanted(address)).await;
    }
}

/// Connects to a replica. A task of its own drives the connection.
async fn open(core: &Arc<Core>, address: &Address) -> Result<Arc<Link>, Error> {
    // It belongs to no master's generation: it outlives a switch, and is read from once it has followed that.
    let replica = CurrentMaster {
        generation: Generation::default(),
        address: address.clone(),
        address_source: AddressSource::Replicas,
    };
    let (raw, _) = core.data.connect(address, &replica.address_source).await?;
    let parts: ConnectionParts = raw.into_parts()?;
    let (link, driver) = core.link(&replica, parts, OnSilence::End);
    if !core.pool.admit_replica(&link) {
        return Err(Error::new(Kind::Lost, "it is not wanted any more"));
    }
    tracing::info!(replica = %address, "connected");
    let admitted = Admitted::new(core, &link);
    core.spawn(Box::pin(async move {
        let why = driver.await;
        tracing::info!(replica = %admitted.link.address, %why, "disconnected");
        admitted.ended(why);
    }))?;
    Ok(link)
}

/// Takes the connection out of the pool when it has ended, also when the runtime drops the task that drives it.
struct Admitted {
    core: Arc<Core>,
    link: Arc<Link>,
    why: Error,
}

impl Admitted {
    fn new(core: &Arc<Core>, link: &Arc<Link>) -> Self {
        let why = Error::new(Kind::Lost, "the runtime has ended the connection");
        Self { core: Arc::clone(core), link: Arc::clone(link), why }
    }

    fn ended(mut self, why: Error) {
        self.why = why;
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.core.pool.replica_ended(&self.link, &self.why);
    }
}

/// Asks a replica how it is, again and again, until its connection ends.
async fn look_after(core: &Core, link: &Arc<Link>) {
    let runtime = &*core.runtime;
    let asking = async {
        loop {
            let round = core.pool.replica_round();
            let interval = match hear(core, link).await {
                Ok(true) => INTERVAL,
                Ok(false) => URGENT_INTERVAL,
                Err(error) => {
                    core.pool.replica_failed(&link.address, error.message());
                    URGENT_INTERVAL
                }
            };
            future::or(sleep(runtime, interval), core.pool.replica_round_after(round)).await;
        }
    };
    future::or(core.pool.wait_until_replica_gone(link), asking).await;
}

/// Asks a replica once; whether it may be read from. While it is silent it is not: a slow one, which answers others
/// before us, is.
async fn hear(core: &Core, link: &Link) -> Result<bool, Error> {
    let runtime = &*core.runtime;
    let asked = runtime.now();
    let mut answer = Box::pin(ask(core, link));
    let answer = loop {
        let answered = link.answered();
        match until(runtime, runtime.now() + SILENCE, &mut answer).await {
            Ok(answer) => break answer?,
            Err(Elapsed) if link.answered() > answered => {}
            Err(Elapsed) => {
                core.pool.replica_failed(&link.address, format!("it has not answered for {SILENCE:?}"));
                break answer.await?;
            }
        }
    };
    Ok(core.pool.replica_answered(&link.address, &answer, runtime.now() - asked))
}

/// Asks past the bounds: a connection that callers keep full says nothing against the server.
async fn ask(core: &Core, link: &Link) -> Result<Replication, Error> {
    let question = replication_question();
    let bound = ReplyBound { within: Some(core.config.socket_timeout()), by: None };
    let slot: Arc<ReplySlot> = Arc::default();
    let submitted = poll_fn(|cx| {
        slot.arm(cx);
        Poll::Ready(link.submit_past_bounds(Call::Command(&question), &slot, bound))
    });
    submitted.await.map_err(|not_taken| match not_taken {
        SubmitError::Ended(error) | SubmitError::ReadOnly(error) => error,
        SubmitError::Held | SubmitError::Silent | SubmitError::Full => {
            Error::new(Kind::Overloaded, "its connection takes nothing for now")
        }
    })?;
    let reply = poll_fn(|cx| slot.poll(cx)).await.map_err(|no_reply| match no_reply {
        NoReply::Late => unresponsive(&link.address, core.config.socket_timeout()),
        NoReply::Ended(error) => error,
    });
    match reply? {
        Reply::One(Value::ServerError(error)) if !will_pass(&error) => {
            let kind = if error.code() == "NOPERM" { Kind::Permission } else { Kind::Server };
            let message = format!(
                "it refuses INFO, by which replicas are judged: {}; allow it (ACL SETUSER <user> +info)",
                said(&error)
            );
            Err(Error::new(kind, message))
        }
        Reply::One(reply) => read_replication(&reply.extract_error().map_err(Error::from_redis)?),
        Reply::Many(_) => Err(Error::new(Kind::Protocol, "it answered one question with many replies")),
    }
}
