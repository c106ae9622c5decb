//! The shape of a payload format.

use super::normal::{Batch, Request};
use super::sender::{BadInput, Sender};

/// One payload format.
#[derive(Debug)]
pub struct Format {
    /// Who sends it.
    pub sender: Sender,
    /// Value of the label `source` in metrics.
    pub label: &'static str,
    /// Where it is posted.
    pub path: &'static str,
    /// For whoever opens the path in a browser: how the sender is set up.
    pub setup: &'static str,
    /// Where the sender's owner sets the intake's token.
    pub credentials: &'static str,
    /// Reads a payload. Unknown fields are ignored.
    pub parse: fn(&[u8], Request<'_>) -> Result<Batch, BadInput>,
}
