//! The mind: looks at targets, gathers facts from all sources side by side, and diagnoses. It writes the status of
//! Investigations and nothing else; what it reports are leads that the judge checks again.

mod breaker;
mod gather;
pub mod metrics;
mod process;
mod run;
mod sources;
mod status;
#[cfg(test)]
mod tests;

pub use process::main;
pub use run::run;
