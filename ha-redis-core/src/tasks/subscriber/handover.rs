//! Moves a subscriber to a new connection without a lost or doubled message.
//!
//! A RESP2 connection that is subscribed may not log in again. So a second connection takes over: it subscribes to the
//! same, and both subscribe to the channel of a marker. Then a third connection, which may still send commands, publishes
//! the marker. The server sends it to both at the same point of their messages: what was published before reaches the
//! subscriber from the old connection, and what is published later from the new one.

use std::future::{Future, pending};
use std::pin::pin;

use futures_lite::future;
use redis::{ServerError, Value};

use super::{Received, SilenceTimer, Subscriber, Waiter};
use crate::conn::login::LoginVersion;
use crate::conn::raw_connection::RawConnection;
use crate::error::{Error, Kind, may_succeed_later, printable_error};
use crate::node::core::Core;
use crate::node::shard::Shard;
use crate::proto::login_command;
use crate::proto::pubsub::{Marker, SubscriberEvent, Subscriptions};
use crate::tasks::reauthentication::report_refusal;
use crate::tasks::shared_connection::connect_to_master;
use crate::time::{Elapsed, until};
use crate::topology::CurrentMaster;

/// Why no other connection has taken over.
pub(super) enum Failure {
    /// The old connection has ended, or the server does not allow a handover to the user. The subscriber subscribes
    /// anew, and reports a gap.
    Lasting(Error),
    /// The old connection continues, and another attempt may succeed.
    Temporary(Error),
}

impl Subscriber {
    /// Returns a connection that has taken over from `old`. New requests wait meanwhile, and whatever the result, the
    /// caller then ends the handover.
    pub(super) async fn hand_over(
        &mut self,
        old: &mut RawConnection,
        silence: &mut SilenceTimer,
        master: &CurrentMaster,
    ) -> Result<RawConnection, Failure> {
        let (core, config) = (self.core.clone(), self.core.config());
        let bound = core.runtime.now() + config.socket_connect_timeout() + config.socket_timeout();
        match until(&*core.runtime, bound, Box::pin(self.take_over(old, silence, master))).await {
            Ok(result) => result,
            Err(Elapsed) => {
                let message = format!("no other connection to {} could take over in time", master.address);
                Err(Failure::Temporary(Error::new(Kind::Timeout, message)))
            }
        }
    }

    async fn take_over(
        &mut self,
        old: &mut RawConnection,
        silence: &mut SilenceTimer,
        master: &CurrentMaster,
    ) -> Result<RawConnection, Failure> {
        let (core, shard) = (self.core.clone(), self.shard.clone());
        let connecting = connect_two(&core, &shard, master, old.login_version());
        let connected = self.receiving_from(old, silence, connecting).await?;
        let (mut new, mut publisher) = connected.map_err(Failure::Temporary)?;

        let marker = Marker::new();
        self.buffer(old, silence, |subscriptions| [subscriptions.start_handover(marker.clone())]);
        // What is under way is confirmed before.
        while self.subscriptions.has_pending() {
            self.receive_from(old, silence).await?;
        }
        self.subscriptions.handover_refusal().map_or(Ok(()), |refusal| Err(refused(refusal)))?;

        let mut successor = self.subscriptions.successor();
        let catching_up = catch_up(&mut new, &mut successor, &mut publisher, &marker);
        let given_up = self.receiving_from(old, silence, catching_up).await??;
        while !self.subscriptions.has_marker() {
            self.receive_from(old, silence).await?;
        }
        self.subscriptions.continue_as(successor);
        given_up.into_iter().for_each(|refused| self.pass_on(Some(refused)));
        Ok(new)
    }

    /// Receives from the old connection, up to the marker, while `work` is in progress. Returns its output.
    async fn receiving_from<T>(
        &mut self,
        old: &mut RawConnection,
        silence: &mut SilenceTimer,
        work: impl Future<Output = T>,
    ) -> Result<T, Failure> {
        let mut work = pin!(work);
        loop {
            // Messages may always be ready.
            let done = async { Ok(Err(work.as_mut().await)) };
            let has_marker = self.subscriptions.has_marker();
            let received = async {
                match has_marker {
                    true => pending().await,
                    false => old.receive().await.map(Ok),
                }
            };
            match future::or(done, received).await.map_err(Failure::Lasting)? {
                Ok(received) => self.on_received(received, old, silence).map_err(Failure::Lasting)?,
                Err(done) => return Ok(done),
            }
        }
    }

    async fn receive_from(
        &mut self,
        old: &mut RawConnection,
        silence: &mut SilenceTimer,
    ) -> Result<(), Failure> {
        let received: Received = old.receive().await.map_err(Failure::Lasting)?;
        self.on_received(received, old, silence).map_err(Failure::Lasting)
    }
}

/// Opens the connection that takes over, and the one that publishes the marker, with other credentials than those of
/// `old_login`.
async fn connect_two(
    core: &Core,
    shard: &Shard,
    master: &CurrentMaster,
    old_login: LoginVersion,
) -> Result<(RawConnection, RawConnection), Error> {
    let (mut publisher, _) = connect_to_master(core, shard, master).await?;
    log_in_publisher(core, master, &mut publisher).await?;
    let (new, _) = connect_to_master(core, shard, master).await?;
    match new.login_version() == old_login {
        true => Err(login_refused(master)),
        false => Ok((new, publisher)),
    }
}

/// Logs in with the new credentials, if the server has accepted the former ones on a new connection.
async fn log_in_publisher(
    core: &Core,
    master: &CurrentMaster,
    publisher: &mut RawConnection,
) -> Result<(), Error> {
    let login = core.data.login.try_current().filter(|login| login.version != publisher.login_version());
    let Some(login) = login else { return Ok(()) };
    let Some(credentials) = &login.credentials else { return Ok(()) };
    if let [Value::ServerError(refusal)] = &publisher.query(&[login_command(credentials)]).await?[..] {
        report_refusal(core, &core.data, &master.address, &login, refusal);
        return Err(login_refused(master));
    }
    core.data.login.on_accepted(&master.address, &login);
    Ok(())
}

fn login_refused(master: &CurrentMaster) -> Error {
    Error::new(Kind::Server, format!("{} refused the new credentials", master.address))
}

/// Subscribes `new` to everything and to the marker's channel, publishes the marker, and reads `new` up to it: the
/// messages before come from the old connection. Returns the subscriptions that the server refuses to the new user.
async fn catch_up(
    new: &mut RawConnection,
    successor: &mut Subscriptions<Waiter>,
    publisher: &mut RawConnection,
    marker: &Marker,
) -> Result<Vec<SubscriberEvent>, Failure> {
    let mut given_up = Vec::new();
    new.buffer(&successor.restore());
    new.buffer(&[successor.start_handover(marker.clone())]);
    while successor.has_pending() {
        given_up.extend(receive_refusal(new, successor).await.map_err(Failure::Temporary)?);
    }
    successor.handover_refusal().map_or(Ok(()), |refusal| Err(refused(refusal)))?;
    let published = publisher.query(&[marker.publish()]).await.map_err(Failure::Temporary)?;
    if let [Value::ServerError(refusal)] = &published[..] {
        return Err(refused(refusal));
    }
    while !successor.has_marker() {
        receive_refusal(new, successor).await.map_err(Failure::Temporary)?;
    }
    Ok(given_up)
}

/// Receives a value. Returns it if the server refuses a subscription.
async fn receive_refusal(
    new: &mut RawConnection,
    successor: &mut Subscriptions<Waiter>,
) -> Result<Option<SubscriberEvent>, Error> {
    // A message that is too large reaches the old connection as well.
    let Ok(value) = new.receive().await? else { return Ok(None) };
    let event = successor.receive(value)?;
    Ok(event.filter(|event| matches!(event, SubscriberEvent::Refused(..))))
}

fn refused(refusal: &ServerError) -> Failure {
    let text = printable_error(refusal);
    let message = format!("the server refused a handover: {text}");
    match refusal.code() {
        _ if may_succeed_later(refusal) => Failure::Temporary(Error::new(Kind::Server, message)),
        "NOPERM" => {
            let remedy = "allow the user ACL SETUSER <user> +publish &__ha_redis_handover:*";
            Failure::Lasting(Error::new(Kind::Permission, format!("{message}; {remedy}")))
        }
        _ => Failure::Lasting(Error::new(Kind::Server, message)),
    }
}
