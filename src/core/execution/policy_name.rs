//! Names of the admission policies.

use crate::core::workload::Kind;

/// Names of the admission policies. They are fixed: the chart cannot rename them.
pub struct PolicyName;

impl PolicyName {
    /// Bounds every write of the executor, whatever was granted.
    pub const STATIC: &'static str = "backstop-static";
    /// Compares with the Grant.
    pub const GRANT: &'static str = "backstop-grant";
    /// Compares the template of a Deployment with its marked ReplicaSet.
    pub const PROVENANCE: &'static str = "backstop-provenance";
    /// Compares the template of a StatefulSet or DaemonSet with its marked ControllerRevision.
    pub const PROVENANCE_CONTROLLER_REVISIONS: &'static str = "backstop-provenance-controllerrevisions";

    /// Every policy that is about the executor.
    pub const ALL: [&'static str; 4] =
        [Self::STATIC, Self::GRANT, Self::PROVENANCE, Self::PROVENANCE_CONTROLLER_REVISIONS];

    /// The policy that compares targets of this kind with their revisions.
    pub fn provenance(target: Kind) -> &'static str {
        match target {
            Kind::Deployment => Self::PROVENANCE,
            Kind::StatefulSet | Kind::DaemonSet => Self::PROVENANCE_CONTROLLER_REVISIONS,
        }
    }

    /// Whether it is one of those.
    pub fn is_provenance(name: &str) -> bool {
        name == Self::PROVENANCE || name == Self::PROVENANCE_CONTROLLER_REVISIONS
    }
}
