//! Moves a subscriber to a new connection without a lost or doubled message.
//!
//! A RESP2 connection that is subscribed may not log in again. So a second connection takes over: in one transaction it
//! publishes a marker and subscribes. The old connection is subscribed to the marker's channel. What was published
//! before the marker reaches the old connection alone, and what is published later reaches the new one too. So the
//! subscriber reads the old connection up to the marker, and then the new one from its beginning.

use std::future::Future;
use std::pin::pin;

use futures_lite::future;
use redis::{Cmd, ServerError, Value, cmd};

use super::{Received, Subscriber};
use crate::conn::raw_connection::RawConnection;
use crate::error::{Error, Kind, printable_error};
use crate::proto::pubsub::SubscriberEvent;
use crate::tasks::shared_connection::connect_to_master;
use crate::time::{Elapsed, until};
use crate::topology::CurrentMaster;

/// The channels of markers begin with this.
const MARKER: &str = "__ha_redis_handover:";

impl Subscriber {
    /// Returns a connection that has taken over from `old`.
    ///
    /// # Errors
    /// The server does not allow it to the user, or the handover did not end in time. The caller subscribes anew.
    pub(super) async fn hand_over(
        &mut self,
        old: &mut RawConnection,
        master: &CurrentMaster,
    ) -> Result<RawConnection, Error> {
        let (core, config) = (self.core.clone(), self.core.config());
        let bound = core.runtime.now() + config.socket_connect_timeout() + config.socket_timeout();
        match until(&*core.runtime, bound, Box::pin(self.take_over(old, master))).await {
            Ok(result) => result,
            Err(Elapsed) => Err(Error::new(Kind::Timeout, "no other connection could take over in time")),
        }
    }

    async fn take_over(
        &mut self,
        old: &mut RawConnection,
        master: &CurrentMaster,
    ) -> Result<RawConnection, Error> {
        let (core, shard) = (self.core.clone(), self.shard.clone());
        let marker = format!("{MARKER}{:016x}{:016x}", core.runtime.random(), core.runtime.random());
        old.buffer(&[self.subscriptions.subscribe_to_marker(marker.as_bytes())]);
        let connecting = connect_to_master(&core, &shard, master);
        let (connected, _) = self.receiving_from(old, connecting).await?;
        let (mut new, _) = connected?;
        while self.subscriptions.has_pending() {
            let received = old.receive().await?;
            self.receive_before_marker(received)?;
        }
        let mut commands = vec![cmd("MULTI"), cmd("PUBLISH").arg(marker.as_bytes()).arg("").take()];
        commands.extend(self.subscriptions.takeover());
        commands.push(cmd("EXEC"));
        let taking_over = query(&mut new, &commands);
        let (taken_over, mut has_marker) = self.receiving_from(old, taking_over).await?;
        taken_over?;
        while !has_marker {
            let received = old.receive().await?;
            has_marker = self.receive_before_marker(received)?;
        }
        self.subscriptions.forget_marker();
        Ok(new)
    }

    /// Passes on the messages of the old connection up to the marker while `work` is in progress. Returns its output,
    /// and whether the marker has arrived.
    async fn receiving_from<T>(
        &mut self,
        old: &mut RawConnection,
        work: impl Future<Output = T>,
    ) -> Result<(T, bool), Error> {
        let mut work = pin!(work);
        loop {
            let done = async { Ok(Ok(work.as_mut().await)) };
            let received = async { old.receive().await.map(Err) };
            // Messages may always be ready.
            match future::or(done, received).await? {
                Ok(done) => return Ok((done, false)),
                Err(received) => {
                    if self.receive_before_marker(received)? {
                        return Ok((work.await, true));
                    }
                }
            }
        }
    }

    /// Passes on a message. Returns true if it is the marker.
    fn receive_before_marker(&mut self, received: Received) -> Result<bool, Error> {
        let Ok(value) = received else { return self.handle(received).map(|_| false) };
        match self.subscriptions.receive(value)? {
            Some(SubscriberEvent::Marker) => Ok(true),
            event => {
                self.pass_on(event);
                Ok(false)
            }
        }
    }
}

/// Sends the transaction, and fails unless all of its commands ran.
async fn query(new: &mut RawConnection, commands: &[Cmd]) -> Result<(), Error> {
    let replies = new.query(commands).await?;
    let in_transaction = commands.len() - 2;
    match replies.last() {
        Some(Value::Array(results)) if results.len() == in_transaction => {
            results.iter().find_map(refusal).map_or(Ok(()), Err)
        }
        _ => Err(replies.iter().find_map(refusal).unwrap_or_else(|| {
            Error::new(Kind::Protocol, "the server did not run the transaction of a handover")
        })),
    }
}

fn refusal(reply: &Value) -> Option<Error> {
    let refused = |error: &ServerError| {
        let message = format!("the server refused a handover: {}", printable_error(error));
        Error::new(Kind::Server, message)
    };
    match reply {
        Value::ServerError(error) => Some(refused(error)),
        _ => None,
    }
}
