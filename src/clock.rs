//! The one place that reads the clock. Everything else takes the time as an argument.

use crate::api::v1alpha1::Time;

/// The current time.
#[expect(clippy::disallowed_methods, reason = "this is the one place that may read the clock")]
pub fn now() -> Time {
    Time::now()
}
