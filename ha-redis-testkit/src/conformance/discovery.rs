//! Tests which Sentinels and servers the client trusts: the official guidelines for Sentinel clients, and what goes
//! beyond them.

use std::time::{Duration, Instant};

use futures_lite::future::zip;
use ha_redis_core::{Client, Outcome, RedisErrorExt};
use redis::AsyncCommands;

use super::kit::{BOUND, Kit, calls, config, connections, settings};
use super::scripted::Sentinels;
use crate::Server;

tests! {
    everywhere: [
        reconnects_after_client_kill,
        failover_followed_without_early_promotion,
        writes_fail_fast_without_required_majority,
        sentinel_connection_refuses_unsupported_commands,
    ],
    plain: [
        sentinel_connection_moves_to_next_sentinel,
        info_verifies_master_without_role,
        sentinel_without_master_skipped,
        silent_sentinel_does_not_delay_discovery,
        stale_view_gets_no_writes,
        wrong_role_queries_sentinels_again,
        no_reconnect_to_replaced_master,
        passive_sentinels_close_writes_when_majority_required,
    ],
}

async fn sentinel_without_master_skipped(kit: Kit) {
    let master = kit.server();
    let sentinels = Sentinels::naming(&master, 3);
    sentinels.change(0, |replies| replies.master = None);
    let client = kit.connect(sentinels.config()).await.unwrap();
    client.connection().set::<_, _, ()>("key", 1).await.unwrap();
    let states = client.topology().await.unwrap().sentinel_states;
    assert_eq!(states.iter().filter(|state| state.error.is_some()).count(), 1, "{states:?}");
}

async fn silent_sentinel_does_not_delay_discovery(kit: Kit) {
    let master = kit.server();
    let sentinels = Sentinels::naming(&master, 3);
    sentinels.change(0, |replies| replies.answers = false);
    let settings = sentinels.settings().sentinel_socket_timeout(BOUND);
    let started = Instant::now();
    kit.connect(settings.build().unwrap()).await.unwrap();
    assert!(started.elapsed() < BOUND / 2, "the other Sentinels are a majority");
}

async fn stale_view_gets_no_writes(kit: Kit) {
    let (old, new) = (kit.server(), kit.server());
    for stale in 0..3 {
        let sentinels = Sentinels::naming(&new, 3);
        (0..3).for_each(|number| sentinels.change(number, |replies| replies.epoch = 2));
        sentinels.change(stale, |replies| (replies.master, replies.epoch) = (Some(old.port()), 1));
        let client = kit.connect(sentinels.config()).await.unwrap();
        client.connection().set::<_, _, ()>("key", stale).await.unwrap();
    }
    assert_eq!((calls(&old, "set"), calls(&new, "set")), (0, 3));
}

async fn wrong_role_queries_sentinels_again(kit: Kit) {
    let master = kit.server();
    let replica = kit.server_builder().replica_of(&master).start().unwrap();
    let sentinels = Sentinels::naming(&replica, 1);
    let client = kit.client(sentinels.config());
    let mut redis = client.connection();
    let named = async {
        kit.until("the client has queried the role of the replica", || calls(&replica, "role") >= 2).await;
        sentinels.change(0, |replies| (replies.master, replies.epoch) = (Some(master.port()), 2));
    };
    let (written, ()) = zip(redis.set::<_, _, ()>("key", 1), named).await;
    written.unwrap();
    assert_eq!(calls(&master, "set"), 1);
    kit.until("no connection to the replica is left", || connections(&replica) == 0).await;
}

async fn no_reconnect_to_replaced_master(kit: Kit) {
    let (old, new) = (kit.server(), kit.server());
    let sentinels = Sentinels::naming(&old, 3);
    let client = kit.connect(sentinels.config()).await.unwrap();
    let mut redis = client.connection();
    redis.set::<_, _, ()>("key", 1).await.unwrap();
    // The Sentinels publish no event, and the old master still reports the master role.
    (0..3).for_each(|number| {
        sentinels.change(number, |replies| (replies.master, replies.epoch) = (Some(new.port()), 2));
    });
    old.query(&["CLIENT", "KILL", "TYPE", "normal"]).unwrap();
    redis.set::<_, _, ()>("key", 2).await.unwrap();
    assert_eq!((calls(&old, "set"), calls(&new, "set")), (1, 1));
}

async fn reconnects_after_client_kill(kit: Kit) {
    let topology = kit.topology_builder().demote_after(Duration::from_secs(1)).start().unwrap();
    let client = kit.client_of_topology(&topology).await;
    let mut redis = client.connection();
    for round in 0..5 {
        topology.master().unwrap().query(&["CLIENT", "KILL", "TYPE", "normal"]).unwrap();
        redis.set::<_, _, ()>("key", round).await.unwrap();
    }
    let listeners = |sentinel: &Server| {
        let list = sentinel.query(&["CLIENT", "LIST", "TYPE", "pubsub"]).unwrap();
        list.text().unwrap().lines().filter(|line| line.contains("cmd=subscribe")).count()
    };
    for sentinel in topology.sentinels() {
        sentinel.query(&["CLIENT", "KILL", "TYPE", "normal"]).unwrap();
        sentinel.query(&["CLIENT", "KILL", "TYPE", "pubsub"]).unwrap();
        kit.until("the client has subscribed again", || listeners(sentinel) == 1).await;
    }
    topology.wait_until_healthy().unwrap();
    let old = topology.planned_failover().unwrap();
    let new = topology.wait_for_new_master(old).unwrap();
    kit.until_master(&client, new).await;
    redis.set::<_, _, ()>("key", "after").await.unwrap();
    assert_eq!(new.query(&["GET", "key"]).unwrap().text(), Some("after"));
}

async fn info_verifies_master_without_role(kit: Kit) {
    let topology = kit.topology_builder().config("user app on >secret ~* &* +@all -role").start().unwrap();
    let with_user = topology.url().replace("redis+sentinel://", "redis+sentinel://app:secret@");
    let client = kit.connect(config(&with_user)).await.unwrap();
    let mut redis = client.connection();
    redis.set::<_, _, ()>("key", 1).await.unwrap();
    let old = topology.planned_failover().unwrap();
    let new = topology.wait_for_new_master(old).unwrap();
    kit.until_master(&client, new).await;
    redis.set::<_, _, ()>("key", 2).await.unwrap();
    assert_eq!(new.query(&["GET", "key"]).unwrap().text(), Some("2"));
}

async fn failover_followed_without_early_promotion(kit: Kit) {
    let topology = kit.topology();
    let by_votes_alone = settings(&topology.url()).early_promotion(false);
    let client = kit.connect(by_votes_alone.build().unwrap()).await.unwrap();
    let old = topology.planned_failover().unwrap();
    let new = topology.wait_for_new_master(old).unwrap();
    kit.until_master(&client, new).await;
    client.connection().set::<_, _, ()>("key", 2).await.unwrap();
    assert_eq!(new.query(&["GET", "key"]).unwrap().text(), Some("2"));
}

async fn passive_sentinels_close_writes_when_majority_required(kit: Kit) {
    let master = kit.server();
    let sentinels = Sentinels::naming(&master, 3);
    let settings = sentinels.settings().sentinel_require_majority(true);
    let client = kit.connect(settings.build().unwrap()).await.unwrap();
    let mut redis = client.connection();
    redis.set::<_, _, ()>("key", 1).await.unwrap();
    (0..2).for_each(|number| sentinels.change(number, |replies| replies.tilt = true));
    let topology = client.topology().await.unwrap();
    assert!(!topology.has_majority() && !topology.is_healthy(), "{topology}");
    assert!(topology.to_string().contains("2 in TILT mode"), "{topology}");
    assert_eq!(topology.sentinel_states.iter().filter(|state| state.tilt).count(), 2);

    let refused = refused_write(&kit, &client).await;
    assert!(refused.client_error().unwrap().is_sentinel(), "{refused}");
    assert!(
        refused.to_string().contains("only 1 of 3 Sentinels answer and are not in TILT mode"),
        "{refused}"
    );
    assert_eq!(redis.get::<_, i64>("key").await.unwrap(), 1, "reads still succeed");
    let own = client.dedicated().await.unwrap().set::<_, _, ()>("key", 2).await.unwrap_err();
    assert_eq!(own.outcome(), Outcome::NotSent);
    let taken = redis.blpop::<_, Option<(String, String)>>("list", 0.0).await.unwrap_err();
    assert_eq!(taken.outcome(), Outcome::NotSent, "{taken}");
    (0..2).for_each(|number| sentinels.change(number, |replies| replies.tilt = false));
    until_writes_accepted(&kit, &client).await;
}

async fn writes_fail_fast_without_required_majority(kit: Kit) {
    let topology = kit.topology();
    let settings = settings(&topology.url()).sentinel_require_majority(true).failover_wait(2 * BOUND);
    let client = kit.connect(settings.build().unwrap()).await.unwrap();
    client.connection().set::<_, _, ()>("key", 1).await.unwrap();
    let [first, second, _] = topology.sentinels() else { panic!("three Sentinels") };
    first.kill().unwrap();
    client.connection().set::<_, _, ()>("key", 1).await.unwrap();
    second.kill().unwrap();
    let refused = refused_write(&kit, &client).await;
    assert_eq!(refused.outcome(), Outcome::NotSent, "{refused}");
    // This also works without any connection to a master.
    topology.master().unwrap().kill().unwrap();
    let started = Instant::now();
    refused_write(&kit, &client).await;
    assert!(started.elapsed() < BOUND, "the write does not wait for a connection");
    topology.servers()[0].restart().unwrap();
    assert_eq!(client.connection().get::<_, Option<i64>>("key").await.unwrap(), None, "reads still succeed");
    first.restart().unwrap();
    until_writes_accepted(&kit, &client).await;
}

/// Writes until a write is refused, and returns the error.
async fn refused_write(kit: &Kit, client: &Client) -> redis::RedisError {
    let started = Instant::now();
    loop {
        if let Err(error) = client.connection().set::<_, _, ()>("key", 1).await {
            return error;
        }
        assert!(started.elapsed() < BOUND, "writes are still accepted");
        kit.sleep(Duration::from_millis(10)).await;
    }
}

/// Waits until writes succeed again.
async fn until_writes_accepted(kit: &Kit, client: &Client) {
    let started = Instant::now();
    while let Err(error) = client.connection().set::<_, _, ()>("key", 3).await {
        assert!(started.elapsed() < BOUND, "{error}");
        kit.sleep(Duration::from_millis(10)).await;
    }
}

async fn sentinel_connection_moves_to_next_sentinel(kit: Kit) {
    let topology = kit.topology();
    let client = kit.client_of_topology(&topology).await;
    let mut sentinel = client.sentinel_connection().await.unwrap();
    let ckquorum = redis::cmd("SENTINEL").arg("CKQUORUM").arg("mymaster").take();
    let answer: String = ckquorum.query_async(&mut sentinel).await.unwrap();
    assert!(answer.starts_with("OK 3 usable Sentinels"), "{answer}");
    let mut pipeline = redis::pipe();
    pipeline.cmd("PING").cmd("SENTINEL").arg("MASTERS");
    let (pong, masters): (String, Vec<redis::Value>) = pipeline.query_async(&mut sentinel).await.unwrap();
    assert_eq!((pong.as_str(), masters.len()), ("PONG", 1));

    let address = sentinel.address().to_string();
    let dead = topology.sentinels().iter().find(|server| server.address().to_string() == address).unwrap();
    dead.kill().unwrap();
    let answer: String = ckquorum.query_async(&mut sentinel).await.unwrap();
    assert!(answer.starts_with("OK"), "{answer}");
    assert_ne!(sentinel.address().to_string(), address);
    // Commands that change state are not retried when their outcome is unknown.
    let address = sentinel.address().to_string();
    let hung = topology.sentinels().iter().find(|server| server.address().to_string() == address).unwrap();
    hung.hang().unwrap();
    let reset = redis::cmd("SENTINEL").arg("RESET").arg("nosuch").take();
    let mark_unconfirmed = reset.query_async::<i64>(&mut sentinel).await.unwrap_err();
    assert_eq!(mark_unconfirmed.outcome(), Outcome::MaybeApplied, "{mark_unconfirmed}");
    assert_eq!(reset.query_async::<i64>(&mut sentinel).await.unwrap(), 0, "the next one");
    hung.resume().unwrap();
}

async fn sentinel_connection_refuses_unsupported_commands(kit: Kit) {
    let topology = kit.topology();
    let client = kit.client_of_topology(&topology).await;
    let mut sentinel = client.sentinel_connection().await.unwrap();
    let mut atomic = redis::pipe();
    atomic.atomic().cmd("PING");
    let error = atomic.query_async::<(String,)>(&mut sentinel).await.unwrap_err();
    assert!(error.client_error().unwrap().is_refused_command(), "{error}");
    let subscribe = redis::cmd("SUBSCRIBE").arg("+sdown").query_async::<()>(&mut sentinel).await.unwrap_err();
    assert!(subscribe.client_error().unwrap().is_refused_command(), "{subscribe}");
    topology.sentinels().iter().for_each(|sentinel| sentinel.kill().unwrap());
    let error = redis::cmd("PING").query_async::<String>(&mut sentinel).await.unwrap_err().to_string();
    assert!(error.contains("no Sentinel could be reached"), "{error}");
    client.close().await;
    assert!(client.sentinel_connection().await.unwrap_err().is_closed());

    let direct = kit.client(config("redis://127.0.0.1:1"));
    assert!(direct.sentinel_connection().await.unwrap_err().is_config());
}
