//! The callers: the demo, in a process of the host or of a container.

use std::env;
use std::fmt;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use serde::Deserialize;

use super::engine::mount_compose;
use super::fault::Fault;
use super::image::Images;
use super::stack::{Container, Profile, Stack, ca_folder};
use crate::output::{self, count, millis};

/// How long callers may take until they get answers from a master, which is longer than any failover.
const ANSWERED_WITHIN: Duration = Duration::from_secs(40);
/// How long callers may take for their last calls and their summary.
const FINISHED_WITHIN: Duration = Duration::from_secs(60);
/// The name of the callers' container.
pub(super) const CONTAINER: &str = "ha-redis-compose-test-callers";

/// Where callers run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Location {
    Host,
    Container,
}

impl Location {
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
    pub(super) location: Location,
    process: Child,
    /// What they print while they run.
    progress: Receiver<String>,
}

/// Starts callers that expect the fault.
pub(super) fn start(
    stack: &Stack<'_>,
    images: &Images<'_>,
    location: Location,
    fault: Fault,
) -> Result<Callers, String> {
    let mut command = match location {
        Location::Host => {
            let program = env::current_exe()
                .map_err(|error| format!("the path of this program is unknown: {error}"))?;
            Command::new(program)
        }
        Location::Container => in_container(stack, images),
    };
    let profile = stack.profile.name();
    let settings = match location {
        Location::Host => host_settings(stack.profile)?,
        Location::Container => format!("/compose/{profile}/container.env").into(),
    };
    command.args(["demo", "--json", "--until-eof", "--fault", fault.demo_fault(), "--dotenv"]).arg(settings);
    command.current_dir(output::workspace());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut process = command.spawn().map_err(|error| format!("the callers cannot be started: {error}"))?;
    let (sender, progress) = mpsc::channel();
    let lines = process.stderr.take().map(|errors| BufReader::new(errors).lines());
    // Ends with the process. Nothing else empties the pipe.
    thread::spawn(move || {
        lines.into_iter().flatten().map_while(Result::ok).for_each(|line| drop(sender.send(line)))
    });
    Ok(Callers { location, process, progress })
}

/// Returns the file with the settings of the host, which names the test's own CA.
fn host_settings(profile: Profile) -> Result<PathBuf, String> {
    let path = output::workspace().join("compose").join(profile.name()).join("host.env");
    let copy = output::folder("compose").join(format!("{}-host.env", profile.name()));
    let ca = ca_folder().display().to_string();
    let written =
        fs::read_to_string(&path).and_then(|text| fs::write(&copy, text.replace("compose/tls/ca", &ca)));
    written.map_err(|error| format!("{} cannot be copied to {}: {error}", path.display(), copy.display()))?;
    Ok(copy)
}

fn in_container(stack: &Stack<'_>, images: &Images<'_>) -> Command {
    let mut docker = Command::new("docker");
    docker.args(["run", "--rm", "--interactive", "--name", CONTAINER, "--network", &stack.network()]);
    docker.args(["--mount", &mount_compose()]);
    if stack.profile == Profile::Tls {
        docker.args(["--volume", &format!("{}:/certificates:ro", stack.volume("certificates"))]);
    }
    docker.args([images.callers, "callers"]);
    docker
}

impl Callers {
    /// Waits until the callers have got answers from this master.
    pub(super) fn wait_for_answers(&self, master: &Container) -> Result<(), String> {
        let name = format!("master {}:", master.address);
        let start = Instant::now();
        let mut printed = Vec::new();
        loop {
            match self.progress.recv_timeout(ANSWERED_WITHIN.saturating_sub(start.elapsed())) {
                Ok(line) if line.contains(&name) && !line.contains("no answers") => return Ok(()),
                Ok(line) => printed.push(line),
                Err(_) => {
                    let (location, printed) = (self.location.name(), printed.join("; "));
                    return Err(format!("the callers {location} got no answer from {name} {printed}"));
                }
            }
        }
    }

    /// Lets the callers finish.
    pub(super) fn finish(mut self) -> Result<Summary, String> {
        drop(self.process.stdin.take());
        let mut stdout = self.process.stdout.take().ok_or("the callers have no output")?;
        let (sender, summary) = mpsc::channel();
        thread::spawn(move || {
            let mut text = Vec::new();
            let read = stdout.read_to_end(&mut text).map(|_| text);
            // The receiver may have given up.
            let _ = sender.send(read);
        });
        let text = summary.recv_timeout(FINISHED_WITHIN).ok().and_then(Result::ok).unwrap_or_default();
        serde_json::from_slice(&text).map_err(|error| {
            let printed: Vec<String> = self.progress.try_iter().collect();
            format!("the callers {} gave no summary ({error}): {}", self.location.name(), printed.join("; "))
        })
    }
}

impl Drop for Callers {
    fn drop(&mut self) {
        // A container's callers end with the containers.
        let _ = self.process.kill();
        let _ = self.process.wait();
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
