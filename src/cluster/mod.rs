//! The Kubernetes API server: clients, watches, leases and readings.

pub mod client;
pub mod lease;
pub mod watch;

pub use client::connect;
pub use lease::{Held, Lease, Lost};
pub use watch::watch;
