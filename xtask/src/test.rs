//! `cargo xtask test`: runs every test, against real servers.

use std::env;
use std::ffi::OsString;
use std::process::{Command, ExitCode, ExitStatus, Stdio};
use std::thread;

use ha_redis_testkit::binary;

use crate::{Outcome, compose, servers};

/// Run all tests, with cargo-nextest where it is installed; a Redis server is unpacked into target/ if there is none
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Passed to the test runner: `cargo xtask test -- name_of_a_test`
    #[arg(last = true)]
    runner_arguments: Vec<OsString>,
}

/// The variables that set a runner's number of threads when its own options do not.
const THREADS: [&str; 2] = ["NEXTEST_TEST_THREADS", "RUST_TEST_THREADS"];

/// Runs the test of docker-compose.yml, the doc tests, then all others. If the first one succeeds, the runner's summary
/// comes last, and its status is the result.
pub(crate) fn run(options: &Options) -> Outcome {
    let server = servers::ensure()?;
    eprintln!("Testing against {}.", server.display());

    let containers = if options.runner_arguments.is_empty() { compose::run_where_possible() } else { Ok(()) };
    if let Err(message) = &containers {
        eprintln!("FAILED: the test of docker-compose.yml: {message}");
    }

    // nextest does not run doc tests.
    let mut doc_tests = cargo();
    doc_tests.args(["test", "--workspace", "--all-features", "--doc"]).env(binary::VARIABLE, &server);
    let doc_tests = execute(&mut doc_tests)?;
    if !doc_tests.success() {
        return Ok(exit_code(doc_tests));
    }
    let mut runner = cargo();
    if has_nextest() {
        runner.args(["nextest", "run", "--workspace", "--all-features"]);
    } else {
        let targets = ["--lib", "--bins", "--tests", "--examples"];
        runner.args(["test", "--workspace", "--all-features", "--no-fail-fast"]).args(targets);
    }
    runner.args(&options.runner_arguments).env(binary::VARIABLE, &server);
    for variable in THREADS.into_iter().filter(|variable| env::var_os(variable).is_none()) {
        runner.env(variable, threads().to_string());
    }
    let tests = execute(&mut runner)?;
    containers
        .map(|()| exit_code(tests))
        .map_err(|message| format!("the test of docker-compose.yml failed: {message}"))
}

/// Returns the number of threads. Tests mostly wait for servers, so there are more threads than processors.
fn threads() -> usize {
    2 * thread::available_parallelism().map_or(2, usize::from)
}

fn has_nextest() -> bool {
    let mut question = cargo();
    question.args(["nextest", "--version"]).stdout(Stdio::null()).stderr(Stdio::null());
    question.status().is_ok_and(|status| status.success())
}

/// Returns the cargo that runs this program.
pub(crate) fn cargo() -> Command {
    Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

pub(crate) fn execute(command: &mut Command) -> Result<ExitStatus, String> {
    command.status().map_err(|error| format!("cannot run cargo: {error}"))
}

pub(crate) fn exit_code(status: ExitStatus) -> ExitCode {
    // A runner that a signal ended has no exit status.
    status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from)
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    #[test]
    fn runner_status_returned() {
        for code in [0, 1, 100] {
            let status = ExitStatus::from_raw(i32::from(code) << 8);
            assert_eq!(format!("{:?}", exit_code(status)), format!("{:?}", ExitCode::from(code)));
        }
        let killed = ExitStatus::from_raw(9);
        assert_eq!(format!("{:?}", exit_code(killed)), format!("{:?}", ExitCode::FAILURE));
    }
}
