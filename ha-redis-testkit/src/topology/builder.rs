//! The settings of a topology, and its start.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use super::{BOUND, HOST, Topology};
use crate::certificates::{self, Certificates};
use crate::environment::Environment;
use crate::error::{Error, wait_for};
use crate::network::{self, Network};
use crate::ports::Port;
use crate::server::{OWN_USER, Server, ServerBuilder, quoted, retry_taken_ports};

/// The settings of a topology. Returned by [`Topology::builder`].
#[derive(Clone)]
pub struct TopologyBuilder {
    replicas: usize,
    sentinels: usize,
    pub(super) quorum: usize,
    pub(super) master_name: String,
    down_after: Duration,
    failover_timeout: Duration,
    demote_after: Option<Duration>,
    pub(super) password: Option<String>,
    pub(super) sentinel_password: Option<String>,
    environment: Environment,
    tls: bool,
    asks_clients: bool,
    certificates: Option<Certificates>,
    lines: Vec<String>,
    host: IpAddr,
    announced: Option<String>,
    partitionable: bool,
}

impl TopologyBuilder {
    pub(super) fn new() -> Self {
        Self {
            replicas: 2,
            sentinels: 3,
            quorum: 2,
            master_name: "mymaster".into(),
            down_after: Duration::from_millis(500),
            failover_timeout: Duration::from_secs(5),
            demote_after: None,
            password: None,
            sentinel_password: None,
            environment: Environment::Plain,
            tls: false,
            asks_clients: false,
            certificates: None,
            lines: Vec::new(),
            host: HOST,
            announced: None,
            partitionable: false,
        }
    }

    /// Sets the number of replicas; 2 by default.
    #[must_use]
    pub fn replicas(mut self, replicas: usize) -> Self {
        self.replicas = replicas;
        self
    }

    /// Sets the number of Sentinels; 3 by default.
    #[must_use]
    pub fn sentinels(mut self, sentinels: usize) -> Self {
        self.sentinels = sentinels;
        self
    }

    /// Sets the quorum: how many Sentinels must find the master down before a failover; 2 by default.
    #[must_use]
    pub fn quorum(mut self, quorum: usize) -> Self {
        self.quorum = quorum;
        self
    }

    /// Sets the name of the master in the Sentinels' configuration; `mymaster` by default.
    #[must_use]
    pub fn master_name(mut self, name: &str) -> Self {
        name.clone_into(&mut self.master_name);
        self
    }

    /// Sets Sentinel's `down-after-milliseconds`; 500 ms by default.
    #[must_use]
    pub fn down_after(mut self, down_after: Duration) -> Self {
        self.down_after = down_after;
        self
    }

    /// Sets Sentinel's `failover-timeout`; 5 s by default. Sentinel repeats a failed failover after twice this
    /// time.
    #[must_use]
    pub fn failover_timeout(mut self, failover_timeout: Duration) -> Self {
        self.failover_timeout = failover_timeout;
        self
    }

    /// Sets how long a replaced master may report the master role before the Sentinels reconfigure it as a replica;
    /// 8 s by default. Servers before version 7 always use the default.
    #[must_use]
    pub fn demote_after(mut self, demote_after: Duration) -> Self {
        self.demote_after = Some(demote_after);
        self
    }

    /// Sets the password of the master and the replicas.
    #[must_use]
    pub fn password(mut self, password: &str) -> Self {
        self.password = Some(password.to_owned());
        self
    }

    /// Sets the password of the Sentinels.
    #[must_use]
    pub fn sentinel_password(mut self, password: &str) -> Self {
        self.sentinel_password = Some(password.to_owned());
        self
    }

    /// Sets the address that all processes listen on and announce; 127.0.0.1 by default.
    #[must_use]
    pub fn bind(mut self, host: IpAddr) -> Self {
        self.host = host;
        self
    }

    /// All processes announce this host name instead of an address, and Sentinels resolve and return host names.
    #[must_use]
    pub fn host_name(mut self, name: &str) -> Self {
        self.announced = Some(name.to_owned());
        self
    }

    /// Uses TLS everywhere: for clients and between servers and Sentinels, with certificates of one authority. See
    /// [`ServerBuilder::tls`].
    #[must_use]
    pub fn tls(mut self) -> Self {
        self.tls = true;
        self
    }

    /// Protects all processes as `environment` says: see [`ServerBuilder::environment`].
    #[must_use]
    pub fn environment(mut self, environment: Environment) -> Self {
        self.environment = environment;
        self
    }

    /// Like [`tls`](Self::tls), and all processes require a certificate of the same authority from their clients and
    /// from each other. See [`ServerBuilder::mutual_tls`].
    #[must_use]
    pub fn mutual_tls(mut self) -> Self {
        self.asks_clients = true;
        self.tls()
    }

    /// Like [`tls`](Self::tls), with these certificates.
    #[cfg(feature = "conformance")]
    pub(crate) fn tls_with(mut self, certificates: &Certificates) -> Self {
        self.certificates = Some(certificates.clone());
        self.tls()
    }

    /// Adds a line to the configuration of the master and the replicas.
    #[must_use]
    pub fn config(mut self, line: impl Into<String>) -> Self {
        self.lines.push(line.into());
        self
    }

    /// Connects the processes through a network that [`Topology::partition`] can split. The processes are reachable
    /// at 127.0.0.1, whatever [`bind`](Self::bind) sets. Needs Redis 7, and Linux, where all of 127.0.0.0/8 is
    /// local.
    #[must_use]
    pub fn partitionable(mut self) -> Self {
        self.partitionable = true;
        self
    }

    /// Starts all processes and returns when the topology is healthy: see [`Topology::wait_until_healthy`].
    ///
    /// # Errors
    ///
    /// The same as for [`ServerBuilder::start`] and [`Topology::wait_until_healthy`].
    pub fn start(mut self) -> Result<Topology, Error> {
        if self.tls && self.certificates.is_none() {
            let names = certificates::LOCAL.map(str::to_owned);
            self.certificates = Some(Certificates::of_server(&names)?);
        }
        if self.partitionable {
            self.host = HOST;
        }
        let topology = retry_taken_ports(|| {
            let mut topology = Topology {
                sentinels: Vec::new(),
                servers: Vec::new(),
                network: self.partitionable.then(Network::default),
                settings: self.clone(),
            };
            self.start_servers(&mut topology)?;
            // Sentinels check replicas only every 10 s, so they start after the replicas are connected.
            wait_for(BOUND, || topology.check_replication())?;
            // A replication link that is up may not carry data yet. The topology is healthy when this message has
            // arrived.
            topology.master()?.query(&["PUBLISH", "ha-redis-testkit", "the topology starts"])?;
            self.start_sentinels(&mut topology)?;
            Ok(topology)
        })?;
        topology.wait_until_healthy()?;
        Ok(topology)
    }

    fn start_servers(&self, topology: &mut Topology) -> Result<(), Error> {
        let Topology { servers, network, .. } = topology;
        let master = launch(self.server(), Port::any(self.place(0))?, self.place(0), network)?;
        master.wait_until_ready()?;
        let replica_of = format!("replicaof {} {}", self.host, master.port());
        servers.push(master);
        for number in 1..=self.replicas {
            let (replica, place) = (self.server().config(&replica_of), self.place(number));
            servers.push(launch(replica, Port::any(place)?, place, network)?);
        }
        servers.iter().try_for_each(Server::wait_until_ready)
    }

    fn start_sentinels(&self, topology: &mut Topology) -> Result<(), Error> {
        let Topology { sentinels, servers, network, .. } = topology;
        let places = (servers.len()..).map(|number| self.place(number)).take(self.sentinels);
        let places = places.map(|place| Ok((Port::any(place)?, place))).collect::<Result<Vec<_>, Error>>()?;
        let ports: Vec<u16> = places.iter().map(|(port, _)| port.number()).collect();
        for (port, place) in places {
            let sentinel = self.sentinel(port.number(), &ports, servers);
            sentinels.push(launch(sentinel, port, place, network)?);
        }
        sentinels.iter().try_for_each(Server::wait_until_ready)?;
        let demote = |after| sentinels.iter().try_for_each(|sentinel| set_demotion(sentinel, after));
        self.demote_after.map_or(Ok(()), demote)
    }

    /// Returns the address that a process listens on.
    fn place(&self, number: usize) -> IpAddr {
        if self.partitionable { network::host(number) } else { self.host }
    }

    /// Returns the host that all processes announce.
    pub(super) fn announced(&self) -> String {
        self.announced.clone().unwrap_or_else(|| self.host.to_string())
    }

    fn server(&self) -> ServerBuilder {
        let mut server = self.certified(Server::builder());
        if self.announced.is_some() || self.partitionable {
            server = server.config(format!("replica-announce-ip {}", self.announced()));
        }
        if let Some(password) = &self.password {
            // The master needs this as well, because it may become a replica.
            server = server.password(password).config(format!("masterauth {}", quoted(password)));
        }
        self.lines.iter().fold(server, ServerBuilder::config)
    }

    fn certified(&self, server: ServerBuilder) -> ServerBuilder {
        match &self.certificates {
            Some(certificates) if self.asks_clients => server.mutual_tls().tls_with(certificates),
            Some(certificates) => server.tls_with(certificates),
            None => server.environment(self.environment),
        }
    }

    /// Returns the settings of a Sentinel that knows all servers and Sentinels from the start, because discovery
    /// takes Sentinels seconds.
    fn sentinel(&self, port: u16, all: &[u16], servers: &[Server]) -> ServerBuilder {
        let [master, replicas @ ..] = servers else { return ServerBuilder::sentinel() };
        let (name, host) = (&self.master_name, self.announced());
        let replicas = replicas.iter().map(Server::port);
        let replicas = replicas.map(|port| format!("sentinel known-replica {name} {host} {port}"));
        let others = all.iter().filter(|other| **other != port);
        let others =
            others.map(|other| format!("sentinel known-sentinel {name} {host} {other} {}", run_id(*other)));
        let sentinel = self.new_sentinel(master).config(format!("sentinel myid {}", run_id(port)));
        replicas.chain(others).fold(sentinel, ServerBuilder::config)
    }

    /// Returns the settings of a Sentinel that knows only the master.
    pub(super) fn new_sentinel(&self, master: &Server) -> ServerBuilder {
        let (name, host) = (&self.master_name, self.announced());
        let mut lines = Vec::new();
        if self.announced.is_some() {
            // This must precede all lines with host names.
            lines.push("sentinel resolve-hostnames yes".into());
            lines.push("sentinel announce-hostnames yes".into());
        }
        if self.announced.is_some() || self.partitionable {
            lines.push(format!("sentinel announce-ip {host}"));
        }
        lines.push(format!("sentinel monitor {name} {host} {} {}", master.port(), self.quorum));
        let settings = self.sentinel_settings();
        lines
            .extend(settings.map(|(setting, value)| format!("sentinel {setting} {name} {}", quoted(&value))));
        let mut sentinel = self.certified(ServerBuilder::sentinel());
        if let Some(password) = &self.sentinel_password {
            sentinel =
                sentinel.password(password).config(format!("sentinel sentinel-pass {}", quoted(password)));
        }
        if self.environment == Environment::MtlsAcl {
            sentinel = sentinel
                .config(format!("sentinel sentinel-user {OWN_USER}"))
                .config("sentinel sentinel-pass any");
        }
        lines.into_iter().fold(sentinel, ServerBuilder::config)
    }

    /// Returns a Sentinel's settings for a master that it monitors.
    pub(super) fn sentinel_settings(&self) -> impl Iterator<Item = (&'static str, String)> {
        let settings = [
            ("down-after-milliseconds", self.down_after.as_millis().to_string()),
            ("failover-timeout", self.failover_timeout.as_millis().to_string()),
            ("parallel-syncs", self.replicas.max(1).to_string()),
        ];
        let password = self.password.iter().map(|password| ("auth-pass", password.clone()));
        let user = [("auth-user", OWN_USER.to_owned()), ("auth-pass", "any".to_owned())];
        let user = user.into_iter().filter(|_| self.environment == Environment::MtlsAcl);
        settings.into_iter().chain(password).chain(user)
    }
}

impl fmt::Debug for TopologyBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TopologyBuilder")
            .field("replicas", &self.replicas)
            .field("sentinels", &self.sentinels)
            .field("quorum", &self.quorum)
            .field("master_name", &self.master_name)
            .field("down_after", &self.down_after)
            .field("failover_timeout", &self.failover_timeout)
            .finish_non_exhaustive()
    }
}

/// Starts a process on `place` without waiting until it answers, and connects it to the network if there is one.
fn launch(
    server: ServerBuilder,
    port: Port,
    place: IpAddr,
    network: &mut Option<Network>,
) -> Result<Server, Error> {
    let server = server.bind(place);
    let Some(network) = network else { return server.launch(port) };
    let server = network::leaving_from(place, server).launch(port)?;
    network.connect(&server, server.port())?;
    Ok(server)
}

/// Returns the run id of the Sentinel on this port: 40 hexadecimal digits.
fn run_id(port: u16) -> String {
    format!("{port:040x}")
}

/// A Sentinel waits for four publish periods before it demotes a server, and acts at its next check of the role.
fn set_demotion(sentinel: &Server, demote_after: Duration) -> Result<(), Error> {
    let period = (demote_after / 4).as_millis().to_string();
    match sentinel.query(&["SENTINEL", "DEBUG", "PUBLISH-PERIOD", &period, "INFO-PERIOD", &period]) {
        // The Sentinel does not support the command.
        Err(Error::Refused { .. }) => Ok(()),
        answer => answer.map(drop),
    }
}
