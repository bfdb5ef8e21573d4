//! The callers: the demo, in a process of the host or of a container.

use std::env;
use std::fmt;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use serde::Deserialize;

use super::fault::Fault;
use super::image::Images;
use super::stack::{Container, Profile, Stack};
use crate::output::{self, count, millis};

/// How long callers may print nothing. They print a line a second.
const ANSWERED_WITHIN: Duration = Duration::from_secs(20);
/// The name of the callers' container.
pub(super) const CONTAINER: &str = "ha-redis-compose-test-callers";

/// Where callers run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Host,
    Container,
}

impl Place {
    pub(super) const ALL: [Self; 2] = [Self::Host, Self::Container];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Host => "from the host",
            Self::Container => "from a container",
        }
    }
}

/// Running callers. They end when this is dropped.
#[derive(Debug)]
pub(super) struct Callers {
    pub(super) place: Place,
    process: Child,
    /// What they print while they run.
    progress: Receiver<String>,
}

/// Starts callers that expect the fault.
pub(super) fn start(
    stack: &Stack<'_>,
    images: &Images<'_>,
    place: Place,
    fault: Fault,
) -> Result<Callers, String> {
    let mut command = match place {
        Place::Host => {
            let program = env::current_exe()
                .map_err(|error| format!("the path of this program is unknown: {error}"))?;
            Command::new(program)
        }
        Place::Container => in_container(stack, images),
    };
    let profile = stack.profile.name();
    let settings = match place {
        Place::Host => format!("compose/{profile}/host.env"),
        Place::Container => format!("/compose/{profile}/container.env"),
    };
    command.args(["demo", "--json", "--until-eof", "--dotenv", &settings, "--fault", fault.in_demo()]);
    command.current_dir(output::workspace());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut process = command.spawn().map_err(|error| format!("the callers cannot be started: {error}"))?;
    let (sender, progress) = mpsc::channel();
    let lines = process.stderr.take().map(|errors| BufReader::new(errors).lines());
    // Ends with the process. Nothing else empties the pipe.
    thread::spawn(move || {
        lines.into_iter().flatten().map_while(Result::ok).for_each(|line| drop(sender.send(line)))
    });
    Ok(Callers { place, process, progress })
}

fn in_container(stack: &Stack<'_>, images: &Images<'_>) -> Command {
    let mut docker = Command::new("docker");
    docker.args(["run", "--rm", "--interactive", "--name", CONTAINER, "--network", &stack.network()]);
    let compose = format!("{}:/compose:ro", output::workspace().join("compose").display());
    docker.args(["--volume", &compose]);
    if stack.profile == Profile::Tls {
        docker.args(["--volume", &format!("{}:/certificates:ro", stack.volume("certificates"))]);
    }
    docker.args([&images.callers, "callers"]);
    docker
}

impl Callers {
    /// Waits until the callers have got answers from this master.
    pub(super) fn wait_for_answers(&self, master: &Container) -> Result<(), String> {
        let name = format!("master {}:", master.address);
        let mut printed = Vec::new();
        loop {
            match self.progress.recv_timeout(ANSWERED_WITHIN) {
                Ok(line) if line.contains(&name) && !line.contains("no answers") => return Ok(()),
                Ok(line) => printed.push(line),
                Err(_) => {
                    let (place, printed) = (self.place.name(), printed.join("; "));
                    return Err(format!("the callers {place} got no answer from {name} {printed}"));
                }
            }
        }
    }

    /// Lets the callers finish.
    pub(super) fn finish(mut self) -> Result<Summary, String> {
        drop(self.process.stdin.take());
        let output =
            self.process.wait_with_output().map_err(|error| format!("the callers are lost: {error}"))?;
        serde_json::from_slice(&output.stdout).map_err(|error| {
            let printed: Vec<String> = self.progress.iter().collect();
            format!("the callers {} gave no summary ({error}): {}", self.place.name(), printed.join("; "))
        })
    }
}

/// What this test reads of the demo's summary.
#[derive(Debug, Deserialize)]
pub(super) struct Summary {
    pub(super) kept: bool,
    operations_total: u64,
    longest_pause_ms: f64,
    error_examples: Vec<String>,
    promises: Vec<Promise>,
}

#[derive(Debug, Deserialize)]
struct Promise {
    promise: String,
    kept: bool,
    measured: String,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (calls, pause) = (count(self.operations_total), millis(self.longest_pause_ms));
        write!(f, "{calls} calls answered, longest pause {pause}")?;
        for Promise { promise, measured, .. } in self.promises.iter().filter(|promise| !promise.kept) {
            write!(f, "\n    broken: {promise}: {measured}")?;
        }
        let examples = self.error_examples.iter().filter(|_| !self.kept);
        examples.into_iter().try_for_each(|example| write!(f, "\n    such as {example}"))
    }
}
