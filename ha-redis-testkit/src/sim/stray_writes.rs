//! Checks that the client does not write to a server that no Sentinel names as master.

use std::time::Duration;

use super::host::{Host, SENTINELS, SERVERS};
use super::world::World;

/// How long writes may go to a server that no Sentinel names while a majority of Sentinels answers.
const MAX_STRAY_TIME: Duration = Duration::from_secs(5);
/// The time between two checks, plus the network latency.
const GRACE: Duration = Duration::from_millis(500);

/// Which servers no Sentinel names, and since when the client has written to them.
#[derive(Debug, Default)]
pub(super) struct StrayWrites {
    unlisted: [bool; SERVERS],
    since: [Option<Duration>; SERVERS],
}

impl World {
    /// Updates which servers the Sentinels name, if the client can reach a majority of Sentinels.
    pub(super) fn update_unlisted_servers(&mut self) {
        let present = self.present_sentinels().count();
        let up = (0..SENTINELS).filter(|number| self.is_up(Host::Sentinel(*number))).collect::<Vec<_>>();
        let reachable = up.iter().filter(|number| self.is_reachable(**number)).count();
        let majority = reachable * 2 > present && !self.permissions.hides("SENTINEL SENTINELS");
        for server in 0..SERVERS {
            let mut named = up.iter().map(|number| &self.sentinels[*number]);
            let unlisted = !named.any(|sentinel| sentinel.monitors && sentinel.master == server);
            self.stray_writes.unlisted[server] = majority && unlisted;
            if !self.stray_writes.unlisted[server] {
                self.stray_writes.since[server] = None;
            }
        }
    }

    /// Returns true if the client gets replies from a Sentinel in time.
    fn is_reachable(&self, number: usize) -> bool {
        let sentinel = Host::Sentinel(number);
        self.sentinels[number].monitors && self.network.is_open(sentinel)
    }

    /// Records that a write of a call ran.
    pub(super) fn record_write(&mut self, server: usize, call: u64) {
        if !self.stray_writes.unlisted[server] {
            // The client has returned to a named master.
            self.stray_writes.since = [None; SERVERS];
            return;
        }
        let now = self.now();
        let since = *self.stray_writes.since[server].get_or_insert(now);
        if self.history.call(call).begun > since + MAX_STRAY_TIME + GRACE {
            let server = Host::Redis(server);
            let message =
                format!("call {call} wrote to {server}, which no Sentinel had named for {:?}", now - since);
            self.history.violation(message);
        }
    }
}
