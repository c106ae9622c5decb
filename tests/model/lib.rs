//! A model check of the product's step functions: two controllers, the executor, the investigator, people and time
//! against an API server with its admission policies, in every order, with crashes, freezes, lost and late requests.
//!
//! What decides is the product itself ([`backstop::core::incident::step`], [`backstop::core::execution::step`], the
//! budgets, the Lease): the model only keeps what they are given and does what they ask for. [`moves`] has what may
//! happen, [`properties`] what must hold, [`bugs`] what has to be found.

pub mod bugs;
pub mod effects;
pub mod hands;
pub mod judge;
pub mod moves;
pub mod objects;
pub mod properties;
pub mod state;
pub mod tables;
pub mod world;
