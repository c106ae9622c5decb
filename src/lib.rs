//! Backstop: an on-call SRE agent for Kubernetes that stays safe when the model is up but wrong.
//!
//! `roles → {observe, model, act, audit, notify, serve, cluster} → core → api`: decisions are pure and in
//! [`core`], effects are thin and at the edges. `docs/architecture.md` has the picture.

pub mod act;
pub mod api;
pub mod audit;
pub mod cli;
pub mod clock;
pub mod cluster;
pub mod core;
pub mod model;
pub mod notify;
pub mod observe;
pub mod roles;
pub mod serve;
pub mod settings;
pub mod tap;
pub mod telemetry;
