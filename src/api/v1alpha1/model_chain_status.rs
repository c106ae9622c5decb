use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Condition, Time};

/// Written by the investigator only.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ModelChainStatus {
    /// `metadata.generation` of the spec that this status describes.
    #[serde(default)]
    pub observed_generation: i64,
    /// Upstreams that may be asked now, of all, such as `3/4`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 16))]
    pub available: String,
    /// The rung that would answer now; `rules` when no upstream may be asked.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 63))]
    pub answering: String,
    /// What was spent today (UTC), in US dollars, such as `$0.42`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 24))]
    pub spent_today: String,
    /// The latest failure of any upstream, as `upstream: class`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 128))]
    pub last_error: String,
    /// State of each upstream. At most 64.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub upstreams: Vec<UpstreamStatus>,
    /// The newest 64 changes of upstreams, oldest first. Each is an Event of this object and a line of the audit log too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub changes: Vec<UpstreamChange>,
    /// Condition `Ready`: the chain is valid and in use. Condition `Warned`: something about it is probably not meant.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub conditions: Vec<Condition>,
}

/// State of one upstream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UpstreamStatus {
    /// Name of the rung.
    #[schemars(length(max = 63))]
    pub rung: String,
    /// Name of the upstream.
    #[schemars(length(max = 63))]
    pub name: String,
    /// Whether it may be asked.
    pub state: UpstreamState,
    /// Class of the latest failure, such as `RateLimited`. Empty when it never failed.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 64))]
    pub last_error: String,
    /// Time of the latest failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error_at: Option<Time>,
    /// Successes among the last 100 calls, in percent. Absent while there were none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub success_percent: Option<i32>,
    /// Median time to a whole answer among the last 100 successful calls, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_milliseconds: Option<i64>,
    /// What was spent on it today (UTC), in billionths of a US dollar.
    #[serde(default)]
    pub spent_nano_dollars: i64,
    /// When it is asked again, if it may not be asked now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_try_at: Option<Time>,
    /// The model that it says answered, where that is another one than it was asked for: its answers lead to suggestions
    /// at most. Empty while it answers as the model that it was asked for, or does not say.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 128))]
    pub served_model: String,
    /// Time of the latest success, of traffic or of a probe. Older than three intervals of the probe: its state is not
    /// known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_success_at: Option<Time>,
}

/// Whether an upstream may be asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum UpstreamState {
    /// It was neither asked nor probed lately.
    #[default]
    Unknown,
    /// It answers.
    Available,
    /// It, or its quota, is limited: it is not asked until then.
    CoolingDown,
    /// Its breaker is open: it failed too often.
    Open,
    /// Its breaker lets one call try.
    HalfOpen,
    /// It refused its credentials, or its account is out of money: nothing but probes is sent until they change or a probe is
    /// answered.
    Quarantined,
}

/// A change of an upstream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UpstreamChange {
    /// When it changed.
    pub at: Time,
    /// Name of the upstream.
    #[schemars(length(max = 63))]
    pub upstream: String,
    /// `BreakerOpened`, `BreakerHalfOpened`, `BreakerClosed`, `CoolingDown`, `Quarantined`, `Released`, `ModelSwapped` or
    /// `ModelRestored`.
    #[schemars(length(max = 32))]
    pub change: String,
    /// The namespace for whose calls alone it holds. Empty when it holds for all.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 63))]
    pub namespace: String,
    /// Why, and for how long.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 256))]
    pub message: String,
}
