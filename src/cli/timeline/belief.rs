//! What an incident says was believed: the diagnosis on it, for when the Investigation is gone, and the difference that
//! explains it.

use crate::api::v1alpha1::{FieldChange, IncidentStatus};

use super::text::Tone;

/// Changed fields that are shown with a hand-over.
const SHORT_DIFFERENCE: usize = 6;

/// The diagnosis as it stands on the Incident.
pub(super) fn believed(status: &IncidentStatus) -> Vec<(Tone, String)> {
    let Some(diagnosis) = &status.diagnosis else { return vec![] };
    let facts = diagnosis.facts.iter().map(|fact| {
        let line = fact.text.lines().next().unwrap_or_default();
        (Tone::Quiet, format!("{:<4} {line}", fact.id))
    });
    let mut details: Vec<(Tone, String)> = facts.collect();
    let head = format!("diagnosis by {}: {:?}, {}%", diagnosis.diagnoser, diagnosis.cause, diagnosis.confidence);
    details.push((Tone::Strong, head));
    details.push((Tone::Plain, diagnosis.hypothesis.clone()));
    if !diagnosis.advice.is_empty() {
        details.push((Tone::Plain, format!("advice: {}", diagnosis.advice)));
    }
    details
}

/// The change that people make where somebody else owns the object.
pub(super) fn manifest(status: &IncidentStatus) -> Vec<(Tone, String)> {
    let change = status.decision.as_ref().and_then(|decision| decision.manifest_change.as_ref());
    let lines = change.iter().flat_map(|change| change.diff.lines());
    let toned = |line: &str| match line.as_bytes().first() {
        Some(b'-') => Tone::Bad,
        Some(b'+') => Tone::Good,
        _ => Tone::Quiet,
    };
    lines.map(|line| (toned(line), line.to_owned())).collect()
}

/// How the revisions differ that the diagnosis is about.
pub(super) fn difference(status: &IncidentStatus) -> Vec<(Tone, String)> {
    let Some(difference) = status.diagnosis.as_ref().and_then(|it| it.difference.as_ref()) else { return vec![] };
    let head = (Tone::Quiet, format!("changed from revision {} to {}:", difference.from, difference.to));
    let line = |change: &FieldChange| {
        let side = |value: &str| if value.is_empty() { "(none)".into() } else { value.replace('\n', " ") };
        (Tone::Quiet, format!("  {}: {} -> {}", change.path, side(&change.before), side(&change.after)))
    };
    std::iter::once(head).chain(difference.changes.iter().take(SHORT_DIFFERENCE).map(line)).collect()
}
