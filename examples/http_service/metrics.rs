//! Metrics for Prometheus: counters from the client's events, and the state of the servers at each scrape. The calls
//! are counted where they are made, in `redis_calls.rs`.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use ha_redis_tokio::{Event, Events, FailoverReport, RedisClient, Topology};
use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
pub use metrics_exporter_prometheus::PrometheusHandle;
use metrics_exporter_prometheus::{BuildError, PrometheusBuilder};
use tokio::time::{interval, timeout};

use crate::App;

/// How long the servers have to answer a scrape.
const SCRAPE_BOUND: Duration = Duration::from_secs(1);

/// From a planned failover to an outage; the last is the default `failover_wait`.
const SECONDS: [f64; 10] = [0.001, 0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

pub fn install() -> Result<PrometheusHandle, BuildError> {
    let prometheus = PrometheusBuilder::new().set_buckets(&SECONDS)?.install_recorder()?;
    describe_counter!("redis_calls_total", "what requests have called, by operation and outcome");
    describe_histogram!("redis_call_seconds", "how long these calls took, with all their waits and attempts");
    describe_counter!("redis_connections_made_total", "connections to the master that were made");
    describe_counter!("redis_connections_lost_total", "connections to the master that ended");
    describe_counter!("redis_master_changes_total", "switches to another master");
    describe_counter!("redis_outages_total", "times without a master, by whether another one took over");
    // A master that hangs has a connection, and is noticed late: redis_call_seconds shows how long callers waited.
    describe_histogram!("redis_outage_seconds", "from noticing an outage to the connection to a master");
    describe_counter!("redis_calls_held_total", "waits of calls for a master, those of probes included");
    describe_counter!("redis_calls_retried_total", "attempts that were repeated because of an outage");
    describe_counter!("redis_logins_refused_total", "new credentials that a server refused");
    describe_counter!("redis_credentials_failed_total", "failures of the credentials provider");
    describe_counter!("redis_events_missed_total", "events that these counters have missed");
    describe_gauge!("redis_up", "whether the master answers");
    describe_gauge!("redis_connections", "connections to the master: open, expected, dedicated");
    describe_gauge!("redis_replicas", "replicas: healthy, known");
    describe_gauge!("redis_sentinels", "Sentinels: answering, known");
    describe_gauge!("redis_majority", "whether a majority of the Sentinels could fail over");
    describe_gauge!("redis_epoch", "the Sentinels' configuration epoch, which grows with every failover");
    // What has not happened yet is shown as 0, so that its first time is seen as a change.
    for never in [
        "connections_made",
        "connections_lost",
        "master_changes",
        "calls_held",
        "calls_retried",
        "logins_refused",
        "credentials_failed",
        "events_missed",
    ] {
        counter!(format!("redis_{never}_total")).increment(0);
    }
    for master in ["changed", "same"] {
        counter!("redis_outages_total", "master" => master).increment(0);
    }
    Ok(prometheus)
}

/// Counts what happens, until the client is closed.
pub async fn record(mut events: Events) {
    while let Some(event) = events.next().await {
        match event {
            Event::Connected { .. } => counter!("redis_connections_made_total").increment(1),
            Event::Lost { .. } => counter!("redis_connections_lost_total").increment(1),
            // The first master has none before it.
            Event::Switched { from: Some(_), .. } => counter!("redis_master_changes_total").increment(1),
            Event::Failover(report) => record_outage(&report),
            Event::LoginRefused { .. } => counter!("redis_logins_refused_total").increment(1),
            Event::CredentialsFailed { .. } => counter!("redis_credentials_failed_total").increment(1),
            Event::Missed(events) => counter!("redis_events_missed_total").increment(events),
            // Logs have the rest.
            _ => {}
        }
    }
}

fn record_outage(report: &FailoverReport) {
    let master = if report.from == report.to { "same" } else { "changed" };
    counter!("redis_outages_total", "master" => master).increment(1);
    histogram!("redis_outage_seconds").record(report.time_to_connect);
    counter!("redis_calls_held_total").increment(report.calls_held);
    counter!("redis_calls_retried_total").increment(report.retried);
}

pub async fn scrape(State(app): State<Arc<App>>) -> String {
    tokio::join!(read_health(&app.client), read_topology(&app.client));
    app.prometheus.render()
}

/// Reads whether the master answers, and the connections to it.
async fn read_health(client: &RedisClient) {
    let health = timeout(SCRAPE_BOUND, client.health_check()).await.ok();
    let is_up = health.as_ref().is_some_and(|health| health.is_healthy());
    // Without an answer in time, no connection is of use.
    let (open, dedicated) =
        health.map_or((0, 0), |health| (health.open_connections, health.dedicated_connections));
    gauge!("redis_up").set(if is_up { 1.0 } else { 0.0 });
    gauge!("redis_connections", "state" => "open").set(open as f64);
    gauge!("redis_connections", "state" => "expected").set(client.config().shared_connections() as f64);
    gauge!("redis_connections", "state" => "dedicated").set(dedicated as f64);
}

/// Reads what the Sentinels say. Where nobody answers, there is nothing to be seen.
async fn read_topology(client: &RedisClient) {
    let topology = timeout(SCRAPE_BOUND, client.topology()).await.ok().and_then(Result::ok);
    let (replicas, sentinels) = topology.as_ref().map_or(([0; 2], [0; 2]), |topology| {
        let healthy = topology.replicas.iter().filter(|replica| replica.healthy).count();
        ([healthy, topology.replicas.len()], [topology.sentinels, topology.known_sentinels])
    });
    for (state, replicas) in ["healthy", "known"].into_iter().zip(replicas) {
        gauge!("redis_replicas", "state" => state).set(replicas as f64);
    }
    for (state, sentinels) in ["answering", "known"].into_iter().zip(sentinels) {
        gauge!("redis_sentinels", "state" => state).set(sentinels as f64);
    }
    let has_majority = topology.as_ref().is_some_and(Topology::has_majority);
    gauge!("redis_majority").set(if has_majority { 1.0 } else { 0.0 });
    if let Some(topology) = topology {
        gauge!("redis_epoch").set(topology.epoch as f64);
    }
}

/// Keeps the memory of the histograms small also when nobody scrapes.
pub async fn keep_small(prometheus: PrometheusHandle) {
    let mut ticks = interval(Duration::from_secs(5));
    loop {
        ticks.tick().await;
        prometheus.run_upkeep();
    }
}
