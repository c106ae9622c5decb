//! Why a Policy or a Runbook refuses, and what is wrong with one.

use std::fmt::{self, Display};

use crate::core::cel::{self, Place};
use crate::core::reason::Reason;

/// Bytes of a sentence that an author wrote, or of an expression, as they are shown to people.
pub(super) const MAX_QUOTED: usize = 512;

/// Why a Policy or a Runbook refuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    /// The constant; what its author calls it is in the message.
    pub reason: Reason,
    /// One sentence.
    pub message: String,
}

impl Denial {
    /// That of an object, such as `Policy shop/web`, that does not compile.
    pub(super) fn of(whose: &str, findings: &[Finding]) -> Denial {
        let Some(first) = findings.first() else {
            return Denial {
                reason: Reason::PolicyInvalid,
                message: format!("{whose} does not compile and so denies"),
            };
        };
        let what = match first.reason {
            Reason::PolicyTooExpensive => "is too expensive",
            _ => "does not compile",
        };
        let more = match findings.len() - 1 {
            0 => String::new(),
            more => format!(" (and {more} more: backstop lint shows all)"),
        };
        Denial { reason: first.reason, message: format!("{whose} {what} and so denies: {first}{more}") }
    }
}

/// What is wrong with an object that people wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Whether it does not compile, or costs too much.
    pub reason: Reason,
    /// The field, below `spec`, such as `validations[0].expression`.
    pub field: String,
    /// Where in the text of the field; `None` where it is about all of it.
    pub place: Option<Place>,
    /// One sentence.
    pub message: String,
}

impl Finding {
    /// Something that does not compile.
    pub(super) fn invalid(field: impl Into<String>, message: impl Display) -> Finding {
        let message = cel::clip(message, MAX_QUOTED);
        Finding { reason: Reason::PolicyInvalid, field: field.into(), place: None, message }
    }

    /// The same, at a place of the field's text.
    pub(super) fn at(self, place: Place) -> Finding {
        Finding { place: Some(place), ..self }
    }
}

impl Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Finding { reason: _, field, place, message } = self;
        match place {
            Some(Place { line, column }) => write!(f, "{field}, line {line}, column {column}: {message}"),
            None => write!(f, "{field}: {message}"),
        }
    }
}

/// `namespace/name`.
pub(super) fn full_name(namespace: Option<&str>, name: Option<&str>) -> String {
    format!("{}/{}", namespace.unwrap_or_default(), name.unwrap_or_default())
}

/// The text, if there is any.
pub(super) fn non_empty(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}
