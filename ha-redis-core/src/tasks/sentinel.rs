//! The tasks of one Sentinel: one queries it when triggered, one receives its events.

use std::sync::Arc;
use std::time::Duration;

use async_channel::Receiver;
use redis::{Value, cmd};

use crate::address::Address;
use crate::conn::raw_connection::RawConnection;
use crate::error::{Error, Kind, said};
use crate::node::core::Core;
use crate::retry::Backoff;
use crate::time::{Elapsed, sleep, until};
use crate::topology::sentinel::{CHANNELS, QueryError, SentinelReport, parse_event, queries, read_report};
use crate::topology::{AddressSource, Input, MonitorEvent, Share};

/// A Sentinel that has published nothing for this long is sent a PING.
const SILENCE: Duration = Duration::from_secs(5);

/// Queries the Sentinel whenever `trigger` receives.
pub(crate) async fn answer(core: Arc<Core>, sentinel: Address, bell: Receiver<()>) {
    let (mut kept, mut told) = (None, false);
    while bell.recv().await.is_ok() {
        let mut asked = core.runtime.now();
        let mut answer = ask(&core, &sentinel, &mut kept).await;
        let lost = answer.as_ref().is_err_and(|error| error.kind() != Kind::Timeout);
        if lost && kept.take().is_some() {
            // The cached connection may have been stale. One that timed out has had its time.
            asked = core.runtime.now();
            answer = ask(&core, &sentinel, &mut kept).await;
        }
        if answer.is_err() {
            kept = None;
        }
        let left_out = answer.as_ref().ok().and_then(|report| report.left_out.as_ref());
        if let Some(left_out) = left_out.filter(|_| !std::mem::replace(&mut told, true)) {
            let left_out = core.sentinels.hide(left_out.clone());
            tracing::warn!(%sentinel, left_out, "a part of what it says is left out, now and from now on");
        }
        core.sentinel_list.set_permanent_failure(&sentinel, hopeless_kind(&answer));
        let answer = answer.map_err(|error| QueryError::from(&error));
        core.monitor.tell(MonitorEvent::from(Input::Answer {
            sentinel: sentinel.clone(),
            asked_at: asked,
            answer,
        }));
    }
}

/// Returns the kind of error if there is no point in querying again.
fn hopeless_kind(answer: &Result<SentinelReport, Error>) -> Option<Kind> {
    match answer {
        Err(error) => error.is_permanent().then(|| error.kind()),
        Ok(report) => match report.refusal.as_deref()?.split_whitespace().next()? {
            "NOPERM" => Some(Kind::Permission),
            // A server without these commands is no Sentinel.
            "ERR" => Some(Kind::Config),
            _ => None,
        },
    }
}

/// Queries a Sentinel once, on the cached connection or on a new one.
pub(crate) async fn ask(
    core: &Core,
    sentinel: &Address,
    kept: &mut Option<RawConnection>,
) -> Result<SentinelReport, Error> {
    if kept.is_none() {
        *kept = Some(core.sentinels.connect(sentinel, &AddressSource::SentinelList).await?.0);
    }
    let Some(raw) = kept else { return Err(silent(core, sentinel)) };
    let bound = core.runtime.now() + core.config.sentinel_socket_timeout();
    let queries = queries(core.config.sentinel_master_name());
    let replies = until(&*core.runtime, bound, raw.query(&queries))
        .await
        .map_err(|Elapsed| silent(core, sentinel))?
        .map_err(|error| core.sentinels.hide_secrets(error))?;
    let mut report = read_report(&replies).without_secrets(core.sentinels.secrets());
    report.refusal = report.refusal.map(|refusal| core.sentinels.hide(refusal));
    Ok(report)
}

/// Receives the Sentinel's events, for ever.
pub(crate) async fn listen(core: Arc<Core>, sentinel: Address) {
    let mut failures = 0;
    loop {
        let mut backoff = Backoff::RECONNECT;
        match subscribe(&core, &sentinel).await {
            Ok(mut raw) => {
                failures = 0;
                core.monitor.tell(MonitorEvent::from(Input::Subscribed));
                let error = record(&core, &sentinel, &mut raw).await;
                tracing::debug!(%sentinel, %error, "the subscription ended");
            }
            Err(error) => {
                if failures == 0 {
                    tracing::warn!(%sentinel, %error, "its events are not heard");
                }
                if error.is_permanent() {
                    backoff = Backoff::PERMANENT_FAILURE;
                }
            }
        }
        sleep(&*core.runtime, backoff.delay(failures, core.runtime.random())).await;
        failures += 1;
    }
}

async fn subscribe(core: &Core, sentinel: &Address) -> Result<RawConnection, Error> {
    let (mut raw, _) = core.sentinels.connect(sentinel, &AddressSource::SentinelList).await?;
    raw.send(&[cmd("SUBSCRIBE").arg(&CHANNELS[..]).take()]).await?;
    let bound = core.runtime.now() + core.config.sentinel_socket_timeout();
    match until(&*core.runtime, bound, raw.receive_value()).await {
        Ok(Ok(Value::ServerError(error))) => {
            let kind = if error.code() == "NOPERM" { Kind::Permission } else { Kind::Sentinel };
            let message = format!(
                "{sentinel} refused the subscription to its events: {}; allow it (ACL SETUSER <user> +subscribe &*)",
                core.sentinels.hide(said(&error))
            );
            Err(Error::new(kind, message))
        }
        // After the first confirmation, events arrive.
        Ok(confirmed) => confirmed.map(|_| raw).map_err(|error| core.sentinels.hide_secrets(error)),
        Err(Elapsed) => Err(silent(core, sentinel)),
    }
}

/// Passes events on until the connection ends or the Sentinel is silent for too long.
async fn record(core: &Core, sentinel: &Address, raw: &mut RawConnection) -> Error {
    let runtime = &*core.runtime;
    let (mut asked, share) = (false, Share::default());
    loop {
        let patience = if asked { core.config.sentinel_socket_timeout() } else { SILENCE };
        match until(runtime, runtime.now() + patience, raw.receive_value()).await {
            // An error is the reply to PING for a user without that permission, and shows that the Sentinel is alive.
            Ok(Ok(message)) => {
                asked = false;
                let event = parse_event(&message, core.config.sentinel_master_name());
                if let Some(event) = event.filter(|event| !event.repeats(core.sentinels.secrets())) {
                    tracing::debug!(%sentinel, %event, "heard");
                    core.monitor.publish(&share, sentinel, event);
                }
            }
            Ok(Err(error)) => return core.sentinels.hide_secrets(error),
            Err(Elapsed) if asked => return silent(core, sentinel),
            Err(Elapsed) => {
                asked = true;
                if let Err(error) = raw.send(&[cmd("PING")]).await {
                    return error;
                }
            }
        }
    }
}

fn silent(core: &Core, sentinel: &Address) -> Error {
    let patience = core.config.sentinel_socket_timeout();
    Error::new(Kind::Timeout, format!("the Sentinel {sentinel} did not answer within {patience:?}"))
}
