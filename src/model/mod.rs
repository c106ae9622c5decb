//! The mind's part that thinks: redaction, the chain of diagnosers and the embedded rules. Pure so far; clients of
//! models join as rungs of the [`chain`].

pub mod chain;
pub mod rules;

/// Secrets taken out of text before anything else sees it. It lives in the core, whose typed differences need it too.
pub use crate::core::redact;
