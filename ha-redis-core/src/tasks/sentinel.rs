//! The tasks of one Sentinel: one queries it when triggered, one receives its events.

use std::future::pending;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_channel::Receiver;
use futures_lite::future;
use redis::{Value, cmd};

use crate::address::Address;
use crate::conn::raw_connection::RawConnection;
use crate::error::{Error, Kind, printable_error};
use crate::node::core::Core;
use crate::proto::login_command;
use crate::retry::Backoff;
use crate::tasks::reauthentication::report_refusal;
use crate::time::{Elapsed, sleep, until};
use crate::topology::sentinel::{CHANNELS, QueryError, SentinelReport, parse_event, queries, read_report};
use crate::topology::{AddressSource, Input, MonitorEvent, Share};

/// A Sentinel that has published nothing for this long is sent a PING.
const SILENCE: Duration = Duration::from_secs(5);

/// Longer than any connection attempt.
const FAR_FUTURE: Duration = Duration::from_secs(24 * 60 * 60);

/// Queries the Sentinel whenever `trigger` receives, and when the credentials change.
pub(crate) async fn run_queries(core: Arc<Core>, sentinel: Address, trigger: Receiver<()>) {
    let (mut cached, mut has_warned) = (None, false);
    let mut login_version = core.sentinels.login.version();
    let new_login = async |version| {
        core.sentinels.login.changed_since(version).await;
        Ok(())
    };
    while future::or(trigger.recv(), new_login(login_version)).await.is_ok() {
        login_version = core.sentinels.login.version();
        if cached.as_ref().is_some_and(|raw: &RawConnection| core.sentinels.is_outdated(raw.tls_session())) {
            cached = None;
        }
        let mut asked_at = core.runtime.now();
        let mut answer = query(&core, &sentinel, &mut cached).await;
        let lost = answer.as_ref().is_err_and(|error| error.kind() != Kind::Timeout);
        if lost && cached.take().is_some() {
            // The cached connection may have been stale. One that timed out has had its time.
            asked_at = core.runtime.now();
            answer = query(&core, &sentinel, &mut cached).await;
        }
        if answer.is_err() {
            cached = None;
        }
        let left_out = answer.as_ref().ok().and_then(|report| report.left_out.as_ref());
        if let Some(left_out) = left_out.filter(|_| !std::mem::replace(&mut has_warned, true)) {
            let left_out = core.sentinels.hide(left_out.clone());
            tracing::warn!(%sentinel, left_out, "ignoring a part of the Sentinel's answers (logged once)");
        }
        core.sentinel_list.set_permanent_failure(&sentinel, permanent_kind(&answer));
        let answer = answer.map_err(|error| QueryError::from(&error));
        core.monitor.send(MonitorEvent::from(Input::Answer { sentinel: sentinel.clone(), asked_at, answer }));
    }
}

/// Returns the kind of error if there is no point in querying again.
fn permanent_kind(answer: &Result<SentinelReport, Error>) -> Option<Kind> {
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
pub(crate) async fn query(
    core: &Core,
    sentinel: &Address,
    cached: &mut Option<RawConnection>,
) -> Result<SentinelReport, Error> {
    if cached.is_none() {
        *cached = Some(core.sentinels.connect(sentinel, &AddressSource::SentinelList).await?.0);
    }
    let Some(raw) = cached else { return Err(silent(core, sentinel)) };
    let bound = core.runtime.now() + core.config().sentinel_socket_timeout();
    let queries = queries(core.config().sentinel_master_name());
    let asking = async {
        log_in_again(core, sentinel, raw).await?;
        raw.query(&queries).await
    };
    let replies = until(&*core.runtime, bound, asking)
        .await
        .map_err(|Elapsed| silent(core, sentinel))?
        .map_err(|error| core.sentinels.hide_secrets(error))?;
    let mut report = read_report(&replies).without_secrets(core.sentinels.secrets());
    report.refusal = report.refusal.map(|refusal| core.sentinels.hide(refusal));
    Ok(report)
}

/// Logs in again on a connection to a Sentinel, if the credentials have changed. The caller sets a bound, and no other reply
/// may be outstanding. A connection that is refused stays logged in as before.
pub(crate) async fn log_in_again(
    core: &Core,
    sentinel: &Address,
    raw: &mut RawConnection,
) -> Result<(), Error> {
    let login = &core.sentinels.login;
    let Some(current) = login.try_current().filter(|login| login.version != raw.login_version()) else {
        return Ok(());
    };
    let Some(credentials) = &current.credentials else {
        raw.set_login_version(current.version);
        return Ok(());
    };
    match raw.query(&[login_command(credentials)]).await?.pop() {
        Some(Value::ServerError(refusal)) => {
            report_refusal(core, &core.sentinels, sentinel, &current, &refusal)
        }
        _ => {
            login.on_accepted(sentinel, &current);
            raw.set_login_version(current.version);
        }
    }
    Ok(())
}

/// Receives the Sentinel's events, for ever.
pub(crate) async fn run_subscription(core: Arc<Core>, sentinel: Address) {
    let mut failures = 0;
    loop {
        let mut backoff = Backoff::RECONNECT;
        let mut login_version = core.sentinels.login.version();
        match subscribe(&core, &sentinel).await {
            Ok(raw) => {
                failures = 0;
                core.monitor.send(MonitorEvent::from(Input::Subscribed));
                let error = stay_subscribed(&core, &sentinel, raw).await;
                tracing::debug!(%sentinel, %error, "the subscription to the Sentinel's events ended");
                // Only a failed attempt is repeated at once when the credentials change.
                login_version = core.sentinels.login.version();
            }
            Err(error) => {
                if failures == 0 {
                    tracing::warn!(%sentinel, %error, "cannot subscribe to the Sentinel's events");
                }
                if error.is_permanent() {
                    backoff = Backoff::PERMANENT_FAILURE;
                }
            }
        }
        let pause = sleep(&*core.runtime, backoff.delay(failures, core.runtime.random()));
        future::or(pause, core.sentinels.login.changed_since(login_version)).await;
        failures += 1;
    }
}

/// Passes events on until the subscription ends. When the credentials change, another subscription takes its place; while
/// that is not possible, this one stays.
async fn stay_subscribed(core: &Core, sentinel: &Address, mut raw: RawConnection) -> Error {
    let mut renew_at = core.runtime.now();
    let mut failures = 0;
    loop {
        match pass_on_events(core, sentinel, &mut raw, renew_at).await {
            Passed::Ended(error) => return error,
            Passed::Outdated => match subscribe_beside(core, sentinel, &mut raw).await {
                Ok(renewed) if !core.sentinels.login.is_newer_than(renewed.login_version()) => {
                    (raw, failures) = (renewed, 0);
                    // What the former one has not passed on shows in the answers.
                    core.monitor.send(MonitorEvent::from(Input::Subscribed));
                }
                // The Sentinel does not accept the new credentials yet, or not this connection.
                refused => {
                    if let (0, Err(error)) = (failures, refused) {
                        tracing::warn!(%sentinel, %error, "cannot subscribe with the new credentials");
                    }
                    let pause = Backoff::PERMANENT_FAILURE.delay(failures, core.runtime.random());
                    renew_at = core.runtime.now() + pause;
                    failures += 1;
                }
            },
        }
    }
}

async fn subscribe(core: &Core, sentinel: &Address) -> Result<RawConnection, Error> {
    let (mut raw, _) = core.sentinels.connect(sentinel, &AddressSource::SentinelList).await?;
    raw.send(&[cmd("SUBSCRIBE").arg(&CHANNELS[..]).take()]).await?;
    let bound = core.runtime.now() + core.config().sentinel_socket_timeout();
    match until(&*core.runtime, bound, raw.receive_value()).await {
        Ok(Ok(Value::ServerError(error))) => {
            let kind = if error.code() == "NOPERM" { Kind::Permission } else { Kind::Sentinel };
            let message = format!(
                "cannot subscribe to the events of {sentinel}: {}; allow it (ACL SETUSER <user> +subscribe &*)",
                core.sentinels.hide(printable_error(&error))
            );
            Err(Error::new(kind, message))
        }
        // After the first confirmation, events arrive.
        Ok(confirmed) => confirmed.map(|_| raw).map_err(|error| core.sentinels.hide_secrets(error)),
        Err(Elapsed) => Err(silent(core, sentinel)),
    }
}

/// Why events are not passed on for now.
enum Passed {
    Ended(Error),
    /// The credentials or TLS settings have changed.
    Outdated,
}

/// Subscribes once more, and passes on the events of the former connection meanwhile.
async fn subscribe_beside(
    core: &Core,
    sentinel: &Address,
    former: &mut RawConnection,
) -> Result<RawConnection, Error> {
    let former = async {
        // It renews nothing, since that is what happens here.
        let never = core.runtime.now() + FAR_FUTURE;
        match pass_on_events(core, sentinel, former, never).await {
            Passed::Ended(error) => Err(error),
            Passed::Outdated => pending().await,
        }
    };
    future::or(subscribe(core, sentinel), former).await
}

/// Passes events on until the connection ends or the Sentinel is silent for too long; from `renew_at` on, until the
/// credentials are not those of the connection, which is noticed at the latest with the next PING.
async fn pass_on_events(
    core: &Core,
    sentinel: &Address,
    raw: &mut RawConnection,
    renew_at: Instant,
) -> Passed {
    let runtime = &*core.runtime;
    let config = core.config();
    let (mut awaits_pong, share) = (false, Share::default());
    loop {
        let timeout = if awaits_pong { core.config().sentinel_socket_timeout() } else { SILENCE };
        let is_old = core.sentinels.login.is_newer_than(raw.login_version())
            || core.sentinels.is_outdated(raw.tls_session());
        if is_old && !awaits_pong && runtime.now() >= renew_at {
            return Passed::Outdated;
        }
        match until(runtime, runtime.now() + timeout, raw.receive_value()).await {
            // An error is the reply to PING for a user without that permission, and shows that the Sentinel is alive.
            Ok(Ok(message)) => {
                awaits_pong = false;
                let event = parse_event(&message, config.sentinel_master_name());
                if let Some(event) = event.filter(|event| !event.contains_secret(core.sentinels.secrets())) {
                    tracing::debug!(%sentinel, %event, "event of a Sentinel");
                    core.monitor.publish(&share, sentinel, event);
                }
            }
            Ok(Err(error)) => return Passed::Ended(core.sentinels.hide_secrets(error)),
            Err(Elapsed) if awaits_pong => return Passed::Ended(silent(core, sentinel)),
            Err(Elapsed) => {
                awaits_pong = true;
                if let Err(error) = raw.send(&[cmd("PING")]).await {
                    return Passed::Ended(error);
                }
            }
        }
    }
}

fn silent(core: &Core, sentinel: &Address) -> Error {
    let timeout = core.config().sentinel_socket_timeout();
    Error::new(Kind::Timeout, format!("the Sentinel {sentinel} did not answer within {timeout:?}"))
}
