//! Which commands a caller allows to run twice.

use crate::command::Safety;
use crate::config::RetrySafety;

impl RetrySafety {
    /// Returns true if a command that may have run may be sent again.
    pub(crate) fn allows(self, safety: Safety) -> bool {
        match self {
            Self::ReadOnly => safety == Safety::ReadOnly,
            Self::Repeatable => safety <= Safety::Repeatable,
            Self::Anything => true,
        }
    }
}
