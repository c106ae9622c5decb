//! The embedded diagnoser: rules over typed facts. It never reads a fact's text, so nothing that a workload prints
//! can steer it.
//!
//! Rules are tried in a fixed order, one file per family of causes; the first that applies answers. They prefer to
//! propose nothing: an action is proposed only when a change of the template is the one explanation that is left.
//! Confidence is a sum of stated parts ([`rollout`]), never a reason to act.

mod configuration;
mod evidence;
mod nothing_fails;
#[cfg(test)]
mod planted;
mod restart;
mod rollout;
#[cfg(test)]
mod tests;
mod unknown;

use crate::api::v1alpha1::{Claim, ClaimKind, Diagnosis, Fact, Mode, ObjectRef, Proposal, Time};
use crate::core::redact::clip;
use crate::core::workload::Workload;

use evidence::Evidence;

/// The rung's name.
pub const NAME: &str = "rules";
/// The highest mode in which the rules' answer may lead to an action.
pub const CEILING: Mode = Mode::Auto;

/// What a diagnoser may look at: facts, and nothing else of the cluster.
#[derive(Clone, Copy, Debug)]
pub struct FactBundle<'a> {
    /// What to look at; absent when the alert named nothing that exists.
    pub target: Option<&'a ObjectRef>,
    /// When the first alert began, by its sender's clock.
    pub alert_started_at: Time,
    /// Numbered facts.
    pub facts: &'a [Fact],
}

/// Diagnoses a case. Always answers; what the facts do not tell is `Unknown`, with advice.
pub fn diagnose(case: FactBundle<'_>) -> Diagnosis {
    apply(&Evidence::of(case.target, Some(case.alert_started_at), case.facts))
}

/// What the rules propose on this reading alone, without events, logs or ConfigMaps; `None` when they propose nothing.
/// Without the alert's begin they do not ask whether the rollout came before it.
pub fn candidate(workload: &Workload, alert_started_at: Option<Time>) -> Option<Proposal> {
    of_reading(workload, alert_started_at).proposal
}

/// What the rules conclude from this reading alone.
pub fn of_reading(workload: &Workload, alert_started_at: Option<Time>) -> Diagnosis {
    let facts = workload.facts();
    apply(&Evidence::of(Some(&workload.object), alert_started_at, &facts))
}

/// Since when new pods of the target's current revision work beside older ones that fail, by these facts: the time of a
/// restart, whoever proposes it. `None` where no newer pod is there.
pub fn restart_time(facts: &[Fact]) -> Option<Time> {
    Evidence::of(None, None, facts).by_age()?.perhaps_since()
}

fn apply(evidence: &Evidence) -> Diagnosis {
    let rules: &[fn(&Evidence) -> Option<Diagnosis>] = &[
        unknown::nothing_was_seen,
        nothing_fails::diagnose,
        #[cfg(test)]
        planted::diagnose,
        restart::diagnose,
        configuration::diagnose,
        rollout::never_worked,
        rollout::diagnose,
        rollout::refused_by_events,
    ];
    let found = rules.iter().find_map(|rule| rule(evidence)).unwrap_or_else(|| unknown::diagnose(evidence));
    Diagnosis {
        diagnoser: NAME.to_owned(),
        ceiling: CEILING,
        hypothesis: clip(&found.hypothesis, 1024),
        advice: clip(&found.advice, 1024),
        confidence: found.confidence.clamp(0, 100),
        ..found
    }
}

/// At most as many citations as a claim holds.
fn cite<'a>(ids: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let mut cites: Vec<String> = Vec::new();
    for id in ids {
        if cites.len() < 32 && !cites.iter().any(|cited| cited == id) {
            cites.push(id.to_owned());
        }
    }
    cites
}

fn claim(kind: ClaimKind, revision: i64, cites: Vec<String>, text: &str) -> Claim {
    Claim { kind, revision: (revision > 0).then_some(revision), failure: None, cites, text: clip(text, 512) }
}
