//! A simulated runtime, and a test of the client on it against random faults.
//!
//! Everything runs on one thread in virtual time, and a seed determines all random choices: which task runs next,
//! how long data is under way, which faults occur. So a failing seed can be replayed exactly.
//!
//! A run has a client with a few callers; three Redis servers, which replicate with lag, are promoted, hang, crash
//! and restart; three Sentinels, which gossip and fail over at the pace of real ones; and a network that delays,
//! cuts, silences, throttles, and delivers lost data late. The client's user may have few permissions, and the
//! servers may be old or refuse writes because of `min-replicas-to-write`. Operators reset and recreate Sentinels,
//! and promote servers by hand. In a share of the runs a Sentinel lies, a server violates the protocol, and an
//! attacker listens on addresses of its own. Servers record what they ran for which call, and callers record what
//! they requested and got. From these records the simulation checks the rules that must hold despite all faults:
//!
//! - No caller gets another caller's reply, and no task panics.
//! - Calls reported as done have run. Calls reported as not sent or not applied have not.
//! - Nothing runs twice unless its caller allows it, never over one connection, and never after it was reported as
//!   done.
//! - Every call ends by its deadline, and waits for dedicated connections are served in order.
//! - Callers that wait longer than a failover lasts do not see the refusals of that failover.
//! - What callers see of a register is linearizable.
//! - After a caller's reply from a new master, no later call runs on an older one.
//! - Writes do not go for long to a server that no Sentinel names while a majority of Sentinels answers.
//! - Planned failovers lose no acknowledged write.
//! - When the faults end, the client recovers and reports a healthy state. Then every call succeeds, on replicas as
//!   well.
//! - Hostile peers next to two honest Sentinels fail no call, receive no password, and cause few connections.
//! - After the client is closed or dropped, none of its tasks and connections is left.

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
mod permissions;
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
mod stray_writes;
mod trace;
mod workload;
mod world;

pub use run::{Report, run, run_with_harm};
