//! A simulated runtime, and on it a test of the client against random faults.
//!
//! Everything runs on one thread in virtual time, and everything that is left to chance comes from a seed: which
//! task runs next, how long bytes travel, what goes wrong. So a seed that fails can be replayed exactly.
//!
//! A run has a client with a few callers; three Redis servers, which replicate with lag, are promoted, hang, crash and
//! come back; three Sentinels, which gossip and fail over at the pace of the real ones; and a network that delays,
//! cuts and goes silent. Servers note what they ran for whom, and callers note what they asked for and got. From both
//! follows what must hold, whatever went wrong:
//!
//! - No caller gets another's reply.
//! - What is reported as done has run; what is reported as not sent or not applied has not.
//! - Nothing runs twice but what its caller allows.
//! - Every call ends by its deadline.
//! - Once a caller had a reply from a new master, no later call runs on an older one.
//! - Failovers that an operator asks for lose no write that was acknowledged.
//! - When the faults stop, the client recovers, and then every call succeeds.
//! - After the client is closed or dropped, none of its tasks and connections is left.

mod check;
mod fault;
mod history;
mod host;
mod log;
mod network;
mod plan;
mod redis;
mod reply;
mod run;
mod runtime;
mod scheduler;
mod sentinel;
mod session;
mod trace;
mod workload;
mod world;

pub use run::{Report, run};
