//! The tasks for reads from replicas: one polls the replication position of the master, and one per replica keeps a
//! connection to it and polls its status.

use std::future::poll_fn;
use std::mem;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures_lite::future;
use redis::Value;

use crate::address::Address;
use crate::conn::driver::{OnSilence, unresponsive};
use crate::conn::link::{Call, Link, NoReply, ReplySlot, SubmitError};
use crate::conn::raw_connection::ConnectionParts;
use crate::conn::reconnect_backoff::ReconnectBackoff;
use crate::error::{Error, Kind, may_succeed_later, printable_error};
use crate::generation::Generation;
use crate::node::core::Core;
use crate::node::shard::Shard;
use crate::proto::{Replication, Reply, ReplyBound, Role, read_replication, replication_command};
use crate::time::{Elapsed, sleep, until};
use crate::topology::{AddressSource, CurrentMaster};
use crate::topology::{MAX_REPLICAS, Replica};

/// How often the master and the replicas are polled.
const INTERVAL: Duration = Duration::from_secs(1);
/// How often a replica that may not be read from is polled, since that may change soon.
const URGENT_INTERVAL: Duration = Duration::from_millis(250);
/// A replica with replies outstanding that has been silent for this long is not read from until it answers.
const SILENCE: Duration = Duration::from_secs(1);

/// Keeps a connection to every replica for as long as the client lives.
pub(crate) async fn run(core: Arc<Core>, shard: Arc<Shard>) {
    let tasks = future::or(start_probes(&core, &shard), poll_master(&core, &shard));
    future::or(tasks, core.lifecycle.closing()).await;
}

/// Starts a task for each replica that has none.
async fn start_probes(core: &Arc<Core>, shard: &Arc<Shard>) {
    loop {
        for address in shard.replicas_without_task().await {
            let (owner, its_shard) = (Arc::clone(core), Arc::clone(shard));
            let task = async move {
                future::or(keep_connected(&owner, &its_shard, &address), owner.lifecycle.closing()).await;
            };
            if let Err(error) = core.spawn(Box::pin(task)) {
                shard.fail(error);
            }
        }
    }
}

/// Polls the replication position of the master; without Sentinels also its list of replicas.
async fn poll_master(core: &Core, shard: &Shard) {
    let runtime = &*core.runtime;
    let mut has_warned = false;
    loop {
        let link = match shard.link(0, runtime, runtime.now() + core.config().socket_connect_timeout()).await
        {
            Ok(link) => link,
            Err(error) => {
                shard.set_master_failure(None, error.message());
                sleep(runtime, INTERVAL).await;
                continue;
            }
        };
        match query_replication(core, &link).await {
            Ok(answer) if answer.role != Role::Master => {
                let why = format!("{}: expected a master, found a {}", link.address, answer.role);
                shard.set_master_failure(Some(link.generation), &why);
                // A client may be pointed at a replica on purpose.
                if core.source.names_master() {
                    shard.on_not_master(link.generation, runtime.now());
                }
            }
            Ok(answer) => {
                if !core.source.lists_replicas() {
                    let listed = answer.replicas.len();
                    if listed > MAX_REPLICAS && !mem::replace(&mut has_warned, true) {
                        let master = &link.address;
                        tracing::warn!(%master, listed, MAX_REPLICAS, "too many replicas are listed: some are ignored");
                    }
                    let replicas = answer.replicas.into_iter().take(MAX_REPLICAS);
                    shard.list_replicas(replicas.map(|address| Replica::new(address, true)).collect());
                }
                shard.set_master_position(link.generation, answer.position);
            }
            Err(error) => shard.set_master_failure(Some(link.generation), error.message()),
        }
        future::or(sleep(runtime, INTERVAL), shard.master_changed(link.generation)).await;
    }
}

/// Keeps a connection to a replica until it is no longer a replica.
async fn keep_connected(core: &Arc<Core>, shard: &Arc<Shard>, address: &Address) {
    let mut reconnect = ReconnectBackoff::default();
    while shard.wait_until_replica_wanted(address).await {
        let mut login_version = core.data.login.version();
        let attempt = async { Some(open(core, shard, address).await) };
        let unwanted = async {
            shard.wait_until_replica_unwanted(address).await;
            None
        };
        match future::or(attempt, unwanted).await {
            None => continue,
            Some(Ok(link)) => {
                probe_repeatedly(core, shard, &link).await;
                reconnect.lost(core.runtime.now() - link.opened);
                login_version = core.data.login.version();
            }
            Some(Err(error)) => {
                tracing::debug!(replica = %address, %error, "cannot connect to the replica");
                shard.replica_failed(address, error.message());
                reconnect.failed(&error);
            }
        }
        let pause = sleep(&*core.runtime, reconnect.pause(core.runtime.random()));
        let news = future::or(
            shard.wait_until_replica_unwanted(address),
            core.data.login.changed_since(login_version),
        );
        future::or(pause, news).await;
    }
}

/// Connects to a replica. Another task drives the connection.
async fn open(core: &Arc<Core>, shard: &Arc<Shard>, address: &Address) -> Result<Arc<Link>, Error> {
    // The connection belongs to no generation: it outlives a switch, and is readable again once the replica follows
    // the new master.
    let replica = CurrentMaster {
        generation: Generation::default(),
        address: address.clone(),
        address_source: AddressSource::Replicas,
    };
    let (raw, _) = core.data.connect(address, &replica.address_source).await?;
    let parts: ConnectionParts = raw.into_parts()?;
    let (link, driver) = core.link(&replica, parts, OnSilence::End);
    if !shard.admit_replica(&link) {
        return Err(Error::new(Kind::Lost, "no connection to the replica is wanted any more"));
    }
    tracing::info!(replica = %address, "connected");
    let admitted = Admitted::new(shard, &link);
    core.spawn(Box::pin(async move {
        let why = driver.await;
        tracing::info!(replica = %admitted.link.address, %why, "disconnected");
        admitted.ended(why);
    }))?;
    Ok(link)
}

/// Removes the connection when it has ended, also when the runtime drops the task that drives it.
struct Admitted {
    shard: Arc<Shard>,
    link: Arc<Link>,
    why: Error,
}

impl Admitted {
    fn new(shard: &Arc<Shard>, link: &Arc<Link>) -> Self {
        let why = Error::new(Kind::Lost, "the runtime has ended the connection");
        Self { shard: Arc::clone(shard), link: Arc::clone(link), why }
    }

    fn ended(mut self, why: Error) {
        self.why = why;
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.shard.replica_ended(&self.link, &self.why);
    }
}

/// Polls the status of a replica until its connection ends.
async fn probe_repeatedly(core: &Core, shard: &Shard, link: &Arc<Link>) {
    let runtime = &*core.runtime;
    let polling = async {
        loop {
            let round = shard.replica_round();
            let interval = match probe(core, shard, link).await {
                Ok(true) => INTERVAL,
                Ok(false) => URGENT_INTERVAL,
                Err(error) => {
                    shard.replica_failed(&link.address, error.message());
                    URGENT_INTERVAL
                }
            };
            future::or(sleep(runtime, interval), shard.replica_round_after(round)).await;
        }
    };
    future::or(shard.wait_until_replica_gone(link), polling).await;
}

/// Polls a replica once. Returns true if it may be read from. A silent replica may not be; a slow one that answers
/// other calls first may.
async fn probe(core: &Core, shard: &Shard, link: &Link) -> Result<bool, Error> {
    let runtime = &*core.runtime;
    let asked_at = runtime.now();
    let mut answer = Box::pin(query_replication(core, link));
    let answer = loop {
        let answered = link.answered();
        match until(runtime, runtime.now() + SILENCE, &mut answer).await {
            Ok(answer) => break answer?,
            Err(Elapsed) if link.answered() > answered => {}
            Err(Elapsed) => {
                shard.replica_failed(&link.address, format!("no reply for {SILENCE:?}"));
                break answer.await?;
            }
        }
    };
    Ok(shard.replica_answered(&link.address, &answer, runtime.now() - asked_at))
}

/// Queries past the limits of the queue: a connection that callers keep full is no sign of a bad server.
async fn query_replication(core: &Core, link: &Link) -> Result<Replication, Error> {
    let question = replication_command();
    let bound = ReplyBound { within: Some(core.config().socket_timeout()), by: None };
    let slot: Arc<ReplySlot> = Arc::default();
    let submitted = poll_fn(|cx| {
        slot.arm(cx);
        Poll::Ready(link.submit_past_bounds(Call::Command(&question), &slot, bound))
    });
    submitted.await.map_err(|refused| match refused {
        SubmitError::Ended(error) | SubmitError::ReadOnly(error) => error,
        SubmitError::Held | SubmitError::Silent | SubmitError::Full => {
            Error::new(Kind::Overloaded, "its connection is full")
        }
    })?;
    let reply = poll_fn(|cx| slot.poll(cx)).await.map_err(|no_reply| match no_reply {
        NoReply::Late => unresponsive(&link.address, core.config().socket_timeout()),
        NoReply::Ended(error) => error,
    });
    match reply? {
        Reply::One(Value::ServerError(error)) if !may_succeed_later(&error) => {
            let kind = if error.code() == "NOPERM" { Kind::Permission } else { Kind::Server };
            let message = format!(
                "INFO was refused: {}; allow it (ACL SETUSER <user> +info)",
                core.data.hide(printable_error(&error))
            );
            Err(Error::new(kind, message))
        }
        Reply::One(reply) => {
            let answer = Error::answer(reply).map_err(|error| core.data.hide_secrets(error))?;
            Ok(read_replication(&answer)?.without(core.data.secrets()))
        }
        Reply::Many(_) => Err(Error::new(Kind::Protocol, "many replies to one command")),
    }
}
