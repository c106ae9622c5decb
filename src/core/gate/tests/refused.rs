//! Pods that are refused when they are made, on each kind of workload: from what status and Events say to the decision
//! of controller and executor. A ReplicaSet has a condition for it, a StatefulSet and a DaemonSet have none.

use serde_json::{Value, json};

use super::super::*;
use super::following::repair_of;
use super::rollouts::{Told, image, release, told};
use crate::api::v1alpha1::{Cause, PodFailure, Verdict};
use crate::core::workload::fixtures::*;
use crate::core::workload::{Kind, RawWorkload, Refusals, Workload};

type Change = fn(&mut Value);

fn network(template: &mut Value) {
    template["spec"]["hostNetwork"] = json!(true);
}

fn memory(template: &mut Value) {
    template["spec"]["containers"][0]["resources"]["limits"]["memory"] = json!("256Mi");
}

const SECURITY: &str = r#"create Pod checkout-1 in StatefulSet checkout failed error: pods "checkout-1" is forbidden: violates PodSecurity "baseline:latest": host namespaces (hostNetwork=true)"#;
const RANGE: &str = r#"Error creating: pods "checkout-2-" is forbidden: maximum memory usage per Container is 128Mi, but limit is 256Mi"#;
const QUOTA: &str = r#"Error creating: pods "checkout-2-" is forbidden: exceeded quota: q, requested: limits.memory=256Mi, used: limits.memory=128Mi, limited: limits.memory=256Mi"#;
const WEBHOOK: &str = r#"Error creating: admission webhook "v.example.com" denied the request: image must be signed"#;
const POLICY: &str = r#"Error creating: pods "checkout-2-" is forbidden: ValidatingAdmissionPolicy 'signed' with binding 'signed' denied request: image must be signed"#;
const PODS: &str =
    r#"Error creating: pods "c" is forbidden: exceeded quota: q, requested: pods=1, used: pods=2, limited: pods=2"#;
const AWAY: &str = r#"Error creating: Internal error occurred: failed calling webhook "v.example.com": failed to call webhook: Post "https://v.p.svc:443/": connect: connection refused"#;

/// Two are wanted, the old ones serve, and a pod of the release is refused with these words.
fn refused(kind: Kind, change: Change, message: &str) -> Told {
    let serving = if kind == Kind::Deployment { 2 } else { 1 };
    let world = release(change).of(kind).pods(1, serving, &ready(3600));
    told(WorkloadFixture { refused: Some(message.into()), ..world })
}

#[test]
fn a_release_whose_pods_are_refused_is_taken_back_whatever_the_kind() {
    for kind in Kind::ALL {
        for (what, change, message) in [
            ("pod security", network as Change, SECURITY),
            ("a LimitRange", memory, RANGE),
            ("a quota of memory", memory, QUOTA),
            ("a webhook", image, WEBHOOK),
            ("a policy of somebody else", image, POLICY),
        ] {
            let told = refused(kind, change, message);
            let (world, diagnosis) = told.gate();
            let decision = world.judge().decision;
            let failed: Vec<_> = decision.checks.iter().filter(|it| it.verdict != Verdict::Passed).collect();
            assert_eq!(decision.outcome, DecisionOutcome::Act, "{kind}, {what}: {failed:#?}");
            assert_eq!(diagnosis.cause, Cause::BadRollout, "{kind}, {what}");
            assert!(diagnosis.claims.iter().any(|claim| claim.failure == Some(PodFailure::Refused)), "{kind}, {what}");
            assert!(diagnosis.hypothesis.contains("the API server says (quoted: «"), "{}", diagnosis.hypothesis);

            // The executor reads no Events: that pods are missing has to be enough for it, and is not more than that.
            let spec = repair_of(&world);
            let raw = RawWorkload { refusals: Refusals::Unread, ..told.world.snapshot() };
            let own = own_evidence(&spec, &Workload::of(&raw).unwrap(), None, false, Override::No);
            assert_eq!(own.refusal, None, "{kind}, {what}");
        }
    }
}

#[test]
fn pods_that_are_refused_for_another_reason_than_the_release_are_a_persons() {
    for kind in Kind::ALL {
        for (what, change, message) in [
            ("the room for pods is used up", image as Change, PODS),
            ("a webhook does not answer", image, AWAY),
            ("what is refused was there before", image, RANGE),
        ] {
            let (world, diagnosis) = refused(kind, change, message).gate();
            let decision = world.judge().decision;
            assert_eq!(decision.outcome, DecisionOutcome::Escalate, "{kind}, {what}");
            assert_eq!(decision.reason, "FailureUnexplained", "{kind}, {what}");
            assert_eq!(diagnosis.proposal, None, "{kind}, {what}");
        }
    }
}

/// Without the words nobody knows why, and the controller does not guess.
#[test]
fn pods_that_are_missing_and_of_which_nobody_says_why_are_waited_for() {
    for kind in [Kind::StatefulSet, Kind::DaemonSet] {
        let mut told = refused(kind, image, WEBHOOK);
        told.world.refused = None;
        let decision = told.gate().0.judge().decision;
        assert_eq!((decision.outcome, decision.reason.as_str()), (DecisionOutcome::Wait, "ReplicasNotReady"), "{kind}");
    }
}
