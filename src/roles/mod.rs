//! The three roles: wiring that reads as a pipeline, gather → decide → apply → status.

pub mod controller;
mod start;

pub use start::Start;
