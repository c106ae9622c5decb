//! Facts put in order for the rules, and what several rules ask of them.

use crate::api::v1alpha1::{
    Claim, ClaimKind, ConfigFact, EventFact, Fact, FactData, FieldChange, ObjectRef, PodFact, PodFailure, Reference,
    ReferenceKind, RevisionDiffFact, RevisionFact, SourceName, Time, WorkloadFact,
};
use crate::core::object::is_known;
use crate::core::redact::quoted;
use crate::core::workload::{
    ByAge, Kind, Proof, Sibling, Trouble, Unexplained, configuration_can_cause, explain, needs, never_ready, proof,
    undo_choice, waits_for_objects,
};

use super::{cite, claim};

/// A revision whose rollout began this long before the alert had time to prove itself.
pub const LONG_BEFORE_SECONDS: i64 = 3600;
/// Pods created this long after their revision belong to its rollout.
const ROLLOUT_SECONDS: i64 = 600;
/// Clocks of senders and of the cluster differ, and times are whole seconds.
pub const SKEW_SECONDS: i64 = 120;
/// Characters of a sentence of the cluster that are quoted.
const QUOTED_MESSAGE: usize = 240;
/// One fact with its typed fields at hand.
#[derive(Debug)]
pub struct Seen<'a, T> {
    /// Number of the fact.
    pub id: &'a str,
    /// What it is about.
    pub object: &'a ObjectRef,
    /// When it was seen.
    pub at: Time,
    /// Its typed fields.
    pub data: &'a T,
}

/// The facts, by kind.
pub struct Evidence<'a> {
    pub target: Option<&'a ObjectRef>,
    /// When the alert began; `None` when only the reading is asked.
    pub alert_started_at: Option<Time>,
    pub workload: Option<Seen<'a, WorkloadFact>>,
    pub pods: Vec<Seen<'a, PodFact>>,
    /// Newest first.
    pub revisions: Vec<Seen<'a, RevisionFact>>,
    pub diffs: Vec<Seen<'a, RevisionDiffFact>>,
    pub events: Vec<Seen<'a, EventFact>>,
    pub configs: Vec<Seen<'a, ConfigFact>>,
    /// Sources that gave nothing, with the reason.
    pub failed: Vec<(SourceName, &'a str, &'a str)>,
}

/// Why the current template is believed to have worked before.
pub struct Worked {
    pub cites: Vec<String>,
    pub because: String,
}

impl<'a> Evidence<'a> {
    pub fn of(target: Option<&'a ObjectRef>, alert_started_at: Option<Time>, facts: &'a [Fact]) -> Evidence<'a> {
        let mut evidence = Evidence {
            target,
            // A sender that does not know when it began says 0001 or 1970.
            alert_started_at: alert_started_at.filter(|began| is_known(*began)),
            workload: None,
            pods: vec![],
            revisions: vec![],
            diffs: vec![],
            events: vec![],
            configs: vec![],
            failed: vec![],
        };
        for fact in facts {
            let Fact { id, source, object, seen_at, data, text: _ } = fact;
            match data {
                FactData::Workload(data) => evidence.workload = Some(Seen { id, object, at: *seen_at, data }),
                FactData::Pod(data) => evidence.pods.push(Seen { id, object, at: *seen_at, data }),
                FactData::Revision(data) => evidence.revisions.push(Seen { id, object, at: *seen_at, data }),
                FactData::RevisionDiff(data) => evidence.diffs.push(Seen { id, object, at: *seen_at, data }),
                FactData::Event(data) => evidence.events.push(Seen { id, object, at: *seen_at, data }),
                FactData::Config(data) => evidence.configs.push(Seen { id, object, at: *seen_at, data }),
                FactData::SourceFailed(failed) => evidence.failed.push((*source, id, &failed.reason)),
                FactData::Log(_) | FactData::Metric(_) => {}
            }
        }
        evidence.revisions.sort_by_key(|revision| std::cmp::Reverse(revision.data.number));
        evidence
    }

    pub fn failed(&self, source: SourceName) -> Option<(&'a str, &'a str)> {
        self.failed.iter().find(|(failed, ..)| *failed == source).map(|(_, id, reason)| (*id, *reason))
    }

    /// Pods with a failure that a template can cause.
    pub fn failing(&self) -> impl Iterator<Item = &Seen<'a, PodFact>> {
        self.pods.iter().filter(|pod| pod.data.failure.is_hard())
    }

    pub fn current(&self) -> Option<&Seen<'a, RevisionFact>> {
        self.revisions.iter().find(|revision| revision.data.current)
    }

    pub fn revision(&self, number: i64) -> Option<&Seen<'a, RevisionFact>> {
        self.revisions.iter().find(|revision| revision.data.number == number)
    }

    /// Failing pods that run the current revision.
    pub fn failing_current(&self) -> Vec<&Seen<'a, PodFact>> {
        let Some(current) = self.current() else { return vec![] };
        self.pods_of(current.data.number).filter(|pod| pod.data.failure.is_hard()).collect()
    }

    /// Every way in which the current revision fails: that of each failing pod, and that its pods are refused.
    pub fn troubles(&self) -> Vec<(&'a str, Trouble<'a>)> {
        let pods = self.failing_current().into_iter().filter_map(|pod| Some((pod.id, Trouble::of_pod(pod.data)?)));
        let refused = self.refused().into_iter().filter_map(|it| Some((it.id, Trouble::of_revision(it.data)?)));
        pods.chain(refused).collect()
    }

    /// The current revision, when the API server refuses to create its pods.
    pub fn refused(&self) -> Option<&Seen<'a, RevisionFact>> {
        self.current().filter(|current| current.data.refused.is_some())
    }

    /// Whether anything fails in a way that a template can cause.
    pub fn fails(&self) -> bool {
        self.failing().next().is_some() || self.refused().is_some()
    }

    /// The pods of the current revision by age; `None` where none of them fails.
    pub fn by_age(&self) -> Option<ByAge<'_>> {
        let current = self.current()?.data.number;
        ByAge::of(self.pods_of(current).map(|pod| Sibling {
            id: pod.id,
            name: &pod.object.name,
            fact: pod.data,
            seen_at: pod.at,
        }))
    }

    /// The changes that explain every way in which the current revision fails; the first way that they do not explain
    /// is the error.
    pub fn explained(
        &self,
        earlier: &Seen<'a, RevisionFact>,
        diff: &Seen<'a, RevisionDiffFact>,
    ) -> Result<Vec<&'a FieldChange>, (PodFailure, Unexplained)> {
        let Some(current) = self.current() else { return Ok(vec![]) };
        let mut found: Vec<&FieldChange> = Vec::new();
        for (_, trouble) in self.troubles() {
            let by = explain(&trouble, current.data, earlier.data, &diff.data.changes);
            for change in by.map_err(|why| (trouble.failure, why))? {
                if !found.contains(&change) {
                    found.push(change);
                }
            }
        }
        Ok(found)
    }

    /// What the current template and the one to return to both need, and somebody says that it does not exist: with the
    /// numbers of the facts that say so. The data of a ConfigMap is never read, that it is gone is.
    pub fn shared_missing(&self) -> Option<(&'a Reference, Vec<&'a str>)> {
        let (earlier, _) = self.candidate()?;
        let of_pods = self.troubles().into_iter().filter_map(|(id, trouble)| Some((id, trouble.obstacle?)));
        // What was missing for a moment, while a release was applied, is not what ends a container.
        let waits = self.troubles().iter().any(|(_, trouble)| waits_for_objects(trouble.failure));
        let made = self.current()?.data.created_at;
        let now = |seen: Option<Time>| made.zip(seen).is_some_and(|(made, seen)| seen >= made);
        let of_events = self.events.iter().filter(|event| waits && now(event.data.last_seen));
        let of_events = of_events.filter_map(|event| Some((event.id, event.data.obstacle.as_ref()?)));
        let missing = of_pods.chain(of_events).filter_map(|(id, obstacle)| Some((id, obstacle.missing.as_ref()?)));
        let all: Vec<_> = missing.filter(|(_, missing)| needs(&earlier.data.references, missing)).collect();
        let (_, first) = all.first()?;
        Some((*first, all.iter().filter(|(_, missing)| missing == first).map(|(id, _)| *id).collect()))
    }

    /// Pods that run the revision of this number.
    pub fn pods_of(&self, number: i64) -> impl Iterator<Item = &Seen<'a, PodFact>> {
        self.pods.iter().filter(move |pod| pod.data.revision == Some(number))
    }

    /// Whether the alert began before the current revision was created, so that its rollout cannot be the cause.
    pub fn alert_began_before(&self, created: Time) -> bool {
        self.alert_started_at.is_some_and(|began| seconds(began, created) > SKEW_SECONDS)
    }

    /// The revision to return to, with the fact that says how it differs.
    pub fn candidate(&self) -> Option<(&Seen<'a, RevisionFact>, &Seen<'a, RevisionDiffFact>)> {
        let current = self.current()?.data.number;
        let differing = self.revisions.iter().filter(|revision| !revision.data.current).filter_map(|revision| {
            let diff = self.diffs.iter().find(|d| d.data.from == revision.data.number && d.data.to == current)?;
            (!diff.data.changes.is_empty()).then_some((revision, diff))
        });
        undo_choice(differing, |(revision, _)| revision.data.ready)
    }

    /// ConfigMaps that the failing template names and that changed after its revision was created, or are gone while
    /// the template did not begin to name them. None where no data could make pods fail so.
    pub fn changed_configs(&self) -> Vec<&Seen<'a, ConfigFact>> {
        if !self.troubles().iter().any(|(_, trouble)| configuration_can_cause(trouble.failure)) {
            return vec![];
        }
        let made = self.current().and_then(|current| current.data.created_at);
        let introduced = |name: &str| {
            let map = Reference { kind: ReferenceKind::ConfigMap, name: name.to_owned(), key: None };
            self.candidate().is_some_and(|(earlier, _)| !needs(&earlier.data.references, &map))
        };
        self.configs
            .iter()
            .filter(|config| match (config.data.exists, config.data.changed_at, made) {
                (true, Some(changed), Some(made)) => changed > made,
                (true, ..) => false,
                (false, ..) => !introduced(&config.object.name),
            })
            .collect()
    }

    /// Whether the current template worked before. That the rollout counts as complete proves nothing: a container
    /// without a readiness probe is available in the instant before it crashes. What counts is time.
    pub fn worked(&self) -> Option<Worked> {
        let current = self.current()?;
        let because = |id: &str, because: String| Some(Worked { cites: cite([id, current.id]), because });
        for pod in self.pods_of(current.data.number) {
            let name = &pod.object.name;
            let why = match proof(pod.data, pod.at) {
                Some(Proof::Ready(since)) => format!("pod {name} of the same revision is ready since {since} s"),
                Some(Proof::Ran(ran)) => {
                    format!("container {} of pod {name} ran {ran} s before it ended", pod.data.container)
                }
                Some(Proof::WasReady(after)) => format!("pod {name} was ready until {after} s after it was created"),
                None => continue,
            };
            return because(pod.id, why);
        }
        let created = current.data.created_at?;
        let age = seconds(created, self.alert_started_at?);
        let failing = self.failing_current();
        let of_its_rollout =
            |pod: &&Seen<PodFact>| pod.data.created_at.is_some_and(|at| seconds(created, at) <= ROLLOUT_SECONDS);
        let rollout_never_ended = failing.iter().all(|pod| never_ready(pod.data))
            && (failing.iter().any(of_its_rollout) || self.refused().is_some());
        if age > LONG_BEFORE_SECONDS && !rollout_never_ended {
            let number = current.data.number;
            return because(
                current.id,
                format!("revision {number} was created {} min before the alert began", age / 60),
            );
        }
        None
    }

    /// One claim per way of failing, and one that ties the pods to the current revision.
    pub fn failure_claims(&self) -> Vec<Claim> {
        let failing = self.troubles();
        let mut failures: Vec<PodFailure> = failing.iter().map(|(_, trouble)| trouble.failure).collect();
        failures.sort();
        failures.dedup();
        let mut claims: Vec<Claim> = failures
            .into_iter()
            .map(|failure| {
                let ids: Vec<&str> =
                    failing.iter().filter(|(_, it)| it.failure == failure).map(|(id, _)| *id).collect();
                let count = match (failure, ids.len()) {
                    (PodFailure::Refused, _) => "pods are missing".to_owned(),
                    (_, 1) => "1 pod fails".to_owned(),
                    (_, count) => format!("{count} pods fail"),
                };
                let text = format!("{count}: {}", words(failure));
                Claim { failure: Some(failure), ..claim(ClaimKind::PodsFailing, 0, cite(ids), &text) }
            })
            .collect();
        if let Some(current) = self.current().filter(|_| !failing.is_empty()) {
            let number = current.data.number;
            let cites = cite([current.id].into_iter().chain(failing.iter().map(|(id, _)| *id)));
            let text = format!("the failing pods run revision {number}");
            claims.push(claim(ClaimKind::FailingPodsRunRevision, number, cites, &text));
        }
        claims
    }

    /// How the pods fail, in words: that of most of them.
    pub fn failure(&self) -> PodFailure {
        let failing = self.troubles();
        let count = |failure: PodFailure| failing.iter().filter(|(_, trouble)| trouble.failure == failure).count();
        failing.iter().map(|(_, trouble)| trouble.failure).max_by_key(|failure| count(*failure)).unwrap_or_default()
    }

    /// What is said to be in the way of most of the pods, quoted; empty when nothing is said.
    pub fn said(&self) -> String {
        let failure = self.failure();
        let by = match failure {
            PodFailure::Unschedulable => "the scheduler says",
            PodFailure::Refused => "the API server says",
            _ => "the kubelet says",
        };
        let first = self.troubles().into_iter().filter(|(_, trouble)| trouble.failure == failure);
        let mut said = first.filter_map(|(_, trouble)| trouble.obstacle).map(|it| it.message.as_str());
        let said = said.find(|said| !said.is_empty());
        said.map(|said| format!("; {by} {}", quoted(said, QUOTED_MESSAGE))).unwrap_or_default()
    }

    /// `Kind namespace/name` of the target.
    pub fn name(&self) -> String {
        self.target.map_or_else(|| "the alert's object".to_owned(), ToString::to_string)
    }

    /// `-n namespace` and `kind/name` for a kubectl command.
    pub fn kubectl(&self) -> (String, String) {
        let target = self.target.cloned().unwrap_or_default();
        (format!("-n {}", target.namespace), format!("{}/{}", target.kind.to_lowercase(), target.name))
    }

    /// Kind of the target, if it is one that records revisions.
    pub fn kind(&self) -> Option<Kind> {
        Kind::of(self.target?)
    }
}

/// Seconds from one time to a later one; negative when it is earlier.
pub fn seconds(from: Time, to: Time) -> i64 {
    to.as_second() - from.as_second()
}

/// A failure in words.
pub fn words(failure: PodFailure) -> &'static str {
    match failure {
        PodFailure::None => "nothing fails",
        PodFailure::CrashLoop => "a container exits again and again",
        PodFailure::OutOfMemory => "a container is killed for using more memory than its limit",
        PodFailure::ImagePull => "an image cannot be pulled",
        PodFailure::ConfigError => "a container cannot be created from its configuration",
        PodFailure::StartError => "a container cannot be started",
        PodFailure::ProbeFailing => "a container runs and its readiness probe fails",
        PodFailure::LivenessFailing => "a liveness or startup probe ends a container again and again",
        PodFailure::InitNotEnding => "an init container does not end",
        PodFailure::StuckCreating => "a node cannot prepare the pod",
        PodFailure::NeverReady => "a pod is not ready within the progress deadline",
        PodFailure::Unschedulable => "no node takes the pod",
        PodFailure::Refused => "its pods are refused when they are created",
        PodFailure::Starting => "a container is still starting",
    }
}
