//! Reading what alert senders post: one file per payload format, and the one place that lists them. Every format
//! ends in the same normal form; what is no payload at all in a refusal that tells the sender's owner what to do.
//!
//! Everything in a payload is untrusted text. It is cut and cleaned for people, and a value that had to be altered
//! carries U+FFFD (the replacement character), which no Kubernetes name may contain: an alteration can never turn
//! a bad value into the valid name of some other object.

mod alertmanager;
mod budget;
mod format;
mod normal;
mod place;
#[cfg(test)]
mod planted;
mod record;
mod sender;
mod split;
#[cfg(test)]
mod tests;
mod texts;

pub use budget::{Budget, MAX_ALERTS, MAX_BODY};
pub use format::Format;
pub use normal::{Batch, Normalised, Skip};
pub use place::{BELONGS_TO, Place, Placement, TokenOwner};
pub use record::{foreign_cluster, left_out};
pub use sender::{BadInput, RequestInfo, Sender};
pub use texts::{MAX_ENTRIES, MAX_KEY, MAX_VALUE};

use crate::api::v1alpha1::AlertSource;

/// Every format that is accepted.
pub fn all() -> impl Iterator<Item = &'static Format> {
    AlertSource::ALL.iter().filter_map(|source| of(*source))
}

/// The format of a source; `None` when nothing is posted by it. Whoever adds a source is asked here by the compiler.
pub fn of(source: AlertSource) -> Option<&'static Format> {
    match source {
        AlertSource::Alertmanager => Some(&alertmanager::FORMAT),
        AlertSource::Manual => None,
        #[cfg(test)]
        AlertSource::Planted => Some(&planted::FORMAT),
    }
}
