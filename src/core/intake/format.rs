//! The shape of a payload format.

use super::normal::Batch;
use super::sender::{BadInput, RequestInfo, Sender};

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
    /// Reads a payload; an error means that it is none of this format. Unknown fields are ignored. Each alert is read
    /// when it is asked for, and one that cannot be read is still one, with the reason why in it.
    pub parse: for<'a> fn(&'a [u8], RequestInfo<'a>) -> Result<Batch<'a>, BadInput>,
}
