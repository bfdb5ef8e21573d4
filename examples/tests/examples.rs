//! Runs every example against a real server.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

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
    for expected in ["user:1:name = Alice", "counter = 1, then 6", "took job1", "deleted 4 keys"] {
        assert!(out.contains(expected), "{expected} in:\n{out}");
    }
}

#[test]
fn worker() {
    let server = Server::start().unwrap();
    let out = output(env!("CARGO_BIN_EXE_worker"), &server.url(), &[]);
    assert!(out.contains("3 jobs done"), "{out}");
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
    let out = output(env!("CARGO_BIN_EXE_failover"), &topology.url(), &["20"]);
    assert!(out.contains("2 of 2 replicas healthy, 3 of 3 Sentinels answer"), "{out}");
    let count = topology.master().unwrap().query(&["GET", "example:count"]).unwrap();
    assert_eq!(count.text(), Some("20"));
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
