//! The container engine of this machine, and its Compose tool.

use std::ffi::OsStr;
use std::process::{Command, Stdio};

/// A Docker engine that answers, and a Compose tool.
#[derive(Debug)]
pub(super) struct Engine {
    /// `docker compose`, or `docker-compose` before version 2.
    compose: &'static [&'static str],
}

impl Engine {
    /// Finds the engine.
    ///
    /// # Errors
    ///
    /// Why there is none.
    pub(super) fn find() -> Result<Self, String> {
        output(Command::new("docker").args(["info", "--format", "{{.ServerVersion}}"]))
            .map_err(|reason| format!("there is no Docker engine that answers ({reason})"))?;
        let tools: [&[&str]; 2] = [&["docker", "compose"], &["docker-compose"]];
        let found = tools.into_iter().find(|tool| output(command(tool).arg("version")).is_ok());
        found.map(|compose| Self { compose }).ok_or_else(|| {
            "neither `docker compose` nor `docker-compose` is installed; install Docker Compose".into()
        })
    }

    /// Returns the Compose tool, to be run in the folder of the workspace.
    pub(super) fn compose(&self) -> Command {
        let mut compose = command(self.compose);
        compose.current_dir(crate::output::workspace());
        compose
    }

    /// Runs `docker` and returns what it printed.
    pub(super) fn docker(&self, arguments: &[impl AsRef<OsStr>]) -> Result<String, String> {
        output(Command::new("docker").args(arguments))
    }
}

fn command(words: &[&str]) -> Command {
    let mut command = Command::new(words[0]);
    command.args(&words[1..]);
    command
}

/// Runs a command and returns what it printed.
///
/// # Errors
///
/// The command and what it printed as its error.
pub(super) fn output(command: &mut Command) -> Result<String, String> {
    let name = format!("{} {}", command.get_program().display(), words(command));
    let output = command.stdin(Stdio::null()).output().map_err(|error| format!("`{name}`: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
    }
    let (printed, errors) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    Err(format!("`{name}` failed: {} {}", printed.trim(), errors.trim()))
}

fn words(command: &Command) -> String {
    command.get_args().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}
