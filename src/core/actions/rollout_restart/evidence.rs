//! The hard evidence that a restart needs: each check looks at one reading of the workload, and nothing else.

use serde_json::Value;

use crate::api::v1alpha1::{ReferenceKind, Time, WorkloadFact};
use crate::core::actions::rollout;
use crate::core::gate::check::{Check, EvidenceCheck};
use crate::core::gate::observed::Observed;
use crate::core::gate::outcome::{Outcome, not_asked, pass, refuse, unknown};
use crate::core::object::array;
use crate::core::reason::Reason;
use crate::core::redact::quoted;
use crate::core::workload::{ByAge, Strategy, is_looked_up, named};

/// Characters of a sentence of the API server that are quoted.
const QUOTED: usize = 240;

/// The evidence, in order.
pub const CHECKS: &[EvidenceCheck] = &[
    rollout::AUTOMATIC,
    rollout::NOT_PAUSED,
    rollout::CURRENT_RECORDED,
    rollout::FAILING_RUN_CURRENT,
    Check {
        name: "RolloutComplete",
        says: "Every pod that a rollout replaces runs the current template; a rollout that is under way is not begun anew.",
        run: rollout_complete,
    },
    Check {
        name: "ProcessesHang",
        says: "What fails goes on and does not work; for what ends, or never starts, new processes were tried already.",
        run: |observed| told(observed, Reason::RestartCuresNothing, |age| age.hang()),
    },
    Check {
        name: "SeveralPodsFail",
        says: "Several pods fail; what one pod alone has is cured by replacing that pod.",
        run: |observed| told(observed, Reason::RestartCuresNothing, |age| age.several()),
    },
    Check {
        name: "NewerPodsWork",
        says: "A pod of the same template that was started after every one that fails works, for long enough to mean something.",
        run: newer_pods_work,
    },
    Check {
        name: "AgeTellsApart",
        says: "No pod works that is as old as those that fail: age makes the difference, and a restart changes nothing else.",
        run: |observed| told(observed, Reason::RestartCuresNothing, |age| age.divided()),
    },
    Check {
        name: "NotOneNode",
        says: "Those that fail run on several nodes, or one that works runs beside them; what one node has is that node's.",
        run: |observed| if_newer(observed, |age| age.not_a_node()),
    },
    Check {
        name: "NewProcessesLast",
        says: "A newer pod has worked for longer than those that fail did, or these did for a day; what wears out is a person's.",
        run: |observed| if_newer(observed, |age| age.lasts()),
    },
    Check {
        name: "NoVolumesOfTheirOwn",
        says: "No pod has a volume of its own: that one works with its data shows nothing about another with other data.",
        run: no_volumes_of_their_own,
    },
    Check {
        name: "ServesMeanwhile",
        says: "The update strategy does not end the pods that work before new ones do.",
        run: serves_meanwhile,
    },
    Check {
        name: "NewPodsLetIn",
        says: "The API server refuses no pod of the current template, as quota and pod security would.",
        run: new_pods_let_in,
    },
    Check {
        name: "PodSecurityAsItWas",
        says: "What the namespace enforces of pod security is as it was when the newest pod that works was let in.",
        run: pod_security_as_it_was,
    },
];

/// What only the controller can ask, which sees the metadata of ConfigMaps.
pub const LOOKED_UP: &[EvidenceCheck] = &[Check {
    name: "ConfigurationProven",
    says: "Every ConfigMap that the template names is as it was when the newest pod that works was started.",
    run: configuration_proven,
}];

/// What the ages of the pods tell, where any fails.
fn told(observed: &Observed<'_>, reason: Reason, ask: impl FnOnce(&ByAge<'_>) -> Result<String, String>) -> Outcome {
    let Some(age) = observed.workload.by_age() else { return not_asked("no pod of the current template fails") };
    match ask(&age) {
        Ok(message) => pass(message),
        Err(message) => refuse(reason, message),
    }
}

/// The same, where a newer pod works: what it would be compared with.
fn if_newer(observed: &Observed<'_>, ask: impl FnOnce(&ByAge<'_>) -> Result<String, String>) -> Outcome {
    match observed.workload.by_age() {
        Some(age) if age.newer.is_empty() => not_asked("no newer pod works"),
        _ => told(observed, Reason::RestartCuresNothing, ask),
    }
}

fn rollout_complete(observed: &Observed<'_>) -> Outcome {
    let WorkloadFact { desired, updated, held_back, .. } = observed.workload.state;
    if observed.workload.status_is_behind() {
        return unknown(Reason::RolloutUnderWay, "its controller has not seen its current generation yet").wait();
    }
    let replaced = desired.saturating_sub(held_back);
    if updated >= replaced {
        pass(format!("{updated} replicas run the current template"))
    } else {
        refuse(Reason::RolloutUnderWay, format!("{updated} of {replaced} replicas run the current template")).wait()
    }
}

fn newer_pods_work(observed: &Observed<'_>) -> Outcome {
    let outcome = told(observed, Reason::RestartUnproven, |age| age.newer_work());
    let may_come = outcome.refuses() && observed.workload.by_age().is_some_and(|age| age.may_come());
    if may_come { outcome.wait() } else { outcome }
}

fn no_volumes_of_their_own(observed: &Observed<'_>) -> Outcome {
    match array(&observed.workload.spec, "/volumeClaimTemplates").len() {
        0 => pass("its pods have no volumes of their own"),
        count => refuse(
            Reason::RestartUnproven,
            format!("each of its pods has {count} volumes of its own: those that fail may fail for what is in them"),
        ),
    }
}

fn serves_meanwhile(observed: &Observed<'_>) -> Outcome {
    let workload = observed.workload;
    let working = workload.pods.iter().filter(|pod| pod.fact.ready).count();
    let desired = i64::from(workload.state.desired);
    let ends_all = |what: &str| {
        refuse(Reason::BlastRadius, format!("{what} lets every pod end at once, the {working} that work included"))
    };
    match workload.strategy {
        _ if working == 0 => pass("no pod works that it could end"),
        Strategy::Recreate => ends_all("its strategy Recreate"),
        Strategy::RollingUpdate { .. }
            if may_be_away(&workload.spec).is_some_and(|away| away.of(desired) >= desired) =>
        {
            ends_all("maxUnavailable of its update strategy")
        }
        Strategy::RollingUpdate { .. } | Strategy::OnDelete => {
            pass(format!("the {working} pods that work go one by one"))
        }
    }
}

/// A number of pods, or a share of them in percent.
enum Share {
    Pods(i64),
    Percent(i64),
}

impl Share {
    fn of(&self, desired: i64) -> i64 {
        match self {
            Share::Pods(pods) => *pods,
            // Rounded up: DaemonSets do, and more is the worse case.
            Share::Percent(percent) => desired.saturating_mul(*percent).saturating_add(99) / 100,
        }
    }
}

/// `maxUnavailable` of the update strategy, where it is set to a number or a percentage.
fn may_be_away(spec: &Value) -> Option<Share> {
    let value = ["/strategy", "/updateStrategy"]
        .iter()
        .find_map(|strategy| spec.pointer(&format!("{strategy}/rollingUpdate/maxUnavailable")))?;
    match value {
        Value::String(text) => text.strip_suffix('%')?.parse().ok().map(Share::Percent),
        other => other.as_i64().map(Share::Pods),
    }
}

fn new_pods_let_in(observed: &Observed<'_>) -> Outcome {
    match observed.workload.refused() {
        None => pass("no pod of the current template is refused"),
        Some((_, obstacle)) if obstacle.message.is_empty() => {
            refuse(Reason::NewPodsRefused, "pods are missing that should be there: new ones are not made")
        }
        Some((_, obstacle)) => {
            let said = quoted(&obstacle.message, QUOTED);
            refuse(Reason::NewPodsRefused, format!("the API server refuses new pods: it says {said}"))
        }
    }
}

fn pod_security_as_it_was(observed: &Observed<'_>) -> Outcome {
    let Some(let_in) = observed.workload.by_age().and_then(|age| age.newest_working()) else {
        return not_asked("no newer pod works");
    };
    match observed.workload.pod_security_at {
        None => pass("the namespace enforces nothing"),
        Some(changed) if changed < let_in => pass(format!("it has been so since {changed}")),
        Some(changed) if changed == Time::MAX => {
            unknown(Reason::RestartUnproven, "since when the namespace enforces it is not known")
        }
        Some(changed) => refuse(
            Reason::RestartUnproven,
            format!(
                "labels of the namespace about pod security were written at {changed}, after the newest pod that works was \
                 let in at {let_in}: nothing shows that new ones would be"
            ),
        ),
    }
}

fn configuration_proven(observed: &Observed<'_>) -> Outcome {
    let workload = observed.workload;
    let Some(proven) = workload.by_age().and_then(|age| age.newest_working()) else {
        return not_asked("no newer pod works");
    };
    let presence = observed.presence.unwrap_or_default();
    let maps = named(&workload.template, ReferenceKind::ConfigMap);
    let maps = maps.iter().map(|(name, optional)| (ReferenceKind::ConfigMap, name.as_str(), *optional));
    let needed = workload.current().map(|current| current.fact.references.as_slice()).unwrap_or_default();
    let others = needed.iter().filter(|it| it.kind != ReferenceKind::ConfigMap && is_looked_up(it.kind));
    let others = others.map(|it| (it.kind, it.name.as_str(), false));
    let mut looked_at = 0;
    for (kind, name, optional) in maps.chain(others) {
        let found = presence.iter().find(|found| found.kind == kind && found.name == name);
        let what = format!("{} {name}", kind.as_str());
        looked_at += 1;
        match (found.and_then(|found| found.exists), found.and_then(|found| found.changed_at)) {
            (Some(false), _) if optional => {}
            (Some(false), _) => {
                return refuse(Reason::ReferenceMissing, format!("new pods need {what}, which does not exist"));
            }
            (None, _) => {
                return unknown(
                    Reason::ReferenceMissing,
                    format!("whether {what} exists, which new pods need, is not known"),
                );
            }
            (Some(true), _) if kind != ReferenceKind::ConfigMap => {}
            (Some(true), Some(changed)) if changed >= proven => {
                return refuse(
                    Reason::RestartUnproven,
                    format!(
                        "{what} changed at {changed}, and the newest pod that works was created at {proven}: nothing \
                         shows that its present version works"
                    ),
                );
            }
            (Some(true), Some(_)) => {}
            (Some(true), None) => {
                return unknown(Reason::RestartUnproven, format!("when {what} changed is not known"));
            }
        }
    }
    pass(format!("{looked_at} objects that new pods need are as they were for the newest pod that works"))
}
