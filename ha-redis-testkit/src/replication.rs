//! Checks that replicas have the data of their master.

use crate::error::Error;
use crate::resp::Reply;
use crate::server::Server;

/// Returns an error unless each of the replicas replicates from the master and has all data that the master has.
pub(crate) fn check<'a>(master: &Server, replicas: impl Iterator<Item = &'a Server>) -> Result<(), Error> {
    let offset = |info: &Reply, field| info.field(field).and_then(|offset| offset.parse::<u64>().ok());
    let written = offset(&master.query(&["INFO", "replication"])?, "master_repl_offset");
    let master = master.port();
    for replica in replicas {
        let (port, info) = (replica.port(), replica.query(&["INFO", "replication"])?);
        let replicates = info.field("master_port").and_then(|port| port.parse().ok()) == Some(master);
        if !replicates || info.field("master_link_status") != Some("up") {
            return Err(Error::NotReady(format!(
                "server {port} does not replicate from the master {master} yet"
            )));
        }
        if offset(&info, "slave_repl_offset") < written {
            return Err(Error::NotReady(format!(
                "server {port} has not replicated all data of the master {master}"
            )));
        }
    }
    Ok(())
}
