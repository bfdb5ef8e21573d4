//! The machine and the versions of a run.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::{env, fs, thread};

use ha_redis_testkit::binary;
use serde::Serialize;

use super::plan::Client;
use crate::output;

/// What the figures depend on besides the clients.
#[derive(Debug, Serialize)]
pub(super) struct Machine {
    /// The day of the run.
    pub(super) date: String,
    processor: String,
    processors: usize,
    system: String,
    rust: String,
    server: String,
}

impl Machine {
    pub(super) fn here(server: &Path) -> Self {
        Self {
            date: command_output("date", &["-u", "+%F"]),
            processor: processor().unwrap_or_else(|| env::consts::ARCH.to_owned()),
            processors: thread::available_parallelism().map_or(1, usize::from),
            system: command_output("uname", &["-sr"]),
            rust: command_output("rustc", &["--version"]),
            server: binary::version(server)
                .map_or_else(|_| "unknown".to_owned(), |version| short_version(&version)),
        }
    }

    pub(super) fn text(&self) -> String {
        let Self { processor, processors, system, rust, server, .. } = self;
        format!("{processors} × {processor}, {system}, {server}, {rust}")
    }
}

fn processor() -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    let (_, name) = text.lines().find(|line| line.starts_with("model name"))?.split_once(':')?;
    Some(name.trim().to_owned())
}

fn command_output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    text.unwrap_or_else(|_| "unknown".to_owned())
}

/// Extracts `Redis 7.0.15` from `Redis server v=7.0.15 sha=00000000:0 …`.
fn short_version(version: &str) -> String {
    let mut words = version.split_whitespace();
    let name = words.next().unwrap_or("unknown");
    let number = words.find_map(|word| word.strip_prefix("v="));
    number.map_or_else(|| version.to_owned(), |number| format!("{name} {number}"))
}

/// Returns the versions of the clients' packages, from the lock file.
pub(super) fn versions(clients: &[Client]) -> BTreeMap<&'static str, String> {
    let lock = fs::read_to_string(output::workspace().join("Cargo.lock")).unwrap_or_default();
    let packages = clients.iter().filter_map(|client| client.package());
    packages.filter_map(|package| Some((package, version(&lock, package)?))).collect()
}

fn version(lock: &str, package: &str) -> Option<String> {
    let (_, after) = lock.split_once(&format!("name = \"{package}\"\nversion = \""))?;
    after.split_once('"').map(|(version, _)| version.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_found_in_lock_file() {
        assert_eq!(short_version("Redis server v=7.0.15 sha=0 malloc=jemalloc"), "Redis 7.0.15");
        let lock = "[[package]]\nname = \"redis-protocol\"\nversion = \"6.0.0\"\n\n\
                    [[package]]\nname = \"redis\"\nversion = \"1.8.1\"\n";
        assert_eq!(version(lock, "redis").as_deref(), Some("1.8.1"));
    }
}
