//! The operator's settings: one YAML file that the chart renders, parsed once and validated on the way in.

use std::path::{Path, PathBuf};

use serde::Deserialize;

/// Settings of all three roles; each reads the part that concerns it.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Settings {
    /// Namespaces in which the executor has rights: the enrolled ones.
    pub namespaces: Vec<String>,
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
    /// Budgets across incidents.
    pub budgets: Budgets,
    /// Durations.
    pub timings: Timings,
    /// How long finished objects are kept.
    pub retention: Retention,
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

/// Budgets across incidents.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Budgets {
    /// Actions in the cluster in any hour.
    pub actions_per_hour: u32,
    /// Actions in one namespace in any hour.
    pub actions_per_namespace_per_hour: u32,
    /// Seconds between two actions on one target.
    pub target_cooldown_seconds: u32,
    /// Anomalies inside the window that open the cascade breaker.
    pub cascade_anomalies: u32,
    /// The window, in seconds.
    pub cascade_window_seconds: u32,
    /// Seconds until the breaker lets one action try.
    pub cascade_cooldown_seconds: u32,
    /// Targets with an incident inside the storm window that open the breaker.
    pub storm_incidents: u32,
    /// The storm window, in seconds.
    pub storm_window_seconds: u32,
}

/// Durations, in seconds.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Timings {
    /// A revision counts as known good after all its replicas were ready for this long.
    pub known_good_seconds: u32,
    /// After a write the target must stay healthy for this long.
    pub verify_settle_seconds: u32,
    /// After a write the target must be healthy this long after it at the latest.
    pub verify_timeout_seconds: u32,
    /// How long the judge waits for evidence that may still come.
    pub evidence_wait_seconds: u32,
    /// Validity of a Grant; at most 60.
    pub grant_seconds: u32,
    /// How long an incident waits for an Approval.
    pub approval_timeout_seconds: u32,
}

/// How long finished objects are kept. Open ones are never deleted.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Retention {
    /// Days.
    pub days: u32,
    /// At most this many of a kind in one namespace.
    pub per_namespace: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            namespaces: Vec::new(),
            audit_dir: "/var/lib/backstop/audit".into(),
            audit_durable: false,
            intake_tokens_dir: "/etc/backstop/intake".into(),
            log_format: LogFormat::Json,
            log_level: "info".into(),
            cluster_name: String::new(),
            prometheus_url: String::new(),
            escalation_webhook: EscalationWebhook::default(),
            budgets: Budgets::default(),
            timings: Timings::default(),
            retention: Retention::default(),
        }
    }
}

impl Default for Budgets {
    fn default() -> Self {
        Budgets {
            actions_per_hour: 20,
            actions_per_namespace_per_hour: 10,
            target_cooldown_seconds: 1800,
            cascade_anomalies: 5,
            cascade_window_seconds: 600,
            cascade_cooldown_seconds: 900,
            storm_incidents: 10,
            storm_window_seconds: 300,
        }
    }
}

impl Default for Timings {
    fn default() -> Self {
        Timings {
            known_good_seconds: 30,
            verify_settle_seconds: 10,
            verify_timeout_seconds: 300,
            evidence_wait_seconds: 60,
            grant_seconds: 60,
            approval_timeout_seconds: 1800,
        }
    }
}

impl Default for Retention {
    fn default() -> Self {
        Retention { days: 7, per_namespace: 1000 }
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
        let Timings { grant_seconds, verify_timeout_seconds, verify_settle_seconds, .. } = settings.timings;
        bounds("timings.grantSeconds", grant_seconds, (5..=60).contains(&grant_seconds), "5 to 60")?;
        bounds(
            "timings.verifyTimeoutSeconds",
            verify_timeout_seconds,
            (1..=3600).contains(&verify_timeout_seconds),
            "1 to 3600",
        )?;
        bounds("timings.verifySettleSeconds", verify_settle_seconds, verify_settle_seconds <= 3600, "0 to 3600")?;
        let cascade = settings.budgets.cascade_anomalies;
        bounds("budgets.cascadeAnomalies", cascade, cascade >= 1, "1 or more")?;
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
