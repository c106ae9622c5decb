//! Words that several kinds share.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A point in time, RFC 3339 in UTC.
pub type Time = jiff::Timestamp;
/// A standard Kubernetes condition.
pub use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

/// Names one object of the cluster.
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
    /// Namespace; empty for cluster-scoped objects.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 63))]
    pub namespace: String,
    /// Name.
    #[schemars(length(max = 253))]
    pub name: String,
    /// UID; empty where it is not known.
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

/// How far Backstop may go, from reading only to acting alone. Ordered: a lower mode allows less.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Diagnose and escalate.
    #[default]
    Observe,
    /// As observe, and name the action that would be taken.
    Suggest,
    /// Act once a person approved the exact action.
    Approve,
    /// Act when every check passes.
    Auto,
}

impl Mode {
    /// The word that the namespace label `backstop.dev/mode` uses.
    pub fn as_str(self) -> &'static str {
        match self {
            Mode::Observe => "observe",
            Mode::Suggest => "suggest",
            Mode::Approve => "approve",
            Mode::Auto => "auto",
        }
    }

    /// Reads the label's value. Anything unknown, and no label, is `observe`.
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

/// The closed set of repairs. What is not named here cannot be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum ActionKind {
    /// Return a Deployment's, StatefulSet's or DaemonSet's pod template to that of an earlier, healthy revision.
    RolloutUndo,
}

impl ActionKind {
    /// Every kind of action.
    pub const ALL: &[ActionKind] = &[ActionKind::RolloutUndo];

    /// The constant, as it stands in Policies, Runbooks and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            ActionKind::RolloutUndo => "RolloutUndo",
        }
    }
}

impl fmt::Display for ActionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One action with its parameters: exactly one of its kinds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Action {
    /// Return to the pod template that one existing revision recorded.
    RolloutUndo(RolloutUndo),
}

impl Action {
    /// Which action this is.
    pub fn kind(&self) -> ActionKind {
        match self {
            Action::RolloutUndo(_) => ActionKind::RolloutUndo,
        }
    }
}

/// Parameters of a `RolloutUndo`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RolloutUndo {
    /// Number of the revision to return to: the annotation `deployment.kubernetes.io/revision` of a ReplicaSet, or
    /// the field `revision` of a ControllerRevision. At least 1.
    #[schemars(range(min = 1))]
    pub to_revision: i64,
}

/// What is written to the cluster: exactly one change of exactly one object.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Write {
    /// One field of the target changes from one exact value to another.
    Field(FieldWrite),
    /// One pod of the target is evicted, through the eviction API.
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
    /// JSON pointer of the field.
    #[schemars(length(max = 128))]
    pub path: String,
    /// The field's exact value when it was judged, as the API server gave it.
    #[schemars(schema_with = "raw_json")]
    pub before: Value,
    /// The field's exact value afterwards.
    #[schemars(schema_with = "raw_json")]
    pub after: Value,
}

/// An evicted pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EvictWrite {
    /// The pod; its UID is required, and is the precondition of the eviction.
    pub pod: ObjectRef,
}

/// One changed field, for people: the exact values travel as raw JSON elsewhere.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FieldChange {
    /// JSON pointer of the field, relative to the object.
    #[schemars(length(max = 512))]
    pub path: String,
    /// Value before, as redacted text; empty when the field was absent.
    #[serde(default)]
    #[schemars(length(max = 1024))]
    pub before: String,
    /// Value after, as redacted text; empty when the field is absent.
    #[serde(default)]
    #[schemars(length(max = 1024))]
    pub after: String,
}

/// Schema of a value of any type whose exact JSON is kept as the API server gave it.
pub(super) fn raw_json(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({"x-kubernetes-preserve-unknown-fields": true})
}
