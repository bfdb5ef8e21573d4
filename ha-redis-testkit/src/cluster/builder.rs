//! The settings of a cluster, and its start.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use super::{Cluster, formation};
use crate::environment::Environment;
use crate::error::Error;
use crate::network::{self, Network};
use crate::ports::Port;
use crate::server::{Server, ServerBuilder, quoted, retry_taken_ports};

/// The address under which nodes know each other, and clients know them.
pub(super) const HOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// The settings of a cluster. Returned by [`Cluster::builder`].
#[derive(Clone)]
pub struct ClusterBuilder {
    pub(super) masters: usize,
    pub(super) replicas: usize,
    node_timeout: Duration,
    require_full_coverage: bool,
    password: Option<String>,
    environment: Environment,
    lines: Vec<String>,
    partitionable: bool,
}

impl ClusterBuilder {
    pub(super) fn new() -> Self {
        Self {
            masters: 3,
            replicas: 1,
            node_timeout: Duration::from_secs(1),
            require_full_coverage: true,
            password: None,
            environment: Environment::Plain,
            lines: Vec::new(),
            partitionable: false,
        }
    }

    /// Sets the number of masters; 3 by default. A failover that is not planned needs the votes of most masters, so
    /// it takes at least 3.
    #[must_use]
    pub fn masters(mut self, masters: usize) -> Self {
        self.masters = masters;
        self
    }

    /// Sets the number of replicas of each master; 1 by default.
    #[must_use]
    pub fn replicas(mut self, replicas: usize) -> Self {
        self.replicas = replicas;
        self
    }

    /// Sets `cluster-node-timeout`, after which a node that does not answer is replaced; 1 s by default.
    #[must_use]
    pub fn node_timeout(mut self, node_timeout: Duration) -> Self {
        self.node_timeout = node_timeout;
        self
    }

    /// Sets `cluster-require-full-coverage`: whether all slots stop being served when a slot has no master; true by
    /// default.
    #[must_use]
    pub fn require_full_coverage(mut self, require: bool) -> Self {
        self.require_full_coverage = require;
        self
    }

    /// Sets the password of all nodes.
    #[must_use]
    pub fn password(mut self, password: &str) -> Self {
        self.password = Some(password.to_owned());
        self
    }

    /// Protects all nodes as `environment` says, and the connections between them: see
    /// [`ServerBuilder::environment`].
    #[must_use]
    pub fn environment(mut self, environment: Environment) -> Self {
        self.environment = environment;
        self
    }

    /// Adds a line to the configuration of all nodes.
    #[must_use]
    pub fn config(mut self, line: impl Into<String>) -> Self {
        self.lines.push(line.into());
        self
    }

    /// Connects the nodes through a network that [`Cluster::partition`] can split. Clients reach the nodes at
    /// 127.0.0.1 as usual. Needs Redis 7, and Linux, where all of 127.0.0.0/8 is local.
    #[must_use]
    pub fn partitionable(mut self) -> Self {
        self.partitionable = true;
        self
    }

    /// Starts all nodes, makes them a cluster, and returns when it is healthy: see
    /// [`Cluster::wait_until_healthy`]. The first nodes are the masters, in the order of their slots. This takes a
    /// little more than the 2 s for which a master serves nothing after its start.
    ///
    /// # Errors
    ///
    /// The same as for [`ServerBuilder::start`] and [`Cluster::wait_until_healthy`].
    pub fn start(self) -> Result<Cluster, Error> {
        let cluster = retry_taken_ports(|| {
            let network = self.partitionable.then(Network::default);
            let mut cluster = Cluster { nodes: Vec::new(), network, settings: self.clone(), started: 0 };
            for _ in 0..self.masters * (1 + self.replicas) {
                let node = cluster.launch_node()?;
                cluster.nodes.push(node);
            }
            cluster.nodes.iter().try_for_each(Server::wait_until_ready)?;
            Ok(cluster)
        })?;
        formation::form(&cluster)?;
        cluster.wait_until_healthy()?;
        Ok(cluster)
    }

    /// Starts a node without waiting until it answers. Nodes of a partitionable cluster need different numbers.
    pub(super) fn launch(&self, number: usize, network: &mut Option<Network>) -> Result<Server, Error> {
        let place = if self.partitionable { network::host(number) } else { HOST };
        let mut node = self.node().bind(place);
        if self.partitionable {
            node = network::leaving_from(place, node).config(format!("replica-announce-ip {HOST}"));
        }
        let (port, bus) = Port::any_with_bus(place)?;
        let bus_port = bus.number();
        let mut node = node.launch(port)?;
        node.reserve(bus);
        if let Some(network) = network {
            network.connect(&node, node.port())?;
            network.connect(&node, bus_port)?;
        }
        Ok(node)
    }

    fn node(&self) -> ServerBuilder {
        let mut node = Server::builder().environment(self.environment);
        if self.environment != Environment::Plain {
            node = node.config("tls-cluster yes");
        }
        if let Some(password) = &self.password {
            // A master needs this as well, because it may become a replica.
            node = node.password(password).config(format!("masterauth {}", quoted(password)));
        }
        let coverage = if self.require_full_coverage { "yes" } else { "no" };
        let node = node
            .config("cluster-enabled yes")
            // Otherwise each node takes the address under which another first reaches it.
            .config(format!("cluster-announce-ip {HOST}"))
            .config(format!("cluster-node-timeout {}", self.node_timeout.as_millis()))
            .config(format!("cluster-require-full-coverage {coverage}"));
        self.lines.iter().fold(node, ServerBuilder::config)
    }
}

impl fmt::Debug for ClusterBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClusterBuilder")
            .field("masters", &self.masters)
            .field("replicas", &self.replicas)
            .field("node_timeout", &self.node_timeout)
            .field("require_full_coverage", &self.require_full_coverage)
            .finish_non_exhaustive()
    }
}
