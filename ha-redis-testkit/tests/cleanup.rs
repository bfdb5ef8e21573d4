//! Tests that nothing is left behind, however the process with the handles ends.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::env;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use ha_redis_testkit::{Server, Topology};
use rustix::process::{Pid, Signal, kill_process_group, test_kill_process};

/// The environment variable that tells the child process how to end.
const END: &str = "HA_REDIS_TESTKIT_END";

/// What one server leaves if nobody cleans up.
struct Traces {
    pid: Pid,
    folder: PathBuf,
}

impl Traces {
    fn no_trace_is_left(&self) -> bool {
        test_kill_process(self.pid).is_err() && !self.folder.exists()
    }
}

/// Not a test by itself. The other tests run it in a process of its own.
#[test]
#[ignore = "the tests of this file run it in processes of their own"]
fn holder() {
    let Ok(end) = env::var(END) else { return };
    let topology = Topology::start().unwrap();
    topology.hang_master().unwrap();
    for server in topology.servers().iter().chain(topology.sentinels()) {
        println!("server {} {}", server.pid(), server.folder().display());
    }
    println!("ready");
    // Continues when the other side closes the pipe, unless it has already ended this process.
    io::stdin().read_to_end(&mut Vec::new()).unwrap();
    match end.as_str() {
        "panic" => panic!("requested by the test"),
        "exit" => std::process::exit(0),
        "abort" => std::process::abort(),
        _ => {}
    }
}

/// Starts a holder process, and returns it with the traces of its servers once all of them run.
fn start_holder(end: &str) -> (Child, Vec<Traces>) {
    let mut holder = Command::new(env::current_exe().unwrap())
        .args(["--exact", "holder", "--ignored", "--nocapture"])
        .env(END, end)
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(holder.stdout.take().unwrap()).lines().map(Result::unwrap);
    let traces: Vec<Traces> = lines
        .take_while(|line| line != "ready")
        .filter_map(|line| {
            // The test harness writes into the first line.
            let (_, traces) = line.split_once("server ")?;
            let (pid, folder) = traces.split_once(' ')?;
            Some(Traces { pid: Pid::from_raw(pid.parse().unwrap()).unwrap(), folder: folder.into() })
        })
        .collect();
    assert_eq!(traces.len(), 6);
    assert!(!traces.iter().any(Traces::no_trace_is_left));
    (holder, traces)
}

fn wait_until_gone(traces: &[Traces]) {
    let start = Instant::now();
    while !traces.iter().all(Traces::no_trace_is_left) {
        assert!(start.elapsed() < Duration::from_secs(10), "servers or folders are left");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn nothing_left_after_sigkill() {
    let (mut holder, traces) = start_holder("never");
    // Test runners kill the whole process group of a test that takes too long.
    kill_process_group(Pid::from_child(&holder), Signal::KILL).unwrap();
    holder.wait().unwrap();
    wait_until_gone(&traces);
}

#[test]
fn nothing_left_after_ctrl_c() {
    let (mut holder, traces) = start_holder("never");
    // A terminal sends the signal to the whole foreground process group.
    kill_process_group(Pid::from_child(&holder), Signal::INT).unwrap();
    assert!(!holder.wait().unwrap().success());
    wait_until_gone(&traces);
}

#[test]
fn nothing_left_after_panic_exit_and_abort() {
    for end in ["panic", "exit", "abort"] {
        let (mut holder, traces) = start_holder(end);
        drop(holder.stdin.take());
        assert_eq!(holder.wait().unwrap().success(), end == "exit");
        wait_until_gone(&traces);
    }
}

#[test]
fn nothing_left_when_drop_returns() {
    let server = Server::start().unwrap();
    let pid = Pid::from_raw(i32::try_from(server.pid()).unwrap()).unwrap();
    let traces = Traces { pid, folder: server.folder().to_owned() };
    assert!(!traces.no_trace_is_left());
    server.hang().unwrap();
    drop(server);
    assert!(traces.no_trace_is_left());
}
