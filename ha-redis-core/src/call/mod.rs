//! One call: its fast path ([`future`]), its retries ([`retry_loop`]), and the connection that it goes over.

pub(crate) mod aborted_transaction;
mod attempt;
pub(crate) mod caller;
pub(crate) mod checked_out;
pub(crate) mod exchange;
pub(crate) mod future;
mod handle_options;
pub(crate) mod refused;
pub(crate) mod replica_route;
mod retry_loop;
mod scans;
mod shard_route;
#[cfg(test)]
mod shards_tests;
pub(crate) mod urgent;
