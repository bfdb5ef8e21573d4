//! Connections with a limited throughput: a large value takes time, and the data behind it waits.

use std::time::Duration;

use super::network::Direction;

/// The throughput of a connection, in bytes per second.
#[derive(Clone, Copy, Debug)]
pub(super) struct LinkSpeed {
    pub(super) up: u64,
    pub(super) down: u64,
    /// The size of the segments.
    pub(super) segment: usize,
}

impl LinkSpeed {
    /// Returns how long sending this many bytes takes.
    pub(super) fn transmission(self, direction: Direction, bytes: usize) -> Duration {
        let speed = match direction {
            Direction::ToServer => self.up,
            Direction::ToClient => self.down,
        };
        Duration::from_nanos(bytes as u64 * 1_000_000_000 / speed.max(1))
    }

    /// Splits `bytes` into segments.
    pub(super) fn segments(self, mut bytes: Vec<u8>) -> Vec<Vec<u8>> {
        let mut segments = Vec::new();
        while bytes.len() > self.segment {
            let rest = bytes.split_off(self.segment);
            segments.push(std::mem::replace(&mut bytes, rest));
        }
        segments.push(bytes);
        segments
    }
}
