//! A simulated runtime, and on it a test of the client against random faults.
//!
//! Everything runs on one thread in virtual time, and everything that is left to chance comes from a seed: which
//! task runs next, how long bytes travel, what goes wrong. So a seed that fails can be replayed exactly.
//!
//! A run has a client with a few callers; three Redis servers, which replicate with lag, are promoted, hang, crash and
//! come back; three Sentinels, which gossip and fail over at the pace of the real ones; and a network that delays,
//! cuts, goes silent, is slow, and brings late what it had lost. The client's user may have few rights, and the servers
//! be old or refuse writes for want of replicas. Operators reset Sentinels, set them up anew, and promote by hand.
//! In a share of the runs a Sentinel lies, a server speaks no protocol, and an attacker listens at addresses of its own.
//! Servers note what they ran for whom, and callers note what they asked for and got. From both follows what must hold,
//! whatever went wrong:
//!
//! - No caller gets another's reply, and no task panics.
//! - What is reported as done has run; what is reported as not sent or not applied has not.
//! - Nothing runs twice but what its caller allows, never over one connection, and never after it is said to be done.
//! - Every call ends by its deadline, and who waits for a connection of its own is passed by nobody.
//! - What servers refuse while a failover lasts is told to nobody who waits longer than that.
//! - What callers see of a register is linearizable.
//! - Once a caller had a reply from a new master, no later call runs on an older one.
//! - No write goes for long to a server that no Sentinel names, while a majority of them answers.
//! - Failovers that an operator asks for lose no write that was acknowledged.
//! - When the faults stop, the client recovers and says so, and then every call succeeds, on replicas too.
//! - Hostile peers beside two honest Sentinels fail no call, get no password, and cause few connections.
//! - After the client is closed or dropped, none of its tasks and connections is left.

mod astray;
mod check;
mod client_list;
mod failover;
mod fault;
mod history;
mod host;
mod hostile;
mod late_delivery;
mod liar;
mod linearizability;
mod link_speed;
mod log;
mod network;
mod operator;
mod payload;
mod plan;
mod redis;
mod refusals;
mod replication;
mod reply;
mod run;
mod runtime;
mod scheduler;
mod sentinel;
mod session;
mod trace;
mod users;
mod workload;
mod world;

pub use run::{Report, run, run_with_harm};
