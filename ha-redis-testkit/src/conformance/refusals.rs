//! Tests refusals by a server: the outcome of the command, and whether the call waits until the refusal ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::kit::{Kit, blocked_clients, calls, settings};
use crate::{Answer, Proxy, ScriptedServer, Server};
use ha_redis_core::{Client, Connection, Outcome, RedisConfigBuilder, RedisErrorExt};
use redis::{AsyncCommands, Cmd, ErrorKind, RedisError, RedisResult, Script, ServerErrorKind, Value};

tests! {
    everywhere: [
        type_conversion_error_outcome_is_ran,
        health_check_reports_refusal_immediately,
        all_calls_wait_for_demoted_server,
        all_calls_wait_for_enough_replicas,
        function_refused_before_run,
        blocking_call_survives_demotion,
        blocking_call_survives_manual_failover,
        blocking_call_unblocked_by_operator_fails,
        transaction_error_lists_each_command,
    ],
    plain: [
        native_command_error_is_not_applied,
        script_or_module_error_may_be_partial,
        temporary_refusal_outlasts_three_attempts,
        permanent_refusal_fails_fast,
        refusal_wait_respects_deadlines,
        lost_reply_outcome_survives_later_refusal,
        refusal_returned_after_server_gone,
        partial_pipeline_outcome_survives_later_attempts,
    ],
}

/// Starts a server that answers every command of a caller with this line.
fn refusing(line: &str) -> (ScriptedServer, Arc<AtomicUsize>) {
    let (attempts, answer) = (Arc::new(AtomicUsize::new(0)), format!("-{line}\r\n"));
    let counter = Arc::clone(&attempts);
    let server = ScriptedServer::start(move |_, _: &[String]| {
        counter.fetch_add(1, Ordering::SeqCst);
        Answer::from(answer.as_str())
    });
    (server.unwrap(), attempts)
}

/// Returns settings with a short wait.
fn short_wait_settings(server: &ScriptedServer) -> RedisConfigBuilder {
    settings(&server.url()).failover_wait(Duration::from_millis(200))
}

fn command_from(line: &str) -> Cmd {
    let mut cmd = Cmd::new();
    line.split(' ').for_each(|arg| _ = cmd.arg(arg));
    cmd
}

/// Returns the error of a command that the server answers with `line`, and how often the server received the
/// command.
async fn error_and_attempts(kit: &Kit, command: &str, line: &str) -> (RedisError, usize) {
    let (server, attempts) = refusing(line);
    let client = kit.connect(short_wait_settings(&server).build().unwrap()).await.unwrap();
    let error = command_from(command).exec_async(&mut client.connection()).await.unwrap_err();
    assert_eq!(error.code(), line.split(' ').next(), "{command}: the code is the server's");
    let text = line.split_once(' ').map_or("", |(_, text)| text);
    assert!(error.to_string().contains(text), "{command}: {error} does not contain {text}");
    (error, attempts.load(Ordering::SeqCst))
}

/// Error codes with the server's own texts, and whether each is temporary.
const NATIVE_ERRORS: &[(&str, bool)] = &[
    ("READONLY You can't write against a read only replica.", true),
    ("LOADING Redis is loading the dataset in memory", true),
    ("LOADING Valkey is loading the dataset in memory", true),
    ("MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.", true),
    ("CLUSTERDOWN The cluster is down", true),
    ("TRYAGAIN Multiple keys request during rehashing of slot", true),
    ("NOREPLICAS Not enough good replicas to write.", true),
    ("REDIRECT 127.0.0.1:6379", true),
    ("MOVED 3999 127.0.0.1:6381", true),
    ("ASK 3999 127.0.0.1:6381", true),
    ("UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)", true),
    ("UNBLOCKED client unblocked via CLIENT UNBLOCK", false),
    ("OOM command not allowed when used memory > 'maxmemory'.", false),
    (
        "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.",
        false,
    ),
    ("BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.", false),
    ("NOAUTH Authentication required.", false),
    ("NOPERM this user has no permissions to run the 'incr' command", false),
    ("WRONGTYPE Operation against a key holding the wrong kind of value", false),
    ("ERR unknown command 'INCR', with args beginning with: 'n' ", false),
    ("ERR wrong number of arguments for 'incr' command", false),
    ("ERR value is not an integer or out of range", false),
    ("CROSSSLOT Keys in request don't hash to the same slot", false),
    ("BUSYGROUP Consumer Group name already exists", false),
];

async fn native_command_error_is_not_applied(kit: Kit) {
    for (line, passes) in NATIVE_ERRORS {
        let (error, attempts) = error_and_attempts(&kit, "INCR n", line).await;
        assert_eq!(error.outcome(), Outcome::NotApplied, "{line}");
        assert_eq!(attempts > 1, *passes, "{line}: {attempts} attempts");
    }
    // MIGRATE may have moved some of its keys.
    let (error, _) =
        error_and_attempts(&kit, "MIGRATE h 1 k 0 9", "IOERR error or timeout reading to target instance")
            .await;
    assert_eq!(error.outcome(), Outcome::Ran);
}

async fn script_or_module_error_may_be_partial(kit: Kit) {
    let ran = [
        ("EVAL s 0", "ERR limit reached"),
        ("EVALSHA 1234 0", "TRYAGAIN later"),
        ("EVAL s 0", "MYCODE of my own"),
        // A script may return an error that it got from `pcall`.
        ("EVAL s 0", "WRONGTYPE Operation against a key holding the wrong kind of value"),
        ("EVAL s 0", "OOM command not allowed when used memory > 'maxmemory'."),
        ("FCALL f 0", "ERR value is not an integer or out of range script: f, on @user_function:3."),
        ("JSON.SET k $.a 1", "ERR new objects must be created at the root"),
    ];
    for (command, line) in ran {
        let (error, attempts) = error_and_attempts(&kit, command, line).await;
        assert_eq!((error.outcome(), attempts), (Outcome::Ran, 1), "{command}: {line}");
    }
    // These are sent before the script begins, or at its first write.
    let read_only = "You can't write against a read only replica.";
    let not_applied = [
        (
            "EVAL s 0",
            "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
            false,
        ),
        ("EVALSHA 1234 0", "NOSCRIPT No matching script. Please use EVAL.", false),
        ("EVAL s 0", "NOAUTH Authentication required.", false),
        ("EVAL s 0", "NOPERM this user has no permissions to run the 'eval' command", false),
        ("FCALL f 0", "OOM command not allowed when used memory > 'maxmemory'.", false),
        (
            "EVAL s 0",
            "OOM allow-oom flag is not set on the script, can not run it when used memory > 'maxmemory'",
            false,
        ),
        (
            "EVAL s 0",
            "OOM command not allowed when used memory > 'maxmemory'. script: f_1, on @user_script:1.",
            false,
        ),
        ("EVAL s 0", "ERR wrong number of arguments for 'eval' command", false),
        (
            "EVAL s 0",
            "ERR Error compiling script (new function): user_script:1: '=' expected near 'is'",
            false,
        ),
        ("FCALL f 0", "ERR Function not found", false),
        ("JSON.SET k $.a 1", "ERR unknown command 'JSON.SET', with args beginning with: 'k' ", false),
        ("JSON.SET k $.a 1", "READONLY You can't write against a read only replica.", true),
        ("FCALL f 0", "READONLY Can not run script with write flag on readonly replica", true),
        ("FCALL f 0", "NOREPLICAS Not enough good replicas to write.", true),
        ("EVAL s 0", &format!("READONLY {read_only} script: f_1, on @user_script:1."), true),
        ("EVAL s 0", "CLUSTERDOWN Hash slot not served", true),
    ];
    for (command, line, passes) in not_applied {
        let (error, attempts) = error_and_attempts(&kit, command, line).await;
        assert_eq!((error.outcome(), attempts > 1), (Outcome::NotApplied, passes), "{command}: {line}");
    }
    // Before Redis 7, every error inside a script is wrapped in an `ERR`.
    let around = "Error running script (call to f_1): @user_script:1: @user_script: 1:";
    let (error, attempts) =
        error_and_attempts(&kit, "EVAL s 0", &format!("ERR {around} -READONLY {read_only} ")).await;
    assert!(error.outcome() == Outcome::NotApplied && attempts > 1, "{error}: {attempts} attempts");
    let (error, attempts) =
        error_and_attempts(&kit, "EVAL s 0", &format!("ERR {around} WRONGTYPE Operation against")).await;
    assert_eq!((error.outcome(), attempts), (Outcome::Ran, 1));
}

async fn type_conversion_error_outcome_is_ran(kit: Kit) {
    let server = kit.server();
    let mut redis = kit.client_of(&server).await.connection();
    let error = redis.incr::<_, _, Vec<i64>>("n", 1).await.unwrap_err();
    assert_eq!(error.outcome(), Outcome::Ran, "{error}");
    assert_eq!(redis.get::<_, i64>("n").await.unwrap(), 1);
}

async fn temporary_refusal_outlasts_three_attempts(kit: Kit) {
    for (line, passes) in NATIVE_ERRORS.iter().filter(|(_, passes)| *passes) {
        let mut refusals = 5;
        let answer = format!("-{line}\r\n");
        let server = ScriptedServer::start(move |_, _: &[String]| {
            refusals -= i32::from(refusals > 0);
            if refusals > 0 { Answer::from(answer.as_str()) } else { ":1\r\n".into() }
        });
        let server = server.unwrap();
        // Waiting for the refusal to end needs no retry attempt and no budget.
        let settings = settings(&server.url()).retry_attempts(0).retry_budget(0).max_in_flight(1);
        let client = kit.connect(settings.build().unwrap()).await.unwrap();
        let count = client.connection().incr::<_, _, i64>("n", 1).await;
        assert_eq!(count, Ok(1), "{line}: {passes}");
    }
}

async fn permanent_refusal_fails_fast(kit: Kit) {
    let (server, attempts) = refusing("OOM command not allowed when used memory > 'maxmemory'.");
    let client = kit.connect(settings(&server.url()).build().unwrap()).await.unwrap();
    let error =
        client.retry(|mut redis| async move { redis.incr::<_, _, i64>("n", 1).await }).await.unwrap_err();
    assert_eq!((error.code(), attempts.load(Ordering::SeqCst)), (Some("OOM"), 1));
    let mut pipeline = redis::pipe();
    pipeline.incr("n", 1).cmd("NOSUCH");
    let (server, attempts) = refusing("ERR unknown command");
    let client = kit.connect(settings(&server.url()).build().unwrap()).await.unwrap();
    pipeline.exec_async(&mut client.connection()).await.unwrap_err();
    assert_eq!(attempts.load(Ordering::SeqCst), 2, "each command once");
}

async fn refusal_wait_respects_deadlines(kit: Kit) {
    let (server, _) = refusing("READONLY You can't write against a read only replica.");
    let long_wait = settings(&server.url()).failover_wait(Duration::from_secs(3600)).build().unwrap();
    let client = kit.connect(long_wait).await.unwrap();
    let mut with_deadline = client.connection().with_timeout(Duration::from_millis(300));
    let error =
        kit.within("the deadline ends it", with_deadline.incr::<_, _, i64>("n", 1)).await.unwrap_err();
    assert_eq!((error.code(), error.outcome()), (Some("READONLY"), Outcome::NotApplied));
    let client = kit.connect(short_wait_settings(&server).build().unwrap()).await.unwrap();
    let waiting = kit.within("failover_wait ends it", async {
        client.connection().incr::<_, _, i64>("n", 1).await.unwrap_err()
    });
    let error = waiting.await;
    assert!(error.is_read_only() && error.outcome() == Outcome::NotApplied, "{error}");
}

async fn health_check_reports_refusal_immediately(kit: Kit) {
    let server = kit.server_builder().config("replica-serve-stale-data no").start().unwrap();
    let client = kit.client_of(&server).await;
    server.query(&["REPLICAOF", "127.0.0.1", "1"]).unwrap();
    let health = kit.within("the health check ends", client.health_check()).await;
    let error = health.error.unwrap();
    assert!(error.to_string().contains("MasterDown"), "{error}");
    assert!(!error.is_timeout(), "{error}");
}

async fn lost_reply_outcome_survives_later_refusal(kit: Kit) {
    for line in ["OOM command not allowed when used memory > 'maxmemory'.", "READONLY You can't write"] {
        let (mut first, answer) = (true, format!("-{line}\r\n"));
        let server = ScriptedServer::start(move |_, _: &[String]| match std::mem::take(&mut first) {
            true => Answer::Close(Vec::new()),
            false => answer.as_str().into(),
        });
        let server = server.unwrap();
        let client = kit.connect(short_wait_settings(&server).build().unwrap()).await.unwrap();
        let error = client.connection().set::<_, _, ()>("key", 1).await.unwrap_err();
        assert_eq!(error.outcome(), Outcome::MaybeApplied, "{error}");
        assert!(error.to_string().contains(line.split_once(' ').unwrap().1), "{error}");
    }
}

/// Returns a connection to a server that sends these answers and then goes away for good.
async fn connection_closed_after(kit: &Kit, answers: &[&'static str]) -> (ScriptedServer, Proxy, Connection) {
    let mut remaining: Vec<_> = answers.iter().rev().copied().collect();
    let server = ScriptedServer::start(move |_, _: &[String]| match remaining.pop() {
        Some(answer) if remaining.is_empty() => Answer::Close(answer.into()),
        Some(answer) => answer.into(),
        None => Answer::Silence,
    });
    let server = server.unwrap();
    let proxy = Proxy::start(server.address()).unwrap();
    let short_wait = settings(&proxy.url()).failover_wait(Duration::from_millis(300));
    let client = kit.connect(short_wait.build().unwrap()).await.unwrap();
    proxy.refuse();
    (server, proxy, client.connection())
}

async fn refusal_returned_after_server_gone(kit: Kit) {
    let refusal = "-NOREPLICAS Not enough good replicas to write.\r\n";
    let (_server, _proxy, mut redis) = connection_closed_after(&kit, &[refusal]).await;
    let error = redis.incr::<_, _, i64>("n", 1).await.unwrap_err();
    assert_eq!((error.code(), error.outcome()), (Some("NOREPLICAS"), Outcome::NotApplied), "{error}");
}

async fn partial_pipeline_outcome_survives_later_attempts(kit: Kit) {
    let refusal = "-READONLY You can't write against a read only replica.\r\n";
    let (_server, _proxy, mut redis) = connection_closed_after(&kit, &["+OK\r\n", refusal]).await;
    let mut pipeline = redis::pipe();
    pipeline.set("a", 1).set("b", 2);
    let error = pipeline.exec_async(&mut redis).await.unwrap_err();
    assert_eq!(error.outcome(), Outcome::MaybeApplied, "the first SET has run: {error}");
}

const SHEBANG: &str = "#!lua\nreturn redis.call('INCR', KEYS[1])";

async fn load_function(client: &Client) -> RedisResult<()> {
    let library = "#!lua name=mylib\nredis.register_function('f', function(keys) return redis.call('INCR', keys[1]) end)";
    redis::cmd("FUNCTION").arg("LOAD").arg(library).exec_async(&mut client.connection()).await
}

/// Runs every kind of writing call in a task of its own. All of them increment a counter.
fn calls_of_every_kind(kit: &Kit, client: &Client) -> Vec<super::kit::Spawned<RedisResult<()>>> {
    let run = |call: &'static str| {
        let mut redis = client.connection();
        kit.spawn(async move {
            match call {
                "command" => redis.incr("n", 1).await,
                "pipeline" => redis::pipe().incr("n", 1).incr("m", 1).exec_async(&mut redis).await,
                "transaction" => redis::pipe().atomic().incr("n", 1).exec_async(&mut redis).await,
                "script" => {
                    let script = Script::new("return redis.call('INCR', KEYS[1])");
                    script.key("n").invoke_async(&mut redis).await
                }
                "script with flags" => Script::new(SHEBANG).key("n").invoke_async(&mut redis).await,
                _ => redis::cmd("FCALL").arg("f").arg(1).arg("n").exec_async(&mut redis).await,
            }
        })
    };
    ["command", "pipeline", "transaction", "script", "script with flags", "function"].map(run).into()
}

async fn all_calls_wait_for_demoted_server(kit: Kit) {
    let server = kit.server();
    let client =
        kit.connect(settings(&server.url()).failover_wait(super::kit::BOUND).build().unwrap()).await.unwrap();
    load_function(&client).await.unwrap();
    // The master is unreachable, so the server copies no data from it.
    server.query(&["REPLICAOF", "127.0.0.1", "1"]).unwrap();
    let waiting = calls_of_every_kind(&kit, &client);
    let rejected = || {
        let stats = server.query(&["INFO", "errorstats"]).unwrap();
        let line =
            stats.text().unwrap().lines().find_map(|line| line.strip_prefix("errorstat_READONLY:count="));
        line.map_or(0, |count| count.trim().parse::<u64>().unwrap())
    };
    kit.until("each call was refused more often than the retry limit", || rejected() > 60).await;
    server.query(&["REPLICAOF", "NO", "ONE"]).unwrap();
    kit.all(waiting).await.into_iter().for_each(|done| done.unwrap());
    assert_eq!(client.connection().get::<_, i64>("n").await.unwrap(), 6);
}

async fn all_calls_wait_for_enough_replicas(kit: Kit) {
    let server = kit.server();
    let client =
        kit.connect(settings(&server.url()).failover_wait(super::kit::BOUND).build().unwrap()).await.unwrap();
    load_function(&client).await.unwrap();
    server.query(&["CONFIG", "SET", "min-replicas-to-write", "1"]).unwrap();
    let mut waiting = calls_of_every_kind(&kit, &client);
    let mut own = client.dedicated().await.unwrap();
    waiting.push(kit.spawn(async move { own.incr("n", 1).await }));
    let rejected = || {
        let stats = server.query(&["INFO", "errorstats"]).unwrap();
        let line =
            stats.text().unwrap().lines().find_map(|line| line.strip_prefix("errorstat_NOREPLICAS:count="));
        line.map_or(0, |count| count.trim().parse::<u64>().unwrap())
    };
    kit.until("each call was refused more often than the retry limit", || rejected() > 60).await;
    assert_eq!(super::kit::connections(&server), 2, "the client keeps its connections");
    server.query(&["CONFIG", "SET", "min-replicas-to-write", "0"]).unwrap();
    kit.all(waiting).await.into_iter().for_each(|done| done.unwrap());
    assert_eq!(client.connection().get::<_, i64>("n").await.unwrap(), 7);
}

async fn function_refused_before_run(kit: Kit) {
    let server = kit.server();
    let client = kit.client_of(&server).await;
    let mut redis = client.connection();
    server.query(&["CONFIG", "SET", "maxmemory", "1"]).unwrap();
    let set = redis::cmd("SET").arg("key").arg(1).take();
    let script = redis::cmd("EVAL").arg(SHEBANG).arg(1).arg("n").take();
    for call in [set, script] {
        let error = call.exec_async(&mut redis).await.unwrap_err();
        assert_eq!((error.code(), error.outcome()), (Some("OOM"), Outcome::NotApplied), "{error}");
    }
    server.query(&["CONFIG", "SET", "maxmemory", "0"]).unwrap();
    let half = "redis.call('INCR', KEYS[1]) return redis.pcall('LPUSH', KEYS[1], 1)";
    let error = redis::cmd("EVAL").arg(half).arg(1).arg("n").exec_async(&mut redis).await.unwrap_err();
    assert_eq!((error.code(), error.outcome()), (Some("WRONGTYPE"), Outcome::Ran), "{error}");
    assert_eq!(redis.get::<_, i64>("n").await.unwrap(), 1);
}

/// Starts a master and its replica.
fn pair(kit: &Kit) -> (Server, Server) {
    let master = kit.server();
    let replica = kit.server_builder().replica_of(&master).start().unwrap();
    (master, replica)
}

fn pop(kit: &Kit, client: &Client) -> super::kit::Spawned<RedisResult<(String, String)>> {
    let mut redis = client.connection();
    kit.spawn(async move { redis.blpop("queue", 0.0).await })
}

fn has_role(server: &Server, role: &str) -> bool {
    server.query(&["ROLE"]).unwrap().items()[0].text() == Some(role)
}

async fn blocking_call_survives_demotion(kit: Kit) {
    let (server, other) = (kit.server(), kit.server());
    let client = kit.client_of(&server).await;
    let popping = pop(&kit, &client);
    kit.until("BLPOP waits", || blocked_clients(&server) == 1).await;
    server.query(&["REPLICAOF", "127.0.0.1", &other.port().to_string()]).unwrap();
    kit.until("BLPOP is refused", || rejected_pops(&server) > 0).await;
    server.query(&["REPLICAOF", "NO", "ONE"]).unwrap();
    kit.until("BLPOP waits again", || blocked_clients(&server) == 1).await;
    server.query(&["RPUSH", "queue", "job"]).unwrap();
    assert_eq!(popping.end().await.unwrap().1, "job");
}

fn rejected_pops(server: &Server) -> u64 {
    let stats = server.query(&["INFO", "commandstats"]).unwrap();
    let line =
        stats.text().unwrap().lines().find(|line| line.starts_with("cmdstat_blpop:")).map(str::to_owned);
    let count = line.and_then(|line| line.split("rejected_calls=").nth(1)?.split(',').next()?.parse().ok());
    count.unwrap_or(0)
}

async fn blocking_call_survives_manual_failover(kit: Kit) {
    let (server, replica) = pair(&kit);
    let client =
        kit.connect(settings(&server.url()).failover_wait(super::kit::BOUND).build().unwrap()).await.unwrap();
    let popping = pop(&kit, &client);
    kit.until("BLPOP waits", || blocked_clients(&server) == 1).await;
    let synced = |replica: &Server| {
        let info = replica.query(&["INFO", "replication"]).unwrap();
        info.field("master_link_status") == Some("up")
    };
    kit.until("the replica is synchronized", || synced(&replica)).await;
    server.query(&["FAILOVER"]).unwrap();
    kit.until("the roles are swapped", || has_role(&replica, "master") && has_role(&server, "slave")).await;
    kit.until("the old master is synchronized", || synced(&server)).await;
    replica.query(&["FAILOVER"]).unwrap();
    kit.until("the roles are swapped back", || has_role(&server, "master")).await;
    kit.until("BLPOP waits again", || blocked_clients(&server) == 1).await;
    server.query(&["RPUSH", "queue", "job"]).unwrap();
    assert_eq!(popping.end().await.unwrap().1, "job");
}

async fn blocking_call_unblocked_by_operator_fails(kit: Kit) {
    let server = kit.server();
    let client = kit.client_of(&server).await;
    let popping = pop(&kit, &client);
    kit.until("BLPOP waits", || blocked_clients(&server) == 1).await;
    let list = server.query(&["CLIENT", "LIST"]).unwrap();
    let blocked = list.text().unwrap().lines().find(|line| line.contains("cmd=blpop")).unwrap().to_owned();
    let id = blocked.split(' ').next().unwrap().trim_start_matches("id=");
    server.query(&["CLIENT", "UNBLOCK", id, "ERROR"]).unwrap();
    let error = popping.end().await.unwrap_err();
    assert_eq!((error.code(), error.outcome()), (Some("UNBLOCKED"), Outcome::NotApplied));
    assert_eq!(calls(&server, "blpop"), 1);
}

async fn transaction_error_lists_each_command(kit: Kit) {
    let server = kit.server();
    let mut redis = kit.client_of(&server).await.connection();
    let script = "redis.call('INCR', KEYS[1]) return redis.error_reply('ERR limit reached')";
    let mut transaction = redis::pipe();
    transaction.atomic().set("text", "a").incr("text", 1).cmd("EVAL").arg(script).arg(1).arg("n");
    let error = transaction.exec_async(&mut redis).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Server(ServerErrorKind::ResponseError));
    assert_eq!(error.outcome(), Outcome::Ran, "the rest of the transaction ran: {error}");
    let each: Vec<RedisResult<Value>> = transaction.ignore_errors().query_async(&mut redis).await.unwrap();
    let outcomes = each.into_iter().map(|each| each.err().map(|error| error.outcome()));
    assert_eq!(outcomes.collect::<Vec<_>>(), [None, Some(Outcome::NotApplied), Some(Outcome::Ran)]);
}
