//! What a workload says about time: how long its pods need, how far a rollout is, how long health has to last before it
//! means something.

use std::collections::BTreeSet;

use jiff::SignedDuration;
use serde_json::Value;

use super::diff::plain;
use super::pods::LONG_RUN_SECONDS;
use super::{Kind, Workload};
use crate::api::v1alpha1::{FieldChange, PodFailure, TargetReading};
use crate::core::names;
use crate::core::object::{array, int};

/// What Kubernetes grants a Deployment that does not say how long its rollout may stand still, in seconds.
const PROGRESS_DEADLINE_SECONDS: i64 = 600;
/// A bound for what objects say about durations: one day, in seconds.
const LONGEST_SECONDS: i64 = 86_400;
/// Annotation in which `kubectl apply` keeps what was last applied.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// Deeper than any pod template.
const MAX_DEPTH: usize = 64;

impl Workload {
    /// Whether its status is about an earlier generation of it. Kubernetes counts a change of a Deployment's annotations as
    /// one.
    pub fn status_is_behind(&self) -> bool {
        self.state.observed_generation < self.state.generation
    }

    /// How long a pod has to be ready before it counts as available.
    pub fn min_ready(&self) -> SignedDuration {
        bounded(int(&self.spec, "/minReadySeconds").unwrap_or_default())
    }

    /// How long the rollout may stand still before Kubernetes calls it failed; only Deployments have that.
    pub fn progress_deadline(&self) -> Option<SignedDuration> {
        let seconds = || int(&self.spec, "/progressDeadlineSeconds").unwrap_or(PROGRESS_DEADLINE_SECONDS);
        (self.kind == Kind::Deployment).then(|| bounded(seconds()))
    }

    /// A container of the template has a readiness probe. Where none has, a pod is ready as soon as it runs.
    pub fn probes_readiness(&self) -> bool {
        array(&self.template, "/spec/containers")
            .iter()
            .any(|it| it.get("readinessProbe").is_some_and(Value::is_object))
    }

    /// The longest run after which a container of this workload is known to have ended. An end after a longer run than
    /// [`LONG_RUN_SECONDS`] is an accident, and does not count.
    pub fn longest_ended_run(&self) -> SignedDuration {
        let runs = self.pods.iter().filter_map(|pod| pod.fact.ran_seconds);
        bounded(runs.filter(|run| *run <= LONG_RUN_SECONDS).max().unwrap_or_default())
    }

    /// How long health has to last before it means something: `floor`, the longest run that ended, and half of it more,
    /// `minReadySeconds`, and ten times `floor` where nothing probes readiness.
    pub fn proving_time(&self, floor: SignedDuration) -> SignedDuration {
        let unprobed = if self.probes_readiness() { floor } else { floor.saturating_mul(10) };
        let ended = self.longest_ended_run();
        unprobed.max(self.min_ready()).max(ended + ended / 2)
    }

    /// SHA-256 of the template, without what controllers and API servers add: 64 hexadecimal characters.
    pub fn template_hash(&self) -> String {
        names::digest(&[&names::canonical(&plain(&self.template, false))])
    }

    /// Ready pods of the current revision.
    pub fn serving(&self) -> i32 {
        let Some(current) = self.current() else { return 0 };
        let ready = self.pods_of_revision(current.fact.number).filter(|pod| pod.fact.ready).count();
        i32::try_from(ready).unwrap_or(i32::MAX)
    }

    /// How far a rollout of the current template is: a number that grows while it advances.
    pub fn rollout_steps(&self) -> i32 {
        let sum =
            i64::from(self.state.updated.max(0)) + i64::from(self.serving()) + i64::from(self.state.available.max(0));
        sum.try_into().unwrap_or(i32::MAX)
    }

    /// Pods of the current template fail, and none of them is still on its way.
    pub fn rollout_is_stuck(&self) -> bool {
        let Some(current) = self.current() else { return false };
        let pods = || self.pods_of_revision(current.fact.number);
        let may_come = |failure| matches!(failure, PodFailure::Starting | PodFailure::Unschedulable);
        pods().any(|pod| pod.fact.failure.is_hard()) && !pods().any(|pod| may_come(pod.fact.failure))
    }

    /// People stopped it: it is scaled to 0, or its rollout is paused.
    pub fn is_stopped(&self) -> bool {
        self.state.desired == 0 || self.state.paused
    }

    /// It is broken by this reading: something fails in a way that a template can cause, or none of the replicas that
    /// were asked for is ready. What people stopped is not.
    pub fn is_broken(&self) -> bool {
        !self.is_stopped() && (self.fails() || self.state.ready == 0) && !self.is_healthy()
    }

    /// What this reading shows, in short.
    pub fn summary(&self) -> TargetReading {
        TargetReading {
            at: self.read_at,
            healthy: self.is_healthy(),
            desired: self.state.desired,
            ready: self.state.ready,
            serving: self.serving(),
            failing: i32::try_from(self.failing_pods().count()).unwrap_or(i32::MAX).max(self.fails().into()),
            template_hash: self.template_hash(),
        }
    }

    /// What the current template changed compared with the revision that a rollback would return to, as a SHA-256: the
    /// same for every workload to which the same change was shipped. Where images changed, these are the change: labels
    /// and hashes of configuration differ from workload to workload. `None` where nothing is known to have changed.
    pub fn change(&self) -> Option<String> {
        let changes = self.diff(self.undo_candidate()?, self.current()?).changes;
        let part = |change: &FieldChange| (field_of(&change.path).to_owned(), change.after.clone());
        let all: BTreeSet<(String, String)> = changes.iter().map(part).collect();
        let images: BTreeSet<(String, String)> = all.iter().filter(|(field, _)| field == "image").cloned().collect();
        let shipped = if images.is_empty() { all } else { images };
        let parts: Vec<&str> = shipped.iter().flat_map(|(field, after)| [field.as_str(), after.as_str()]).collect();
        (!parts.is_empty()).then(|| names::digest(&parts))
    }

    /// What `kubectl apply` believes to have applied does not fit the template any more: the next one would merge a new
    /// manifest with what is there now.
    pub fn last_applied_misfits(&self) -> bool {
        let Some(text) = self.annotations.get(LAST_APPLIED) else { return false };
        let Ok(applied) = serde_json::from_str::<Value>(text) else { return true };
        applied.pointer("/spec/template").is_some_and(|template| !is_part(template, &self.template, 0))
    }
}

/// The path without the name of the container, which differs from workload to workload.
fn field_of(path: &str) -> &str {
    let rest = ["/spec/containers/", "/spec/initContainers/"].iter().find_map(|list| path.strip_prefix(list));
    rest.and_then(|rest| rest.split_once('/')).map_or(path, |(_, field)| field)
}

/// Whether all of `part` is in `whole`; items of lists are matched by name where they have one.
fn is_part(part: &Value, whole: &Value, depth: usize) -> bool {
    if depth > MAX_DEPTH {
        return false;
    }
    match (part, whole) {
        (Value::Null, _) => true,
        (Value::Object(part), Value::Object(whole)) => part.iter().all(|(key, value)| match whole.get(key) {
            Some(other) => is_part(value, other, depth + 1),
            None => value.is_null(),
        }),
        (Value::Array(part), Value::Array(whole)) => {
            let named = |item: &Value| item.get("name").cloned();
            part.len() == whole.len()
                && part.iter().enumerate().all(|(index, item)| {
                    let same = |other: &&Value| named(item).is_some() && named(item) == named(other);
                    let other = whole.iter().find(same).or_else(|| whole.get(index));
                    other.is_some_and(|other| is_part(item, other, depth + 1))
                })
        }
        (part, whole) => part == whole,
    }
}

fn bounded(seconds: i64) -> SignedDuration {
    SignedDuration::from_secs(seconds.clamp(0, LONGEST_SECONDS))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::core::gate::testing::{pod, reading};

    const FLOOR: SignedDuration = SignedDuration::from_secs(30);

    #[test]
    fn health_has_to_last_longer_than_what_crashed_before_and_for_minutes_where_nothing_probes() {
        let probed = |mut workload: Workload| {
            workload.template["spec"]["containers"][0]["readinessProbe"] = json!({"exec": {"command": ["true"]}});
            workload
        };
        assert_eq!(reading().healthy().proving_time(FLOOR), SignedDuration::from_secs(300), "nothing probes readiness");
        let mut workload = probed(reading().healthy());
        assert_eq!(workload.proving_time(FLOOR), FLOOR);
        workload.spec["minReadySeconds"] = json!(90);
        assert_eq!(workload.proving_time(FLOOR), SignedDuration::from_secs(90));
        workload.pods[1].fact.ran_seconds = Some(200);
        assert_eq!(workload.proving_time(FLOOR), SignedDuration::from_secs(300));
        workload.spec["minReadySeconds"] = json!(i64::MAX);
        assert_eq!(workload.proving_time(FLOOR), SignedDuration::from_secs(LONGEST_SECONDS), "bounded");
    }

    #[test]
    fn a_rollout_is_stuck_when_its_own_pods_fail_and_none_may_still_come() {
        let mut workload = reading().crash_looping();
        assert!(workload.rollout_is_stuck(), "the ready pod is of another revision");
        workload.pods.push(pod("api-2-b", 2, PodFailure::Starting));
        assert!(!workload.rollout_is_stuck());
        workload.pods.clear();
        assert!(!workload.rollout_is_stuck(), "no pod says nothing");
    }

    #[test]
    fn the_same_change_of_two_workloads_is_recognised_whatever_their_containers_are_called() {
        let mut other = reading();
        for revision in &mut other.revisions {
            revision.template["spec"]["containers"][0]["name"] = json!("web");
        }
        assert!(reading().change().is_some());
        assert_eq!(reading().change(), other.change());
        other.revisions[0].template["spec"]["containers"][0]["image"] = json!("api:3");
        assert_ne!(reading().change(), other.change());
        other.revisions.truncate(1);
        assert_eq!(other.change(), None);
    }

    #[test]
    fn what_kubectl_believes_to_have_applied_is_compared_with_the_template() {
        let with = |template: &Value| {
            let mut workload = reading();
            let manifest = json!({"kind": "Deployment", "spec": {"template": template}}).to_string();
            workload.annotations.insert(LAST_APPLIED.into(), manifest);
            workload.last_applied_misfits()
        };
        let current = reading().template;
        assert!(!reading().last_applied_misfits(), "nobody used kubectl apply");
        assert!(!with(&current));
        assert!(!with(&json!({"spec": {"containers": [{"name": "app", "image": "api:2"}]}})), "defaults are added");
        assert!(with(&json!({"spec": {"containers": [{"name": "app", "image": "api:3"}]}})));
        let renamed = json!([{"name": "app", "image": "api:2"}, {"name": "helper", "image": "x"}]);
        assert!(with(&json!({"spec": {"containers": renamed}})));
    }
}
