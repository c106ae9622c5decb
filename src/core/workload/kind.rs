//! Kinds of workload whose revisions are understood.

use std::fmt;

/// A kind of workload of `apps/v1` that records its revisions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Its revisions are ReplicaSets.
    Deployment,
    /// Its revisions are ControllerRevisions.
    StatefulSet,
    /// Its revisions are ControllerRevisions.
    DaemonSet,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Kind; 3] = [Kind::Deployment, Kind::StatefulSet, Kind::DaemonSet];
    /// API version of all of them, and of their revisions.
    pub const API_VERSION: &'static str = "apps/v1";

    /// The kind as Kubernetes writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Deployment => "Deployment",
            Kind::StatefulSet => "StatefulSet",
            Kind::DaemonSet => "DaemonSet",
        }
    }

    /// The kind of this name.
    pub fn named(name: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    /// Kind of the objects that record its revisions.
    pub fn revision_kind(self) -> &'static str {
        match self {
            Kind::Deployment => "ReplicaSet",
            Kind::StatefulSet | Kind::DaemonSet => "ControllerRevision",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
