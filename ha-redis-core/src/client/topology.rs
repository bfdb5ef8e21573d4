//! Which servers there are now: from the Sentinels, from the server itself, or from a topology source.

use redis::{Cmd, ServerError, Value, cmd};

use super::Client;
use crate::address::Address;
use crate::background_drop::drop_values;
use crate::error::{Error, Kind, Outcome, may_succeed_later, printable_error};
use crate::node::core::closed;
use crate::node::shard::Shard;
use crate::proto::{read_replication, replication_command};
#[cfg(feature = "sentinel")]
use crate::tasks::discovery;
use crate::tasks::start::start;
use crate::time::{Elapsed, until};
use crate::topology::{SourceKind, Topology};

impl Client {
    /// Returns the address of the master: the configured one, or the one that the Sentinels name now.
    ///
    /// # Errors
    /// As [`Client::topology`].
    pub async fn discover_master(&self) -> Result<Address, Error> {
        if self.core.source.names_master() {
            return Ok(self.topology().await?.master);
        }
        Ok(self.core.config().address())
    }

    /// Returns the addresses of the master's replicas, healthy or not.
    ///
    /// # Errors
    /// As [`Client::topology`].
    pub async fn discover_replicas(&self) -> Result<Vec<Address>, Error> {
        let replicas = self.topology().await?.replicas;
        Ok(replicas.into_iter().map(|replica| replica.address).collect())
    }

    /// Asks the Sentinels (or, without them, the server itself) which servers there are now. With a
    /// [`TopologySource`](crate::TopologySource), returns its last report.
    ///
    /// # Errors
    /// When no Sentinel answers, or none monitors the master: the error lists the Sentinels and the answer of each.
    /// Without Sentinels, when the server does not answer. With a source, when it has reported nothing within
    /// `failover_wait`.
    pub async fn topology(&self) -> Result<Topology, Error> {
        start(&self.core, None).await?;
        self.core.lifecycle.check_open()?;
        let shard = self.core.first_shard();
        let topology = match self.core.source {
            #[cfg(feature = "sentinel")]
            SourceKind::Sentinel => discovery::discover(&self.core).await?,
            SourceKind::Custom => self.source_topology(&shard).await?,
            SourceKind::Direct => self.server_topology().await?,
        };
        Ok(shard.measured(topology))
    }

    /// Returns what a topology source has reported last, after its first report.
    async fn source_topology(&self, shard: &Shard) -> Result<Topology, Error> {
        let runtime = &*self.core.runtime;
        let bound = runtime.now() + self.core.config().failover_wait();
        match until(runtime, bound, shard.current_master()).await {
            Ok(Some(master)) => {
                Ok(Topology { replicas: shard.listed_replicas(), ..Topology::of(master.address.clone()) })
            }
            Ok(None) => Err(closed()),
            Err(Elapsed) => Err(shard.no_connection_error()),
        }
    }

    /// Returns the topology that the server reports: by ROLE, or by INFO where ROLE is refused.
    async fn server_topology(&self) -> Result<Topology, Error> {
        let server = self.core.config().address();
        let no_role = match self.ask(cmd("ROLE")).await? {
            Ok(role) => {
                let topology = Topology::from_role(&role, server, self.core.data.secrets());
                // The server may list more replicas than there can be.
                drop_values(vec![role]);
                return Ok(topology);
            }
            Err(refused) => refused,
        };
        let no_info = match self.ask(replication_command()).await? {
            Ok(info) => {
                let replication = read_replication(&info)?.without(self.core.data.secrets());
                return Ok(Topology::from_replication(replication, server));
            }
            Err(refused) => refused,
        };
        let kind = if no_role.code() == "NOPERM" { Kind::Permission } else { Kind::Server };
        let message = format!(
            "{server} did not report its role: ROLE failed ({}), and so did INFO ({}); allow one of them (ACL SETUSER \
             <user> +role)",
            self.core.data.hide(printable_error(&no_role)),
            self.core.data.hide(printable_error(&no_info))
        );
        Err(Error::new(kind, message).with_outcome(Outcome::NotApplied))
    }

    /// Sends one command; returns the server's error if it lacks the command or refuses it to this user.
    async fn ask(&self, question: Cmd) -> Result<Result<Value, ServerError>, Error> {
        match self.connection().request(&question).await.map_err(Error::from_redis)? {
            Value::ServerError(error) if !may_succeed_later(&error) => Ok(Err(error)),
            reply => Error::answer(reply).map(Ok),
        }
    }
}
