//! Edges in: what the outside says about the cluster. Alerts come in through [`intake`]; [`gather`] asks the
//! [`sources`] of an investigation.

mod breaker;
pub mod gather;
mod guard;
pub mod intake;
pub mod sources;
#[cfg(test)]
mod tests;

pub use gather::Gatherer;
