//! Diagnosers: the [`chain`] asks its rungs in order. The embedded rules, the last rung of every chain, are in
//! [`crate::core::rules`].

pub mod chain;
pub mod ledger;
#[cfg(test)]
mod planted;
mod rules;
pub mod rung;

pub use chain::Chain;
