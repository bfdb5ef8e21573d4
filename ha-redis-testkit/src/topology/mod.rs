//! A master, its replicas, and the Sentinels that monitor them.

mod builder;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use crate::error::{Error, wait_for};
use crate::network::{self, Network};
use crate::replication;
use crate::resp::Reply;
use crate::server::{Server, url_encoded};

pub use builder::TopologyBuilder;

/// The host of all processes by default.
const HOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// How long the topology may take to become healthy, or to switch to another master. Starting takes about a second
/// and a failover two, but a killed master that restarts becomes a replica only after ten.
const BOUND: Duration = Duration::from_secs(40);

/// A running Redis master with replicas and Sentinels. Dropping this value ends all of them.
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
    // Sentinels are dropped first, so that they see no master die.
    sentinels: Vec<Server>,
    servers: Vec<Server>,
    /// `None` if the processes reach each other directly.
    network: Option<Network>,
    settings: TopologyBuilder,
}

impl Topology {
    /// Starts a master named `mymaster`, two replicas and three Sentinels.
    ///
    /// # Errors
    ///
    /// The same as for [`TopologyBuilder::start`].
    pub fn start() -> Result<Self, Error> {
        Self::builder().start()
    }

    /// Returns a builder for a topology.
    pub fn builder() -> TopologyBuilder {
        TopologyBuilder::new()
    }

    /// Returns all Redis servers, whatever their role and state. The initial master comes first.
    pub fn servers(&self) -> &[Server] {
        &self.servers
    }

    /// Returns all Sentinels, whatever their state.
    pub fn sentinels(&self) -> &[Server] {
        &self.sentinels
    }

    /// Returns the addresses on which clients reach the Sentinels.
    pub fn sentinel_addresses(&self) -> Vec<SocketAddr> {
        let reached = |sentinel: &Server| match self.network {
            Some(_) => SocketAddr::new(HOST, sentinel.port()),
            None => sentinel.address(),
        };
        self.sentinels.iter().map(reached).collect()
    }

    /// Returns the name of the master in the Sentinels' configuration.
    pub fn master_name(&self) -> &str {
        &self.settings.master_name
    }

    /// Returns the URL for clients: `redis+sentinel://127.0.0.1:15001,127.0.0.1:15002/mymaster`. It contains the
    /// password of the servers, the password of the Sentinels as `?sentinel_password=…`, and the TLS authority, as
    /// far as they are set, and users and certificates as in [`Server::url`].
    pub fn url(&self) -> String {
        let addresses: Vec<String> = self.sentinel_addresses().iter().map(ToString::to_string).collect();
        let mut access = self.servers.first().map(Server::access).unwrap_or_default();
        let sentinel = self.sentinels.first().map(Server::access).unwrap_or_default();
        access.parameters.extend(sentinel.user.map(|user| ("sentinel_username", user)));
        access.parameters.extend(sentinel.password.map(|password| ("sentinel_password", password)));
        access.url("+sentinel", format_args!("{}/{}", addresses.join(","), url_encoded(self.master_name())))
    }

    /// Returns the server that reports the master role. If several do, because one was just replaced and has not
    /// noticed, this is the one that most Sentinels name. Hanging servers are not queried.
    ///
    /// # Errors
    ///
    /// [`Error::NotReady`] if no server reports the role, as in the middle of a failover.
    pub fn master(&self) -> Result<&Server, Error> {
        let masters: Vec<&Server> = self.servers.iter().filter(|server| says_master(server)).collect();
        if let [master] = masters[..] {
            return Ok(master);
        }
        let named: Vec<u16> =
            self.sentinels.iter().filter_map(|sentinel| self.master_named_by(sentinel)).collect();
        let votes = |server: &&Server| named.iter().filter(|port| **port == server.port()).count();
        let master = masters.into_iter().max_by_key(votes);
        master.ok_or_else(|| Error::NotReady("no server reports the master role".into()))
    }

    /// Returns all servers but the master.
    ///
    /// # Errors
    ///
    /// The same as for [`Topology::master`].
    pub fn replicas(&self) -> Result<Vec<&Server>, Error> {
        let master = self.master()?.port();
        Ok(self.servers.iter().filter(|server| server.port() != master).collect())
    }

    /// Kills the master, as [`Server::kill`] does, and returns it.
    ///
    /// # Errors
    ///
    /// The same as for [`Topology::master`] and [`Server::kill`].
    pub fn kill_master(&self) -> Result<&Server, Error> {
        let master = self.master()?;
        master.kill()?;
        Ok(master)
    }

    /// Hangs the master, as [`Server::hang`] does, and returns it.
    ///
    /// # Errors
    ///
    /// The same as for [`Topology::master`] and [`Server::hang`].
    pub fn hang_master(&self) -> Result<&Server, Error> {
        let master = self.master()?;
        master.hang()?;
        Ok(master)
    }

    /// Starts a failover on the first Sentinel that answers, as an operator does, and returns the master that will
    /// be replaced.
    ///
    /// # Errors
    ///
    /// The same as for [`Topology::master`]; [`Error::Refused`] if the Sentinel finds no suitable replica or a
    /// failover is in progress; [`Error::NotReady`] if no Sentinel answers.
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

    /// Makes these Sentinels remove the master and monitor another one under the same name, as an operator does.
    /// Its configuration epoch starts again.
    ///
    /// # Errors
    ///
    /// The same as for [`Server::query`].
    pub fn monitor_anew(&self, sentinels: &[Server], master: &Server) -> Result<(), Error> {
        let (name, host) = (self.master_name(), self.settings.announced());
        let (port, quorum) = (master.port().to_string(), self.settings.quorum.to_string());
        // A Sentinel that still monitors the old master would announce it to the others with a higher epoch.
        for sentinel in sentinels {
            sentinel.query(&["SENTINEL", "REMOVE", name])?;
        }
        for sentinel in sentinels {
            sentinel.query(&["SENTINEL", "MONITOR", name, &host, &port, &quorum])?;
            for (setting, value) in self.settings.sentinel_settings() {
                sentinel.query(&["SENTINEL", "SET", name, setting, &value])?;
            }
        }
        Ok(())
    }

    /// Kills a Sentinel and starts it again with an empty state and only this master configured.
    ///
    /// # Errors
    ///
    /// The same as for [`Server::restart`].
    pub fn replace_sentinel(&self, sentinel: &Server, master: &Server) -> Result<(), Error> {
        let place = sentinel.address().ip();
        let recreated = self.settings.new_sentinel(master).bind(place);
        sentinel.start_anew(&match self.network {
            Some(_) => network::leaving_from(place, recreated),
            None => recreated,
        })
    }

    /// Blocks all traffic between the processes of `one` side and those of the `other`, as a cut cable does:
    /// connections stay open and are silent. Clients still reach all processes. Partitions add up.
    ///
    /// # Errors
    ///
    /// [`Error::NotReady`] if the topology was not started as [`TopologyBuilder::partitionable`].
    pub fn partition(&self, one: &[&Server], other: &[&Server]) -> Result<(), Error> {
        self.network()?.partition(one, other);
        Ok(())
    }

    /// Ends all partitions. Data that was sent meanwhile is delivered.
    ///
    /// # Errors
    ///
    /// The same as for [`Topology::partition`].
    pub fn heal(&self) -> Result<(), Error> {
        self.network()?.heal()
    }

    fn network(&self) -> Result<&Network, Error> {
        let missing = || Error::NotReady("the topology was not started as partitionable".into());
        self.network.as_ref().ok_or_else(missing)
    }

    /// Waits until a server other than `old` reports the master role. This is the earliest time at which a client
    /// can use it. Sentinels report it up to a second later.
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

    /// Waits until a failover would succeed, which is the state after the start: all servers and Sentinels run, the
    /// replicas replicate from the master, and every Sentinel knows all of them, has a quorum and sees no failover
    /// in progress.
    ///
    /// # Errors
    ///
    /// [`Error::TimedOut`] after 40 s, with the condition that is not met.
    pub fn wait_until_healthy(&self) -> Result<(), Error> {
        wait_for(BOUND, || {
            self.check_replication()?;
            self.sentinels.iter().try_for_each(|sentinel| self.check_sentinel(sentinel))
        })
    }

    fn check_replication(&self) -> Result<(), Error> {
        let master = self.master()?;
        replication::check(master, self.servers.iter().filter(|server| server.port() != master.port()))
    }

    fn check_sentinel(&self, sentinel: &Server) -> Result<(), Error> {
        let not_ready = |what: String| {
            let port = sentinel.port();
            Err(Error::NotReady(format!("Sentinel {port} {what}")))
        };
        let query = |command| sentinel.query(&["SENTINEL", command, self.master_name()]);

        let master = query("MASTER")?;
        if self.master_named_by(sentinel) != Some(self.master()?.port())
            || master.field("flags") != Some("master")
        {
            return not_ready(format!("does not report a healthy master: flags {:?}", master.field("flags")));
        }
        let replicas = query("REPLICAS")?;
        let healthy_replicas = replicas.items().iter().filter(|replica| {
            // A Sentinel's status of a replica's link may be ten seconds old: see `check_replication`.
            replica.field("flags") == Some("slave")
                && replica.field("info-refresh") != Some("0")
                && replica.field("master-link-down-time") == Some("0")
        });
        let (good, all) = (healthy_replicas.count(), self.servers.len() - 1);
        if good != all {
            return not_ready(format!("reports {good} of {all} replicas as healthy"));
        }
        let others = query("SENTINELS")?;
        let healthy_others = others.items().iter().filter(|other| other.field("flags") == Some("sentinel"));
        let (good, all) = (healthy_others.count(), self.sentinels.len() - 1);
        if good != all {
            return not_ready(format!("reports {good} of {all} other Sentinels as healthy"));
        }
        query("CKQUORUM").map(drop)
    }

    /// Returns the port of the master that a Sentinel names.
    fn master_named_by(&self, sentinel: &Server) -> Option<u16> {
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
