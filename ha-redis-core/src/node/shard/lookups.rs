//! When to look up the name of a server again that is no longer the master.

use std::time::{Duration, Instant};

use crate::config::Jitter;
use crate::retry::Backoff;

/// Without Sentinels, a server that turned read-only may have a name that now resolves to another address, or soon
/// will. A look-up costs all callers a reconnect, so it happens less and less often while the address stays the same.
const LOOKUP_BACKOFF: Backoff =
    Backoff { base: Duration::from_millis(250), cap: Duration::from_secs(5), jitter: Jitter::None };

/// The look-ups of the name so far.
#[derive(Debug, Default)]
pub(super) struct AddressLookups {
    last: Option<Instant>,
    in_a_row: u32,
}

impl AddressLookups {
    /// Returns true if a look-up is due now. Demotions that are far apart are unrelated.
    pub(super) fn is_due(&mut self, now: Instant) -> bool {
        let since = self.last.map(|last| now.saturating_duration_since(last));
        if since.is_none_or(|since| since > 2 * LOOKUP_BACKOFF.cap) {
            self.in_a_row = 0;
        } else if since < Some(LOOKUP_BACKOFF.delay(self.in_a_row, 0)) {
            return false;
        } else {
            self.in_a_row += 1;
        }
        self.last = Some(now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lookups_become_less_frequent() {
        let (mut lookups, start) = (AddressLookups::default(), Instant::now());
        let due = |lookups: &mut AddressLookups, from: u64, to: u64| {
            let times = (from..to).filter(|ms| lookups.is_due(start + Duration::from_millis(*ms)));
            times.collect::<Vec<_>>()
        };
        assert_eq!(due(&mut lookups, 0, 20_000), [0, 250, 750, 1750, 3750, 7750, 12_750, 17_750]);
        assert_eq!(due(&mut lookups, 40_000, 40_300), [40_000, 40_250]);
    }
}
