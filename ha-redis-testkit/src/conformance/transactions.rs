//! Tests what an atomic pipeline returns: its own values, or an error that names the problem.

use super::kit::{Kit, calls};
use crate::{Answer, ScriptedServer, Server};
use ha_redis_core::{Client, Outcome, RedisErrorExt};
use redis::{AsyncCommands, ErrorKind, Pipeline, RedisError, ServerErrorKind, Value};

tests! {
    everywhere: [
        unqueued_commands_refused_in_atomic_pipeline,
        atomic_pipeline_after_open_multi_is_an_error,
        changed_watch_returns_nil,
        refused_transaction_not_retried_without_watch,
    ],
    plain: [
        aborted_transaction_same_error_as_redis_rs,
        commands_ran_when_multi_forbidden,
        non_transaction_replies_rejected,
    ],
}

fn transfer() -> Pipeline {
    let mut pipeline = redis::pipe();
    pipeline.atomic().get("balance").get("limit");
    pipeline
}

async fn account(client: &Client) {
    let mut redis = client.connection();
    redis.mset::<_, _, ()>(&[("balance", 100), ("limit", 7), ("other", 1)]).await.unwrap();
}

async fn unqueued_commands_refused_in_atomic_pipeline(kit: Kit) {
    let server = kit.server();
    let client = kit.client_of(&server).await;
    account(&client).await;
    let mut own = client.dedicated().await.unwrap();
    for command in ["WATCH", "MULTI", "EXEC", "DISCARD"] {
        let mut pipeline = redis::pipe();
        pipeline.atomic().cmd(command);
        if command == "WATCH" {
            pipeline.arg("balance");
        }
        pipeline.ignore().get("balance").get("limit");
        let error = pipeline.query_async::<(i64, i64)>(&mut own).await.unwrap_err();
        assert_eq!(error.outcome(), Outcome::NotSent, "{command}: {error}");
        assert!(error.client_error().is_some_and(|error| error.is_refused_command()), "{command}: {error}");
        let error = pipeline.query_async::<(i64, i64)>(&mut client.connection()).await.unwrap_err();
        assert!(error.to_string().contains("atomic pipeline"), "{command}: {error}");
    }
    assert_eq!(calls(&server, "multi"), 0);
    assert_eq!(transfer().query_async::<(i64, i64)>(&mut own).await.unwrap(), (100, 7));
}

async fn atomic_pipeline_after_open_multi_is_an_error(kit: Kit) {
    let server = kit.server();
    let client = kit.client_of(&server).await;
    account(&client).await;
    let mut own = client.dedicated().await.unwrap();
    redis::cmd("MULTI").exec_async(&mut own).await.unwrap();
    redis::cmd("GET").arg("other").exec_async(&mut own).await.unwrap();
    let error = transfer().query_async::<(i64, i64)>(&mut own).await.unwrap_err();
    assert!(error.to_string().contains("MULTI calls can not be nested"), "{error}");
    assert_eq!(error.outcome(), Outcome::Ran, "EXEC ran the whole transaction: {error}");
    assert!(error.client_error().is_some_and(|error| error.is_refused_command()), "{error}");
    // That EXEC has also ended the transaction that was opened by hand.
    assert_eq!(transfer().query_async::<(i64, i64)>(&mut own).await.unwrap(), (100, 7));
}

/// Returns the error of this pipeline on a connection of redis-rs.
fn redis_rs_error(server: &Server, pipeline: &Pipeline) -> RedisError {
    let client = redis::Client::open(server.url()).unwrap();
    let mut connection = client.get_connection().unwrap();
    pipeline.query::<Value>(&mut connection).unwrap_err()
}

fn assert_same(ours: RedisError, theirs: RedisError) {
    assert_eq!(ours.to_string(), theirs.to_string());
    assert_eq!((ours.kind(), ours.code()), (theirs.kind(), theirs.code()));
    assert_eq!((ours.category(), ours.detail()), (theirs.category(), theirs.detail()));
    assert_eq!(ours.into_server_errors(), theirs.into_server_errors());
}

async fn aborted_transaction_same_error_as_redis_rs(kit: Kit) {
    let server = kit.server();
    let client = kit.client_of(&server).await;
    let mut pipeline = redis::pipe();
    pipeline.atomic().get("a").cmd("NOSUCHCOMMAND").get("b").cmd("GET").incr("n", 1);
    for dedicated in [false, true] {
        let ours = match dedicated {
            true => pipeline.query_async::<Value>(&mut client.dedicated().await.unwrap()).await,
            false => pipeline.query_async::<Value>(&mut client.connection()).await,
        };
        let ours = ours.unwrap_err();
        assert_eq!(ours.outcome(), Outcome::NotApplied, "{ours}");
        let errors = ours.clone().into_server_errors().unwrap();
        assert_eq!(errors.iter().map(|(index, _)| *index).collect::<Vec<_>>(), [1, 3], "{ours}");
        assert_same(ours, redis_rs_error(&server, &pipeline));
    }
    server.query(&["CONFIG", "SET", "maxmemory", "1"]).unwrap();
    let mut pipeline = redis::pipe();
    pipeline.atomic().set("a", 1).set("b", 2);
    let ours = pipeline.query_async::<Value>(&mut client.connection()).await.unwrap_err();
    assert_eq!(
        (ours.kind(), ours.outcome()),
        (ErrorKind::Server(ServerErrorKind::ExecAbort), Outcome::NotApplied)
    );
    assert_same(ours, redis_rs_error(&server, &pipeline));
    let mut failing = redis::pipe();
    failing.atomic().cmd("DBSIZE").cmd("LPOP").arg("a").arg("no number").cmd("DBSIZE");
    server.query(&["CONFIG", "SET", "maxmemory", "0"]).unwrap();
    let ours = failing.query_async::<Value>(&mut client.connection()).await.unwrap_err();
    assert_eq!(ours.outcome(), Outcome::Ran, "one command of a transaction that ran: {ours}");
    assert_same(ours, redis_rs_error(&server, &failing));
}

async fn commands_ran_when_multi_forbidden(kit: Kit) {
    let server = kit.server_builder().user("app", "on >pw ~* +@all -multi").start().unwrap();
    let url = server.url().replace("redis://", "redis://app:pw@");
    let client = kit.connect(super::kit::config(&url)).await.unwrap();
    let mut transaction = redis::pipe();
    transaction.atomic().incr("n", 1).incr("n", 1);
    let error = transaction.query_async::<(i64, i64)>(&mut client.connection()).await.unwrap_err();
    assert!(error.to_string().contains("no permissions to run the 'multi' command"), "{error}");
    assert_eq!(error.outcome(), Outcome::Ran, "{error}");
    assert_eq!(server.query(&["GET", "n"]).unwrap().text(), Some("2"), "once each, without a transaction");
}

async fn non_transaction_replies_rejected(kit: Kit) {
    // The replies to MULTI, to two commands and to EXEC, and the expected outcome.
    let cases: &[([&str; 4], Outcome)] = &[
        (["+OK", "+QUEUED", "+QUEUED", "*1\r\n:1"], Outcome::Ran),
        (["+OK", "+QUEUED", "+QUEUED", "*3\r\n:1\r\n:2\r\n:3"], Outcome::Ran),
        (["+OK", "-ERR WATCH inside MULTI is not allowed", "+QUEUED", "*1\r\n:1"], Outcome::Ran),
        (["+OK", "-ERR no", "+QUEUED", "*2\r\n:1\r\n:2"], Outcome::Ran),
        (["+OK", "+OK", "+QUEUED", "*2\r\n:1\r\n:2"], Outcome::Ran),
        (["+QUEUED", "+QUEUED", "+QUEUED", "*2\r\n:1\r\n:2"], Outcome::Ran),
        (["+OK", "+QUEUED", "+QUEUED", "+OK"], Outcome::Ran),
        (["-ERR no", ":1", ":2", "-ERR EXEC without MULTI"], Outcome::Ran),
        (["-NOAUTH Authentication required.", "-NOAUTH no", "-NOAUTH no", "-NOAUTH no"], Outcome::NotApplied),
        (["-ERR no", "-ERR no", "-ERR no", "-ERR EXEC without MULTI"], Outcome::NotApplied),
        (
            ["+OK", "+QUEUED", "+QUEUED", "-EXECABORT Transaction discarded because of: OOM no"],
            Outcome::NotApplied,
        ),
        (["+OK", "+QUEUED", "+QUEUED", "-MISCONF no"], Outcome::NotApplied),
    ];
    for (replies, outcome) in cases {
        let mut next = 0;
        let server = ScriptedServer::start(move |_, _: &[String]| {
            next += 1;
            Answer::from(format!("{}\r\n", replies[(next - 1) % 4]).as_str())
        });
        let server = server.unwrap();
        let client = kit.connect(super::kit::config(&server.url())).await.unwrap();
        let mut own = client.dedicated().await.unwrap();
        for dedicated in [false, true] {
            let error = match dedicated {
                true => transfer().query_async::<(i64, i64)>(&mut own).await,
                false => transfer().query_async::<(i64, i64)>(&mut client.connection()).await,
            };
            let error = error.expect_err(replies[3]);
            assert_eq!(error.outcome(), *outcome, "{replies:?}: {error}");
        }
    }
}

async fn changed_watch_returns_nil(kit: Kit) {
    let server = kit.server();
    let client = kit.client_of(&server).await;
    account(&client).await;
    let mut own = client.dedicated().await.unwrap();
    redis::cmd("WATCH").arg("balance").exec_async(&mut own).await.unwrap();
    client.connection().incr::<_, _, ()>("balance", 1).await.unwrap();
    assert_eq!(transfer().query_async::<Option<(i64, i64)>>(&mut own).await.unwrap(), None);
    assert_eq!(transfer().query_async::<Option<(i64, i64)>>(&mut own).await.unwrap(), Some((101, 7)));
}

/// A refused EXEC clears the keys that WATCH has marked.
async fn refused_transaction_not_retried_without_watch(kit: Kit) {
    let server = kit.server();
    let client = kit.client_of(&server).await;
    account(&client).await;
    let mut own = client.dedicated().await.unwrap();
    redis::cmd("WATCH").arg("balance").exec_async(&mut own).await.unwrap();
    let balance: i64 = own.get("balance").await.unwrap();
    server.query(&["CONFIG", "SET", "min-replicas-to-write", "1"]).unwrap();
    let mut withdrawal = redis::pipe();
    withdrawal.atomic().set("balance", balance - 30).ignore();
    let others = async {
        kit.until("the refusal", || calls(&server, "exec") > 0).await;
        server.query(&["CONFIG", "SET", "min-replicas-to-write", "0"]).unwrap();
        client.connection().set::<_, _, ()>("balance", 10).await.unwrap();
    };
    let withdrawn = withdrawal.exec_async(&mut own);
    let (withdrawn, ()) = futures_lite::future::zip(withdrawn, others).await;
    assert_eq!(withdrawn.unwrap_err().outcome(), Outcome::NotApplied);
    assert_eq!(client.connection().get::<_, i64>("balance").await.unwrap(), 10, "an update was lost");
}
