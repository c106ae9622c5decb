//! The Kubernetes API server: clients, watches, leases and readings.

pub mod client;
pub mod watch;

pub use client::connect;
pub use watch::watch;
