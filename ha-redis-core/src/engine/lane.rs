//! The task behind a lane: it keeps one connection to the master that is followed, for as long as the client
//! lives.

use std::sync::Arc;

use futures_lite::future;

use crate::engine::core::Core;
use crate::engine::dialog::{Dialog, Parts};
use crate::engine::redial::Redial;
use crate::error::{Error, Kind};
use crate::link::Link;
use crate::pool::Followed;
use crate::proto::Role;
use crate::time::sleep;

pub(crate) async fn keep(core: Arc<Core>, lane: usize) {
    let _ends_pool = EndsPool(&core);
    let mut redial = Redial::default();
    while let Some(followed) = core.pool.followed().await {
        let attempt = async { Some(open(&core, &followed).await) };
        let switched = async {
            core.pool.superseded(followed.generation).await;
            None
        };
        match future::or(attempt, switched).await {
            None => {
                redial.switched();
                continue;
            }
            Some(Ok(parts)) => {
                let opened = core.runtime.now();
                carry(&core, lane, &followed, parts).await;
                redial.lost(core.runtime.now() - opened);
            }
            Some(Err(error)) => {
                tracing::debug!(lane, %error, "no connection");
                redial.failed(&error);
                core.pool.fail(error);
            }
        }
        let pause = redial.pause(core.runtime.random());
        future::or(sleep(&*core.runtime, pause), core.pool.superseded(followed.generation)).await;
    }
}

/// Closes the client when the runtime drops its lane, since it ends itself.
struct EndsPool<'a>(&'a Core);

impl Drop for EndsPool<'_> {
    fn drop(&mut self) {
        let pool = &self.0.pool;
        if pool.check_open().is_ok() {
            pool.shut(Error::new(Kind::Closed, "the runtime on which the client was started has ended"));
        }
    }
}

/// Connects, for a driver to go on.
pub(crate) async fn open(core: &Core, followed: &Followed) -> Result<Parts, Error> {
    reach(core, followed).await?.into_parts()
}

/// Connects, and makes sure that the server is what it is taken for, on the very connection that is kept.
pub(crate) async fn reach(core: &Core, followed: &Followed) -> Result<Dialog, Error> {
    let (dialog, greeting) = core.data.connect(&followed.address, &followed.given_by).await?;
    match greeting.role.filter(|_| core.config.use_sentinel()) {
        // One that does not say what it is, is what the Sentinels say that it is.
        None | Some(Role::Master) => {
            core.confirmed().await;
            Ok(dialog)
        }
        Some(role) => {
            core.on_wrong_role(followed.generation);
            let message = format!("{} ({}) is no master but a {role}", followed.address, followed.given_by);
            Err(Error::new(Kind::NotMaster, message))
        }
    }
}

/// Serves callers over the connection until it ends.
async fn carry(core: &Arc<Core>, lane: usize, followed: &Followed, parts: Parts) {
    let (link, driver) = core.link(followed, parts);
    if !core.pool.install(lane, &link) {
        return;
    }
    tracing::info!(lane, address = %followed.address, generation = %followed.generation, "connected");
    let mut installed = Installed { core, lane, link: &link, why: None };
    core.on_connected(followed);
    let why = driver.await;
    tracing::info!(lane, address = %followed.address, generation = %followed.generation, %why, "disconnected");
    installed.why = Some(why.clone());
    drop(installed);
    core.on_lost(followed, why);
}

/// Takes a connection out of the pool, also when the runtime drops the task that drives it.
struct Installed<'a> {
    core: &'a Core,
    lane: usize,
    link: &'a Arc<Link>,
    why: Option<Error>,
}

impl Drop for Installed<'_> {
    fn drop(&mut self) {
        let dropped =
            || Error::new(Kind::Lost, format!("the connection to {} was dropped", self.link.address));
        let why = self.why.take().unwrap_or_else(dropped);
        self.core.pool.remove(self.lane, self.link, why);
    }
}
