//! It fails with the template that worked before, or for want of what another template would want too: returning to
//! another template would help nothing.

use crate::api::v1alpha1::{Cause, ClaimKind, ConfigFact, Diagnosis, Reference, ReferenceKind, RevisionDiffFact, Time};
use crate::core::redact::quoted;
use crate::core::workload::{TOGETHER_SECONDS, only_configuration};

use super::evidence::{Evidence, Seen, seconds, words};
use super::rollout::hint;
use super::{cite, claim};

/// Characters of the name of a field manager that are quoted.
const QUOTED_MANAGER: usize = 64;

pub fn diagnose(evidence: &Evidence) -> Option<Diagnosis> {
    let current = evidence.current()?;
    if evidence.troubles().is_empty() {
        return None;
    }
    let missing = evidence.shared_missing();
    let mut configs = evidence.changed_configs();
    let worked = evidence.worked();
    let before = evidence
        .revisions
        .iter()
        .find(|revision| !revision.data.current)
        .and_then(|before| evidence.diffs.iter().find(|diff| diff.data.from == before.data.number))
        .filter(|diff| diff.data.to == current.data.number);
    let restarted = before.filter(|diff| diff.data.changes.is_empty());
    let candidate = evidence.candidate().map(|(_, diff)| diff);
    let hashed = candidate.filter(|diff| only_configuration(&diff.data.changes));
    if configs.is_empty() && worked.is_none() && restarted.is_none() && missing.is_none() && hashed.is_none() {
        return None;
    }
    if let Some((missing, said)) = &missing {
        return Some(shared(evidence, missing, said));
    }
    if hashed.is_some() && configs.is_empty() {
        configs = changed_together(evidence, current.data.created_at);
    }
    let same = restarted.or(hashed);

    let number = current.data.number;
    let mut claims = evidence.failure_claims();
    let cites = cite(
        [current.id]
            .into_iter()
            .chain(worked.iter().flat_map(|worked| worked.cites.iter().map(String::as_str)))
            .chain(same.map(|diff| diff.id))
            .chain(configs.iter().map(|config| config.id)),
    );
    let why = worked.map(|worked| worked.because).or_else(|| same.map(differs_by));
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

fn differs_by(diff: &Seen<RevisionDiffFact>) -> String {
    let by = if diff.data.changes.is_empty() { "a restart" } else { "a hash of its configuration" };
    format!("it differs from revision {} by {by} only", diff.data.from)
}

/// The ConfigMaps that changed with the release, or the one that there is: what a hash in the template is the hash of.
fn changed_together<'a, 'b>(evidence: &'b Evidence<'a>, created: Option<Time>) -> Vec<&'b Seen<'a, ConfigFact>> {
    let near = |config: &&Seen<ConfigFact>| {
        let apart = created.zip(config.data.changed_at).map(|(made, changed)| seconds(made, changed).abs());
        apart.is_some_and(|apart| apart <= TOGETHER_SECONDS)
    };
    let near: Vec<_> = evidence.configs.iter().filter(near).collect();
    match (near.is_empty(), evidence.configs.as_slice()) {
        (true, [only]) => vec![only],
        _ => near,
    }
}

/// Both templates need what does not exist: a pod of either that starts now fails the same way.
fn shared(evidence: &Evidence, missing: &Reference, said: &[&str]) -> Diagnosis {
    let Reference { kind, name, key } = missing;
    let what = match key {
        // A key of a ConfigMap or Secret is a name by its own rules; the object is valid by its.
        Some(key) => format!("key {key} of {} {name}", kind.as_str()),
        None => format!("{} {name}", kind.as_str()),
    };
    let mut claims = evidence.failure_claims();
    let (number, to) = (
        evidence.current().map_or(0, |current| current.data.number),
        evidence.candidate().map_or(0, |(earlier, _)| earlier.data.number),
    );
    let revisions = evidence.current().into_iter().chain(evidence.candidate().map(|(earlier, _)| earlier));
    let cites = cite(said.iter().copied().chain(revisions.map(|revision| revision.id)));
    let text = format!("{what} does not exist, and revision {to} needs it too");
    claims.push(claim(ClaimKind::TemplateUnchanged, number, cites, &text));
    let map = evidence.configs.iter().find(|config| *kind == ReferenceKind::ConfigMap && config.object.name == *name);
    let (ns, workload) = evidence.kubectl();
    Diagnosis {
        cause: Cause::ConfigurationChanged,
        hypothesis: format!(
            "{} fails ({}): {text}. A pod of revision {to} that starts now fails the same way, whatever still runs of it",
            evidence.name(),
            words(evidence.failure()),
        ),
        suspect: map.map(|config| config.object.clone()).or_else(|| evidence.target.cloned()),
        confidence: 90,
        claims,
        advice: format!(
            "A rollback would help nothing. Restore {what} in the namespace ({ns}); pods that wait for it start by \
             themselves, others after kubectl {ns} rollout restart {workload}. Do not delete the pods that still run."
        ),
        ..Diagnosis::default()
    }
}

fn what_happened(config: &Seen<ConfigFact>, created: Option<Time>) -> String {
    let name = &config.object.name;
    let ConfigFact { exists, changed_at, changed_by } = config.data;
    let Some(changed) = changed_at.filter(|_| *exists) else { return format!("ConfigMap {name} does not exist") };
    let plain = changed_by.bytes().all(|c| c.is_ascii_alphanumeric() || b"-_./:".contains(&c));
    let by = match (changed_by.is_empty(), plain) {
        (true, _) => String::new(),
        (false, true) => format!(" by {changed_by}"),
        (false, false) => format!(" by {}", quoted(changed_by, QUOTED_MANAGER)),
    };
    let after = created.map(|at| match seconds(at, changed) {
        after @ 0.. => format!(", {} after its revision was created", span(after)),
        before => format!(", {} before its revision was created", span(-before)),
    });
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
