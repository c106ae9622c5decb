//! A workload as numbered facts.

use std::collections::BTreeSet;

use crate::api::v1alpha1::{
    Fact, FactData, ObjectRef, PodFact, PodFailure, RevisionDiffFact, RevisionFact, SourceName, Time, WorkloadFact,
};
use crate::core::redact;

use super::{Pod, Revision, Strategy, Workload};

/// The longest text of a fact.
pub const MAX_TEXT: usize = 4096;
/// Facts of one investigation at most.
const MAX_FACTS: usize = 200;
/// Pods that are listed: those that fail first.
const MAX_PODS: usize = 50;
/// Revisions that are listed: the newest, and the one that a rollback would return to.
const MAX_REVISIONS: usize = 12;

/// A fact without its number.
#[derive(Clone, Debug, PartialEq)]
pub struct Draft {
    /// The source that saw it.
    pub source: SourceName,
    /// The object that it is about.
    pub object: ObjectRef,
    /// When it was seen.
    pub seen_at: Time,
    /// Typed fields.
    pub data: FactData,
    /// For people; redacted and cut when it is numbered.
    pub text: String,
}

/// Numbers facts in the order given: `f1`, `f2`, …
pub fn number(drafts: impl IntoIterator<Item = Draft>) -> Vec<Fact> {
    let drafts = drafts.into_iter().take(MAX_FACTS).enumerate();
    drafts
        .map(|(index, Draft { source, object, seen_at, data, text })| Fact {
            id: format!("f{}", index + 1),
            source,
            object,
            seen_at,
            data,
            text: redact::text(&text, MAX_TEXT),
        })
        .collect()
}

impl Workload {
    /// What controller and executor reason from: the same facts as an investigation's, of the workload alone.
    pub fn facts(&self) -> Vec<Fact> {
        number([self.workload_facts(), self.pod_facts(), self.history_facts()].concat())
    }

    /// The workload as a fact.
    pub fn workload_facts(&self) -> Vec<Draft> {
        let WorkloadFact { desired, updated, ready, available, paused, revision, progressing_reason, owners, .. } =
            &self.state;
        let revision = revision.map_or("unknown".to_owned(), |number| number.to_string());
        let mut text = format!(
            "{}: revision {revision}, {desired} replicas wanted, {updated} of the current template, {ready} ready, \
             {available} available",
            self.object
        );
        match self.strategy {
            Strategy::RollingUpdate { partition: 0, .. } | Strategy::Recreate => {}
            Strategy::RollingUpdate { partition, .. } => {
                text.push_str(&format!("; partition {partition}: a rollout leaves the ordinals below it as they are"));
            }
            Strategy::OnDelete => text.push_str("; update strategy OnDelete: a rollout replaces no pods"),
        }
        if !progressing_reason.is_empty() {
            text.push_str(&format!("; Progressing: {progressing_reason}"));
        }
        if *paused {
            text.push_str("; paused");
        }
        if !owners.is_empty() {
            text.push_str(&format!("; owned by {}", owners.join(", ")));
        }
        if !self.state.managed_by.is_empty() {
            text.push_str(&format!("; managed by {}", self.state.managed_by.join(", ")));
        }
        vec![self.draft(SourceName::Workload, &self.object, FactData::Workload(self.state.clone()), text)]
    }

    /// The pods as facts: all that fail first, of the others some.
    pub fn pod_facts(&self) -> Vec<Draft> {
        let mut pods: Vec<&Pod> = self.pods.iter().collect();
        let rank = |pod: &Pod| match pod.fact.failure {
            failure if failure.is_hard() => 0,
            PodFailure::None => 2,
            _ => 1,
        };
        pods.sort_by_key(|pod| (rank(pod), std::cmp::Reverse(pod.fact.revision)));
        let draft = |pod: &&Pod| {
            self.draft(SourceName::Pods, &pod.object, FactData::Pod(pod.fact.clone()), describe_pod(&pod.fact))
        };
        // Of each revision at least some, or a large rollout would hide the earlier one.
        let mut kept: Vec<&&Pod> = pods.iter().take(MAX_PODS).collect();
        let numbers: BTreeSet<Option<i64>> = pods.iter().map(|pod| pod.fact.revision).collect();
        for number in numbers {
            if !kept.iter().any(|pod| pod.fact.revision == number) {
                kept.extend(pods.iter().filter(|pod| pod.fact.revision == number).take(2));
            }
            // Beside many that fail, the newest that work: on these a restart rests.
            let works = |pod: &Pod| pod.fact.revision == number && pod.fact.failure == PodFailure::None;
            if !kept.iter().any(|pod| works(pod)) {
                let mut working: Vec<&&Pod> = pods.iter().filter(|pod| works(pod)).collect();
                working.sort_by_key(|pod| std::cmp::Reverse(pod.fact.created_at));
                kept.extend(working.into_iter().take(3));
            }
        }
        kept.into_iter().take(MAX_PODS + 10).map(draft).collect()
    }

    /// The revisions as facts, and how the current one differs from the earlier ones.
    pub fn history_facts(&self) -> Vec<Draft> {
        let of = |revision: &Revision| {
            let RevisionFact { number, current, replicas, ready, created_at, images, .. } = &revision.fact;
            let made = created_at.map(|made| format!(", created {}", made.strftime("%FT%TZ"))).unwrap_or_default();
            let current = if *current { " (current)" } else { "" };
            let mut text = format!(
                "revision {number}{current}: {} replicas, {ready} ready{made}, images {}",
                replicas,
                images.join(", ")
            );
            if let Some(refused) = &revision.fact.refused {
                text.push_str("; its pods are refused");
                if !refused.message.is_empty() {
                    text.push_str(&format!(": {}", refused.message));
                }
            }
            self.draft(SourceName::RolloutHistory, &revision.object, FactData::Revision(revision.fact.clone()), text)
        };
        let candidate = self.undo_candidate().map(|revision| revision.fact.number);
        let is_candidate = |revision: &Revision| candidate == Some(revision.fact.number);
        let listed = self.revisions.iter().enumerate();
        let listed = listed.filter(|(index, revision)| *index < MAX_REVISIONS || is_candidate(revision));
        let listed: Vec<&Revision> = listed.map(|(_, revision)| revision).collect();
        let mut drafts: Vec<Draft> = listed.iter().map(|revision| of(revision)).collect();
        if let Some(current) = self.current() {
            // Compared are all up to the first that differs in more than a restart, and the candidate.
            let mut done = false;
            for earlier in listed.into_iter().filter(|revision| !revision.fact.current) {
                if done && !is_candidate(earlier) {
                    continue;
                }
                let diff = self.diff(earlier, current);
                done |= !diff.changes.is_empty();
                let text = describe_diff(&diff);
                drafts.push(self.draft(SourceName::RolloutHistory, &self.object, FactData::RevisionDiff(diff), text));
            }
        }
        drafts
    }

    fn draft(&self, source: SourceName, object: &ObjectRef, data: FactData, text: String) -> Draft {
        Draft { source, object: object.clone(), seen_at: self.read_at, data, text }
    }
}

fn describe_pod(pod: &PodFact) -> String {
    let PodFact {
        revision,
        phase,
        ready,
        ready_since,
        created_at,
        node,
        failure,
        container,
        reason,
        exit_code,
        restarts,
        ran_seconds,
        obstacle,
        ..
    } = pod;
    let revision = revision.map_or("unknown".to_owned(), |number| number.to_string());
    let mut text = format!("revision {revision}, {phase}, {}", if *ready { "ready" } else { "not ready" });
    if *failure != PodFailure::None {
        text.push_str(&format!(": {failure:?}"));
    }
    if !container.is_empty() {
        text.push_str(&format!(", container {container}"));
    }
    if !reason.is_empty() {
        text.push_str(&format!(", {reason}"));
    }
    if *restarts > 0 {
        text.push_str(&format!(", {restarts} restarts"));
    }
    if let Some(code) = exit_code {
        text.push_str(&format!(", last exit code {code}"));
    }
    if let Some(ran) = ran_seconds {
        text.push_str(&format!(" after {ran} s"));
    }
    if let Some(obstacle) = obstacle {
        text.push_str(&format!(": {}", obstacle.message));
    }
    if let Some(created) = created_at {
        text.push_str(&format!("; created {}", created.strftime("%FT%TZ")));
    }
    if let Some(since) = ready_since {
        let now = if *ready { "ready" } else { "not ready" };
        text.push_str(&format!(", {now} since {}", since.strftime("%FT%TZ")));
    }
    if !node.is_empty() {
        text.push_str(&format!(", on node {node}"));
    }
    text
}

fn describe_diff(diff: &RevisionDiffFact) -> String {
    let RevisionDiffFact { from, to, changes, restart_only } = diff;
    if *restart_only {
        return format!("revision {to} is revision {from} restarted");
    }
    if changes.is_empty() {
        return format!("revision {to} has the template of revision {from}");
    }
    let lines = changes.iter().map(|change| format!("{}: {:?} → {:?}", change.path, change.before, change.after));
    let lines: Vec<String> = lines.collect();
    format!("revision {from} → {to}\n{}", lines.join("\n"))
}
