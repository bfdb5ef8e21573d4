//! Runs every example against a real server.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use ha_redis_testkit::{Server, Topology};

fn output(example: &str, url: &str, arguments: &[&str]) -> String {
    let output = Command::new(example).args(arguments).env("REDIS_URL", url).output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}{err}");
    out.into_owned()
}

#[test]
fn operations() {
    let server = Server::start().unwrap();
    let out = output(env!("CARGO_BIN_EXE_operations"), &server.url(), &[]);
    for expected in
        ["name = Alice", "counter = 1, then 6", "took job1", "lock was free: true", "deleted 10 of 10 keys"]
    {
        assert!(out.contains(expected), "{expected} in:\n{out}");
    }
}

#[test]
fn worker() {
    let server = Server::start().unwrap();
    let out = output(env!("CARGO_BIN_EXE_worker"), &server.url(), &[]);
    assert!(out.contains("3 jobs done"), "{out}");
    // Another run has ended before it did this one.
    server.query(&["RPUSH", "example:jobs:worker-1", "job 0"]).unwrap();
    let out = output(env!("CARGO_BIN_EXE_worker"), &server.url(), &[]);
    assert!(out.starts_with("doing job 0\n") && out.contains("4 jobs done"), "{out}");
    assert_eq!(server.query(&["DBSIZE"]).unwrap().integer(), Some(0));
}

#[test]
fn same_output_on_every_runtime() {
    let server = Server::start().unwrap();
    for (example, runtime) in [
        (env!("CARGO_BIN_EXE_on_tokio"), "Tokio"),
        (env!("CARGO_BIN_EXE_on_async_std"), "async-std"),
        (env!("CARGO_BIN_EXE_on_smol"), "smol"),
    ] {
        assert_eq!(output(example, &server.url(), &[]), format!("hello from {runtime}\n"));
    }
}

#[test]
fn system_authorities_trusted() {
    let server = Server::builder().tls().start().unwrap();
    let url = format!("rediss://{}", server.address());
    let run = |authorities: &Path| {
        let mut example = Command::new(env!("CARGO_BIN_EXE_on_tokio"));
        // These replace the system's authorities.
        example.env("REDIS_URL", &url).env("SSL_CERT_FILE", authorities).env_remove("SSL_CERT_DIR");
        example.output().unwrap()
    };
    assert!(run(&server.ca_file()).status.success());
    let untrusted = Server::builder().tls().start().unwrap();
    let refused = run(&untrusted.ca_file());
    let err = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && err.contains("`ssl_ca_certs`"), "{err}");
    let none = run(Path::new("/nowhere"));
    let err = String::from_utf8_lossy(&none.stderr);
    assert!(!none.status.success() && err.contains("the system names no certificate authorities"), "{err}");
}

#[test]
fn failover() {
    let topology = Topology::start().unwrap();
    let mut example = Command::new(env!("CARGO_BIN_EXE_failover"));
    let mut example =
        Running(example.env("REDIS_URL", topology.url()).stdout(Stdio::piped()).spawn().unwrap());
    let mut lines = BufReader::new(example.0.stdout.take().unwrap()).lines().map(Result::unwrap);
    let first = lines.next().unwrap();
    assert!(first.contains("2 of 2 replicas healthy, 3 of 3 Sentinels answer"), "{first}");
    let old = topology.planned_failover().unwrap();
    let report = lines.find(|line| line.contains("took over from")).unwrap();
    let new = topology.wait_for_new_master(old).unwrap();
    let expected = format!("{} took over from {}", new.address(), old.address());
    assert!(report.starts_with(&expected), "{report}");
    assert!(new.query(&["GET", "example:count"]).unwrap().text().is_some());
}

#[test]
fn counting_to_an_end() {
    let server = Server::start().unwrap();
    output(env!("CARGO_BIN_EXE_failover"), &server.url(), &["20"]);
    assert_eq!(server.query(&["GET", "example:count"]).unwrap().text(), Some("20"));
}

#[test]
fn services_share_a_configuration_file() {
    let server = Server::start().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("redis.toml");
    let write = |sessions: &str| {
        // A file that is replaced is never read half-written.
        let next = folder.path().join("next.toml");
        let url = server.url();
        std::fs::write(&next, format!("url = '{url}'\n[cache]\ndb = 2\n[sessions]\n{sessions}")).unwrap();
        std::fs::rename(next, &file).unwrap();
    };
    write("db = 1\n");
    let service = |name: &str| {
        let mut service = Command::new(env!("CARGO_BIN_EXE_shared_configuration"));
        service.arg(name).env("REDIS_CONFIG_FILE", &file).stdout(Stdio::piped());
        service
    };
    let cache = service("cache").output().unwrap();
    let at = format!("redis://{}", server.address());
    assert_eq!(String::from_utf8_lossy(&cache.stdout), format!("cached at {at}/2\n"));

    let mut sessions = Running(service("sessions").spawn().unwrap());
    let mut lines = BufReader::new(sessions.0.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert_eq!(lines.next().unwrap(), format!("connected to {at}/1"));
    write("db = 1\ncall_timeout = '5s'\n");
    assert_eq!(lines.next().unwrap(), "changed: call_timeout");
    write("db = 1\ncall_timeout = 'soon'\n");
    let expected = format!("kept: `call_timeout` from {}:6: found \"soon\", expected", file.display());
    let line = lines.next().unwrap();
    assert!(line.starts_with(&expected), "{line}");
    write("db = 3\n");
    let line = lines.next().unwrap();
    assert!(line.starts_with("kept: ") && line.contains("db"), "{line}");
}

/// A service that runs until the test ends.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn topology_source_follows_file() {
    let (old, new) = (Server::start().unwrap(), Server::start().unwrap());
    new.query(&["REPLICAOF", "127.0.0.1", &old.port().to_string()]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("master");
    let name = |server: &Server| std::fs::write(&file, format!("{}\n", server.address())).unwrap();
    name(&old);
    let mut example = Command::new(env!("CARGO_BIN_EXE_topology_source"))
        .arg("30")
        .env("MASTER_FILE", &file)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(example.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut last = String::new();
    for (number, line) in lines.enumerate() {
        if number == 0 {
            new.query(&["REPLICAOF", "NO", "ONE"]).unwrap();
            old.query(&["REPLICAOF", "127.0.0.1", &new.port().to_string()]).unwrap();
            name(&new);
        }
        last = line;
    }
    assert!(example.wait().unwrap().success(), "no call has failed");
    assert_eq!(last, format!("30 at {}", new.address()));
    assert_eq!(new.query(&["GET", "example:number"]).unwrap().text(), Some("30"));
}
