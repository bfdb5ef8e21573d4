//! A master, its replicas, and the Sentinels that watch them.

use std::fmt;
use std::iter;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use crate::certificates::{self, Certificates};
use crate::error::{Error, wait_for};
use crate::ports::Port;
use crate::resp::Reply;
use crate::server::{Server, ServerBuilder, quoted, retry_taken_ports, url_encoded, user_info};

const HOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// How long the topology may take to become healthy, or to get another master. Starting takes about a second and
/// a failover two; but a master that was killed and comes back is made a replica only after ten.
const BOUND: Duration = Duration::from_secs(40);

/// A running Redis master with replicas and Sentinels. All of them end when this value drops.
///
/// ```
/// use ha_redis_testkit::Topology;
///
/// # fn main() -> Result<(), ha_redis_testkit::Error> {
/// let topology = Topology::start()?;
/// let old = topology.kill_master()?;
/// let new = topology.wait_for_new_master(old)?;
/// assert_ne!(new.port(), old.port());
/// # Ok(())
/// # }
/// ```
pub struct Topology {
    // Sentinels end first, and see no master die.
    sentinels: Vec<Server>,
    servers: Vec<Server>,
    settings: TopologyBuilder,
}

impl Topology {
    /// Starts a master named `mymaster`, two replicas and three Sentinels.
    ///
    /// # Errors
    ///
    /// As [`TopologyBuilder::start`].
    pub fn start() -> Result<Self, Error> {
        Self::builder().start()
    }

    /// Configures a topology before it starts.
    pub fn builder() -> TopologyBuilder {
        TopologyBuilder::new()
    }

    /// All Redis servers, whatever their role and state; the one that was master at the start comes first.
    pub fn servers(&self) -> &[Server] {
        &self.servers
    }

    /// All Sentinels, whatever their state.
    pub fn sentinels(&self) -> &[Server] {
        &self.sentinels
    }

    /// The addresses of the Sentinels.
    pub fn sentinel_addresses(&self) -> Vec<SocketAddr> {
        self.sentinels.iter().map(Server::address).collect()
    }

    /// The name that the Sentinels know the master by.
    pub fn master_name(&self) -> &str {
        &self.settings.master_name
    }

    /// The URL of a client: `redis+sentinel://127.0.0.1:15001,127.0.0.1:15002/mymaster`. It has the password of
    /// the servers, and that of the Sentinels as `?sentinel_password=…`, where there are any; with TLS, the authority.
    pub fn url(&self) -> String {
        let addresses: Vec<String> = self.sentinel_addresses().iter().map(ToString::to_string).collect();
        let TopologyBuilder { password, sentinel_password, master_name, .. } = &self.settings;
        let ca = self.servers.first().and_then(Server::ca_parameter);
        let mut url = format!(
            "{}://{}{}/{}",
            if ca.is_some() { "rediss+sentinel" } else { "redis+sentinel" },
            user_info(password.as_deref()),
            addresses.join(","),
            url_encoded(master_name)
        );
        let password =
            sentinel_password.as_ref().map(|password| format!("sentinel_password={}", url_encoded(password)));
        for (parameter, mark) in [ca, password].into_iter().flatten().zip(["?", "&"]) {
            url.push_str(mark);
            url.push_str(&parameter);
        }
        url
    }

    /// The server that says it is master when asked for its role. When several do, because one was just replaced
    /// and does not know it yet, it is the one that most Sentinels name. Servers that hang are not asked.
    ///
    /// # Errors
    ///
    /// [`Error::NotReady`] if none says so, as in the middle of a failover.
    pub fn master(&self) -> Result<&Server, Error> {
        let masters: Vec<&Server> = self.servers.iter().filter(|server| says_master(server)).collect();
        if let [master] = masters[..] {
            return Ok(master);
        }
        let named: Vec<u16> = self.sentinels.iter().filter_map(|sentinel| self.named_by(sentinel)).collect();
        let votes = |server: &&Server| named.iter().filter(|port| **port == server.port()).count();
        let master = masters.into_iter().max_by_key(votes);
        master.ok_or_else(|| Error::NotReady("no server says that it is the master".into()))
    }

    /// All servers but the master.
    ///
    /// # Errors
    ///
    /// As [`Topology::master`].
    pub fn replicas(&self) -> Result<Vec<&Server>, Error> {
        let master = self.master()?.port();
        Ok(self.servers.iter().filter(|server| server.port() != master).collect())
    }

    /// Kills the master, as [`Server::kill`], and returns it.
    ///
    /// # Errors
    ///
    /// As [`Topology::master`] and [`Server::kill`].
    pub fn kill_master(&self) -> Result<&Server, Error> {
        let master = self.master()?;
        master.kill()?;
        Ok(master)
    }

    /// Stops the master from answering, as [`Server::hang`], and returns it.
    ///
    /// # Errors
    ///
    /// As [`Topology::master`] and [`Server::hang`].
    pub fn hang_master(&self) -> Result<&Server, Error> {
        let master = self.master()?;
        master.hang()?;
        Ok(master)
    }

    /// Has the first Sentinel that answers start a failover, as an operator does, and returns the master that
    /// will be replaced.
    ///
    /// # Errors
    ///
    /// As [`Topology::master`]; [`Error::Refused`] if the Sentinel finds no fit replica or is at a failover;
    /// [`Error::NotReady`] if no Sentinel answers.
    pub fn planned_failover(&self) -> Result<&Server, Error> {
        let master = self.master()?;
        for sentinel in self.sentinels.iter().filter(|sentinel| !sentinel.is_hanging()) {
            match sentinel.query(&["SENTINEL", "FAILOVER", self.master_name()]) {
                Ok(_) => return Ok(master),
                Err(Error::Io { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Err(Error::NotReady("no Sentinel answers".into()))
    }

    /// Waits until another server than `old` says that it is master. That is the earliest moment at which a client
    /// can use it; Sentinels say so up to a second later.
    ///
    /// # Errors
    ///
    /// [`Error::TimedOut`] after 40 s.
    pub fn wait_for_new_master(&self, old: &Server) -> Result<&Server, Error> {
        wait_for(BOUND, || {
            let mut others = self.servers.iter().filter(|server| server.port() != old.port());
            others
                .find(|server| says_master(server))
                .ok_or_else(|| Error::NotReady("no other server became master".into()))
        })
    }

    /// Waits until the next failover would succeed: all servers and Sentinels run, the replicas follow the master,
    /// and every Sentinel knows all of them, has a quorum and sees no failover going on. So it is after the start.
    ///
    /// # Errors
    ///
    /// [`Error::TimedOut`] after 40 s, saying what is lacking.
    pub fn wait_until_healthy(&self) -> Result<(), Error> {
        wait_for(BOUND, || {
            self.check_replication()?;
            self.sentinels.iter().try_for_each(|sentinel| self.check_sentinel(sentinel))
        })
    }

    fn check_replication(&self) -> Result<(), Error> {
        let master = self.master()?.port();
        for replica in self.servers.iter().filter(|server| server.port() != master) {
            let info = replica.query(&["INFO", "replication"])?;
            let follows = info.field("master_port").and_then(|port| port.parse().ok()) == Some(master);
            if !follows || info.field("master_link_status") != Some("up") {
                let port = replica.port();
                return Err(Error::NotReady(format!(
                    "server {port} does not follow the master {master} yet"
                )));
            }
        }
        Ok(())
    }

    fn check_sentinel(&self, sentinel: &Server) -> Result<(), Error> {
        let lacking = |what: String| {
            let port = sentinel.port();
            Err(Error::NotReady(format!("Sentinel {port} {what}")))
        };
        let ask = |command| sentinel.query(&["SENTINEL", command, self.master_name()]);

        let master = ask("MASTER")?;
        if self.named_by(sentinel) != Some(self.master()?.port()) || master.field("flags") != Some("master") {
            return lacking(format!("does not see the master well: {:?}", master.field("flags")));
        }
        let replicas = ask("REPLICAS")?;
        let good_replicas = replicas.items().iter().filter(|replica| {
            // The status of its link, as a Sentinel knows it, may be ten seconds old: see `check_replication`.
            replica.field("flags") == Some("slave")
                && replica.field("info-refresh") != Some("0")
                && replica.field("master-link-down-time") == Some("0")
        });
        let (good, all) = (good_replicas.count(), self.servers.len() - 1);
        if good != all {
            return lacking(format!("sees {good} of {all} replicas well"));
        }
        let others = ask("SENTINELS")?;
        let good_others = others.items().iter().filter(|other| other.field("flags") == Some("sentinel"));
        let (good, all) = (good_others.count(), self.sentinels.len() - 1);
        if good != all {
            return lacking(format!("sees {good} of {all} other Sentinels well"));
        }
        ask("CKQUORUM").map(drop)
    }

    /// The port of the master that a Sentinel names.
    fn named_by(&self, sentinel: &Server) -> Option<u16> {
        if sentinel.is_hanging() {
            return None;
        }
        let reply = sentinel.query(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.master_name()]).ok()?;
        reply.items().get(1)?.text()?.parse().ok()
    }
}

impl fmt::Debug for Topology {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Topology")
            .field("servers", &self.servers)
            .field("sentinels", &self.sentinels)
            .finish_non_exhaustive()
    }
}

fn says_master(server: &Server) -> bool {
    let role = if server.is_hanging() { None } else { server.query(&["ROLE"]).ok() };
    role.as_ref().and_then(|role| role.items().first()).and_then(Reply::text) == Some("master")
}

/// What a topology is started with. From [`Topology::builder`].
#[derive(Clone)]
pub struct TopologyBuilder {
    replicas: usize,
    sentinels: usize,
    quorum: usize,
    master_name: String,
    down_after: Duration,
    failover_timeout: Duration,
    password: Option<String>,
    sentinel_password: Option<String>,
    tls: bool,
    certificates: Option<Certificates>,
    lines: Vec<String>,
    host: IpAddr,
    announced: Option<String>,
}

impl TopologyBuilder {
    fn new() -> Self {
        Self {
            replicas: 2,
            sentinels: 3,
            quorum: 2,
            master_name: "mymaster".into(),
            down_after: Duration::from_millis(500),
            failover_timeout: Duration::from_secs(5),
            password: None,
            sentinel_password: None,
            tls: false,
            certificates: None,
            lines: Vec::new(),
            host: HOST,
            announced: None,
        }
    }

    /// How many replicas the master has; 2 by default.
    #[must_use]
    pub fn replicas(mut self, replicas: usize) -> Self {
        self.replicas = replicas;
        self
    }

    /// How many Sentinels watch; 3 by default.
    #[must_use]
    pub fn sentinels(mut self, sentinels: usize) -> Self {
        self.sentinels = sentinels;
        self
    }

    /// How many Sentinels must find the master down before a failover; 2 by default.
    #[must_use]
    pub fn quorum(mut self, quorum: usize) -> Self {
        self.quorum = quorum;
        self
    }

    /// The name that the Sentinels know the master by; `mymaster` by default.
    #[must_use]
    pub fn master_name(mut self, name: &str) -> Self {
        name.clone_into(&mut self.master_name);
        self
    }

    /// How long a server must not answer for a Sentinel to find it down; 500 ms by default.
    #[must_use]
    pub fn down_after(mut self, down_after: Duration) -> Self {
        self.down_after = down_after;
        self
    }

    /// Sentinel's `failover-timeout`, twice which passes before it repeats a failover that failed; 5 s by default.
    #[must_use]
    pub fn failover_timeout(mut self, failover_timeout: Duration) -> Self {
        self.failover_timeout = failover_timeout;
        self
    }

    /// The password of the master and the replicas.
    #[must_use]
    pub fn password(mut self, password: &str) -> Self {
        self.password = Some(password.to_owned());
        self
    }

    /// The password of the Sentinels.
    #[must_use]
    pub fn sentinel_password(mut self, password: &str) -> Self {
        self.sentinel_password = Some(password.to_owned());
        self
    }

    /// The address that all listen on and announce; 127.0.0.1 by default.
    #[must_use]
    pub fn bind(mut self, host: IpAddr) -> Self {
        self.host = host;
        self
    }

    /// All announce themselves by this name in place of an address, and Sentinels resolve names and hand them out.
    #[must_use]
    pub fn host_name(mut self, name: &str) -> Self {
        self.announced = Some(name.to_owned());
        self
    }

    /// TLS everywhere: servers and Sentinels, to clients and among themselves, with the certificates of one authority.
    /// See [`ServerBuilder::tls`].
    #[must_use]
    pub fn tls(mut self) -> Self {
        self.tls = true;
        self
    }

    /// One more line of the configuration of the master and the replicas.
    #[must_use]
    pub fn config(mut self, line: impl Into<String>) -> Self {
        self.lines.push(line.into());
        self
    }

    /// Starts all processes and returns when the topology is healthy: see [`Topology::wait_until_healthy`].
    ///
    /// # Errors
    ///
    /// As [`ServerBuilder::start`] and [`Topology::wait_until_healthy`].
    pub fn start(mut self) -> Result<Topology, Error> {
        if self.tls {
            let names = certificates::LOCAL.map(str::to_owned);
            self.certificates = Some(Certificates::of_server(&names)?);
        }
        let topology = retry_taken_ports(|| {
            let servers = self.start_servers()?;
            let topology = Topology { sentinels: Vec::new(), servers, settings: self.clone() };
            // Sentinels look at replicas only every 10 s, so they come when there is something to see.
            wait_for(BOUND, || topology.check_replication())?;
            let sentinels = self.start_sentinels(&topology.servers)?;
            Ok(Topology { sentinels, ..topology })
        })?;
        topology.wait_until_healthy()?;
        Ok(topology)
    }

    fn start_servers(&self) -> Result<Vec<Server>, Error> {
        let master = self.server().start()?;
        let replica = || self.server().replica_of(&master).launch(Port::any(self.host)?);
        let replicas = (0..self.replicas).map(|_| replica());
        let replicas = replicas.collect::<Result<Vec<_>, _>>()?;
        replicas.iter().try_for_each(Server::wait_until_ready)?;
        Ok(iter::once(master).chain(replicas).collect())
    }

    fn server(&self) -> ServerBuilder {
        let mut server = self.placed(Server::builder());
        if let Some(name) = &self.announced {
            server = server.config(format!("replica-announce-ip {name}"));
        }
        if let Some(password) = &self.password {
            // The master, too, will be a replica one day.
            server = server.password(password).config(format!("masterauth {}", quoted(password)));
        }
        self.lines.iter().fold(server, ServerBuilder::config)
    }

    /// What servers and Sentinels have in common.
    fn placed(&self, server: ServerBuilder) -> ServerBuilder {
        let server = server.bind(self.host);
        match &self.certificates {
            Some(certificates) => server.tls_with(certificates),
            None => server,
        }
    }

    fn start_sentinels(&self, servers: &[Server]) -> Result<Vec<Server>, Error> {
        let ports = (0..self.sentinels).map(|_| Port::any(self.host)).collect::<Result<Vec<_>, _>>()?;
        let numbers: Vec<u16> = ports.iter().map(Port::number).collect();
        let launch = |port: Port| self.sentinel(port.number(), &numbers, servers).launch(port);
        let sentinels = ports.into_iter().map(launch).collect::<Result<Vec<_>, _>>()?;
        sentinels.iter().try_for_each(Server::wait_until_ready)?;
        Ok(sentinels)
    }

    /// A Sentinel that knows everyone from the start: finding each other takes Sentinels seconds.
    fn sentinel(&self, port: u16, all: &[u16], servers: &[Server]) -> ServerBuilder {
        let name = &self.master_name;
        let host = self.announced.clone().unwrap_or_else(|| self.host.to_string());
        let mut lines = vec![format!("sentinel myid {}", run_id(port))];
        if self.announced.is_some() {
            // Before any line that names a host.
            lines.push("sentinel resolve-hostnames yes".into());
            lines.push("sentinel announce-hostnames yes".into());
            lines.push(format!("sentinel announce-ip {host}"));
        }
        if let [master, replicas @ ..] = servers {
            lines.push(format!("sentinel monitor {name} {host} {} {}", master.port(), self.quorum));
            let known = |replica: &Server| format!("sentinel known-replica {name} {host} {}", replica.port());
            lines.extend(replicas.iter().map(known));
        }
        lines.push(format!("sentinel down-after-milliseconds {name} {}", self.down_after.as_millis()));
        lines.push(format!("sentinel failover-timeout {name} {}", self.failover_timeout.as_millis()));
        lines.push(format!("sentinel parallel-syncs {name} {}", self.replicas.max(1)));
        if let Some(password) = &self.password {
            lines.push(format!("sentinel auth-pass {name} {}", quoted(password)));
        }
        let others = all.iter().filter(|other| **other != port);
        lines.extend(
            others.map(|other| format!("sentinel known-sentinel {name} {host} {other} {}", run_id(*other))),
        );
        let mut sentinel = self.placed(ServerBuilder::sentinel());
        if let Some(password) = &self.sentinel_password {
            sentinel =
                sentinel.password(password).config(format!("sentinel sentinel-pass {}", quoted(password)));
        }
        lines.into_iter().fold(sentinel, ServerBuilder::config)
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

/// The 40 hexadecimal digits by which Sentinels know the one on this port.
fn run_id(port: u16) -> String {
    format!("{port:040x}")
}
