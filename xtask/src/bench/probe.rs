//! Runs the measuring program `ha-redis-bench`, one process per measurement.

use std::env;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use super::figures::Figures;
use super::plan::{Case, Client};

const PACKAGE: &str = "ha-redis-bench";
/// The threads of async-std and smol. The program itself sets those of Tokio.
const WORKERS: &str = "2";

/// Builds the program and returns its path.
pub(super) fn build() -> Result<PathBuf, String> {
    eprintln!("Building the clients.");
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--release", "--package", PACKAGE, "--message-format", "json-render-diagnostics"]);
    let output =
        cargo.stderr(Stdio::inherit()).output().map_err(|error| format!("cannot run cargo: {error}"))?;
    if !output.status.success() {
        return Err(format!("{PACKAGE} could not be built"));
    }
    let messages = String::from_utf8_lossy(&output.stdout);
    let mut executables = messages.lines().filter_map(|line| {
        let message: Value = serde_json::from_str(line).ok()?;
        message["executable"].as_str().map(PathBuf::from)
    });
    executables.next_back().ok_or_else(|| format!("cargo did not report the path of {PACKAGE}"))
}

/// Measures clients against one server.
#[derive(Debug)]
pub(super) struct Probe {
    program: PathBuf,
    url: String,
    seconds: f64,
}

impl Probe {
    pub(super) fn new(program: PathBuf, url: String, seconds: f64) -> Self {
        Self { program, url, seconds }
    }

    pub(super) fn measure(&self, client: Client, case: Case) -> Result<Figures, String> {
        let mut command = Command::new(&self.program);
        command.args(self.arguments(client, case)).arg("--seconds").arg(self.seconds.to_string());
        command.env("ASYNC_STD_THREAD_COUNT", WORKERS).env("SMOL_THREADS", WORKERS);
        let output = run(&mut command, client)?;
        serde_json::from_slice(&output.stdout)
            .map_err(|error| format!("cannot read the figures of {}: {error}", client.name()))
    }

    /// Returns callgrind's output for `client` making this many calls on one thread.
    pub(super) fn count_instructions(
        &self,
        client: Client,
        case: Case,
        calls: u64,
    ) -> Result<String, String> {
        let mut command = Command::new("valgrind");
        command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]).arg(&self.program);
        command.args(self.arguments(client, case)).args(["--workers", "0", "--calls", &calls.to_string()]);
        let output = run(&mut command, client)?;
        Ok(String::from_utf8_lossy(&output.stderr).into_owned())
    }

    fn arguments(&self, client: Client, case: Case) -> Vec<String> {
        let tasks = case.tasks.to_string();
        let words = ["--url", &self.url, "--client", client.name(), "--tasks", &tasks];
        words.into_iter().chain(["--workload", case.workload.name()]).map(str::to_owned).collect()
    }
}

fn run(command: &mut Command, client: Client) -> Result<Output, String> {
    let program = command.get_program().display().to_string();
    let output = command.output().map_err(|error| format!("cannot run {program}: {error}"))?;
    if !output.status.success() {
        let output = String::from_utf8_lossy(&output.stderr);
        return Err(format!("the measurement of {} failed: {}", client.name(), output.trim()));
    }
    Ok(output)
}
