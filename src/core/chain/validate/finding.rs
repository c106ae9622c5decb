//! What is found about a chain: the field, the kind of fault, and a sentence.

use std::fmt;

/// Something about one field of a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Where, such as `spec.rungs[0].upstreams[1].url`.
    pub field: String,
    /// What kind of fault it is.
    pub fault: Fault,
    /// One sentence for people.
    pub message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Finding { field, fault: _, message } = self;
        write!(f, "{field}: {message}")
    }
}

/// Kinds of faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// It has to be there.
    Required,
    /// It is not what it has to be.
    Invalid,
    /// Its name is taken.
    Duplicate,
    /// It names what does not exist.
    Unknown,
    /// It leads back to where it began.
    Cycle,
    /// It is too small or too large.
    OutOfRange,
    /// It does not go with something else.
    Unsupported,
    /// It leaves no call that could be made.
    Impossible,
}

impl Fault {
    /// The constant, as it stands in conditions.
    pub fn as_str(self) -> &'static str {
        match self {
            Fault::Required => "Required",
            Fault::Invalid => "Invalid",
            Fault::Duplicate => "Duplicate",
            Fault::Unknown => "Unknown",
            Fault::Cycle => "Cycle",
            Fault::OutOfRange => "OutOfRange",
            Fault::Unsupported => "Unsupported",
            Fault::Impossible => "Impossible",
        }
    }
}

/// What was found so far.
#[derive(Default)]
pub(super) struct Findings {
    pub refused: Vec<Finding>,
    pub warnings: Vec<Finding>,
}

impl Findings {
    pub fn refuse(&mut self, field: impl Into<String>, fault: Fault, message: impl Into<String>) {
        self.refused.push(Finding { field: field.into(), fault, message: message.into() });
    }

    pub fn warn(&mut self, field: impl Into<String>, fault: Fault, message: impl Into<String>) {
        self.warnings.push(Finding { field: field.into(), fault, message: message.into() });
    }
}
