//! The investigator: it looks at targets, gathers facts from all sources side by side, and diagnoses. It writes the
//! status of Investigations and nothing else; what it reports are leads that the controller checks again.

mod metrics;
mod model_status;
mod models;
mod places;
mod probes;
mod process;
mod run;
#[cfg(test)]
mod run_tests;
mod status;
#[cfg(test)]
mod tests;

pub use process::main;
