//! The container engine of this machine, and its Compose tool.

use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// How long a server in a container may take until it answers.
const REACHED_WITHIN: Duration = Duration::from_secs(20);

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

    /// Starts one server as `docker-compose.yml` does, and connects to its port. An engine on another machine, or outside
    /// of this container, may have neither this folder nor this network.
    pub(super) fn check_server(&self, image: &str) -> Result<(), String> {
        let folder = format!("{}:/compose:ro", crate::output::workspace().join("compose").display());
        let options = ["--publish", "127.0.0.1:0:6379", "--volume", &folder, "--tmpfs", "/data"];
        let command = ["--env", "PORT=6379", "--entrypoint", "sh", image, "/compose/start.sh", "server"];
        let id = self.docker(&[&["run", "--detach"], &options[..], &command].concat())?;
        let answers = self.wait_for_ping(&id);
        let logs = self.docker(&["logs", "--tail", "5", &id]).unwrap_or_default();
        self.docker(&["rm", "--force", "--volumes", &id])?;
        answers.map_err(|error| format!("a server in a container cannot be reached: {error} {logs}"))
    }

    fn wait_for_ping(&self, id: &str) -> Result<(), String> {
        let address = self.docker(&["port", id, "6379"])?;
        let start = Instant::now();
        loop {
            match ping(&address) {
                Err(error) if start.elapsed() > REACHED_WITHIN => return Err(format!("{address}: {error}")),
                Err(_) => thread::sleep(Duration::from_millis(50)),
                Ok(()) => return Ok(()),
            }
        }
    }

    /// Runs `docker` and returns what it printed.
    pub(super) fn docker(&self, arguments: &[impl AsRef<OsStr>]) -> Result<String, String> {
        output(Command::new("docker").args(arguments))
    }
}

/// Sends PING to a server.
fn ping(address: &str) -> io::Result<()> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(REACHED_WITHIN))?;
    stream.write_all(b"PING\r\n")?;
    let mut reply = [0; 5];
    stream.read_exact(&mut reply)?;
    if &reply == b"+PONG" { Ok(()) } else { Err(io::Error::other(reply.escape_ascii().to_string())) }
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
