//! Decisions. Pure: no Kubernetes client, no runtime, no clock, no environment; the time and every
//! observation are arguments, effects are returned as data. A test holds this module to it.

pub mod act;
pub mod action;
pub mod actions;
pub mod budget;
pub mod conditions;
pub mod gate;
pub mod grouping;
pub mod intake;
pub mod known_good;
pub mod lease;
pub mod names;
pub mod plan;
pub mod policy;
pub mod reading;
pub mod reason;
pub mod redact;
pub mod retention;
pub mod target;
pub mod timeline;
pub mod verify;
