//! Remediations that are not what they say, objects that changed, policies that refuse, lag or are missing.

use super::*;
use crate::{
    api::v1alpha1::{Action, ActionKind, EvictWrite, Planted, Purpose, RolloutRestart, RolloutUndo, Undo},
    core::{
        actions::identity,
        execution::{Probe, conformance, model, model::Admission},
        names,
    },
};

/// Changes the spec, and lets digest and id follow, as a thief would who can compute them.
fn forged(model: &mut Model, change: fn(&mut Model)) {
    change(model);
    let spec = &mut model.remediation.spec;
    (spec.digest, spec.action_id) = identity::identity(spec);
}

#[test]
fn a_digest_that_does_not_fit_is_refused_before_the_claim() {
    for model in every_write() {
        for change in [
            (|model: &mut Model| model.remediation.spec.digest = "0".repeat(64)) as fn(&mut Model),
            |model| model.remediation.spec.action_id = "0".repeat(32),
            |model| model.remediation.spec.target.uid = "uid-cart-2".into(),
            |model| model.remediation.spec.incident = "another".into(),
            |model| match &mut model.remediation.spec.write {
                Write::Field(field) => field.after = model::template("evil"),
                Write::Evict(write) => write.pod.uid = "another".into(),
            },
        ] {
            let mut model = model.clone();
            change(&mut model);
            assert_eq!(run(&mut model), [Verb::Abort]);
            assert_aborted(&model, "DigestMismatch");
        }
    }
}

#[test]
fn what_no_definition_allows_is_refused_unread_whatever_its_digest() {
    let common: [fn(&mut Model); 7] = [
        |model| model.remediation.spec.target.name = "../secrets/x".into(),
        |model| model.remediation.spec.target.kind = "Job".into(),
        |model| model.remediation.spec.target.kind = "ReplicaSet".into(),
        |model| model.remediation.spec.target.api_version = "apps/v2".into(),
        |model| model.remediation.spec.target.namespace = "kube-system".into(),
        |model| model.remediation.spec.target.uid = String::new(),
        |model| model.remediation.spec.action = Action::RolloutUndo(RolloutUndo { to_revision: 0 }),
    ];
    let of_a_change: [fn(&mut Model); 4] = [
        |model| field(&mut model.remediation.spec.write).path = "/spec".into(),
        |model| field(&mut model.remediation.spec.write).path = "/spec/minReadySeconds".into(),
        |model| model.remediation.spec.purpose = Purpose::ReplacePod,
        |model| model.remediation.spec.write = Write::Evict(EvictWrite { pod: conformance_pod() }),
    ];
    let of_a_number: [fn(&mut Model); 4] = [
        |model| field(&mut model.remediation.spec.write).path = "/spec/template".into(),
        |model| model.remediation.spec.target.kind = "StatefulSet".into(),
        |model| model.remediation.spec.action = Action::Planted(Planted { replicas: 4 }),
        |model| {
            let named = Model::new(model.kind).remediation.spec.provenance;
            model.remediation.spec.provenance = named;
        },
    ];
    let of_a_restart: [fn(&mut Model); 4] = [
        |model| field(&mut model.remediation.spec.write).path = "/spec/replicas".into(),
        |model| {
            let restarted_at = Time::from_millisecond(-300_001).unwrap();
            model.remediation.spec.action = Action::RolloutRestart(RolloutRestart { restarted_at });
        },
        |model| model.remediation.spec.provenance = Model::new(model.kind).remediation.spec.provenance,
        // The way back that it says it has, as whoever forges it would write it.
        |model| {
            let spec = &mut model.remediation.spec;
            spec.follows = Some(spec.action_id.clone());
            spec.undo = Some(Undo { action: spec.action.clone(), provenance: None });
            let written = field(&mut spec.write);
            std::mem::swap(&mut written.before, &mut written.after);
            spec.purpose = Purpose::Undo;
        },
    ];
    let of_a_recorded_value: [fn(&mut Model); 6] = [
        |model| field(&mut model.remediation.spec.write).path = "/spec/replicas".into(),
        |model| model.remediation.spec.provenance = None,
        |model| {
            // The kind of revision of another kind of target.
            let kind = if model.kind == Kind::Deployment { "ControllerRevision" } else { "ReplicaSet" };
            model.remediation.spec.provenance.as_mut().unwrap().kind = kind.into();
        },
        |model| model.remediation.spec.provenance.as_mut().unwrap().name = "a/b".into(),
        |model| model.remediation.spec.provenance.as_mut().unwrap().uid = String::new(),
        |model| model.remediation.spec.provenance.as_mut().unwrap().namespace = "other".into(),
    ];
    let of_an_eviction: [fn(&mut Model); 8] = [
        |model| pod(model).name = "../cart-0".into(),
        |model| pod(model).namespace = "other".into(),
        |model| pod(model).uid = String::new(),
        |model| pod(model).kind = "Node".into(),
        |model| model.remediation.spec.follows = None,
        |model| model.remediation.spec.purpose = Purpose::Repair,
        |model| model.remediation.spec.purpose = Purpose::Undo,
        |model| model.remediation.spec.target.kind = "Deployment".into(),
    ];
    for model in every_write() {
        let spec = &model.remediation.spec;
        let own = match (spec.write.field().is_some(), spec.provenance.is_some()) {
            (false, _) => of_an_eviction.to_vec(),
            (true, true) => [&of_a_change[..], &of_a_recorded_value].concat(),
            (true, false) if spec.action.kind() == ActionKind::RolloutRestart => {
                [&of_a_change[..], &of_a_restart].concat()
            }
            (true, false) => [&of_a_change[..], &of_a_number].concat(),
        };
        for (index, change) in common.iter().chain(&own).enumerate() {
            let mut model = model.clone();
            forged(&mut model, *change);
            assert_eq!(run(&mut model), [Verb::Abort], "{}: change {index}", about(&model));
            assert_aborted(&model, "Unsupported");
        }
    }
}

fn pod(model: &mut Model) -> &mut crate::api::v1alpha1::ObjectRef {
    let Write::Evict(write) = &mut model.remediation.spec.write else { panic!("no pod is evicted") };
    &mut write.pod
}

fn conformance_pod() -> crate::api::v1alpha1::ObjectRef {
    crate::core::object::object_ref(&conformance::pod("uid-pod", "cart:2"), "v1", "Pod")
}

#[test]
fn a_repair_follows_nothing_and_what_takes_back_follows_something() {
    for kind in Kind::ALL {
        let mut model = Model::new(kind);
        forged(&mut model, |model| model.remediation.spec.follows = Some("f".repeat(32)));
        run(&mut model);
        assert_aborted(&model, "Unsupported");
        let mut model = Model::to_undo(kind);
        forged(&mut model, |model| model.remediation.spec.follows = None);
        run(&mut model);
        assert_aborted(&model, "Unsupported");
    }
}

#[test]
fn an_undo_that_is_not_the_exact_reverse_of_what_it_follows_is_refused() {
    let changes: [fn(&mut Model); 5] = [
        |model| field(&mut model.remediation.spec.write).after = model::template("cart:0"),
        |model| field(&mut model.remediation.spec.write).before = model::template("cart:0"),
        |model| model.remediation.spec.follows = Some("f".repeat(32)),
        |model| model.remediation.spec.undo = None,
        |model| model.remediation.spec.undo.as_mut().unwrap().provenance = None,
    ];
    for kind in Kind::ALL {
        for change in changes {
            let mut model = Model::to_undo(kind);
            forged(&mut model, change);
            assert_eq!(run(&mut model), [Verb::Abort]);
            assert_aborted(&model, "DigestMismatch");
        }
    }
}

#[test]
fn an_object_that_somebody_else_changed_is_left_alone() {
    for model in every_change() {
        for after in [Verb::Claim, Verb::MarkRevision, Verb::Arm, Verb::DryRunRight] {
            let mut model = model.clone();
            if !asks(&model, after) {
                continue;
            }
            run_with(&mut model, after, Model::change_field);
            assert_aborted(&model, "TargetChanged");
        }
    }
}

#[test]
fn an_object_that_was_deleted_or_recreated_is_left_alone() {
    for model in every_write() {
        for after in [Verb::Claim, Verb::MarkRevision, Verb::Arm, Verb::DryRunRight] {
            if !asks(&model, after) {
                continue;
            }
            let mut gone = model.clone();
            run_with(&mut gone, after, |model| model.target = None);
            assert_aborted(&gone, "TargetGone");
            let mut recreated = model.clone();
            run_with(&mut recreated, after, |model| {
                model.touch();
                let version = model.version.to_string();
                let mut new = conformance::target(model.kind, "uid-new", "cart:2");
                new["metadata"]["resourceVersion"] = version.into();
                model.target = Some(new);
            });
            assert_aborted(&recreated, "TargetGone");
        }
    }
}

#[test]
fn an_object_with_finalizers_is_not_armed() {
    for mut model in every_change() {
        model.target.as_mut().unwrap()["metadata"]["finalizers"] = serde_json::json!(["example.com/x"]);
        run(&mut model);
        assert_aborted(&model, "TargetHasFinalizers");
    }
}

#[test]
fn the_kill_switch_stops_it_at_any_step_before_the_write() {
    for model in every_write() {
        let verbs = run(&mut model.clone());
        let fire = verbs.iter().position(|verb| *verb == Verb::Fire).unwrap();
        for after in &verbs[..fire] {
            let mut model = model.clone();
            run_with(&mut model, *after, |model| model.mode = "observe");
            assert_aborted(&model, "ModeForbids");
        }
    }
}

#[test]
fn a_policy_that_is_missing_is_noticed_before_the_write() {
    for model in every_change() {
        let needed = |policy: &&str| !policy.contains("provenance") || model.remediation.spec.provenance.is_some();
        for missing in model.policies.clone().into_iter().filter(needed) {
            let mut model = model.clone();
            model.policies.retain(|policy| *policy != missing);
            let verbs = run(&mut model);
            assert_aborted(&model, "PolicyMissing");
            assert!(!verbs.contains(&Verb::Arm), "{missing}");
            assert!(model.message().contains(missing), "{}", model.message());
        }
    }
}

#[test]
fn policies_that_vanish_while_armed_are_noticed_before_the_write() {
    for mut model in every_change() {
        run_with(&mut model, Verb::Arm, |model| model.policies.clear());
        assert_aborted(&model, "PolicyMissing");
    }
}

#[test]
fn policies_that_lag_are_waited_for_and_are_no_refusal() {
    for model in every_write() {
        for lag in 1..5 {
            let mut model = model.clone();
            model.lag = lag;
            run(&mut model);
            assert_fired_once(&model);
        }
    }
}

#[test]
fn an_api_server_that_just_started_is_waited_for() {
    for model in every_write() {
        let evicts = model.remediation.spec.purpose == Purpose::ReplacePod;
        for after in [Verb::Claim, Verb::MarkRevision, Verb::Arm, Verb::DryRunRight] {
            let mut settling = model.clone();
            run_with(&mut settling, after, |model| {
                model.settled_at = model.now + jiff::SignedDuration::from_secs(10);
            });
            assert_fired_once(&settling);
            let mut starting = model.clone();
            run_with(&mut starting, after, |model| {
                model.rights_at = model.now + jiff::SignedDuration::from_secs(9);
            });
            assert_fired_once(&starting);
            if evicts {
                break;
            }
        }
    }
}

#[test]
fn an_api_server_that_is_away_longer_than_the_grant_is_valid_leads_to_a_new_claim() {
    for mut model in every_change() {
        model.grant_seconds = 20;
        run_with(&mut model, Verb::Arm, |model| model.settled_at = model.now + jiff::SignedDuration::from_secs(25));
        assert_fired_once(&model);
        assert_eq!(model.remediation.status.as_ref().unwrap().epoch, 2);
    }
}

#[test]
fn rights_that_stay_missing_end_it_with_the_answer_of_the_api_server() {
    for mut model in every_change() {
        run_with(&mut model, Verb::Claim, |model| model.missing_right = true);
        assert_aborted(&model, "Refused");
        assert!(model.message().contains("cannot patch"));
    }
}

#[test]
fn a_provenance_policy_that_never_sees_the_mark_is_named_with_its_cure() {
    for mut model in every_recorded_change() {
        // The Grant is seen, marks are not.
        let run = drive(
            &mut model,
            step,
            |_, _| Fault::None,
            |model, verbs| {
                let last = verbs.last();
                let blind = last == Some(&Verb::DryRunWrong(Probe::Provenance))
                    || last == Some(&Verb::DryRunWrong(Probe::Grant));
                model.lag = if blind { usize::MAX / 2 } else { 0 };
            },
        );
        assert!(run.ended);
        assert_aborted(&model, "RefusedByPolicy");
        assert!(model.message().contains("Restart the API server"), "{}", model.message());
    }
}

#[test]
fn what_others_admission_refuses_is_called_that_and_names_who_refused() {
    for model in every_write() {
        let others = [
            (Admission::Denies(403), "v.example.com"),
            (Admission::Denies(400), "v.example.com"),
            (Admission::Denies(404), "v.example.com"),
            (Admission::Denies(409), "v.example.com"),
            (Admission::Denies(429), "v.example.com"),
            (Admission::Denies(500), "v.example.com"),
            (Admission::TakesNoDryRun, "dry run"),
            (Admission::OtherPolicy, "require-team"),
        ];
        for (admission, named) in others {
            let mut model = model.clone();
            model.admission = admission;
            run(&mut model);
            assert_eq!(model.reason(), "RefusedByAdmission", "{admission:?}: {}", model.message());
            assert!(wrote_nothing(&model), "{admission:?}");
            assert!(model.message().contains(named), "{admission:?}: {}", model.message());
        }
    }
}

#[test]
fn a_webhook_that_is_away_is_waited_for_half_a_minute() {
    for model in every_write() {
        let away = |seconds| {
            let mut model = model.clone();
            model.admission = Admission::AwayUntil(model.now + jiff::SignedDuration::from_secs(seconds));
            run(&mut model);
            model
        };
        assert_fired_once(&away(10));
        let for_good = away(100_000);
        assert_eq!(for_good.reason(), "RefusedByAdmission", "{}", for_good.message());
        assert!(wrote_nothing(&for_good));
    }
}

/// What reaches the policies is not what was sent, and that is what the reason says: no policy is at fault.
#[test]
fn a_webhook_that_changes_the_write_is_named_as_that_and_not_as_a_fault_of_ours() {
    let changes = |model: &Model, admission| {
        let mut model = model.clone();
        model.admission = admission;
        run(&mut model);
        assert_eq!(model.reason(), "DryRunDiffers", "{admission:?}: {}", model.message());
        assert!(wrote_nothing(&model));
        assert!(model.message().contains("mutating webhook"), "{}", model.message());
    };
    for model in every_change() {
        changes(&model, Admission::Labels);
    }
    for kind in Kind::ALL {
        changes(&Model::new(kind), Admission::Pins);
    }
}

#[test]
fn nothing_is_claimed_while_the_executor_is_not_ready_and_it_ends_with_the_cause() {
    for mut model in every_write() {
        model.not_ready = "policy backstop-static is missing".into();
        assert_eq!(run(&mut model), [Verb::Abort]);
        assert_aborted(&model, "NotReady");
        assert!(model.message().contains("backstop-static"));
    }
}

#[test]
fn a_label_that_somebody_copied_is_no_claim_of_ours() {
    for mut model in every_change() {
        let target = model.target.as_mut().unwrap();
        target["metadata"]["labels"] = serde_json::json!({names::ARMED: "rollout-undo"});
        let run = drive(&mut model, step, |_, _| Fault::None, |_, _| {});
        assert!(!run.verbs.contains(&Verb::Fire));
        assert!(wrote_nothing(&model));
    }
}
