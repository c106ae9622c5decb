//! Defects that this suite has to notice: a suite that misses one proves nothing.

use super::*;
use crate::api::v1alpha1::Purpose;
use crate::core::{
    execution::{Ending, Evidence, Probe, UNBORNE_PAUSE, Wait, conformance, model::template, patch},
    names, object,
};

/// Everything that a right step function does. `Err` names what it did not.
fn right(step: Step) -> Result<(), &'static str> {
    for model in every_write() {
        for at in 0..12 {
            for fault in [Fault::CrashAfter, Fault::LostAnswer] {
                let mut model = model.clone();
                let run = drive(&mut model, step, |n, _| if n == at { fault } else { Fault::None }, |_, _| {});
                if !run.ended || !says_written(&model) {
                    return Err("it does not come to its end");
                }
                if !wrote_once(&model) {
                    return Err("it does not write exactly once");
                }
                if !model.is_clean() {
                    return Err("it leaves labels behind");
                }
            }
        }
        // The policies are off: what is proven here is the step function alone.
        let mut closed = model.clone();
        closed.policies.clear();
        closed.opened = i64::MAX;
        drive(&mut closed, step, |_, _| Fault::None, |_, _| {});
        if closed.reason() != "NoGrant" || !wrote_nothing(&closed) {
            return Err("it writes without a Grant");
        }
        let never = |change: fn(&mut Model)| {
            let mut model = model.clone();
            change(&mut model);
            drive(&mut model, step, |_, _| Fault::None, |_, _| {});
            wrote_nothing(&model)
        };
        if !never(|model| model.healthy = true) {
            return Err("it writes to what is healthy");
        }
        if !never(|model| model.mode = "approve") {
            return Err("it writes without an Approval");
        }
        if !never(|model| model.policies.retain(|policy| *policy != "backstop-grant")) {
            return Err("it writes without a policy");
        }
        if !never(|model| model.blocked_until = model.now + jiff::SignedDuration::from_hours(9)) && !is_change(&model) {
            return Err("it evicts against a budget");
        }
        let mut healed = model.clone();
        drive(
            &mut healed,
            step,
            |_, _| Fault::None,
            |model, verbs| {
                model.healthy |= verbs.contains(&Verb::DryRunRight);
            },
        );
        if !wrote_nothing(&healed) {
            return Err("it writes to what has healed");
        }
        if model.remediation.spec.purpose == Purpose::Repair {
            let mut flapping = model.clone();
            let well_until = std::cell::Cell::new(None::<Time>);
            let armed = std::cell::Cell::new(0);
            drive(
                &mut flapping,
                step,
                |_, _| Fault::None,
                |model, verbs| {
                    if well_until.get().is_none() && verbs.contains(&Verb::DryRunRight) {
                        well_until.set(model.now.checked_add(jiff::SignedDuration::from_secs(8)).ok());
                    }
                    model.healthy = well_until.get().is_some_and(|until| model.now < until);
                    armed.set(armed.get() + u32::from(model.healthy && !model.armed().is_empty()));
                },
            );
            if armed.get() > 4 {
                return Err("it keeps a target armed that looks well");
            }
            if !wrote_once(&flapping) {
                return Err("it gives up what looks well for a moment");
            }
        }
        let mut replaced = model.clone();
        drive(
            &mut replaced,
            step,
            |_, _| Fault::None,
            |model, _| {
                if model.evictions.len() == 1
                    && model.pod.as_ref().is_some_and(|pod| object::meta(pod, "uid") == "uid-pod")
                {
                    model.pod = Some(conformance::pod("uid-new", "cart:2"));
                }
            },
        );
        if replaced.evictions.len() > 1 {
            return Err("it evicts a second pod");
        }
        if !is_change(&model) && replaced.phase() != RemediationPhase::Fired {
            return Err("it does not see that the pod was evicted");
        }
    }
    for kind in Kind::ALL {
        let mut other = Model::new(kind);
        let mut spec = other.remediation.spec.clone();
        field(&mut spec.write).after = template("cart:0");
        other.remediation = conformance::named("rem", &mut spec);
        other.revisions.insert("cart-1".into(), conformance::revision(kind, "cart-1", "uid-cart", 1, "cart:0"));
        let between = conformance::revision(kind, "cart-3", "uid-cart", 3, "cart:1");
        other.revisions.insert("cart-3".into(), between);
        other.bend = |it| {
            it.known_good.extend(it.workload.revisions.iter().filter(|it| !it.fact.current).map(|revision| {
                crate::api::v1alpha1::KnownGood {
                    workload_uid: "uid-cart".into(),
                    revision_uid: revision.object.uid.clone(),
                    template_hash: revision.template_hash.clone(),
                    at: it.workload.read_at,
                }
            }));
        };
        drive(&mut other, step, |_, _| Fault::None, |_, _| {});
        if !wrote_nothing(&other) {
            return Err("it goes back to another revision than the rules");
        }
    }
    Ok(())
}

fn is_change(model: &Model) -> bool {
    model.remediation.spec.write.field().is_some()
}

/// The step, with observation and evidence bent first.
fn bent(memory: &mut Memory, seen: &Observation, now: Time, bend: impl Fn(&mut Evidence)) -> Next {
    let mut seen = seen.clone();
    if let Some(Ok(evidence)) = &mut seen.evidence {
        bend(evidence);
    }
    step(memory, &seen, now)
}

/// As a step function would that looks at its own memory only.
fn forgets_last_action(memory: &mut Memory, seen: &Observation, now: Time) -> Next {
    let mut seen = seen.clone();
    if let Some(target) = &mut seen.target {
        target["metadata"]["annotations"].as_object_mut().unwrap().remove(names::LAST_ACTION);
    }
    step(memory, &seen, now)
}

/// Believes that a claim is a Grant.
fn grants_itself(memory: &mut Memory, seen: &Observation, now: Time) -> Next {
    let mut granted = Model::new(Kind::Deployment);
    granted.remediation = seen.remediation.clone();
    granted.now = now;
    granted.control();
    let mut seen = seen.clone();
    seen.grant = Some(granted.grant);
    step(memory, &seen, now)
}

/// Writes the change together with the label.
fn fires_unarmed(memory: &mut Memory, seen: &Observation, now: Time) -> Next {
    match step(memory, seen, now) {
        Next::Send(mut request) if request.verb == Verb::Arm => {
            request.body = patch::fire(seen.target.as_ref().unwrap(), &seen.remediation.spec);
            Next::Send(request)
        }
        next => next,
    }
}

/// Leaves the mark behind.
fn forgets_the_mark(memory: &mut Memory, seen: &Observation, now: Time) -> Next {
    let mut seen = seen.clone();
    let id = &seen.remediation.spec.action_id;
    if seen.target.as_ref().is_some_and(|target| object::annotation(target, names::LAST_ACTION) == Some(id)) {
        seen.marked.clear();
    }
    step(memory, &seen, now)
}

/// Takes the controller's word for it: every reading shows what would allow the write.
fn skips_the_evidence(memory: &mut Memory, seen: &Observation, now: Time) -> Next {
    let mut seen = seen.clone();
    if seen.evidence.is_some() {
        let mut sick = every_write()
            .into_iter()
            .find(|model| {
                model.kind.as_str() == seen.remediation.spec.target.kind
                    && model.remediation.spec.purpose == seen.remediation.spec.purpose
                    && model.remediation.spec.action.kind() == seen.remediation.spec.action.kind()
            })
            .unwrap();
        sick.now = now;
        seen.evidence = sick.observe(true).evidence;
        let mut memory_of_now = std::mem::take(memory);
        let next = step(&mut memory_of_now, &seen, now);
        *memory = memory_of_now;
        return next;
    }
    step(memory, &seen, now)
}

/// Looks once, and believes it until the write.
fn looks_once(memory: &mut Memory, seen: &Observation, now: Time) -> Next {
    let healthy = |evidence: &mut Evidence| {
        evidence.workload.state.ready = 0;
        for pod in &mut evidence.workload.pods {
            (pod.fact.ready, pod.fact.failure) = (false, crate::api::v1alpha1::PodFailure::CrashLoop);
        }
    };
    let began = memory.passed.right;
    bent(memory, seen, now, |evidence| {
        if began {
            healthy(evidence);
        }
    })
}

/// Ends at the first reading that looks well.
fn gives_up_at_once(memory: &mut Memory, seen: &Observation, now: Time) -> Next {
    let next = step(memory, seen, now);
    match memory.unborne.take() {
        Some(Ending { reason, message }) => {
            memory.end(reason, message);
            step(memory, seen, now)
        }
        None => next,
    }
}

/// Waits for a reading that fails again with the target armed.
fn waits_armed(memory: &mut Memory, seen: &Observation, now: Time) -> Next {
    match step(memory, seen, now) {
        Next::Send(request) if request.verb == Verb::Disarm && memory.unborne.is_some() => {
            Next::Wait(Wait::Evidence, UNBORNE_PAUSE)
        }
        next => next,
    }
}

/// Follows whatever revision the controller named.
fn picks_another_revision(memory: &mut Memory, seen: &Observation, now: Time) -> Next {
    bent(memory, seen, now, |evidence| {
        let named = seen.remediation.spec.provenance.as_ref().map(|it| it.uid.clone()).unwrap_or_default();
        evidence.workload.revisions.retain(|revision| revision.fact.current || revision.object.uid == named);
    })
}

/// Takes mode approve for auto.
fn ignores_the_approval(memory: &mut Memory, seen: &Observation, now: Time) -> Next {
    bent(memory, seen, now, |evidence| evidence.namespace_mode = Some("auto".into()))
}

/// Evicts whatever pod has the name now.
fn evicts_twice(memory: &mut Memory, seen: &Observation, now: Time) -> Next {
    let mut again = seen.clone();
    if let (Write::Evict(write), Some(pod)) = (&mut again.remediation.spec.write, &seen.pod) {
        write.pod.uid = object::meta(pod, "uid").to_owned();
        if write.pod.uid != "uid-pod" {
            // A thief's step would not ask the policies either: it sends what was granted with another UID.
            let mut request = match step(&mut memory.clone(), seen, now) {
                Next::Send(request) => request,
                next => return next,
            };
            request.verb = Verb::Fire;
            request.resource = crate::core::execution::Resource::PodEviction;
            request.dry_run = false;
            request.body = patch::eviction(&write.pod, &seen.remediation.spec);
            request.name = write.pod.name.clone();
            return Next::Send(request);
        }
    }
    step(memory, seen, now)
}

/// Evicts a pod that is ready.
fn evicts_a_healthy_pod(memory: &mut Memory, seen: &Observation, now: Time) -> Next {
    bent(memory, seen, now, |evidence| {
        for pod in &mut evidence.workload.pods {
            if pod.fact.ready && matches!(seen.remediation.spec.write, Write::Evict(_)) {
                (pod.fact.ready, pod.fact.failure) = (false, crate::api::v1alpha1::PodFailure::CrashLoop);
            }
        }
    })
}

/// Trusts that the policies are there.
fn skips_the_wrong_dry_runs(memory: &mut Memory, seen: &Observation, now: Time) -> Next {
    memory.passed.wrong = true;
    memory.passed.unarmed = Probe::unarmed(true).to_vec();
    memory.passed.generation = seen.target.as_ref().map(object::generation).unwrap_or_default();
    step(memory, seen, now)
}

#[test]
fn planted_defects_are_noticed() {
    assert_eq!(right(step), Ok(()));
    let mut noticed = Vec::new();
    for (name, defect) in [
        ("forgets last-action", forgets_last_action as Step),
        ("grants itself", grants_itself),
        ("fires unarmed", fires_unarmed),
        ("forgets the mark", forgets_the_mark),
        ("skips the evidence", skips_the_evidence),
        ("looks once", looks_once),
        ("gives up at once", gives_up_at_once),
        ("waits armed", waits_armed),
        ("picks another revision", picks_another_revision),
        ("ignores the Approval", ignores_the_approval),
        ("evicts twice", evicts_twice),
        ("evicts a healthy pod", evicts_a_healthy_pod),
        ("skips the wrong dry-runs", skips_the_wrong_dry_runs),
    ] {
        match right(defect) {
            Ok(()) => panic!("planted defect not noticed: {name}"),
            Err(how) => noticed.push((name, how)),
        }
    }
    let how = |name| noticed.iter().find(|(found, _)| *found == name).map(|(_, how)| *how);
    assert_eq!(how("ignores the Approval"), Some("it writes without an Approval"));
    assert_eq!(how("skips the evidence"), Some("it writes to what is healthy"));
    assert_eq!(how("evicts a healthy pod"), Some("it writes to what is healthy"));
    assert_eq!(how("looks once"), Some("it writes to what has healed"));
    assert_eq!(how("gives up at once"), Some("it gives up what looks well for a moment"));
    assert_eq!(how("waits armed"), Some("it keeps a target armed that looks well"));
    assert_eq!(how("picks another revision"), Some("it goes back to another revision than the rules"));
}
