//! It fails with the template that worked before: returning to another template would help nothing.

use crate::api::v1alpha1::{Cause, ClaimKind, ConfigFact, Diagnosis, Time};

use super::evidence::{Evidence, Seen, seconds, words};
use super::rollout::hint;
use super::{cite, claim};

pub fn diagnose(evidence: &Evidence) -> Option<Diagnosis> {
    let current = evidence.current()?;
    if evidence.failing_current().is_empty() {
        return None;
    }
    let configs = evidence.changed_configs();
    let worked = evidence.worked();
    let restarted = evidence
        .revisions
        .iter()
        .find(|revision| !revision.data.current)
        .and_then(|before| evidence.diffs.iter().find(|diff| diff.data.from == before.data.number))
        .filter(|diff| diff.data.changes.is_empty() && diff.data.to == current.data.number);
    if configs.is_empty() && worked.is_none() && restarted.is_none() {
        return None;
    }

    let number = current.data.number;
    let mut claims = evidence.failure_claims();
    let cites = cite(
        [current.id]
            .into_iter()
            .chain(worked.iter().flat_map(|worked| worked.cites.iter().map(String::as_str)))
            .chain(restarted.map(|diff| diff.id))
            .chain(configs.iter().map(|config| config.id)),
    );
    let why = worked
        .map(|worked| worked.because)
        .or_else(|| restarted.map(|diff| format!("it differs from revision {} by a restart only", diff.data.from)));
    let known = why.is_some();
    let why = why.unwrap_or_else(|| format!("nothing changed in revision {number} since it was created"));
    claims.push(claim(ClaimKind::TemplateUnchanged, number, cites, &format!("the template is as it was: {why}")));

    let failure = evidence.failure();
    let (ns, name) = evidence.kubectl();
    let (suspect, hypothesis, advice) = match configs.iter().max_by_key(|config| config.data.changed_at) {
        Some(config) => {
            let map = &config.object.name;
            (
                config.object.clone(),
                format!(
                    "{} fails ({}) although its template did not change; {}",
                    evidence.name(),
                    words(failure),
                    what_happened(config, current.data.created_at)
                ),
                format!(
                    "A rollback would keep the same ConfigMap and help nothing. Compare \
                     kubectl {ns} get configmap {map} -o yaml with your records, restore its data, then \
                     kubectl {ns} rollout restart {name}."
                ),
            )
        }
        None => (
            evidence.target.cloned().unwrap_or_default(),
            format!(
                "{} fails ({}) although its template did not change ({why}): look outside of it, at its \
                 dependencies, Secrets, data and nodes",
                evidence.name(),
                words(failure)
            ),
            format!(
                "A rollback would not help. See what changed around the alert: kubectl {ns} get events \
                 --sort-by=.lastTimestamp; kubectl {ns} describe {name}.{}",
                hint(failure)
            ),
        ),
    };
    let confidence = match (configs.is_empty(), known) {
        // Two signs that agree; one sign with the cause at hand; one sign without.
        (false, true) => 85,
        (false, false) => 70,
        (true, _) => 50,
    };
    Some(Diagnosis {
        cause: Cause::ConfigurationChanged,
        hypothesis,
        suspect: Some(suspect),
        confidence,
        claims,
        advice,
        ..Diagnosis::default()
    })
}

fn what_happened(config: &Seen<ConfigFact>, created: Option<Time>) -> String {
    let name = &config.object.name;
    let ConfigFact { exists, changed_at, changed_by } = config.data;
    let Some(changed) = changed_at.filter(|_| *exists) else { return format!("ConfigMap {name} does not exist") };
    let by = if changed_by.is_empty() { String::new() } else { format!(" by {changed_by}") };
    let after = created.map(|at| format!(", {} after its revision was created", span(seconds(at, changed))));
    format!("ConfigMap {name} was changed at {}{by}{}", changed.strftime("%FT%TZ"), after.unwrap_or_default())
}

/// Seconds for people.
fn span(seconds: i64) -> String {
    match seconds {
        ..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}
