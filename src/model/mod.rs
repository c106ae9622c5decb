//! Diagnosers: the [`chain`] asks its rungs in order. The embedded rules, the last rung of every chain, are in
//! [`crate::core::rules`]. A rung of a ModelChain ([`model_rung`]) is a model: what this process knows of the chain is in
//! [`live`], its money in [`ledger`], and `note` says what stands on the record of a call; [`send`] asks one upstream once,
//! over one of the wire APIs ([`wire`]), with keys from mounted files ([`credentials`]), and [`probe`] asks those that
//! nobody asked lately.

pub mod chain;
pub mod credentials;
pub mod ledger;
pub mod live;
pub mod log;
pub mod metrics;
pub mod model_rung;
mod note;
#[cfg(test)]
mod planted;
pub mod probe;
mod rules;
pub mod rung;
pub mod send;
pub mod wire;

pub use chain::Chain;
