//! The mind's part that thinks: redaction, the chain of diagnosers. Clients of models join as rungs of the
//! [`chain`]; the embedded rules are in [`crate::core::rules`].

pub mod chain;

/// Secrets taken out of text before anything else sees it. It lives in the core, whose typed differences need it too.
pub use crate::core::redact;
