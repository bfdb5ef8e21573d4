//! When the name of a server that says that it is no master is looked up again.

use std::time::{Duration, Instant};

use crate::config::Jitter;
use crate::retry::Backoff;

/// Without Sentinels, a server that turned read-only may be behind a name that now leads elsewhere, or soon will. Looking
/// that up costs all callers a reconnect, so it is done less and less often while nothing comes of it.
const LOOKUP_BACKOFF: Backoff =
    Backoff { base: Duration::from_millis(250), cap: Duration::from_secs(5), jitter: Jitter::None };

/// When the name of a server that says that it is no master was looked up again.
#[derive(Debug, Default)]
pub(super) struct AddressLookups {
    last: Option<Instant>,
    in_a_row: u32,
}

impl AddressLookups {
    /// Whether to look it up now. Looks that are far from each other have nothing to do with each other.
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
    fn a_name_is_looked_up_again_at_once_and_then_less_and_less_often() {
        let (mut lookups, start) = (AddressLookups::default(), Instant::now());
        let due = |lookups: &mut AddressLookups, from: u64, to: u64| {
            let times = (from..to).filter(|ms| lookups.is_due(start + Duration::from_millis(*ms)));
            times.collect::<Vec<_>>()
        };
        assert_eq!(due(&mut lookups, 0, 20_000), [0, 250, 750, 1750, 3750, 7750, 12_750, 17_750]);
        assert_eq!(due(&mut lookups, 40_000, 40_300), [40_000, 40_250]);
    }
}
