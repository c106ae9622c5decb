//! Facts put in order for the rules, and what several rules ask of them.

use crate::api::v1alpha1::{
    Claim, ClaimKind, ConfigFact, EventFact, Fact, FactData, ObjectRef, PodFact, PodFailure, RevisionDiffFact,
    RevisionFact, SourceName, Time, WorkloadFact,
};
use crate::core::workload::{Kind, STABLE_SECONDS, undo_choice};

use super::{cite, claim};

/// A revision whose rollout began this long before the alert had time to prove itself.
pub const LONG_BEFORE_SECONDS: i64 = 3600;
/// Pods created this long after their revision belong to its rollout.
const ROLLOUT_SECONDS: i64 = 600;
/// Clocks of senders and of the cluster differ, and times are whole seconds.
pub const SKEW_SECONDS: i64 = 120;
/// A condition that never changed since the pod was created may still be this much younger than the pod.
const FIRST_SECONDS: i64 = 10;

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
            alert_started_at,
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
    /// the template did not begin to name them.
    pub fn changed_configs(&self) -> Vec<&Seen<'a, ConfigFact>> {
        let made = self.current().and_then(|current| current.data.created_at);
        let introduced = |name: &str| {
            let quoted = format!("\"{name}\"");
            self.candidate().is_some_and(|(_, diff)| {
                diff.data.changes.iter().any(|change| change.after == name || change.after.contains(&quoted))
            })
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
            let PodFact { failure, ready, ready_since, created_at, restarts, ran_seconds, container, .. } = pod.data;
            let name = &pod.object.name;
            let since = ready_since.map_or(0, |since| seconds(since, pod.at));
            if *failure == PodFailure::None && *ready && since >= STABLE_SECONDS && settled(pod) {
                return because(pod.id, format!("pod {name} of the same revision is ready since {since} s"));
            }
            if !failure.is_hard() || never_ready(pod) {
                continue;
            }
            if let Some(ran) = ran_seconds.filter(|ran| *ran >= STABLE_SECONDS) {
                return because(pod.id, format!("container {container} of pod {name} ran {ran} s before it ended"));
            }
            if let (PodFailure::ProbeFailing, 0, false, Some(since), Some(created)) =
                (failure, restarts, ready, ready_since, created_at)
                && seconds(*created, *since) >= STABLE_SECONDS
            {
                let after = seconds(*created, *since);
                return because(pod.id, format!("pod {name} was ready until {after} s after it was created"));
            }
        }
        let created = current.data.created_at?;
        let age = seconds(created, self.alert_started_at?);
        let failing = self.failing_current();
        let of_its_rollout =
            |pod: &&Seen<PodFact>| pod.data.created_at.is_some_and(|at| seconds(created, at) <= ROLLOUT_SECONDS);
        let rollout_never_ended = failing.iter().all(|pod| never_ready(pod)) && failing.iter().any(of_its_rollout);
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
        let failing = self.failing_current();
        let mut failures: Vec<PodFailure> = failing.iter().map(|pod| pod.data.failure).collect();
        failures.sort();
        failures.dedup();
        let mut claims: Vec<Claim> = failures
            .into_iter()
            .map(|failure| {
                let pods: Vec<_> = failing.iter().filter(|pod| pod.data.failure == failure).collect();
                let count =
                    if pods.len() == 1 { "1 pod fails".to_owned() } else { format!("{} pods fail", pods.len()) };
                let text = format!("{count}: {}", words(failure));
                let cites = cite(pods.iter().map(|pod| pod.id));
                Claim { failure: Some(failure), ..claim(ClaimKind::PodsFailing, 0, cites, &text) }
            })
            .collect();
        if let Some(current) = self.current().filter(|_| !failing.is_empty()) {
            let number = current.data.number;
            let cites = cite([current.id].into_iter().chain(failing.iter().map(|pod| pod.id)));
            let text = format!("the failing pods run revision {number}");
            claims.push(claim(ClaimKind::FailingPodsRunRevision, number, cites, &text));
        }
        claims
    }

    /// How the pods fail, in words: that of most of them.
    pub fn failure(&self) -> PodFailure {
        let failing = self.failing_current();
        let count = |failure: PodFailure| failing.iter().filter(|pod| pod.data.failure == failure).count();
        failing.iter().map(|pod| pod.data.failure).max_by_key(|failure| count(*failure)).unwrap_or_default()
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

/// A pod that was never Ready: the condition did not change since the pod was created.
pub fn never_ready(pod: &Seen<PodFact>) -> bool {
    match (pod.data.ready, pod.data.ready_since, pod.data.created_at) {
        (false, Some(since), Some(created)) => seconds(created, since) <= FIRST_SECONDS,
        _ => false,
    }
}

/// No restart of late.
fn settled(pod: &Seen<PodFact>) -> bool {
    pod.data.last_terminated_at.is_none_or(|ended| seconds(ended, pod.at) >= STABLE_SECONDS)
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
        PodFailure::ProbeFailing => "a container runs and its readiness probe fails",
        PodFailure::Unschedulable => "no node takes the pod",
        PodFailure::Starting => "a container is still starting",
    }
}
