//! Words that several kinds share.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A point in time, RFC 3339 in UTC.
pub type Time = jiff::Timestamp;
/// What a point in time that people or senders write has to look like. `format: date-time` alone takes years, fractions
/// and offsets that [`Time`] cannot hold, and an object with one could be stored and never be read.
pub const READABLE_TIME: &str = r"^([0-8][0-9]{3}|9[0-8][0-9]{2}|99[0-8][0-9]|999[0-8])-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?([Zz]|[+-]([01][0-9]|2[0-3]):[0-5][0-9])$";
/// A standard Kubernetes condition.
pub use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

/// Reference to one object of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ObjectRef {
    /// API version, such as `apps/v1`.
    #[serde(default)]
    #[schemars(length(max = 128))]
    pub api_version: String,
    /// Kind, such as `Deployment`.
    #[schemars(length(max = 63))]
    pub kind: String,
    /// Namespace of the object; empty for cluster-scoped objects.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 63))]
    pub namespace: String,
    /// Name of the object.
    #[schemars(length(max = 253))]
    pub name: String,
    /// UID of the object; empty where it is not known. An object that was recreated has another UID.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 128))]
    pub uid: String,
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            write!(f, "{} {}", self.kind, self.name)
        } else {
            write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
        }
    }
}

/// How much Backstop may do without a person. Ordered: a lower mode allows less.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Diagnose and escalate.
    #[default]
    Observe,
    /// Diagnose and escalate with the action that would be taken.
    Suggest,
    /// Act once a person has approved the exact action.
    Approve,
    /// Act as soon as every check passes.
    Auto,
}

impl Mode {
    /// The value of the namespace label `backstop.dev/mode`.
    pub fn as_str(self) -> &'static str {
        match self {
            Mode::Observe => "observe",
            Mode::Suggest => "suggest",
            Mode::Approve => "approve",
            Mode::Auto => "auto",
        }
    }

    /// Reads the value of that label. A missing or unknown value is `observe`.
    pub fn from_label(value: Option<&str>) -> Mode {
        match value {
            Some("suggest") => Mode::Suggest,
            Some("approve") => Mode::Approve,
            Some("auto") => Mode::Auto,
            _ => Mode::Observe,
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The closed set of actions. What is not listed here cannot be requested.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum ActionKind {
    /// Roll the pod template of a Deployment, StatefulSet or DaemonSet back to that of an earlier, healthy revision.
    RolloutUndo,
    /// Have the pods of a Deployment, StatefulSet or DaemonSet replaced by new ones of the same template.
    RolloutRestart,
    /// An action that exists in unit tests only; it shows what adding one touches.
    #[cfg(test)]
    Planted,
}

impl ActionKind {
    /// Every kind of action.
    pub const ALL: &[ActionKind] = &[
        ActionKind::RolloutUndo,
        ActionKind::RolloutRestart,
        #[cfg(test)]
        ActionKind::Planted,
    ];

    /// The constant, as it stands in Policies, Runbooks and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            ActionKind::RolloutUndo => "RolloutUndo",
            ActionKind::RolloutRestart => "RolloutRestart",
            #[cfg(test)]
            ActionKind::Planted => "Planted",
        }
    }
}

impl fmt::Display for ActionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One action with its parameters. Exactly one field is set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Action {
    /// Roll back to the pod template that an existing revision recorded.
    RolloutUndo(RolloutUndo),
    /// Replace every pod by a new one of the same template.
    RolloutRestart(RolloutRestart),
    /// Change the number of replicas; see [`ActionKind::Planted`].
    #[cfg(test)]
    Planted(Planted),
}

impl Action {
    /// Which action this is.
    pub fn kind(&self) -> ActionKind {
        match self {
            Action::RolloutUndo(_) => ActionKind::RolloutUndo,
            Action::RolloutRestart(_) => ActionKind::RolloutRestart,
            #[cfg(test)]
            Action::Planted(_) => ActionKind::Planted,
        }
    }
}

/// Parameters of a `RolloutUndo`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RolloutUndo {
    /// Number of the revision to roll back to, at least 1: the annotation `deployment.kubernetes.io/revision` of a
    /// ReplicaSet, or the field `revision` of a ControllerRevision.
    #[schemars(range(min = 1))]
    pub to_revision: i64,
}

/// Parameters of a `RolloutRestart`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RolloutRestart {
    /// What the annotation `kubectl.kubernetes.io/restartedAt` of the pod template is set to, in whole seconds: the time
    /// since which new pods work. It follows from the creation of pods; another value is refused.
    pub restarted_at: Time,
}

/// Parameters of the action of unit tests.
#[cfg(test)]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Planted {
    /// Replicas afterwards.
    pub replicas: i64,
}

/// One write: exactly one change of exactly one object. Exactly one field is set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Write {
    /// One field of the target changes from one exact value to another.
    Field(FieldWrite),
    /// One pod of the target is evicted through the eviction API, so PodDisruptionBudgets hold.
    Evict(EvictWrite),
}

impl Write {
    /// The changed field, if it is one.
    pub fn field(&self) -> Option<&FieldWrite> {
        match self {
            Write::Field(field) => Some(field),
            Write::Evict(_) => None,
        }
    }
}

/// A changed field of the target.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FieldWrite {
    /// JSON pointer of the field, such as `/spec/template`.
    #[schemars(length(max = 128))]
    pub path: String,
    /// Exact value of the field when the action was decided, as the API server returned it. The write is refused when
    /// it differs.
    #[schemars(schema_with = "raw_json")]
    pub before: Value,
    /// Exact value of the field after the write.
    #[schemars(schema_with = "raw_json")]
    pub after: Value,
}

/// Eviction of one pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EvictWrite {
    /// The pod. Its UID is required and is the precondition of the eviction.
    pub pod: ObjectRef,
}

/// One changed field as redacted text. The exact values are in the Remediation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FieldChange {
    /// JSON pointer of the field, relative to the object.
    #[schemars(length(max = 512))]
    pub path: String,
    /// Previous value as redacted text, at most 1024 characters; empty when the field was absent.
    #[serde(default)]
    #[schemars(length(max = 1024))]
    pub before: String,
    /// New value as redacted text, at most 1024 characters; empty when the field is removed.
    #[serde(default)]
    #[schemars(length(max = 1024))]
    pub after: String,
}

/// Who has to approve, where a person has to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ApprovalTerms {
    /// Number of people who have to approve, 1 to 10.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 10))]
    pub required: i32,
    /// Kubernetes groups, at most 16: who is in any of them counts, as far as the Approval says so. Empty: everybody counts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 253)))]
    pub groups: Vec<String>,
}

fn one() -> i32 {
    1
}

/// Schema of a value of any type whose exact JSON is kept as the API server gave it.
pub(super) fn raw_json(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({"x-kubernetes-preserve-unknown-fields": true})
}

/// Schema of a mode below `auto`.
pub(super) fn up_to_approve(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({"type": "string", "enum": ["observe", "suggest", "approve"]})
}

/// A DNS label.
pub(super) const LABEL: &str = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$";

/// CEL rules with what people are told when one does not hold.
pub(super) fn rules<const N: usize>(rules: [(String, &str); N]) -> serde_json::Value {
    let rule = |(rule, message): &(String, &str)| serde_json::json!({"rule": rule, "message": message});
    rules.iter().map(rule).collect()
}
