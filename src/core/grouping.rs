//! Which incident an alert belongs to. One target has one open incident. Names are derived from the inputs, so that
//! after a restart the controller finds what it had begun.

use crate::api::v1alpha1::{
    self, Alert, AlertRef, AlertState, AlertStatus, Incident, IncidentPhase, IncidentSpec, ObjectRef, Severity, Time,
};

use super::names::{self, short_digest};
use super::target::Unresolved;

/// How long further alerts about the target join an escalated incident: a person already handles it.
pub const ESCALATION_HOLDS: jiff::SignedDuration = jiff::SignedDuration::from_mins(30);
/// Label on an Incident: UID of its target, or what stands for one that could not be resolved.
pub const TARGET_LABEL: &str = "backstop.dev/target";
/// At most this many alerts are listed on an incident.
pub const MAX_ALERTS: usize = 100;

/// What to do with an alert.
#[derive(Clone, Debug, PartialEq)]
pub enum Grouping {
    /// It belongs to this incident already.
    Known(String),
    /// Add it to this incident.
    Join(String),
    /// Open an incident.
    Open(Opening),
}

/// Identity of an incident to be opened. It is derived from what the incident is about, so that the same alert leads
/// to the same incident.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opening {
    /// Its name.
    pub name: String,
    /// SHA-256 of the inputs that the name is derived from.
    pub key: String,
}

impl Opening {
    /// Its name when the short one is taken by an unrelated incident.
    pub fn long_name(&self) -> String {
        format!("{}{}", self.name, self.key.get(10..32).unwrap_or_default())
    }
}

/// An alert that has to be placed.
#[derive(Clone, Copy, Debug)]
pub struct Incoming<'a> {
    /// How an incident lists it.
    pub reference: &'a AlertRef,
    /// Its severity.
    pub severity: Severity,
    /// Its target.
    pub target: Option<&'a ObjectRef>,
    /// SHA-256 of the target's template now; `None` when nothing depends on it, or the target has none.
    pub template: Option<&'a str>,
    /// Its generation, when it changed and may fire again after its incident ended: an incident that has ended does not
    /// count then, and the new one gets its own name.
    pub fires_again: Option<i64>,
}

/// Decides where an alert belongs among the `incidents` of the namespace.
pub fn group(alert: &Incoming<'_>, incidents: &[Incident], now: Time) -> Grouping {
    let Incoming { reference, target, fires_again, .. } = *alert;
    let listed = |incident: &&Incident| {
        incident.spec.alerts.iter().any(|listed| same_alert(listed, reference))
            && (fires_again.is_none() || accepts(incident, alert, now))
    };
    if let Some(incident) = incidents.iter().find(listed) {
        return Grouping::Known(name_of(incident));
    }
    if let Some(target) = target {
        let open = incidents.iter().find(|incident| {
            incident.spec.target.as_ref().is_some_and(|t| t.uid == target.uid) && accepts(incident, alert, now)
        });
        if let Some(incident) = open {
            return Grouping::Join(name_of(incident));
        }
    }
    let about = target.map_or("unresolved", |t| t.uid.as_str());
    let time = fires_again.map(|generation| generation.to_string());
    let inputs = ["incident", about, &reference.namespace, &reference.name, &reference.uid];
    let key = names::digest(&inputs.into_iter().chain(time.as_deref()).collect::<Vec<_>>());
    Grouping::Open(Opening { name: names::readable(target.map_or("unresolved", |t| t.name.as_str()), &key), key })
}

fn same_alert(a: &AlertRef, b: &AlertRef) -> bool {
    a.namespace == b.namespace && a.name == b.name && a.uid == b.uid
}

/// Whether an alert about the target of this incident belongs to it. One that a person has, or that is watched, takes
/// only what says nothing new: what is worse or new is investigated by an incident of its own.
fn accepts(incident: &Incident, alert: &Incoming<'_>, now: Time) -> bool {
    holds(incident, now).is_none_or(|holds| holds && !is_news(incident, alert))
}

/// Whether an incident that has ended still holds its target: a person has had it for less than half an hour, or it is
/// watched. `None` while it has not ended.
pub fn holds(incident: &Incident, now: Time) -> Option<bool> {
    let status = incident.status.as_ref()?;
    match status.phase {
        IncidentPhase::Resolved => Some(status.is_watched()),
        IncidentPhase::Escalated => {
            Some(status.times.ended.is_none_or(|ended| now.duration_since(ended) < ESCALATION_HOLDS))
        }
        _ => None,
    }
}

/// Whether an alert says more than the incident knows: it is more severe, has another name, or the target has another
/// template by now.
fn is_news(incident: &Incident, alert: &Incoming<'_>) -> bool {
    let Incoming { reference, severity, template, .. } = *alert;
    let reading = incident.status.as_ref().and_then(|status| status.reading.as_ref());
    let known = reading.map(|reading| reading.template_hash.as_str());
    severity > incident.spec.severity
        || !incident.spec.alerts.iter().any(|listed| listed.alertname == reference.alertname)
        || known.zip(template).is_some_and(|(known, now)| known != now)
}

/// What an Incident is about: its label, without which it is the UID of its target.
pub fn subject(incident: &Incident) -> Option<&str> {
    let label = incident.metadata.labels.as_ref().and_then(|labels| labels.get(TARGET_LABEL));
    label.or_else(|| Some(&incident.spec.target.as_ref()?.uid)).map(String::as_str)
}

fn name_of(incident: &Incident) -> String {
    incident.metadata.name.clone().unwrap_or_default()
}

/// What has to be done with an alert as it is stored.
#[derive(Clone, Debug, PartialEq)]
pub enum Handling {
    /// Nothing.
    Done,
    /// Its state or generation changed; its incident stays the same.
    Note(AlertStatus),
    /// It belongs into an incident that has to be found or opened. `fires_again` is its generation when its incident
    /// may be over.
    Place {
        /// See above.
        fires_again: Option<i64>,
    },
}

/// Decides what to do with `alert`.
pub fn handling(alert: &Alert) -> Handling {
    let status = alert.status.clone().unwrap_or_default();
    let generation = alert.metadata.generation.unwrap_or(0);
    let state = state_of(alert);
    // Its incident may have ended, and nobody would handle the new occurrence. Any change of the spec may be one: if the
    // alert ended and fired again between two reads, only the generation shows it.
    let changed = status.observed_generation != 0 && status.observed_generation != generation;
    let fires_again = state == AlertState::Firing && changed;
    let noted = |changed: bool| match changed {
        true => Handling::Note(AlertStatus { state, observed_generation: generation, ..status.clone() }),
        false => Handling::Done,
    };
    if !status.incident.is_empty() && !fires_again {
        return noted(status.state != state || changed);
    }
    if state == AlertState::Resolved {
        // It started and ended before it was first read.
        return noted(status.observed_generation != generation);
    }
    Handling::Place { fires_again: fires_again.then_some(generation) }
}

/// Whether an alert is firing, as far as its sender said.
pub fn state_of(alert: &Alert) -> AlertState {
    if alert.spec.ends_at.is_some() { AlertState::Resolved } else { AlertState::Firing }
}

/// The spec of an incident that `alert` opens.
pub fn opened(
    alert: &Alert,
    target: &Result<ObjectRef, Unresolved>,
    opening: &Opening,
    fires_again: Option<i64>,
    now: Time,
) -> IncidentSpec {
    let uid = alert.metadata.uid.as_deref().unwrap_or_default();
    // What the Alert says of its receipt anybody may have written: the clocks of controller and API server bound it.
    let made = alert.metadata.creation_timestamp.as_ref().map_or(now, |time| time.0);
    let received = alert.spec.received_at.unwrap_or(made).max(made).min(now);
    // The time of the first receipt says nothing about when it fired again.
    let (request_id, opened_at) = match fires_again {
        Some(generation) => (short_digest(&["request", uid, &generation.to_string()]), now),
        None if alert.spec.request_id.is_empty() => (short_digest(&["request", uid]), received),
        None => (alert.spec.request_id.clone(), received),
    };
    IncidentSpec {
        target: target.as_ref().ok().cloned(),
        unresolved: target.as_ref().err().map(|unresolved| v1alpha1::Unresolved {
            reason: unresolved.reason.as_str().into(),
            message: unresolved.message.clone(),
        }),
        alerts: vec![reference(alert)],
        severity: severity(alert),
        request_id,
        opened_at,
        key: opening.key.clone(),
    }
}

/// Namespace of the incident of an alert: that of its target, else the alert's own.
pub fn namespace<'a>(alert: &'a Alert, target: &'a Result<ObjectRef, Unresolved>, system: &'a str) -> &'a str {
    match target {
        Ok(target) if !target.namespace.is_empty() => &target.namespace,
        _ => alert.metadata.namespace.as_deref().unwrap_or(system),
    }
}

/// Alerts and severity of `incident` after `alert` joined it.
pub fn joined(incident: &Incident, alert: &Alert) -> (Vec<AlertRef>, Severity) {
    let mut alerts = incident.spec.alerts.clone();
    if alerts.len() < MAX_ALERTS {
        alerts.push(reference(alert));
    }
    (alerts, incident.spec.severity.max(severity(alert)))
}

/// Whether `alert` was placed into `incident`, listed there or not.
pub fn belongs_to(alert: &Alert, incident: &Incident) -> bool {
    alert.status.as_ref().is_some_and(|status| {
        Some(&status.incident) == incident.metadata.name.as_ref()
            && Some(&status.incident_namespace) == incident.metadata.namespace.as_ref()
    })
}

/// The reference by which an incident lists `alert`.
pub fn reference(alert: &Alert) -> AlertRef {
    AlertRef {
        namespace: alert.metadata.namespace.clone().unwrap_or_default(),
        name: alert.metadata.name.clone().unwrap_or_default(),
        uid: alert.metadata.uid.clone().unwrap_or_default(),
        alertname: alert.spec.labels.get("alertname").cloned().unwrap_or_default(),
        starts_at: alert.spec.starts_at,
    }
}

/// Severity by the label `severity`, in any case of letters; a missing or unknown value is a warning. `info` and `none` alone
/// call nobody: by convention the first is for context and the second for what is no alert, such as `Watchdog`.
pub fn severity(alert: &Alert) -> Severity {
    match alert.spec.labels.get("severity").map(|s| s.to_ascii_lowercase()).as_deref() {
        Some("critical" | "page" | "emergency") => Severity::Critical,
        Some("error" | "high" | "major") => Severity::Error,
        Some("info" | "none") => Severity::Info,
        Some("low") => Severity::Low,
        _ => Severity::Warning,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::v1alpha1::{IncidentStatus, TargetReading, Watch};

    fn at(second: i64) -> Time {
        Time::from_second(1_800_000_000 + second).unwrap()
    }

    #[test]
    fn only_what_is_for_context_or_no_alert_at_all_calls_nobody() {
        let of = |word: Option<&str>| {
            let mut alert = Alert::new("a", crate::api::v1alpha1::AlertSpec::default());
            alert.spec.labels.extend(word.map(|word| ("severity".to_owned(), word.to_owned())));
            severity(&alert)
        };
        for (words, expected) in [
            (&["info", "none", "INFO"][..], Severity::Info),
            (&["low", "Low"], Severity::Low),
            (&["warning", "ticket", "P3", ""], Severity::Warning),
            (&["error", "high", "major"], Severity::Error),
            (&["critical", "page", "emergency"], Severity::Critical),
        ] {
            words.iter().for_each(|word| assert_eq!(of(Some(word)), expected, "{word}"));
        }
        assert_eq!(of(None), Severity::Warning);
        let ascending = [Severity::Info, Severity::Low, Severity::Warning, Severity::Error, Severity::Critical];
        assert!(ascending.is_sorted(), "the more severe alert of an incident counts");
    }

    fn key(name: &str) -> AlertRef {
        AlertRef {
            namespace: "shop".into(),
            name: name.into(),
            uid: format!("uid-{name}"),
            alertname: "A".into(),
            starts_at: at(0),
        }
    }

    fn target() -> ObjectRef {
        ObjectRef {
            kind: "Deployment".into(),
            namespace: "shop".into(),
            name: "api".into(),
            uid: "u1".into(),
            ..Default::default()
        }
    }

    fn incident(phase: IncidentPhase, ended: Option<Time>) -> Incident {
        let spec = IncidentSpec {
            target: Some(target()),
            unresolved: None,
            alerts: vec![key("first")],
            severity: Severity::Warning,
            request_id: "r".into(),
            opened_at: at(0),
            key: String::new(),
        };
        let mut incident = Incident::new("inc", spec);
        let reading = Some(TargetReading { template_hash: "t".into(), ..TargetReading::default() });
        let mut status = IncidentStatus { phase, reading, ..Default::default() };
        status.times.ended = ended;
        incident.status = Some(status);
        incident
    }

    fn placed(alert: &AlertRef, incidents: &[Incident], now: Time) -> Grouping {
        group(&incoming(alert), incidents, now)
    }

    /// A warning about the target.
    fn incoming(reference: &AlertRef) -> Incoming<'_> {
        static TARGET: std::sync::LazyLock<ObjectRef> = std::sync::LazyLock::new(target);
        let severity = Severity::Warning;
        Incoming { reference, severity, target: Some(&TARGET), template: Some("t"), fires_again: None }
    }

    #[test]
    fn the_first_alert_opens_and_the_same_alert_finds_the_same_name() {
        let a = placed(&key("first"), &[], at(0));
        let b = placed(&key("first"), &[], at(9));
        assert!(matches!(a, Grouping::Open(_)));
        assert_eq!(a, b);
    }

    #[test]
    fn another_alert_about_the_same_target_joins_while_it_is_open() {
        for phase in [IncidentPhase::Open, IncidentPhase::Remediating, IncidentPhase::Verifying] {
            let other = AlertRef { alertname: "B".into(), ..key("second") };
            assert_eq!(placed(&other, &[incident(phase, None)], at(5)), Grouping::Join("inc".into()));
        }
    }

    #[test]
    fn an_escalated_incident_keeps_its_target_for_half_an_hour() {
        let escalated = incident(IncidentPhase::Escalated, Some(at(0)));
        let ask = |now| placed(&key("second"), std::slice::from_ref(&escalated), now);
        assert_eq!(ask(at(1799)), Grouping::Join("inc".into()));
        assert!(matches!(ask(at(1801)), Grouping::Open(_)));
    }

    /// While a person has the first, and while a target that recovered is watched.
    #[test]
    fn what_is_worse_or_new_is_never_swallowed_by_an_incident_that_has_ended() {
        let mut watched = incident(IncidentPhase::Resolved, Some(at(0)));
        watched.status.as_mut().unwrap().watch = Some(Watch::default());
        for ended in [incident(IncidentPhase::Escalated, Some(at(0))), watched] {
            let second = key("second");
            let base = incoming(&second);
            let ask = |alert: &Incoming<'_>| group(alert, std::slice::from_ref(&ended), at(60));
            assert_eq!(ask(&base), Grouping::Join("inc".into()), "a second pod says nothing new");
            assert_eq!(ask(&Incoming { template: None, ..base }), Grouping::Join("inc".into()));
            let other = AlertRef { alertname: "B".into(), ..key("second") };
            for news in [
                Incoming { severity: Severity::Critical, ..base },
                Incoming { reference: &other, ..base },
                Incoming { template: Some("another"), ..base },
            ] {
                assert!(matches!(ask(&news), Grouping::Open(_)), "{news:?}");
            }
            // The same alert, sent again with a higher severity.
            let first = key("first");
            let raised = Incoming { severity: Severity::Critical, fires_again: Some(2), ..incoming(&first) };
            assert!(matches!(ask(&raised), Grouping::Open(_)));
        }
    }

    #[test]
    fn what_fires_again_right_after_its_end_belongs_to_the_incident_that_watches_the_target() {
        let mut watched = incident(IncidentPhase::Resolved, Some(at(0)));
        watched.status.as_mut().unwrap().watch = Some(Watch::default());
        let first = key("first");
        let again = Incoming { fires_again: Some(3), ..incoming(&first) };
        assert_eq!(group(&again, std::slice::from_ref(&watched), at(20)), Grouping::Known("inc".into()));
        watched.status.as_mut().unwrap().watch.as_mut().unwrap().over = Some(at(30));
        assert!(matches!(group(&again, &[watched], at(40)), Grouping::Open(_)));
    }

    #[test]
    fn after_a_recovery_a_new_alert_opens_a_new_incident() {
        let resolved = incident(IncidentPhase::Resolved, Some(at(0)));
        assert!(matches!(placed(&key("second"), &[resolved], at(1)), Grouping::Open(_)));
    }

    #[test]
    fn a_listed_alert_is_known_even_after_the_incident_ended() {
        let resolved = incident(IncidentPhase::Resolved, Some(at(0)));
        assert_eq!(placed(&key("first"), &[resolved], at(9999)), Grouping::Known("inc".into()));
    }

    #[test]
    fn an_alert_that_had_ended_and_fires_again_opens_another_incident_unless_its_own_is_still_open() {
        let first = key("first");
        let alert = Incoming { fires_again: Some(3), ..incoming(&first) };
        let again = |incident: Incident| group(&alert, &[incident], at(9));
        let opened = again(incident(IncidentPhase::Resolved, Some(at(0))));
        assert!(matches!(opened, Grouping::Open(_)));
        assert_ne!(opened, placed(&key("first"), &[], at(9)), "the old name is taken");
        assert_eq!(again(incident(IncidentPhase::Escalated, Some(at(0)))), Grouping::Known("inc".into()));
        assert_eq!(again(incident(IncidentPhase::Verifying, None)), Grouping::Known("inc".into()));
    }

    #[test]
    fn an_alert_that_was_deleted_and_recreated_under_its_name_is_another_one() {
        let resolved = || incident(IncidentPhase::Resolved, Some(at(0)));
        let second = AlertRef { uid: "another".into(), ..key("first") };
        assert!(matches!(placed(&second, &[resolved()], at(9)), Grouping::Open(_)));
        assert_ne!(placed(&second, &[], at(9)), placed(&key("first"), &[], at(9)));
    }

    #[test]
    fn alerts_without_a_target_never_share_an_incident() {
        let alone = |reference: &AlertRef| group(&Incoming { target: None, ..incoming(reference) }, &[], at(0));
        assert_ne!(alone(&key("a")), alone(&key("b")));
    }

    #[test]
    fn an_incident_is_opened_by_our_own_clocks_whatever_the_alert_says_of_its_receipt() {
        let opening = Opening { name: "n".into(), key: "k".into() };
        for (received, made, expected) in [(5, 5, 5), (99_999, 5, 10), (-99_999, 5, 5)] {
            let spec = serde_json::json!({"fingerprint": "f", "labels": {}, "startsAt": at(0).to_string(),
                "receivedAt": at(received).to_string()});
            let mut alert = Alert::new("a", serde_json::from_value(spec).unwrap());
            alert.metadata.creation_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at(made)));
            let spec = opened(&alert, &Ok(target()), &opening, None, at(10));
            assert_eq!(spec.opened_at, at(expected));
        }
    }
}
