//! Words that several kinds share.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
    /// Return a Deployment's pod template to that of an earlier, healthy revision.
    RolloutUndo,
}

impl ActionKind {
    /// The value of the label `backstop.dev/armed`, and of `Grant.spec.open.action`.
    pub fn armed_label(self) -> &'static str {
        match self {
            ActionKind::RolloutUndo => "rollout-undo",
        }
    }
}

impl fmt::Display for ActionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ActionKind::RolloutUndo => f.write_str("RolloutUndo"),
        }
    }
}

/// One typed action with its parameters. Exactly one field is set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Action {
    /// Parameters of a `RolloutUndo`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout_undo: Option<RolloutUndo>,
}

impl Action {
    /// Which action this is, or `None` when no field is set.
    pub fn kind(&self) -> Option<ActionKind> {
        let Action { rollout_undo } = self;
        rollout_undo.as_ref().map(|_| ActionKind::RolloutUndo)
    }
}

/// Return to the template that one existing revision recorded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RolloutUndo {
    /// Number of the revision to return to, from `deployment.kubernetes.io/revision`.
    #[schemars(range(min = 1))]
    pub to_revision: i64,
    /// The ReplicaSet that records this revision.
    pub revision: ObjectRef,
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

/// Schema of a field whose exact JSON is kept as the API server gave it.
pub(super) fn raw_json(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
}
