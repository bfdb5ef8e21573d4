//! Connections that carry so many bytes a second: a large value takes its time, and what comes behind it waits.

use std::time::Duration;

use super::network::Way;

/// How many bytes a second a connection carries.
#[derive(Clone, Copy, Debug)]
pub(super) struct LinkSpeed {
    pub(super) up: u64,
    pub(super) down: u64,
    /// How many bytes are sent at once.
    pub(super) segment: usize,
}

impl LinkSpeed {
    /// How long so many bytes take to leave.
    pub(super) fn transmission(self, way: Way, bytes: usize) -> Duration {
        let speed = match way {
            Way::Up => self.up,
            Way::Down => self.down,
        };
        Duration::from_nanos(bytes as u64 * 1_000_000_000 / speed.max(1))
    }

    /// The pieces in which `bytes` travel.
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
