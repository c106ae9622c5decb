//! Decisions. Pure: no Kubernetes client, no runtime, no clock, no environment; the time and every
//! observation are arguments, effects are returned as data. A test holds this module to it.

pub mod act;
pub mod action;
pub mod names;
pub mod reading;
