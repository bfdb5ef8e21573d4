//! The marker of a handover: a message that two connections receive, and that shows where one continues the other.

use std::hash::{BuildHasher, RandomState};

use redis::{Cmd, Msg, cmd};

/// The channels of markers begin with this.
const PREFIX: &str = "__ha_redis_handover:";

/// A message that only its publisher can write.
#[derive(Clone, Debug)]
pub(crate) struct Marker {
    channel: String,
    payload: String,
}

impl Marker {
    /// Creates a marker. Its channel is public, since anyone may list channels; its payload is secret until it is
    /// published.
    pub(crate) fn new() -> Self {
        // A keyed hash: what is seen of it shows nothing of the rest. The operating system makes the key.
        let key = RandomState::new();
        let random =
            |number: u8| format!("{:016x}{:016x}", key.hash_one((number, 0)), key.hash_one((number, 1)));
        Self { channel: format!("{PREFIX}{}", random(0)), payload: random(1) }
    }

    pub(crate) fn channel(&self) -> &[u8] {
        self.channel.as_bytes()
    }

    pub(crate) fn publish(&self) -> Cmd {
        cmd("PUBLISH").arg(&self.channel).arg(&self.payload).take()
    }

    pub(super) fn is(&self, message: &Msg) -> bool {
        message.get_channel_name() == self.channel && message.get_payload_bytes() == self.payload.as_bytes()
    }
}

/// Returns true for messages on the channel of any marker: of this client, or of another one.
pub(super) fn is_on_marker_channel(message: &Msg) -> bool {
    message.get_channel_name().starts_with(PREFIX)
}
