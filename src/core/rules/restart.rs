//! Old processes hang, and new ones of the same template work: what the old ones hold on to is out of date.
//!
//! Proposed only when every one of these holds: what fails are several pods of the current revision that go on and do not
//! work, on more than one node or beside one that works; a pod of it that was started after all of them works, for
//! longer than it took those to fail ([`crate::core::workload::ByAge`]); no pod is refused; and no ConfigMap changed
//! since, whose new version no pod has proved.
//!
//! Confidence: 80, + 10 when a ConfigMap that the template names changed after the oldest of those began and before the
//! newer pods did: then it is known what they hold on to.

use crate::api::v1alpha1::{
    Action, Cause, ClaimKind, ConfigFact, Diagnosis, Proposal, RolloutRestart, SourceName, Time,
};
use crate::core::workload::ByAge;

use super::evidence::{Evidence, Seen, words};
use super::{cite, claim};

pub fn diagnose(evidence: &Evidence) -> Option<Diagnosis> {
    let (current, target) = (evidence.current()?, evidence.target?);
    let age = evidence.by_age()?;
    let since = age.restart().ok()?;
    let others_fail = evidence.failing().count() != age.failing.len() || evidence.refused().is_some();
    // Where nobody could say whether configuration changed, the controller asks for itself.
    let unproven = evidence.configs.iter().any(|config| !is_proven(config, age.newest_working()));
    if others_fail || unproven {
        return None;
    }
    let number = current.data.number;
    let changed = evidence.configs.iter().find(|config| changed_between(config, &age, since));
    let newer: Vec<&str> = age.newer.iter().map(|pod| pod.id).collect();
    let mut claims = evidence.failure_claims();
    let cites = cite([current.id].into_iter().chain(newer).chain(changed.map(|config| config.id)));
    let text = format!("pods of revision {number} that were started since {since} work");
    claims.push(claim(ClaimKind::TemplateUnchanged, number, cites, &text));
    let (ns, name) = evidence.kubectl();
    let because = match changed {
        Some(config) => format!(
            "; ConfigMap {} changed in between, and what began before holds on to its former version",
            config.object.name
        ),
        None => {
            "; what those hold on to is not known: configuration, a connection, an answer of a dependency".to_owned()
        }
    };
    Some(Diagnosis {
        cause: Cause::ConfigurationChanged,
        hypothesis: format!(
            "{} pods of {} that were started before {since} fail ({}); of the same template, started since then and \
             working: {}{because}",
            age.failing.len(),
            evidence.name(),
            words(evidence.failure()),
            age.newer.len(),
        ),
        suspect: Some(changed.map_or_else(|| target.clone(), |config| config.object.clone())),
        confidence: if changed.is_some() { 90 } else { 80 },
        proposal: Some(Proposal {
            action: Action::RolloutRestart(RolloutRestart { restarted_at: since }),
            target: target.clone(),
        }),
        claims,
        advice: format!(
            "Restart what is older: kubectl {ns} rollout restart {name}. Then find out why its processes did not notice \
             by themselves: a probe that ends a process that hangs would have done the same.{}",
            if evidence.failed(SourceName::ConfigReferences).is_some() { " Look at its ConfigMaps too." } else { "" }
        ),
        ..Diagnosis::default()
    })
}

/// The ConfigMap is as it was when the newest pod that works was created.
fn is_proven(config: &Seen<ConfigFact>, newest: Option<Time>) -> bool {
    config.data.exists && config.data.changed_at.zip(newest).is_some_and(|(changed, created)| changed < created)
}

/// The ConfigMap changed after the oldest pod that fails was created, and before the newer ones were.
fn changed_between(config: &Seen<ConfigFact>, age: &ByAge<'_>, since: Time) -> bool {
    let oldest = age.failing.first().and_then(|pod| pod.fact.created_at);
    config.data.changed_at.zip(oldest).is_some_and(|(changed, created)| changed > created && changed < since)
}
