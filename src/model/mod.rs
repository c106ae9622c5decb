//! Diagnosers: the [`chain`] asks its rungs in order. The embedded rules, the last rung of every chain, are in
//! [`crate::core::rules`]. [`send`] asks a model over one of the wire APIs ([`wire`]), with keys from mounted files
//! ([`credentials`]).

pub mod chain;
<<<<<<< HEAD
pub mod ledger;
=======
pub mod credentials;
>>>>>>> w-wire
#[cfg(test)]
mod planted;
mod rules;
pub mod rung;
pub mod send;
pub mod wire;

pub use chain::Chain;
