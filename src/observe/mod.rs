//! Edges in: what the outside says about the cluster.

pub mod intake;
