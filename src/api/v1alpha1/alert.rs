use std::collections::BTreeMap;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Condition, ObjectRef, Time};

/// One normalised alert. Created by the intake of the controller, or by people with `kubectl apply`.
/// The name of an Alert that the intake writes is a hash of source, fingerprint and start,
/// so the same alert sent again finds itself.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "backstop.dev",
    version = "v1alpha1",
    kind = "Alert",
    plural = "alerts",
    shortname = "al",
    category = "backstop",
    namespaced,
    status = "AlertStatus",
    derive = "PartialEq",
    selectable = ".spec.fingerprint",
    printcolumn = r#"{"name":"State","type":"string","jsonPath":".status.state"}"#,
    printcolumn = r#"{"name":"Alert","type":"string","jsonPath":".spec.labels.alertname"}"#,
    printcolumn = r#"{"name":"Target","type":"string","jsonPath":".status.target.name"}"#,
    printcolumn = r#"{"name":"Incident","type":"string","jsonPath":".status.incident"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#,
    printcolumn = r#"{"name":"Request-ID","type":"string","priority":1,"jsonPath":".spec.requestId"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct AlertSpec {
    /// Who sent it.
    #[serde(default)]
    pub source: AlertSource,
    /// The sender's identity of this alert; with `startsAt` it is the key for deduplication.
    #[schemars(length(min = 1, max = 128))]
    pub fingerprint: String,
    /// Labels as sent, bounded: untrusted text.
    #[schemars(extend("maxProperties" = 64), inner(length(max = 1024)))]
    pub labels: BTreeMap<String, String>,
    /// Annotations as sent, bounded: untrusted text.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64), inner(length(max = 1024)))]
    pub annotations: BTreeMap<String, String>,
    /// When the condition began, by the sender's clock.
    pub starts_at: Time,
    /// When the condition ended, by the sender's clock; absent while it is firing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends_at: Option<Time>,
    /// When the intake received it; absent for an Alert made by hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub received_at: Option<Time>,
    /// Follows the alert from intake to page; absent for an Alert made by hand.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 64))]
    pub request_id: String,
}

/// Who sent an alert.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum AlertSource {
    /// The webhook of Alertmanager.
    Alertmanager,
    /// A person or a program, with `kubectl apply`.
    #[default]
    Manual,
}

/// Written by the controller only.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AlertStatus {
    /// Firing or resolved.
    #[serde(default)]
    pub state: AlertState,
    /// The object that the labels name, once it was found in the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<ObjectRef>,
    /// The Incident that this alert belongs to, in the namespace of `incidentNamespace`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 253))]
    pub incident: String,
    /// Namespace of the Incident.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 63))]
    pub incident_namespace: String,
    /// Generation of the spec that this status describes.
    #[serde(default)]
    pub observed_generation: i64,
    /// `Accepted`: the alert was read and grouped.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub conditions: Vec<Condition>,
}

/// Whether the condition behind an alert still holds, as far as its sender said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum AlertState {
    /// It holds.
    #[default]
    Firing,
    /// Its sender said that it ended.
    Resolved,
}
