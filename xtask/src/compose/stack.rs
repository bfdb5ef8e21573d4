//! The containers of a profile.

use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use clap::ValueEnum;

use super::callers;
use super::engine::{Engine, run};
use super::image::Images;
use crate::output::folder;

/// The project's name, so that a user's own containers are left alone.
const PROJECT: &str = "ha-redis-compose-test";
/// The published ports.
pub(super) const PORTS: [u16; 12] =
    [6381, 6382, 6383, 26381, 26382, 26383, 6391, 6392, 6393, 26391, 26392, 26393];
/// How long the servers may take to become healthy. Sentinels look at replicas every ten seconds.
const HEALTHY_WITHIN: Duration = Duration::from_secs(90);

/// A profile of `docker-compose.yml` with a master, two replicas and three Sentinels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Profile {
    Ha,
    Tls,
}

impl Profile {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Ha => "ha",
            Self::Tls => "tls",
        }
    }

    /// Returns the names of the services.
    fn services(self, kind: &str) -> [String; 3] {
        let prefix = if self == Self::Tls { "tls-" } else { "" };
        [1, 2, 3].map(|number| format!("{prefix}{kind}-{number}"))
    }
}

/// The Compose tool for the containers of both profiles.
fn compose(engine: &Engine) -> Command {
    let mut compose = engine.compose();
    compose.args(["--project-name", PROJECT, "--profile", "ha", "--profile", "tls"]);
    compose
}

/// Removes all containers of the test, with their volumes and networks.
pub(super) fn remove(engine: &Engine) -> Result<(), String> {
    engine.remove_container(callers::CONTAINER);
    run(compose(engine).args(["down", "--volumes", "--remove-orphans"])).map(drop)
}

/// The folder with the certificate of the CA.
pub(super) fn ca_folder() -> PathBuf {
    folder("compose").join("ca")
}

/// The running containers of a profile. Dropping this removes them, with their volumes and networks.
#[derive(Debug)]
pub(super) struct Stack<'a> {
    engine: &'a Engine,
    images: &'a Images<'a>,
    pub(super) profile: Profile,
    servers: Vec<Container>,
    sentinels: Vec<Container>,
}

/// A container with a server or a Sentinel.
#[derive(Clone, Debug)]
pub(super) struct Container {
    pub(super) service: String,
    pub(super) id: String,
    /// Its address in the containers' network.
    pub(super) address: String,
}

impl<'a> Stack<'a> {
    /// Starts the containers, and waits until they are healthy.
    pub(super) fn start(
        engine: &'a Engine,
        images: &'a Images<'a>,
        profile: Profile,
    ) -> Result<Self, String> {
        let mut stack = Self { engine, images, profile, servers: Vec::new(), sentinels: Vec::new() };
        let (servers, sentinels) = (profile.services("redis"), profile.services("sentinel"));
        eprintln!("Starting {} and {}.", servers.join(", "), sentinels.join(", "));
        run(stack.compose().args(["up", "-d"]).args(&servers).args(&sentinels))?;
        let container = |service: &String| stack.container(service);
        let servers = servers.iter().map(container).collect::<Result<_, _>>()?;
        let sentinels = sentinels.iter().map(container).collect::<Result<_, _>>()?;
        (stack.servers, stack.sentinels) = (servers, sentinels);
        stack.wait_until_healthy()?;
        Ok(stack)
    }

    fn compose(&self) -> Command {
        let mut compose = compose(self.engine);
        compose.env("REDIS_IMAGE", &self.images.server).env("OPENSSL_IMAGE", &self.images.openssl);
        // The CA's certificate in the source tree may be a user's own.
        compose.env("CA_FOLDER", ca_folder());
        compose
    }

    fn container(&self, service: &str) -> Result<Container, String> {
        let id = run(self.compose().args(["ps", "--quiet", service]))?;
        let format = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}";
        let address = self.docker(&["inspect", "--format", format, &id])?;
        Ok(Container { service: service.to_owned(), id, address })
    }

    pub(super) fn docker(&self, arguments: &[&str]) -> Result<String, String> {
        self.engine.docker(arguments)
    }

    pub(super) fn network(&self) -> String {
        format!("{PROJECT}_default")
    }

    pub(super) fn volume(&self, name: &str) -> String {
        format!("{PROJECT}_{name}")
    }

    pub(super) fn servers(&self) -> &[Container] {
        &self.servers
    }

    pub(super) fn sentinels(&self) -> &[Container] {
        &self.sentinels
    }

    /// Returns the container of the master that the Sentinels name.
    pub(super) fn master(&self) -> Result<&Container, String> {
        let named = self.named_master()?;
        let master = self.servers.iter().find(|server| server.address == named);
        master.ok_or_else(|| format!("the Sentinels name {named}, which is no server of {PROJECT}"))
    }

    /// Returns the address that all Sentinels name.
    fn named_master(&self) -> Result<String, String> {
        let mut named = Vec::new();
        for sentinel in &self.sentinels {
            let reply = self.query(sentinel, &["sentinel", "get-master-addr-by-name", "mymaster"])?;
            named.push(reply.lines().next().unwrap_or_default().to_owned());
        }
        named.dedup();
        match <[String; 1]>::try_from(named) {
            Ok([master]) => Ok(master),
            Err(named) => Err(format!("the Sentinels disagree about the master: {}", named.join(", "))),
        }
    }

    /// Sends a command to a server or Sentinel from within its container.
    pub(super) fn query(&self, container: &Container, command: &[&str]) -> Result<String, String> {
        self.docker(&[&["exec", &container.id, "sh", "/compose/start.sh", "cli"], command].concat())
    }

    /// Waits until all Sentinels name the same master, see nobody down, and two replicas are in sync with it.
    pub(super) fn wait_until_healthy(&self) -> Result<(), String> {
        wait_until("all servers are healthy", || self.check_health())
    }

    fn check_health(&self) -> Result<(), String> {
        self.check_replication(self.master()?)?;
        for sentinel in &self.sentinels {
            let quorum = self.query(sentinel, &["sentinel", "ckquorum", "mymaster"])?;
            if !quorum.starts_with("OK") {
                return Err(format!("{}: {quorum}", sentinel.service));
            }
            let replicas = self.query(sentinel, &["sentinel", "replicas", "mymaster"])?;
            // A replica that is down has more flags.
            let up = replicas.matches("\nflags\nslave\n").count();
            if up != self.servers.len() - 1 {
                return Err(format!("{} sees {up} of the replicas without a fault", sentinel.service));
            }
        }
        Ok(())
    }

    /// Checks that all replicas are in sync with the master.
    fn check_replication(&self, master: &Container) -> Result<(), String> {
        let replication = self.query(master, &["info", "replication"])?;
        match replication.matches("state=online").count() {
            replicas if replicas == self.servers.len() - 1 => Ok(()),
            _ => Err(format!("a replica is missing: {replication}")),
        }
    }

    /// Waits until the engine reports that a restarted container is healthy, and all replicas are in sync.
    pub(super) fn wait_until_running(&self, container: &Container) -> Result<(), String> {
        let format = "{{.State.Health.Status}}";
        wait_until("a restarted server is healthy", || {
            match self.docker(&["inspect", "--format", format, &container.id])?.as_str() {
                "healthy" => self.check_replication(self.master()?),
                health => Err(format!("{} is {health}", container.service)),
            }
        })
    }

    /// Waits until the Sentinels name another master, and returns it.
    pub(super) fn wait_for_master_after(&self, former: &Container) -> Result<&Container, String> {
        wait_until("the Sentinels name another master", || match self.master()? {
            master if master.address == former.address => {
                Err(format!("the Sentinels still name {}", former.service))
            }
            master => Ok(master),
        })
    }
}

fn wait_until<T>(what: &str, check: impl Fn() -> Result<T, String>) -> Result<T, String> {
    let start = Instant::now();
    loop {
        match check() {
            Err(reason) if start.elapsed() > HEALTHY_WITHIN => {
                return Err(format!("waited {} s until {what}: {reason}", HEALTHY_WITHIN.as_secs()));
            }
            Err(_) => thread::sleep(Duration::from_millis(100)),
            healthy => return healthy,
        }
    }
}

impl Drop for Stack<'_> {
    fn drop(&mut self) {
        if let Err(error) = remove(self.engine) {
            eprintln!("warning: the containers of {PROJECT} are left behind: {error}");
        }
    }
}
