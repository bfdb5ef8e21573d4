//! The container engine of this machine, and its Compose tool.

use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::output::workspace;

/// How long a server in a container may take until it answers.
const REACHED_WITHIN: Duration = Duration::from_secs(20);

/// The container that [`Engine::check_machine`] starts.
const PROBE: &str = "ha-redis-compose-test-probe";

/// A Docker engine that answers, and a Compose tool.
#[derive(Clone, Copy, Debug)]
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
        run(Command::new("docker").args(["info", "--format", "{{.ServerVersion}}"]))
            .map_err(|reason| format!("there is no Docker engine that answers ({reason})"))?;
        let tools: [&[&str]; 2] = [&["docker", "compose"], &["docker-compose"]];
        let found = tools.into_iter().find(|tool| run(command(tool).arg("version")).is_ok());
        found.map(|compose| Self { compose }).ok_or_else(|| {
            "neither `docker compose` nor `docker-compose` is installed; install Docker Compose".into()
        })
    }

    /// Returns the Compose tool, with the file of this project and without the user's own settings.
    pub(super) fn compose(&self) -> Command {
        let mut compose = command(self.compose);
        compose.args(["--file", "docker-compose.yml"]).current_dir(workspace());
        ["COMPOSE_FILE", "COMPOSE_PROFILES", "REDIS_PORT"]
            .iter()
            .for_each(|name| _ = compose.env_remove(name));
        compose
    }

    /// Runs `docker` and returns what it printed.
    pub(super) fn docker(&self, arguments: &[impl AsRef<OsStr>]) -> Result<String, String> {
        run(Command::new("docker").args(arguments))
    }

    /// Checks that containers of this image see this folder, and that the engine publishes their ports here. An engine on
    /// another machine, or outside of this container, may have neither.
    pub(super) fn check_machine(&self, image: &str) -> Result<(), String> {
        let mount = mount_compose();
        let container = ["run", "--detach", "--name", PROBE, "--publish", "127.0.0.1:0:6379"];
        let server = ["--entrypoint", "redis-server", image, "--protected-mode", "no"];
        self.remove_container(PROBE);
        let started = self.docker(&[&container[..], &["--mount", &mount], &server].concat());
        let usable = started.and_then(|_| {
            self.docker(&["exec", PROBE, "cat", "/compose/start.sh"])
                .map_err(|error| format!("containers do not see this folder: {error}"))?;
            self.wait_for_ping(PROBE)
        });
        self.remove_container(PROBE);
        usable
    }

    /// Removes a container, if it is there.
    pub(super) fn remove_container(&self, name: &str) {
        let _ = self.docker(&["rm", "--force", "--volumes", name]);
    }

    fn wait_for_ping(&self, container: &str) -> Result<(), String> {
        let address = self.docker(&["port", container, "6379"])?;
        let start = Instant::now();
        loop {
            match ping(&address) {
                Err(error) if start.elapsed() > REACHED_WITHIN => {
                    return Err(format!("ports of containers are not reached at {address}: {error}"));
                }
                Err(_) => thread::sleep(Duration::from_millis(50)),
                Ok(()) => return Ok(()),
            }
        }
    }
}

/// Returns the option of `docker run --mount` for the folder `compose`.
pub(super) fn mount_compose() -> String {
    format!("type=bind,source={},target=/compose,readonly", workspace().join("compose").display())
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
pub(super) fn run(command: &mut Command) -> Result<String, String> {
    let words: Vec<_> = command.get_args().map(|word| word.to_string_lossy().into_owned()).collect();
    let name = format!("{} {}", command.get_program().display(), words.join(" "));
    let output = command.stdin(Stdio::null()).output().map_err(|error| format!("`{name}`: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
    }
    let (printed, errors) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    Err(format!("`{name}` failed: {} {}", printed.trim(), errors.trim()))
}
