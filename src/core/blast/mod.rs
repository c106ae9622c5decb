//! How far a write reaches, as a pure function of what was read: pods, Services that lose endpoints, disruption budgets,
//! and the share of all workloads that were written to of late. What cannot be read is for the caller to say; nothing here
//! guesses.

mod reach;
#[cfg(test)]
mod tests;

pub use reach::Reach;

use std::collections::BTreeSet;

use serde_json::Value;

use crate::api::v1alpha1::{FieldWrite, Write};

use super::actions::prediction::Prediction;
use super::workload::{Kind, Pod, Strategy, Workload};

/// How far a write reaches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Blast {
    /// Pods that it replaces, ends or adds.
    pub pods: usize,
    /// Pods that serve now and that it may end before others serve in their place, at one time.
    pub at_once: usize,
    /// What each Service that has such pods may lose, by name.
    pub services: Vec<Loss>,
    /// Disruptions that the tightest matching disruption budget allows now; `None` where there is no such budget.
    pub headroom: Option<i64>,
    /// Services and disruption budgets whose selectors choose its pods, as `Kind/name`.
    pub dependents: Vec<String>,
    /// Workloads of the namespace that were written to within the hour, this one included.
    pub of_namespace: Share,
    /// The same of all enrolled namespaces.
    pub of_cluster: Share,
}

/// What a Service may lose at one time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// Its name.
    pub service: String,
    /// Endpoints that serve now.
    pub ready: usize,
    /// Those of them that the write may end at one time.
    pub lost: usize,
}

impl Loss {
    /// The share that is lost, rounded up.
    pub fn percent(&self) -> usize {
        percent(self.lost, self.ready)
    }
}

/// So many of all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Share {
    /// Written to.
    pub touched: usize,
    /// Of so many.
    pub of: usize,
}

impl Share {
    /// In percent, rounded up.
    pub fn percent(self) -> usize {
        percent(self.touched, self.of)
    }
}

/// Workloads that were written to within the hour, without the target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Touched {
    /// In its namespace.
    pub of_namespace: usize,
    /// In the cluster.
    pub of_cluster: usize,
}

impl Blast {
    /// How far the predicted write to `workload` reaches.
    pub fn of(workload: &Workload, prediction: &Prediction, reach: &Reach, touched: Touched) -> Blast {
        let ended = Ended::of(workload, prediction);
        let labels = reach::labels_of_pods(workload);
        let services = reach.services_of(&labels, workload);
        let budgets: Vec<_> = reach.budgets_of(&labels).collect();
        let failing: BTreeSet<&str> = reach::uids(workload.pods.iter().filter(|pod| !serves(pod))).collect();
        let ends: BTreeSet<&str> = ended.pods.iter().copied().collect();
        let losses = services.iter().map(|service| {
            let serving = reach.serving(service, &failing);
            let ours = serving.iter().filter(|pod| pod.is_some_and(|uid| ends.contains(uid))).count();
            Loss { service: (*service).to_owned(), ready: serving.len(), lost: ours.min(ended.at_once) }
        });
        let dependents = services.iter().map(|service| format!("Service/{service}"));
        let share = |others: usize, of: usize| Share { touched: others + 1, of: of.max(others + 1) };
        Blast {
            pods: pods(workload, &prediction.write),
            at_once: ended.at_once,
            services: losses.collect(),
            headroom: budgets.iter().map(|(_, allowed)| *allowed).min(),
            dependents: dependents
                .chain(budgets.iter().map(|(name, _)| format!("PodDisruptionBudget/{name}")))
                .collect(),
            of_namespace: share(touched.of_namespace, reach.workloads),
            of_cluster: share(touched.of_cluster, reach.workloads_of_cluster),
        }
    }

    /// The Service that would be left without an endpoint.
    pub fn to_zero(&self) -> Option<&Loss> {
        self.services.iter().find(|loss| loss.ready > 0 && loss.lost >= loss.ready)
    }

    /// The Service that loses the largest share.
    pub fn worst(&self) -> Option<&Loss> {
        self.services.iter().max_by_key(|loss| loss.percent())
    }
}

/// Pods that serve, and that a write ends.
struct Ended<'a> {
    /// Their UIDs: all that it ends sooner or later.
    pods: Vec<&'a str>,
    /// So many of them at one time, before others serve.
    at_once: usize,
}

impl<'a> Ended<'a> {
    fn of(workload: &'a Workload, prediction: &Prediction) -> Ended<'a> {
        let serving = || workload.pods.iter().filter(|pod| serves(pod));
        let uids = |pods: Vec<&'a Pod>| pods.into_iter().map(|pod| pod.object.uid.as_str()).collect::<Vec<_>>();
        match &prediction.write {
            Write::Evict(evict) => {
                let pods = uids(serving().filter(|pod| pod.object.uid == evict.pod.uid).collect());
                Ended { at_once: pods.len(), pods }
            }
            Write::Field(field) if is_of_template(field) => {
                let keeps = prediction.provenance.as_ref().and_then(|to| {
                    let revision = workload.revisions.iter().find(|revision| revision.object.uid == to.uid)?;
                    Some(revision.fact.number)
                });
                let replaced =
                    |pod: &&Pod| workload.is_replaced(pod) && (keeps.is_none() || pod.fact.revision != keeps);
                let pods = uids(serving().filter(replaced).collect());
                Ended { at_once: at_once(workload, serving().count()).min(pods.len()), pods }
            }
            Write::Field(field) if is_of_replicas(field) => {
                let pods = uids(serving().collect());
                Ended { at_once: removed(field).min(pods.len()), pods }
            }
            // Nothing is ended by a pause, by a limit of an autoscaler, by what is suspended.
            Write::Field(_) => Ended { pods: vec![], at_once: 0 },
        }
    }
}

/// Pods that a rollout of this workload may end at one time, of so many that serve.
fn at_once(workload: &Workload, serving: usize) -> usize {
    let desired = usize::try_from(workload.state.desired).unwrap_or_default();
    match workload.strategy {
        Strategy::OnDelete => 0,
        Strategy::Recreate => serving,
        Strategy::RollingUpdate { .. } => match workload.kind {
            // Its controller keeps so many available.
            Kind::Deployment => {
                let at = |path, default| amount(workload.spec.pointer(path), desired, false).unwrap_or(default);
                let quarter = desired / 4;
                let unavailable = at("/strategy/rollingUpdate/maxUnavailable", quarter);
                let surge = at("/strategy/rollingUpdate/maxSurge", desired.div_ceil(4));
                // Where both are rounded to 0, one may be unavailable.
                let unavailable = if unavailable == 0 && surge == 0 { 1 } else { unavailable };
                serving.saturating_sub(desired.saturating_sub(unavailable))
            }
            Kind::StatefulSet => {
                amount(workload.spec.pointer("/updateStrategy/rollingUpdate/maxUnavailable"), desired, true)
                    .unwrap_or(1)
                    .max(1)
            }
            Kind::DaemonSet => {
                let of = |path| amount(workload.spec.pointer(path), desired, true);
                let surge = of("/updateStrategy/rollingUpdate/maxSurge").unwrap_or(0);
                match of("/updateStrategy/rollingUpdate/maxUnavailable") {
                    Some(unavailable) => unavailable,
                    None if surge > 0 => 0,
                    None => 1,
                }
            }
        },
    }
}

/// A number of pods, or a share of so many in percent.
fn amount(value: Option<&Value>, of: usize, round_up: bool) -> Option<usize> {
    match value? {
        Value::Number(number) => usize::try_from(number.as_u64()?).ok(),
        Value::String(text) => {
            let percent: usize = text.strip_suffix('%')?.parse().ok()?;
            let part = of.saturating_mul(percent);
            Some(if round_up { part.div_ceil(100) } else { part / 100 })
        }
        _ => None,
    }
}

/// Pods that a write replaces, ends or adds.
fn pods(workload: &Workload, write: &Write) -> usize {
    match write {
        Write::Evict(_) => 1,
        Write::Field(field) if is_of_replicas(field) => {
            let (before, after) = (field.before.as_i64(), field.after.as_i64());
            let change = before.zip(after).map(|(before, after)| before.abs_diff(after));
            change.and_then(|change| usize::try_from(change).ok()).unwrap_or(usize::MAX)
        }
        Write::Field(field) if is_of_template(field) => {
            let desired = usize::try_from(workload.state.desired).unwrap_or_default();
            desired.max(workload.pods.len())
        }
        // What touches no pod now.
        Write::Field(_) => 0,
    }
}

fn is_of_template(field: &FieldWrite) -> bool {
    field.path == "/spec/template" || field.path.starts_with("/spec/template/")
}

fn is_of_replicas(field: &FieldWrite) -> bool {
    field.path == "/spec/replicas"
}

fn removed(field: &FieldWrite) -> usize {
    let (before, after) = (field.before.as_i64().unwrap_or_default(), field.after.as_i64().unwrap_or_default());
    usize::try_from(before - after).unwrap_or_default()
}

/// A pod that is ready and does not fail: one that crashes again and again is ready for a moment after each start.
fn serves(pod: &Pod) -> bool {
    pod.fact.ready && !pod.fact.failure.is_hard()
}

fn percent(part: usize, of: usize) -> usize {
    if of == 0 { 0 } else { (part * 100).div_ceil(of) }
}
