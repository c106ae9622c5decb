//! Kinds of workload whose revisions are understood.

use std::fmt;

use crate::api::v1alpha1::ObjectRef;

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

    /// The kind of this object; `None` for kinds of that name in other API groups, too. A reference without an API
    /// version names the kind that Kubernetes has.
    pub fn of(object: &ObjectRef) -> Option<Kind> {
        let group = object.api_version.split_once('/').map_or("", |(group, _)| group);
        Kind::named(&object.kind).filter(|_| object.api_version.is_empty() || group == "apps")
    }

    /// The kind of this name.
    pub fn named(name: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    /// Annotations that the API server itself changes when the template does: the generation that DaemonSets had before
    /// ControllerRevisions (pkg/registry/apps/daemonset/strategy.go).
    pub fn annotations_of_the_server(self) -> &'static [&'static str] {
        match self {
            Kind::Deployment | Kind::StatefulSet => &[],
            Kind::DaemonSet => &["deprecated.daemonset.template.generation"],
        }
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
