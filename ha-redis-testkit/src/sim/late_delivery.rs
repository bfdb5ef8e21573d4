//! What is lost on its way and sent again: it may arrive after its connection was given up.

use std::time::Duration;

use super::host::Host;
use super::network::Way;
use super::world::World;

impl World {
    /// What the client sends to `host` on the connections that are open now arrives after this time, and not before.
    pub(super) fn stall(&mut self, host: Host, lasts: Duration) {
        let until = self.now() + lasts;
        for number in self.connections_of(host) {
            self.network.pipe(number, Way::Up).stalled_until = until;
        }
    }
}
