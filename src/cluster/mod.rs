//! The Kubernetes API server: clients, watches, leases and readings.

pub mod client;
pub mod raw;
pub mod snapshot;
#[cfg(test)]
pub mod testing;
pub mod watch;

pub use client::connect;
pub use snapshot::{SnapshotError, resolve_top, snapshot};
pub mod lease;

pub use lease::{Leading, Lease, Lost};
pub use watch::watch;
