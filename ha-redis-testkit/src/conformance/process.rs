//! Runs a client in a process of its own, so that an abort ends only that process and is detected.

use std::env;
use std::os::unix::process::CommandExt;
use std::panic;
use std::process::{self, Command};
use std::thread;
use std::time::Duration;

use futures_lite::future::block_on;
use redis::AsyncCommands;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::kit::{Kit, config};
use super::rest::{IdleConnections, kill_connections};
use super::{Harness, Started};
use crate::{Environment, Server};

tests![
    exits_after_close,
    exits_after_drop,
    exits_with_client_open,
    exits_after_runtime_shutdown,
    exits_after_client_kill,
    exits_after_server_kill,
    exits_after_server_restart,
    exits_with_hung_server,
    survives_descriptor_exhaustion,
    survives_thread_exhaustion,
];

/// The environment variable that names the harness and the way in which the process ends.
const PROGRAM: &str = "HA_REDIS_CONFORMANCE_PROGRAM";

/// A way in which the program ends, after its connections have carried large values and have been idle.
type End = fn(Started, Server, IdleConnections);

const ENDS: &[(&str, End)] = &[
    ("close", |_started, _server, connections| block_on(connections.check_close())),
    ("drop", |_started, _server, connections| drop(connections)),
    ("leave", |started, server, connections| {
        drop(server);
        std::mem::forget((started, connections));
    }),
    ("runtime ends", |started, _server, connections| {
        drop(started);
        drop(connections);
    }),
    ("connections killed", |_started, server, connections| {
        kill_connections([&server]);
        block_on(connections.check_all_work());
    }),
    ("server killed", |_started, server, connections| {
        server.kill().unwrap();
        block_on(connections.check_calls_fail());
    }),
    ("server restarts", |_started, server, connections| {
        server.restart().unwrap();
        block_on(connections.check_all_work());
    }),
    ("server hangs", |_started, server, connections| {
        server.hang().unwrap();
        block_on(connections.check_calls_fail());
    }),
    ("few descriptors", |started, server, connections| {
        let kit = Kit::new("few descriptors", started.runtime.clone(), Environment::Plain);
        block_on(run_out_of_descriptors(&kit, &server));
        block_on(connections.check_all_work());
    }),
    ("no threads", |started, server, connections| {
        let kit = Kit::new("no threads", started.runtime.clone(), Environment::Plain);
        block_on(run_out_of_threads(&kit, &server));
        block_on(connections.check_all_work());
    }),
];

/// Lowers the limit on threads, so that the process can start no more.
async fn run_out_of_threads(kit: &Kit, server: &Server) {
    let named = |ssl| {
        let settings = config(&server.url()).to_builder().host("localhost").ssl(ssl);
        settings.failover_wait(Duration::from_millis(500)).build().unwrap()
    };
    let limit = getrlimit(Resource::Nproc);
    setrlimit(Resource::Nproc, Rlimit { current: Some(0), ..limit }).unwrap();
    thread::Builder::new().spawn(|| ()).expect_err("the thread limit has no effect");
    // Calls that need no new thread succeed, and others return an error that names the cause.
    let client = kit.client_of(server).await;
    client.connection().set::<_, _, ()>("key", 1).await.unwrap();
    for ssl in [false, true] {
        let error = kit.connect(named(ssl)).await.unwrap_err();
        assert!(error.to_string().contains("thread") && error.is_connection(), "{error}");
    }
    // A large reply is freed on a separate thread if one can be started.
    let mut many = redis::cmd("EVAL");
    many.arg("local t = {} for i = 1, 400000 do t[i] = i end return t").arg(0);
    let limited = config(&server.url()).to_builder().max_reply_bytes(20 << 20).build().unwrap();
    let limited = kit.connect(limited).await.unwrap();
    let error = many.query_async::<redis::Value>(&mut limited.connection()).await.unwrap_err();
    assert!(error.to_string().contains("max_reply_bytes"), "{error}");
    let waiting = kit.connect(named(false));
    setrlimit(Resource::Nproc, limit).unwrap();
    waiting.await.unwrap().connection().set::<_, _, ()>("key", 2).await.unwrap();
}

/// Opens connections until no descriptors are left, and continues with the open ones.
async fn run_out_of_descriptors(kit: &Kit, server: &Server) {
    let short = Duration::from_millis(500);
    let settings = config(&server.url()).to_builder().max_connections(200).socket_timeout(short);
    let client = kit.connect(settings.failover_wait(short).build().unwrap()).await.unwrap();
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(40), ..limit }).unwrap();
    let (mut own, mut errors) = (Vec::new(), Vec::new());
    while errors.len() < 3 {
        assert!(own.len() < 40);
        match client.dedicated().await {
            Ok(connection) => own.push(connection),
            Err(error) => errors.push(error.to_string()),
        }
    }
    assert!(errors.iter().all(|error| error.to_lowercase().contains("open files")), "{errors:?}");
    // Calls that need no new descriptor succeed, and others return an error that names the cause.
    client.connection().set::<_, _, ()>("key", 1).await.unwrap();
    let error = kit.connect(config(&server.url())).await.unwrap_err();
    assert!(error.is_connection() && error.to_string().to_lowercase().contains("open files"), "{error}");
    let error = client.pubsub().await.map(drop).unwrap_err().to_string();
    assert!(error.to_lowercase().contains("open files"), "{error}");
    drop(own);
    let mut again = client.dedicated().await.unwrap();
    again.set::<_, _, ()>("key", 2).await.unwrap();
    setrlimit(Resource::Nofile, limit).unwrap();
    client.pubsub().await.unwrap().subscribe("news").await.unwrap();
}

/// Runs the program instead of the suite if the environment variable is set.
pub(super) fn run_program_if_set(harnesses: &[Harness]) {
    let Ok(program) = env::var(PROGRAM) else { return };
    let (harness, end) = program.split_once(' ').unwrap();
    let harness = harnesses.iter().find(|other| other.name == harness).unwrap();
    let (_, end) = ENDS.iter().find(|(name, _)| *name == end).unwrap();
    let report = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        // This includes panics in a task, which a runtime would catch.
        report(panic);
        process::exit(101);
    }));
    let started = (harness.start)();
    let kit = Kit::new(harness.name, started.runtime.clone(), Environment::Plain);
    let server = Server::start().unwrap();
    let connections =
        block_on(async { IdleConnections::open_and_idle(&kit, kit.client_of(&server).await).await });
    end(started, server, connections);
    process::exit(0);
}

fn assert_exits_cleanly(kit: &Kit, end: &str) {
    run_program(kit, end, None);
}

fn run_program(kit: &Kit, end: &str, user: Option<u32>) {
    let program = format!("{} {end}", kit.harness);
    let mut command = Command::new(env::current_exe().unwrap());
    if let Some(user) = user {
        command.uid(user);
    }
    let output = command.env(PROGRAM, program).output().unwrap();
    assert!(output.status.success(), "{}: {}", output.status, String::from_utf8_lossy(&output.stderr));
}

async fn exits_after_close(kit: Kit) {
    assert_exits_cleanly(&kit, "close");
}

async fn exits_after_drop(kit: Kit) {
    assert_exits_cleanly(&kit, "drop");
}

async fn exits_with_client_open(kit: Kit) {
    assert_exits_cleanly(&kit, "leave");
}

async fn exits_after_runtime_shutdown(kit: Kit) {
    assert_exits_cleanly(&kit, "runtime ends");
}

async fn exits_after_client_kill(kit: Kit) {
    assert_exits_cleanly(&kit, "connections killed");
}

async fn exits_after_server_kill(kit: Kit) {
    assert_exits_cleanly(&kit, "server killed");
}

async fn exits_after_server_restart(kit: Kit) {
    assert_exits_cleanly(&kit, "server restarts");
}

async fn exits_with_hung_server(kit: Kit) {
    assert_exits_cleanly(&kit, "server hangs");
}

async fn survives_descriptor_exhaustion(kit: Kit) {
    assert_exits_cleanly(&kit, "few descriptors");
}

async fn survives_thread_exhaustion(kit: Kit) {
    // The limit does not apply to root.
    let nobody = rustix::process::geteuid().is_root().then_some(65_534);
    run_program(&kit, "no threads", nobody);
}
