//! The custom resources of Backstop: serde and schemars only, no logic.

pub mod v1alpha1;
