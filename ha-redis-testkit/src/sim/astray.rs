//! Whether the client writes to a server that is nobody's master.

use std::time::Duration;

use super::host::{Host, SENTINELS, SERVERS};
use super::world::World;

/// So long may writes go to a server that no Sentinel names, although a majority of them answers.
const LONGEST: Duration = Duration::from_secs(5);
/// Between two looks, and on the way.
const GRACE: Duration = Duration::from_millis(500);

/// Which servers nobody names, and since when the client has written there all the same.
#[derive(Debug, Default)]
pub(super) struct Astray {
    unnamed: [bool; SERVERS],
    since: [Option<Duration>; SERVERS],
}

impl World {
    /// Looks which servers the Sentinels name, if the client can hear that from a majority of them.
    pub(super) fn note_who_is_named(&mut self) {
        let present = self.present_sentinels().count();
        let up = (0..SENTINELS).filter(|number| self.is_up(Host::Sentinel(*number))).collect::<Vec<_>>();
        let heard = up.iter().filter(|number| self.is_heard(**number)).count();
        let majority = heard * 2 > present && !self.rights.hides("SENTINEL SENTINELS");
        for server in 0..SERVERS {
            let mut named = up.iter().map(|number| &self.sentinels[*number]);
            let unnamed = !named.any(|sentinel| sentinel.monitors && sentinel.master == server);
            self.astray.unnamed[server] = majority && unnamed;
            if !self.astray.unnamed[server] {
                self.astray.since[server] = None;
            }
        }
    }

    /// Whether the client gets an answer from a Sentinel, in time.
    fn is_heard(&self, number: usize) -> bool {
        let sentinel = Host::Sentinel(number);
        self.sentinels[number].monitors && self.network.is_open(sentinel)
    }

    /// Notes that a call's write ran.
    pub(super) fn note_write(&mut self, server: usize, call: u64) {
        if !self.astray.unnamed[server] {
            // It has come back.
            self.astray.since = [None; SERVERS];
            return;
        }
        let now = self.now();
        let since = *self.astray.since[server].get_or_insert(now);
        if self.history.call(call).begun > since + LONGEST + GRACE {
            let server = Host::Redis(server);
            let message =
                format!("call {call} wrote to {server}, which nobody had named for {:?}", now - since);
            self.history.violation(message);
        }
    }
}
