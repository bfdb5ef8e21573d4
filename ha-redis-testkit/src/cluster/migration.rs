//! Moves a slot with its keys to another master while clients use it.

use super::{BOUND, Cluster};
use crate::error::{Error, wait_for};
use crate::resp::Reply;
use crate::server::Server;

/// How many keys are moved at once.
const BATCH: &str = "100";

/// How long the owner waits for the other node, in milliseconds.
const MIGRATE_TIMEOUT: &str = "1000";

/// A slot on its way to another master. Returned by [`Cluster::start_migration`].
///
/// The owner serves the keys that it still has, and redirects clients with `ASK` for the others. It answers a command
/// with several keys with `TRYAGAIN` if it has some of them only. Dropping this value leaves the slot in this state.
#[derive(Debug)]
pub struct Migration<'a> {
    cluster: &'a Cluster,
    slot: u16,
    from: &'a Server,
    to: &'a Server,
}

impl Cluster {
    /// Moves a slot and its keys to another master, as `redis-cli --cluster reshard` does. Returns when all masters
    /// have been told. Replicas learn of it later.
    ///
    /// # Errors
    ///
    /// The same as for [`Cluster::start_migration`], [`Migration::move_all_keys`] and [`Migration::finish`].
    pub fn migrate_slot(&self, slot: u16, to: &Server) -> Result<(), Error> {
        let migration = self.start_migration(slot, to)?;
        migration.move_all_keys()?;
        migration.finish()
    }

    /// Opens a slot for its migration to another master, and moves no keys.
    ///
    /// # Errors
    ///
    /// The same as for [`Cluster::master_of`] and [`Server::query`].
    pub fn start_migration<'a>(&'a self, slot: u16, to: &'a Server) -> Result<Migration<'a>, Error> {
        let migration = Migration { cluster: self, slot, from: self.master_of(slot)?, to };
        migration.set_slot(to, "IMPORTING", migration.from)?;
        migration.set_slot(migration.from, "MIGRATING", to)?;
        Ok(migration)
    }
}

impl<'a> Migration<'a> {
    /// Returns the owner of the slot.
    pub fn from(&self) -> &'a Server {
        self.from
    }

    /// Returns the future owner of the slot.
    pub fn to(&self) -> &'a Server {
        self.to
    }

    /// Moves these keys of the slot. Keys that the owner does not have are ignored.
    ///
    /// # Errors
    ///
    /// The same as for [`Server::query`].
    pub fn move_keys(&self, keys: &[&str]) -> Result<(), Error> {
        let (host, port) = (super::HOST.to_string(), self.to.port().to_string());
        // What an attempt that timed out has left on the other node is older than what the owner has.
        let mut command = vec!["MIGRATE", &host, &port, "", "0", MIGRATE_TIMEOUT, "REPLACE"];
        command.extend(match self.to.login() {
            [password] => vec!["AUTH", password],
            [user, password] => vec!["AUTH2", user, password],
            _ => Vec::new(),
        });
        command.push("KEYS");
        command.extend(keys);
        self.from.query(&command).map(drop)
    }

    /// Moves all keys that the owner has, in batches of 100. The keys must be UTF-8.
    ///
    /// # Errors
    ///
    /// [`Error::TimedOut`] after 40 s, with the error of the last batch.
    pub fn move_all_keys(&self) -> Result<(), Error> {
        let slot = self.slot.to_string();
        wait_for(BOUND, || {
            let keys = self.from.query(&["CLUSTER", "GETKEYSINSLOT", &slot, BATCH])?;
            let keys: Vec<&str> = keys.items().iter().filter_map(Reply::text).collect();
            if keys.is_empty() {
                return Ok(());
            }
            self.move_keys(&keys)?;
            Err(Error::NotReady(format!("node {} has keys of slot {slot}", self.from.port())))
        })
    }

    /// Makes the slot the other master's, and tells all masters that answer: first the new owner, so that the slot
    /// always has one. An owner without further slots becomes a replica of the other master, unless
    /// `cluster-allow-replica-migration` is off.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] if the old owner has keys of the slot.
    pub fn finish(self) -> Result<(), Error> {
        self.set_slot(self.to, "NODE", self.to)?;
        match self.set_slot(self.from, "NODE", self.to) {
            // It has heard of the new owner and has become its replica.
            Err(Error::Refused { message, .. }) if message.contains("only with masters") => {}
            told => told?,
        }
        let both = [self.to.port(), self.from.port()];
        let masters = self.cluster.views().filter(|(_, view)| view.myself().is_master());
        let mut others = masters.map(|(node, _)| node).filter(|node| !both.contains(&node.port()));
        others.try_for_each(|node| self.set_slot(node, "NODE", self.to))
    }

    /// Sets the state of the slot on `node`, which refers to `other`.
    fn set_slot(&self, node: &Server, state: &str, other: &Server) -> Result<(), Error> {
        let id = other.query(&["CLUSTER", "MYID"])?;
        let slot = self.slot.to_string();
        node.query(&["CLUSTER", "SETSLOT", &slot, state, id.text().unwrap_or_default()]).map(drop)
    }
}
