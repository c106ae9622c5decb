//! Time as the chain counts it: since the start of the process, on a clock that nobody sets. A wall clock that jumps
//! neither opens nor closes anything.

use std::time::Duration;

/// A point in time, counted from the start of the process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(pub Duration);

impl Moment {
    /// The time that passed since `earlier`; nothing when that is not earlier.
    pub fn since(self, earlier: Moment) -> Duration {
        self.0.saturating_sub(earlier.0)
    }

    /// The moment `later` after this one.
    pub fn after(self, later: Duration) -> Moment {
        Moment(self.0.saturating_add(later))
    }

    /// The time until `end`; nothing when it has passed.
    pub fn until(self, end: Moment) -> Duration {
        end.since(self)
    }
}
