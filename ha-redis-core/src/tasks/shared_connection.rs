//! The task of a shared connection, which keeps it connected to the current master for as long as the client lives.

use std::pin::pin;
use std::sync::Arc;

use futures_lite::future;

use crate::conn::driver::{OnSilence, unresponsive};
use crate::conn::link::Link;
use crate::conn::login::LoginVersion;
use crate::conn::raw_connection::{ConnectionParts, RawConnection};
use crate::conn::reconnect_backoff::ReconnectBackoff;
use crate::conn::watchdog::Watched;
use crate::error::{Error, Kind};
use crate::node::core::Core;
use crate::node::fence::fence;
use crate::node::shard::Shard;
use crate::proto::{Greeting, Role};
use crate::tasks::outage_report;
use crate::time::sleep;
use crate::topology::CurrentMaster;

pub(crate) async fn keep(core: Arc<Core>, shard: Arc<Shard>, shared_index: usize) {
    let mut reconnect = ReconnectBackoff::default();
    while let Some(master) = shard.current_master().await {
        let mut login_version = core.data.login.version();
        let attempt = open(&core, &shard, &master);
        match shard.until_master_changes(master.generation, attempt).await {
            None => {
                reconnect.switched();
                continue;
            }
            Some(Ok(parts)) => {
                let mut opened = core.runtime.now();
                let mut served = serve(&core, &shard, shared_index, &master, parts).await;
                while let Served::Successor(parts) = served {
                    opened = core.runtime.now();
                    served = serve(&core, &shard, shared_index, &master, *parts).await;
                }
                if let Served::Outdated = served {
                    continue;
                }
                reconnect.lost(core.runtime.now() - opened);
                // Only a failed attempt is repeated at once when the credentials change.
                login_version = core.data.login.version();
            }
            Some(Err(error)) if is_outdated_refusal(&core, &error, login_version) => continue,
            Some(Err(error)) => {
                tracing::debug!(shared_index, %error, "cannot connect to the master");
                reconnect.failed(&error);
                shard.fail(error);
            }
        }
        let pause = sleep(&*core.runtime, reconnect.pause(core.runtime.random()));
        let news =
            future::or(shard.master_changed(master.generation), core.data.login.changed_since(login_version));
        future::or(pause, news).await;
    }
}

/// Returns true if a server has refused credentials that are not the current ones any more: the next attempt uses others.
pub(super) fn is_outdated_refusal(core: &Core, error: &Error, login_version: LoginVersion) -> bool {
    error.kind() == Kind::Authentication && core.data.login.is_newer_than(login_version)
}

/// Connects to the master and returns what a driver needs.
pub(crate) async fn open(
    core: &Core,
    shard: &Shard,
    master: &CurrentMaster,
) -> Result<ConnectionParts, Error> {
    connect_to_master(core, shard, master).await?.0.into_parts()
}

/// Connects to the master, checks its role on this very connection, and has it end the abandoned connections.
pub(crate) async fn connect_to_master(
    core: &Core,
    shard: &Shard,
    master: &CurrentMaster,
) -> Result<(RawConnection, Greeting), Error> {
    let (mut raw, greeting) = core.data.connect(&master.address, &master.address_source).await?;
    match greeting.role {
        Some(Role::Sentinel) if !core.source.names_master() => {
            let message = format!(
                "{} ({}) is a Sentinel and holds no data; configure it as one \
                 (redis+sentinel://host:port/mymaster)",
                master.address, master.address_source
            );
            Err(Error::new(Kind::Config, message))
        }
        // A server that does not report its role is trusted to have the role that the Sentinels name. Without
        // Sentinels, a client may be pointed at a replica on purpose.
        Some(role) if role != Role::Master && core.source.names_master() => {
            shard.on_wrong_role(master.generation);
            let message =
                format!("{} ({}): expected a master, found a {role}", master.address, master.address_source);
            Err(Error::new(Kind::NotMaster, message))
        }
        _ => {
            core.confirmed(shard).await;
            fence(core, &master.address, &mut raw).await?;
            Ok((raw, greeting))
        }
    }
}

/// Drives the connection for callers until it ends. If its server fell silent and another connection was made
/// meanwhile, returns that one.
async fn serve(
    core: &Arc<Core>,
    shard: &Arc<Shard>,
    shared_index: usize,
    master: &CurrentMaster,
    parts: ConnectionParts,
) -> Served {
    let (link, driver) = core.link(master, parts, OnSilence::Report);
    if !shard.install(shared_index, &link) {
        return Served::Ended;
    }
    tracing::info!(shared_index, address = %master.address, generation = %master.generation, "connected");
    let mut installed = Installed { shard, shared_index, link: &link, removed: false };
    outage_report::on_connected(core, shard, master);
    let end = drive(core, shard, master, &mut installed, driver).await;
    let (address, generation, why) = (&master.address, master.generation, &end.why);
    tracing::info!(shared_index, %address, %generation, %why, "disconnected");
    if link.ended_with_pending_replies() && end.successor.is_none() {
        core.fences.add(&link);
    }
    installed.remove(end.why.clone());
    if !end.is_accounted_for {
        shard.on_lost(master, end.why, core.runtime.now());
    }
    match end.successor {
        Some(successor) => Served::Successor(Box::new(successor)),
        None if link.is_outdated() => Served::Outdated,
        None => Served::Ended,
    }
}

/// What follows a connection.
enum Served {
    /// Another one that was made beside it.
    Successor(Box<ConnectionParts>),
    /// Another one is to be made at once: this one has ended on purpose.
    Outdated,
    Ended,
}

/// How a connection ended.
struct End {
    why: Error,
    /// Whether it does not count as lost now: its server was silent, which has counted, or it is replaced on purpose.
    is_accounted_for: bool,
    /// The connection that replaces it.
    successor: Option<ConnectionParts>,
}

/// Drives a connection until it ends.
async fn drive(
    core: &Arc<Core>,
    shard: &Arc<Shard>,
    master: &CurrentMaster,
    installed: &mut Installed<'_>,
    mut driver: Watched,
) -> End {
    let link = installed.link;
    let mut silences = 0;
    loop {
        let silent = async {
            link.fell_silent(&mut silences).await;
            None
        };
        if let Some(why) = future::or(async { Some((&mut driver).await) }, silent).await {
            // A connection that is replaced on purpose is not lost.
            return End { why, is_accounted_for: link.is_outdated(), successor: None };
        }
        if let Some(end) = drive_silent(core, shard, master, installed, &mut driver).await {
            return end;
        }
    }
}

/// Drives a connection whose server is silent. A second connection is tried: only that shows whether the server is busy
/// and will still answer, or the connection is dead. If the second one succeeds, the silent one ends. Returns `None` if
/// the server replies again.
async fn drive_silent(
    core: &Arc<Core>,
    shard: &Arc<Shard>,
    master: &CurrentMaster,
    installed: &mut Installed<'_>,
    driver: &mut Watched,
) -> Option<End> {
    let link = installed.link;
    let unresponsive = unresponsive(&link.address, core.config().socket_timeout());
    tracing::warn!(address = %link.address, "the server has stopped replying; trying another connection");
    shard.on_lost(master, unresponsive.clone(), core.runtime.now());
    shard.fail(unresponsive.clone());
    core.fences.add(link);
    let mut beside = pin!(open_beside(core, shard, master));
    let ended = async { Silent::Ended((&mut *driver).await) };
    let recovered = async {
        link.no_longer_silent().await;
        Silent::Recovered
    };
    let replaced = async { Silent::Replaced(Box::new(beside.as_mut().await)) };
    match future::or(ended, future::or(recovered, replaced)).await {
        Silent::Ended(why) => {
            // The second connection has most likely fenced this one and is about to be ready.
            installed.remove(why.clone());
            let successor = shard.until_master_changes(master.generation, beside).await;
            Some(End { why, is_accounted_for: true, successor })
        }
        Silent::Recovered => {
            core.fences.remove(link);
            shard.on_recovered();
            outage_report::on_connected(core, shard, master);
            None
        }
        Silent::Replaced(parts) => {
            link.shut(unresponsive);
            Some(End { why: driver.await, is_accounted_for: true, successor: Some(*parts) })
        }
    }
}

/// How the wait with a silent server ended.
enum Silent {
    Ended(Error),
    Recovered,
    Replaced(Box<ConnectionParts>),
}

/// Connects, and retries until that succeeds. A server that is busy with a script may answer once the script has
/// ended, or the outstanding reply is that of the script.
async fn open_beside(core: &Core, shard: &Shard, master: &CurrentMaster) -> ConnectionParts {
    let mut reconnect = ReconnectBackoff::default();
    loop {
        let other =
            connect_to_master(core, shard, master).await.and_then(|(raw, greeting)| match greeting.busy {
                true => Err(Error::new(Kind::Busy, format!("{} is busy with a script", master.address))),
                false => raw.into_parts(),
            });
        match other {
            Ok(parts) => return parts,
            Err(error) => {
                tracing::debug!(%error, "cannot open a second connection");
                reconnect.failed(&error);
                if error.kind() == Kind::Timeout {
                    // The server answers nobody, so callers that wait on other connections to it would wait in vain.
                    shard.end_dedicated(master.generation, &error);
                }
                shard.fail(error);
            }
        }
        sleep(&*core.runtime, reconnect.pause(core.runtime.random())).await;
    }
}

/// A connection in the pool. It is removed when it has ended, also when the runtime drops the task that drives it.
struct Installed<'a> {
    shard: &'a Shard,
    shared_index: usize,
    link: &'a Arc<Link>,
    removed: bool,
}

impl Installed<'_> {
    fn remove(&mut self, why: Error) {
        if !std::mem::replace(&mut self.removed, true) {
            self.shard.remove(self.shared_index, self.link, why);
        }
    }
}

impl Drop for Installed<'_> {
    fn drop(&mut self) {
        self.remove(Error::new(Kind::Lost, format!("the connection to {} was dropped", self.link.address)));
    }
}
