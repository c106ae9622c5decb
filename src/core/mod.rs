//! Decisions. Pure: no Kubernetes client, no runtime, no clock, no environment; the time and every
//! observation are arguments, effects are returned as data. A test holds this module to it.

pub mod actions;
pub mod answer;
pub mod approvals;
pub mod attempts;
pub mod blast;
pub mod budget;
pub mod bundle;
pub mod cel;
pub mod chain;
pub mod conditions;
pub mod enrolment;
pub mod execution;
pub mod fit;
#[cfg(test)]
mod fit_tests;
pub mod gate;
pub mod grant;
pub mod grouping;
pub mod incident;
pub mod intake;
pub mod known_good;
pub mod kube_name;
pub mod lease;
pub mod managers;
pub mod money;
pub mod names;
pub mod neighbours;
pub mod object;
pub mod plan;
pub mod policy;
pub mod prompt;
pub mod reason;
pub mod redact;
pub mod retention;
pub mod rules;
pub mod score;
pub mod selector;
pub mod slots;
pub mod sources;
pub mod spend;
pub mod surroundings;
pub mod target;
pub mod timeline;
pub mod verify;
pub mod watchdog;
pub mod workload;
