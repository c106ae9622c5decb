//! How a changed template reaches the pods.

use serde_json::Value;

use super::Kind;
use crate::core::object::{int32, string};

/// How a changed template reaches the pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// Pods are replaced a few at a time.
    RollingUpdate {
        /// So many replicas of the lowest ordinals keep their template; 0 unless it is a StatefulSet with a partition.
        partition: i32,
        /// A StatefulSet with the pod management policy `OrderedReady`: nothing is replaced while a pod of a lower
        /// ordinal is not ready, not even the pod that is not ready.
        ordered: bool,
    },
    /// All pods end before the first new one starts; Deployments only.
    Recreate,
    /// Pods get the new template when somebody deletes them. A strategy that is not known counts as this one: nothing
    /// shows that it replaces pods.
    OnDelete,
}

impl Default for Strategy {
    fn default() -> Self {
        Strategy::RollingUpdate { partition: 0, ordered: false }
    }
}

impl Strategy {
    /// The strategy of a workload of this kind, as the API server gave it.
    pub fn of(kind: Kind, object: &Value) -> Strategy {
        let field = match kind {
            Kind::Deployment => "/spec/strategy",
            Kind::StatefulSet | Kind::DaemonSet => "/spec/updateStrategy",
        };
        let strategy = object.pointer(field).unwrap_or(&Value::Null);
        let stateful = kind == Kind::StatefulSet;
        match string(strategy, "/type") {
            "Recreate" if kind == Kind::Deployment => Strategy::Recreate,
            "RollingUpdate" | "" => Strategy::RollingUpdate {
                partition: if stateful { int32(strategy, "/rollingUpdate/partition").max(0) } else { 0 },
                ordered: stateful && string(object, "/spec/podManagementPolicy") != "Parallel",
            },
            _ => Strategy::OnDelete,
        }
    }

    /// A changed template is rolled out to the pods, if to some only.
    pub fn rolls_out(self) -> bool {
        !matches!(self, Strategy::OnDelete)
    }

    /// Of so many replicas, those that a complete rollout leaves on an earlier template.
    pub fn held_back(self, desired: i32) -> i32 {
        match self {
            Strategy::RollingUpdate { partition, .. } => partition.min(desired),
            Strategy::Recreate => 0,
            Strategy::OnDelete => desired,
        }
    }
}
