use std::collections::BTreeMap;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Condition, ObjectRef, READABLE_TIME, Time, selector::bounded_keys};

/// One alert, normalized. Created by the controller's intake, or by people with `kubectl apply`. The intake derives the
/// name from source, namespace, fingerprint and start, so that a repeated notification of the same alert updates the
/// same object.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "backstop.dev",
    version = "v1alpha1",
    kind = "Alert",
    doc = "One alert, as the intake received it or as a person wrote it.",
    plural = "alerts",
    shortname = "al",
    category = "backstop",
    namespaced,
    status = "AlertStatus",
    derive = "PartialEq",
    selectable = ".spec.fingerprint",
    selectable = ".status.incident",
    printcolumn = r#"{"name":"State","type":"string","jsonPath":".status.state"}"#,
    printcolumn = r#"{"name":"Alert","type":"string","jsonPath":".spec.labels.alertname"}"#,
    printcolumn = r#"{"name":"Target","type":"string","jsonPath":".status.target.name"}"#,
    printcolumn = r#"{"name":"Incident","type":"string","jsonPath":".status.incident"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#,
    printcolumn = r#"{"name":"Note","type":"string","priority":1,"jsonPath":".spec.note.reason"}"#,
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
    /// Labels as sent: untrusted text. At most 64, each key at most 128 and each value at most 1024 characters.
    #[schemars(extend("maxProperties" = 64, "additionalProperties" = {"type": "string", "maxLength": 1024}, "x-kubernetes-validations" = bounded_keys(128)))]
    pub labels: BTreeMap<String, String>,
    /// Annotations as sent: untrusted text. At most 64, each key at most 128 and each value at most 1024 characters.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64, "additionalProperties" = {"type": "string", "maxLength": 1024}, "x-kubernetes-validations" = bounded_keys(128)))]
    pub annotations: BTreeMap<String, String>,
    /// Time at which the condition began, by the sender's clock.
    #[schemars(extend("pattern" = READABLE_TIME))]
    pub starts_at: Time,
    /// Time at which the condition ended, by the sender's clock; absent while the alert is firing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("pattern" = READABLE_TIME))]
    pub ends_at: Option<Time>,
    /// Time at which the intake received it; absent for an Alert created by hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("pattern" = READABLE_TIME))]
    pub received_at: Option<Time>,
    /// Request ID that every log line, Incident and notification about this alert carries, at most 64 characters.
    /// Absent for an Alert created by hand.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 64))]
    pub request_id: String,
    /// Time at which the intake was last told that the condition ended. It stays when the alert fires again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_received_at: Option<Time>,
    /// Time at which the intake was last told that the alert fires again, after it had been told of its end and with the
    /// same `startsAt`. Shortly after `endReceivedAt` it usually comes from a replica of the sender that has not heard
    /// of the end yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fires_again_at: Option<Time>,
    /// Namespace of the tenant whose token it was sent with. Wherever it is kept, it may only name that namespace.
    /// Absent for alerts sent with the cluster's token, and for those created by hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub tenant: Option<String>,
    /// Namespace that the Alert belongs to, if it is kept in the system namespace because that one did not take it;
    /// `note` says why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub belongs_to: Option<String>,
    /// What is particular about how the intake took it; absent where nothing is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<IntakeNote>,
}

/// Why the intake did not take an alert as it was sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IntakeNote {
    /// The constant.
    pub reason: IntakeReason,
    /// One sentence, at most 512 characters. It may quote what was sent.
    #[schemars(length(max = 512))]
    pub message: String,
}

/// Reason of an [`IntakeNote`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum IntakeReason {
    /// A field is not what the format says. No target is looked up; the on-call is called.
    Unreadable,
    /// It was sent with the token of a tenant and names another namespace. It is on record only, as ended.
    ForeignNamespace,
    /// Stands for the alerts of another cluster, which are not taken. It is on record only, as ended.
    ForeignCluster,
    /// Stands for alerts that the sender left out, or that were in the part of a request that was not read. It is on
    /// record only, as ended.
    LeftOut,
    /// Its namespace does not exist or is being deleted.
    NamespaceGone,
    /// Its namespace did not take it: an admission policy, a webhook or a quota refused it.
    RefusedByNamespace,
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
