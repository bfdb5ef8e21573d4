//! Lost data that is retransmitted, and may arrive after its connection was given up.

use std::time::Duration;

use super::host::Host;
use super::network::{Chunk, ConnectionId, Direction};
use super::world::World;

impl World {
    /// Delays what the client sends to `host` on the connections that are open now until this time has passed.
    pub(super) fn stall(&mut self, host: Host, lasts: Duration) {
        let until = self.now() + lasts;
        for number in self.connections_of(host) {
            self.network.pipe(number, Direction::ToServer).stalled_until = until;
        }
    }

    /// The client gives a connection up with a reset. Its system then retransmits nothing, but the reset itself may
    /// be lost.
    pub(super) fn give_up(&mut self, number: ConnectionId) {
        if self.network.conditions.honours_resets {
            let lost = self.network.is_silent(number, Direction::ToServer);
            let pipe = self.network.pipe(number, Direction::ToServer);
            pipe.lose_all();
            pipe.stalled_until = Duration::ZERO;
            self.network.release(number);
            self.on_release(number);
            if !lost {
                self.send(number, Direction::ToServer, Chunk::Reset);
            }
        } else {
            self.close_from_client(number);
        }
    }
}
