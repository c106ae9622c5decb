//! Sources besides the workload itself: one file each.

pub mod config;
pub mod events;
pub mod logs;
pub mod prometheus;
