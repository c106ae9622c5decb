//! The operator's settings: one YAML file that the chart renders, parsed once and validated on the way in.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

pub use crate::core::budget::Budgets;
use crate::core::enrolment::Enrolment;
pub use crate::core::incident::Timings;

/// Settings of all three roles; each reads the part that concerns it.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Settings {
    /// The enrolled namespaces by name: in these the accounts have their rights.
    pub namespaces: Vec<String>,
    /// Labels that enrol a namespace. Not together with `namespaces`.
    pub enrol_by_selector: BTreeMap<String, String>,
    /// The executor may evict pods that a StatefulSet waits for.
    pub evict_pods: bool,
    /// Folder of the audit log.
    pub audit_dir: PathBuf,
    /// The folder outlives the pod. Grants stay closed while it does not.
    pub audit_durable: bool,
    /// Folder with the intake's bearer tokens: `token`, `token-previous`, `tenant-<namespace>`.
    pub intake_tokens_dir: PathBuf,
    /// `json` or `human`.
    pub log_format: LogFormat,
    /// Filter in the words of tracing's `EnvFilter`, such as `info` or `backstop=debug`.
    pub log_level: String,
    /// Name of this cluster, for people; alerts with another `cluster` label are refused when it is set.
    pub cluster_name: String,
    /// Base URL of Prometheus; empty = there is none.
    pub prometheus_url: String,
    /// Where escalations go besides Kubernetes Events.
    pub escalation_webhook: EscalationWebhook,
    /// How the servers of models are reached.
    pub models: ModelNetwork,
    /// Budgets across incidents.
    pub budgets: Budgets,
    /// Durations.
    pub timings: Timings,
    /// How long finished objects are kept.
    pub retention: Retention,
    /// A person is called about an incident that makes no progress for so long, in seconds.
    pub watchdog_seconds: u32,
}

/// Format of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One JSON object a line.
    #[default]
    Json,
    /// For a terminal.
    Human,
}

/// The generic webhook of escalations.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct EscalationWebhook {
    /// URL; empty = no webhook.
    pub url: String,
    /// File with a bearer token; empty = none is sent.
    pub token_file: String,
}

/// How the servers of models are reached.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ModelNetwork {
    /// URL of an HTTP proxy to servers outside the cluster, without a user; empty = they are asked directly. Nothing but this
    /// sets one: no variable of the environment does.
    pub proxy_url: String,
    /// File with certificates of more authorities to trust, PEM; empty = those of the image alone.
    pub ca_file: String,
}

/// How long finished objects are kept. Open ones are never deleted.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Retention {
    /// Days.
    pub days: u32,
    /// At most this many of a kind in one namespace.
    pub per_namespace: u32,
    /// An Alert that its sender does not repeat for so long counts as ended, in hours. Three times the longest repeat
    /// interval of any sender.
    pub alert_silence_hours: u32,
    /// From this many Alerts on, firing ones included, a namespace counts as full, and retention runs more often.
    pub alerts_per_namespace: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            namespaces: Vec::new(),
            enrol_by_selector: BTreeMap::new(),
            evict_pods: false,
            audit_dir: "/var/lib/backstop/audit".into(),
            audit_durable: false,
            intake_tokens_dir: "/etc/backstop/intake".into(),
            log_format: LogFormat::Json,
            log_level: "info".into(),
            cluster_name: String::new(),
            prometheus_url: String::new(),
            escalation_webhook: EscalationWebhook::default(),
            models: ModelNetwork::default(),
            budgets: Budgets::default(),
            timings: Timings::default(),
            retention: Retention::default(),
            watchdog_seconds: 300,
        }
    }
}

impl Default for Retention {
    fn default() -> Self {
        Retention { days: 7, per_namespace: 1000, alert_silence_hours: 72, alerts_per_namespace: 5000 }
    }
}

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file cannot be read.
    #[error("cannot read the settings file {path}: {source}; pass its path with --config")]
    Read {
        /// Path of the file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is not the YAML that is expected.
    #[error("settings file {path} is not valid: {message}")]
    Parse {
        /// Path of the file.
        path: PathBuf,
        /// What the parser said, with line and column.
        message: String,
    },
    /// Namespaces are enrolled by name and by labels.
    #[error("settings file {path} has both namespaces and enrolBySelector; set one of them")]
    TwoEnrolments {
        /// Path of the file.
        path: PathBuf,
    },
    /// A value is out of bounds.
    #[error("settings file {path}: {key} is {value}, expected {expected}")]
    Bounds {
        /// Path of the file.
        path: PathBuf,
        /// Which setting.
        key: &'static str,
        /// What it is.
        value: u32,
        /// What is expected.
        expected: &'static str,
    },
}

impl Settings {
    /// How namespaces are enrolled.
    pub fn enrolment(&self) -> Enrolment {
        if self.enrol_by_selector.is_empty() {
            Enrolment::Named(self.namespaces.iter().cloned().collect())
        } else {
            Enrolment::Labelled(self.enrol_by_selector.clone())
        }
    }

    /// Reads and checks the file at `path`.
    pub fn read(path: &Path) -> Result<Settings, SettingsError> {
        let text = std::fs::read_to_string(path).map_err(|source| SettingsError::Read { path: path.into(), source })?;
        Settings::parse(&text, path)
    }

    /// Parses and checks `text`; `path` is for messages.
    pub fn parse(text: &str, path: &Path) -> Result<Settings, SettingsError> {
        let settings: Settings = serde_saphyr::from_str(text)
            .map_err(|error| SettingsError::Parse { path: path.into(), message: error.to_string() })?;
        let bounds = |key, value, ok: bool, expected| {
            if ok { Ok(()) } else { Err(SettingsError::Bounds { path: path.into(), key, value, expected }) }
        };
        let Timings {
            grant_seconds,
            verify_timeout_seconds,
            verify_settle_seconds,
            watch_seconds,
            alert_goes_on_seconds,
            ..
        } = settings.timings;
        bounds("timings.grantSeconds", grant_seconds, (5..=60).contains(&grant_seconds), "5 to 60")?;
        bounds(
            "timings.verifyTimeoutSeconds",
            verify_timeout_seconds,
            (1..=3600).contains(&verify_timeout_seconds),
            "1 to 3600",
        )?;
        bounds("timings.verifySettleSeconds", verify_settle_seconds, verify_settle_seconds <= 3600, "0 to 3600")?;
        let watchdog = settings.watchdog_seconds;
        bounds("watchdogSeconds", watchdog, (60..=3600).contains(&watchdog), "60 to 3600")?;
        let silence = settings.retention.alert_silence_hours;
        bounds("retention.alertSilenceHours", silence, (1..=8760).contains(&silence), "1 to 8760")?;
        let alerts = settings.retention.alerts_per_namespace;
        bounds("retention.alertsPerNamespace", alerts, alerts >= 1, "1 or more")?;
        if !(settings.namespaces.is_empty() || settings.enrol_by_selector.is_empty()) {
            return Err(SettingsError::TwoEnrolments { path: path.into() });
        }
        bounds("timings.watchSeconds", watch_seconds, watch_seconds <= 86_400, "0 to 86400")?;
        let goes_on = (1..=86_400).contains(&alert_goes_on_seconds);
        bounds("timings.alertGoesOnSeconds", alert_goes_on_seconds, goes_on, "1 to 86400")?;
        let cascade = settings.budgets.cascade_anomalies;
        bounds("budgets.cascadeAnomalies", cascade, cascade >= 1, "1 or more")?;
        for (key, percent) in [
            ("budgets.workloadsPercentPerNamespacePerHour", settings.budgets.workloads_percent_per_namespace_per_hour),
            ("budgets.workloadsPercentPerHour", settings.budgets.workloads_percent_per_hour),
            ("budgets.endpointsPercent", settings.budgets.endpoints_percent),
        ] {
            bounds(key, percent, percent <= 100, "0 to 100")?;
        }
        let storm = settings.budgets.storm_incidents;
        bounds("budgets.stormIncidents", storm, storm >= 1, "1 or more")?;
        Ok(settings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_file_means_observe_with_safe_defaults() {
        let settings = Settings::parse("{}", Path::new("config.yaml")).unwrap();
        assert!(settings.namespaces.is_empty());
        assert!(!settings.audit_durable);
    }

    #[test]
    fn namespaces_are_enrolled_in_one_way() {
        let read = |text| Settings::parse(text, Path::new("config.yaml"));
        let named = read("namespaces: [shop]").unwrap().enrolment();
        assert_eq!(named, Enrolment::Named(["shop".to_owned()].into()));
        let labelled = read("{namespaces: [], enrolBySelector: {backstop.dev/enrol: 'true'}}").unwrap().enrolment();
        assert_eq!(labelled.selector().as_deref(), Some("backstop.dev/enrol=true"));
        let error = read("{namespaces: [shop], enrolBySelector: {a: b}}").unwrap_err().to_string();
        assert!(error.contains("both"), "{error}");
    }

    #[test]
    fn a_misspelt_key_is_refused_and_named() {
        let error = Settings::parse("nameSpaces: [a]", Path::new("config.yaml")).unwrap_err().to_string();
        assert!(error.contains("config.yaml") && error.contains("nameSpaces"), "{error}");
    }

    #[test]
    fn a_grant_longer_than_a_minute_is_refused() {
        let error = Settings::parse("timings: {grantSeconds: 61}", Path::new("c")).unwrap_err().to_string();
        assert!(error.contains("grantSeconds is 61"), "{error}");
    }
}
