use std::collections::BTreeMap;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Condition, ObjectRef, Time};

/// One alert, normalized. Created by the controller's intake, or by people with `kubectl apply`. The intake derives the
/// name from source, namespace, fingerprint and start, so that a repeated notification of the same alert updates the
/// same object.
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
    /// The sender of the alert.
    #[serde(default)]
    pub source: AlertSource,
    /// Identifies the alert at its sender, 1 to 128 characters. Together with `startsAt` it is the deduplication key.
    #[schemars(length(min = 1, max = 128))]
    pub fingerprint: String,
    /// Labels as sent: untrusted text. At most 64, each value at most 1024 characters.
    #[schemars(extend("maxProperties" = 64), inner(length(max = 1024)))]
    pub labels: BTreeMap<String, String>,
    /// Annotations as sent: untrusted text. At most 64, each value at most 1024 characters.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64), inner(length(max = 1024)))]
    pub annotations: BTreeMap<String, String>,
    /// Time at which the condition began, by the sender's clock.
    pub starts_at: Time,
    /// Time at which the condition ended, by the sender's clock; absent while the alert is firing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends_at: Option<Time>,
    /// Time at which the intake received it; absent for an Alert created by hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub received_at: Option<Time>,
    /// Request ID that every log line, Incident and notification about this alert carries, at most 64 characters.
    /// Absent for an Alert created by hand.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 64))]
    pub request_id: String,
}

/// Sender of an alert.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum AlertSource {
    /// The webhook of Alertmanager.
    Alertmanager,
    /// A person or a program, with `kubectl apply`.
    #[default]
    Manual,
    /// A sender that exists in unit tests only; it shows what adding one touches.
    #[cfg(test)]
    Planted,
}

impl AlertSource {
    /// Every source of alerts.
    pub const ALL: &'static [AlertSource] = &[
        AlertSource::Alertmanager,
        AlertSource::Manual,
        #[cfg(test)]
        AlertSource::Planted,
    ];

    /// The constant, as it stands in Alerts.
    pub fn as_str(self) -> &'static str {
        match self {
            AlertSource::Alertmanager => "Alertmanager",
            AlertSource::Manual => "Manual",
            #[cfg(test)]
            AlertSource::Planted => "Planted",
        }
    }
}

/// Written by the controller only.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AlertStatus {
    /// Whether the alert is firing or resolved.
    #[serde(default)]
    pub state: AlertState,
    /// The object that the labels name; absent until it is found in the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<ObjectRef>,
    /// Name of the Incident that this alert belongs to, in the namespace `incidentNamespace`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 253))]
    pub incident: String,
    /// Namespace of the Incident.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 63))]
    pub incident_namespace: String,
    /// `metadata.generation` of the spec that this status describes.
    #[serde(default)]
    pub observed_generation: i64,
    /// Condition `Accepted`: the alert was read and belongs to an Incident.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub conditions: Vec<Condition>,
}

/// Whether the alert's condition still holds, according to its sender.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum AlertState {
    /// The condition holds.
    #[default]
    Firing,
    /// The sender said that the condition ended.
    Resolved,
}
