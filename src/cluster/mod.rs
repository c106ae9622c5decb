//! The Kubernetes API server: clients, watches, leases and readings.

pub mod api;
pub mod approvals;
pub mod client;
pub mod lean;
pub mod namespaces;
pub mod paging;
pub mod room;
pub mod snapshot;
#[cfg(test)]
pub mod testing;
pub mod watch;

pub use api::{PODS, ReadError};
pub use client::connect;
pub use lean::Lean;
pub use snapshot::{resolve_top, snapshot, snapshot_with_events};
pub mod lease;

pub use lease::{Leading, Lease, Lost};
pub use watch::{Page, Undecodable, page, page_of, watch, watch_reporting};
