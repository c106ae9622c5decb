//! The three roles: wiring that reads as a pipeline, gather → decide → apply → status.

pub mod controller;
pub mod executor;
pub mod investigator;
mod process;

pub use process::Process;
