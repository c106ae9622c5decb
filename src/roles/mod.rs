//! The three roles: wiring that reads as a pipeline.

pub mod investigator;
