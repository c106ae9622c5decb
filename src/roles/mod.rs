//! Wiring of the three roles, each reads as a pipeline: gather → decide → apply → status.

pub mod executor;
