//! Tests the events that a client publishes about its connections and servers.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ha_redis_core::redis::AsyncCommands;
use ha_redis_core::{Address, Client, Event, Events, FailoverReport};

use super::kit::{BOUND, Kit, config, settings};
use crate::Server;

tests! {
    everywhere: [
        cut_connection_reports_outage,
        planned_failover_events,
        silent_master_events,
        killed_master_report_counts_call_outcomes,
        replica_and_sentinel_changes_are_events,
        events_end_with_the_client,
    ],
}

/// Returns the next event that `wanted` accepts.
async fn next<T>(kit: &Kit, events: &mut Events, mut select: impl FnMut(&Event) -> Option<T>) -> T {
    let search = async {
        loop {
            let event = events.next().await.expect("an event");
            println!("{event:?}");
            if let Some(found) = select(&event) {
                return found;
            }
        }
    };
    kit.within("a matching event", search).await
}

async fn next_report(kit: &Kit, events: &mut Events) -> FailoverReport {
    next(kit, events, |event| match event {
        Event::Failover(report) => Some(report.clone()),
        _ => None,
    })
    .await
}

async fn cut_connection_reports_outage(kit: Kit) {
    let server = kit.server();
    let client = kit.client_of(&server).await;
    let mut events = client.events();
    server.query(&["CLIENT", "KILL", "TYPE", "NORMAL", "SKIPME", "YES"]).unwrap();
    let lost = next(&kit, &mut events, |event| match event {
        Event::Lost { address, why } => Some((address.to_string(), why.clone())),
        _ => None,
    });
    let (address, why) = lost.await;
    assert!(address == server.address().to_string() && why.is_connection(), "{address}: {why}");
    client.connection().set::<_, _, ()>("key", 1).await.unwrap();
    next(&kit, &mut events, |event| matches!(event, Event::Connected { .. }).then_some(())).await;
    let report = next_report(&kit, &mut events).await;
    assert_eq!((&report.from, report.failed()), (&report.to, 0), "{report}");
    assert!(report.first_success >= Some(report.time_to_connect), "{report}");
}

/// Spawns a caller that increments a counter until the flag is cleared.
fn spawn_incrementer(kit: &Kit, client: &Client) -> Arc<AtomicBool> {
    let (stop, mut redis) = (Arc::new(AtomicBool::new(false)), client.connection());
    let stopped = Arc::clone(&stop);
    kit.spawn(async move {
        while !stopped.load(Ordering::Relaxed) {
            let _ = redis.incr::<_, _, i64>("n", 1).await;
        }
    });
    stop
}

/// Returns the report of the next failover to another server, and the events before it.
async fn next_failover(kit: &Kit, events: &mut Events) -> (FailoverReport, Vec<Event>) {
    let seen_events = RefCell::new(Vec::new());
    let report = next(kit, events, |event| match event {
        Event::Failover(report) if report.from != report.to => Some(report.clone()),
        event => {
            seen_events.borrow_mut().push(event.clone());
            None
        }
    })
    .await;
    (report, seen_events.into_inner())
}

async fn planned_failover_events(kit: Kit) {
    let topology = kit.topology();
    let client = kit.client_of_topology(&topology).await;
    let mut events = client.events();
    let stop = spawn_incrementer(&kit, &client);
    let old = topology.planned_failover().unwrap();
    let (report, seen_events) = next_failover(&kit, &mut events).await;
    stop.store(true, Ordering::Relaxed);
    assert_eq!(report.from.to_string(), old.address().to_string());
    assert!(report.calls_held >= 1 && report.first_success.is_some(), "{report}");
    let begun = seen_events.iter().position(|event| match event {
        Event::SwitchBegun { from, candidate } => {
            from.as_ref() == Some(&report.from) && *candidate == report.to
        }
        _ => false,
    });
    let switched = seen_events.iter().position(|event| match event {
        Event::Switched { from, to, .. } => from.as_ref() == Some(&report.from) && *to == report.to,
        _ => false,
    });
    assert!(begun.is_some() && begun < switched, "{seen_events:?}");
    // The switch ends the connection to the old master, which counts as lost.
    let lost = seen_events
        .iter()
        .position(|event| matches!(event, Event::Lost { address, .. } if *address == report.from));
    let connected = seen_events
        .iter()
        .position(|event| matches!(event, Event::Connected { address } if *address == report.to));
    assert!(begun < lost && lost < connected && switched < connected, "{seen_events:?}");
}

async fn silent_master_events(kit: Kit) {
    let server = kit.server();
    let settings = settings(&server.url()).socket_timeout(Duration::from_secs(1)).failover_wait(BOUND);
    let client = kit.connect(settings.build().unwrap()).await.unwrap();
    let mut events = client.events();
    let stop = spawn_incrementer(&kit, &client);
    server.hang().unwrap();
    let lost = next(&kit, &mut events, |event| match event {
        Event::Lost { why, .. } => Some(why.to_string()),
        Event::Failover(_) => panic!("{event:?} while the server hangs"),
        _ => None,
    });
    let why = lost.await;
    assert!(why.contains("is unresponsive"), "{why}");
    server.resume().unwrap();
    next(&kit, &mut events, |event| match event {
        Event::Failover(_) => panic!("{event:?} before the connection"),
        event => matches!(event, Event::Connected { .. }).then_some(()),
    })
    .await;
    let report = next_report(&kit, &mut events).await;
    stop.store(true, Ordering::Relaxed);
    assert_eq!(report.from, report.to, "{report}");
}

async fn killed_master_report_counts_call_outcomes(kit: Kit) {
    let topology = kit.topology();
    // On a busy machine the failover may take two attempts, ten seconds apart.
    let settings = settings(&topology.url()).failover_wait(BOUND);
    let client = kit.connect(settings.build().unwrap()).await.unwrap();
    let mut events = client.events();
    let stop = spawn_incrementer(&kit, &client);
    let old = topology.kill_master().unwrap();
    let (report, seen_events) = next_failover(&kit, &mut events).await;
    stop.store(true, Ordering::Relaxed);
    assert_eq!(report.from.to_string(), old.address().to_string());
    assert!(
        seen_events
            .iter()
            .any(|event| matches!(event, Event::Lost { address, .. } if *address == report.from))
    );
    assert!(report.calls_held >= 1 && report.first_success >= Some(report.time_to_connect), "{report}");
    assert!(report.failed() == report.maybe_applied, "no call fails before its wait ends: {report}");
}

async fn replica_and_sentinel_changes_are_events(kit: Kit) {
    let topology = kit.topology();
    let client = kit.client(config(&topology.url()));
    let mut events = client.events();
    client.initialize().await.unwrap();
    let (replica, sentinel) = (topology.replicas().unwrap()[0], &topology.sentinels()[0]);
    let is = |server: &Server, address: &Address| server.address().to_string() == address.to_string();
    let mut up = (false, false);
    let both = |event: &Event| {
        match event {
            Event::ReplicaUp(address) => up.0 |= is(replica, address),
            Event::SentinelUp(address) => up.1 |= is(sentinel, address),
            _ => {}
        }
        (up == (true, true)).then_some(())
    };
    next(&kit, &mut events, both).await;
    sentinel.kill().unwrap();
    let down = |event: &Event| match event {
        Event::SentinelDown(address) => is(sentinel, address).then_some(()),
        _ => None,
    };
    next(&kit, &mut events, down).await;
    replica.kill().unwrap();
    let down = |event: &Event| match event {
        Event::ReplicaDown(address) => is(replica, address).then_some(()),
        _ => None,
    };
    next(&kit, &mut events, down).await;
}

async fn events_end_with_the_client(kit: Kit) {
    let server = kit.server();
    let client = kit.client_of(&server).await;
    let mut events = client.events();
    client.close().await;
    while events.next().await.is_some() {}
    let client = kit.client_of(&server).await;
    let mut events = client.events();
    drop(client);
    while events.next().await.is_some() {}
}
