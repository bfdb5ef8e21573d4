//! Why a data server refuses a command: because of its user, or because of the server's state.

use super::host::Host;
use super::redis::Role;
use super::reply;
use super::world::World;

const READ_ONLY: &str = "READONLY You can't write against a read only replica.";
const NO_REPLICAS: &str = "NOREPLICAS Not enough good replicas to write.";
const MASTER_DOWN: &str = "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.";
const LOADING: &str = "LOADING Redis is loading the dataset in memory";
const BUSY: &str = "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.";

impl World {
    /// Returns the error for a command that must not run.
    pub(super) fn refusal(&self, server: usize, name: &str, args: &[&str]) -> Option<Vec<u8>> {
        let what = args.first().map(|arg| arg.to_ascii_uppercase()).unwrap_or_default();
        let of_user = self.refusal_of_user(Host::Redis(server), &[name, &what]);
        of_user.or_else(|| self.refusal_of_state(server, name).map(reply::error))
    }

    /// Returns why the server's state prevents a command.
    pub(super) fn refusal_of_state(&self, server: usize, name: &str) -> Option<&'static str> {
        let redis = &self.servers[server];
        if writes(name) && !redis.is_master() {
            return Some(READ_ONLY);
        }
        if writes(name) && self.replicating_replicas(server) < redis.min_replicas {
            return Some(NO_REPLICAS);
        }
        if !self.behavior.serves_stale && name == "GETRANGE" && self.has_lost_its_master(server) {
            return Some(MASTER_DOWN);
        }
        if redis.loading_until > self.now() && !runs_while_loading(name) {
            return Some(LOADING);
        }
        (redis.busy_until > self.now() && !runs_beside_a_script(name)).then_some(BUSY)
    }

    pub(super) fn has_lost_its_master(&self, server: usize) -> bool {
        let redis = &self.servers[server];
        matches!(redis.role, Role::Replica { of } if !redis.synced || !self.listens(Host::Redis(of)))
    }
}

fn writes(name: &str) -> bool {
    ["SET", "INCRBY", "BLPOP"].iter().any(|write| name.eq_ignore_ascii_case(write))
}

fn runs_while_loading(name: &str) -> bool {
    matches!(
        name,
        "HELLO"
            | "AUTH"
            | "ROLE"
            | "INFO"
            | "CLIENT"
            | "ECHO"
            | "SELECT"
            | "MULTI"
            | "EXEC"
            | "WATCH"
            | "UNWATCH"
    )
}

fn runs_beside_a_script(name: &str) -> bool {
    matches!(name, "HELLO" | "AUTH" | "MULTI" | "EXEC" | "WATCH" | "UNWATCH")
}
