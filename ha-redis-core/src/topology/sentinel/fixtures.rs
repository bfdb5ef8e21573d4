//! What the tests of the Sentinels' votes share.

use std::time::Duration;

use super::report::{ReportedMaster, ReportedReplica, ReportedSentinel};
use super::{FailoverConfig, SentinelReport};
use crate::address::Address;

/// The servers that honest Sentinels list: the master and its replicas.
pub(super) const SERVERS: [&str; 3] = ["m", "r1", "r2"];

pub(super) fn address(name: &str) -> Address {
    Address::tcp(name, 6379)
}

pub(super) fn failover_config(require_majority: bool) -> FailoverConfig {
    FailoverConfig {
        master_name: "mymaster".to_owned(),
        early_promotion: true,
        promotion_hold: Duration::from_secs(2),
        require_majority,
        initial_attempts: 3,
    }
}

/// A report of these servers. Those that are not the master are its replicas.
pub(super) fn report(id: Option<&str>, master: &str, epoch: u64, servers: &[&str]) -> SentinelReport {
    let master = ReportedMaster { address: address(master), epoch, flags: "master".to_owned(), quorum: 2 };
    let replica = |server: &&str| ReportedReplica {
        address: address(server),
        flags: "slave".to_owned(),
        master_link_up: true,
    };
    let replicas = servers.iter().filter(|server| address(server) != master.address).map(replica).collect();
    SentinelReport { id: id.map(str::to_owned), master: Some(master), replicas, ..SentinelReport::default() }
}

/// The other Sentinels of a report, by their addresses and ids.
pub(super) fn reported_sentinels(listed: &[(&str, &str)]) -> Vec<ReportedSentinel> {
    listed
        .iter()
        .map(|(host, id)| ReportedSentinel { address: address(host), id: (*id).to_owned() })
        .collect()
}
