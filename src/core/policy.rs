//! Policies and Runbooks, parsed once. What does not compile denies; a match can only tighten,
//! but for `allowHelm`, which any Policy may give, and `modelMode`, which all of them have to.
//!
//! What they may cost is bounded: their texts, their number, and what their expressions cost when they are evaluated. One
//! that is over a bound denies, by its name. Bounds are checked when it is compiled, on the [`example`] of an incident,
//! so that its author is told at once, and again with each decision.

mod compiled;
mod constraints;
mod crowds;
mod denial;
mod example;
mod exceptions;
mod explain;
mod limits;
mod program;
mod runbooks;
mod windows;

pub use compiled::{CompiledPolicy, MAX_POLICIES, Matching, findings, matching, mode, model_mode};
pub use constraints::{Match, applies, too_large};
pub use crowds::{MAX_CHARACTERS, MAX_RUNBOOKS, bounded, bounded_runbooks, is_crowded};
pub use denial::{Denial, Finding};
pub use example::example;
pub use exceptions::{
    InForce, Lifted, MAX_EXCEPTIONS, bounded_exceptions, exception_findings, exception_name, why_not,
};
pub use explain::{Answer, Explained, Line, Question, explain, explain_runbook};
pub use limits::protects;
pub use program::{Program, Told};
pub use runbooks::{CompiledRunbook, runbook_characters, runbook_findings, runbook_matches, runbook_name};

#[cfg(test)]
mod tests;
