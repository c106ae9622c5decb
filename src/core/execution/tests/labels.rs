//! Marks and armed labels: what is left behind is found and taken away, for every kind.

use super::*;
use crate::core::{
    execution::{Surroundings, conformance, model, orphans},
    names, object,
    workload::recorded_template,
};

fn around(model: &Model, open: Vec<(String, String)>) -> Surroundings {
    let with_kind = |list: Vec<serde_json::Value>| list.into_iter().map(|object| (model.kind, object)).collect();
    Surroundings {
        armed: with_kind(model.armed()),
        marked: with_kind(model.marked()),
        revisions: with_kind(model.revisions.values().cloned().collect()),
        open,
    }
}

#[test]
fn leftovers_without_an_open_remediation_are_swept_and_others_are_not() {
    for model in every_change() {
        let verbs = run(&mut model.clone());
        let at = |wanted: &[Verb]| verbs.iter().position(|verb| wanted.contains(verb)).unwrap();
        for stop_at in at(&[Verb::MarkRevision, Verb::Arm]) + 1..=at(&[Verb::Fire]) {
            let mut model = model.clone();
            drive(&mut model, step, |n, _| if n >= stop_at { Fault::LostRequest } else { Fault::None }, |_, _| {});
            assert!(!model.armed().is_empty() || !model.marked().is_empty());
            let spec = &model.remediation.spec;
            let open = vec![(spec.action_id.clone(), spec.target.uid.clone())];
            assert_eq!(orphans(&around(&model, open)), None);
            let mut verbs = Vec::new();
            while let Some(request) = orphans(&around(&model, Vec::new())) {
                verbs.push(request.verb);
                assert!(matches!(model.send(&request), Response::Done(_)), "{verbs:?}");
            }
            assert!(model.is_clean(), "{verbs:?}");
            assert!(wrote_nothing(&model));
        }
    }
}

#[test]
fn an_armed_object_whose_mark_is_gone_gets_one_of_its_own_revisions_marked_for_the_disarm() {
    for mut model in every_recorded_change() {
        drive(&mut model, step, |n, _| if n >= 6 { Fault::LostRequest } else { Fault::None }, |_, _| {});
        assert!(!model.armed().is_empty());
        for revision in model.revisions.values_mut() {
            revision["metadata"]["labels"].as_object_mut().unwrap().remove(names::UNDO_TO);
        }
        let foreign = model::revision_of_another(model.kind);
        model.revisions.insert("another-1".into(), foreign);
        let mut verbs = Vec::new();
        while let Some(request) = orphans(&around(&model, Vec::new())) {
            assert_ne!(request.name, "another-1");
            verbs.push(request.verb);
            assert!(matches!(model.send(&request), Response::Done(_)), "{verbs:?}");
        }
        assert_eq!(verbs, [Verb::MarkRevision, Verb::Disarm, Verb::UnmarkRevision]);
    }
}

#[test]
fn a_mark_of_the_other_kind_of_revision_does_not_help_to_disarm() {
    let mut deployment = Model::new(Kind::Deployment);
    drive(&mut deployment, step, |n, _| if n >= 6 { Fault::LostRequest } else { Fault::None }, |_, _| {});
    let mut seen = around(&deployment, Vec::new());
    seen.marked.iter_mut().for_each(|(kind, _)| *kind = Kind::DaemonSet);
    assert_eq!(orphans(&seen).unwrap().verb, Verb::MarkRevision);
}

#[test]
fn a_revision_that_vanishes_while_armed_is_replaced_for_the_disarm() {
    for kind in Kind::ALL {
        let mut model = Model::new(kind);
        let verbs = run_with(&mut model, Verb::Arm, |model| {
            model.revisions.remove("cart-1");
        });
        assert_aborted(&model, "RevisionGone");
        let tail = &verbs[verbs.iter().position(|verb| *verb == Verb::Arm).unwrap() + 1..];
        assert!(tail.ends_with(&[Verb::MarkRevision, Verb::Disarm, Verb::UnmarkRevision, Verb::Abort]), "{tail:?}");
    }
}

#[test]
fn a_revision_whose_template_changed_is_not_gone_back_to() {
    for kind in Kind::ALL {
        let mut model = Model::new(kind);
        run_with(&mut model, Verb::MarkRevision, |model| {
            let kind = model.kind;
            let revision = model.revisions.get_mut("cart-1").unwrap();
            let evil = conformance::revision(kind, "cart-1", "uid-cart", 1, "evil:1");
            for part in ["spec", "data"] {
                if let Some(value) = evil.get(part) {
                    revision[part] = value.clone();
                }
            }
        });
        assert_aborted(&model, "RevisionGone");
    }
}

#[test]
fn a_stale_mark_is_taken_off_before_ours_is_made() {
    for kind in Kind::ALL {
        let mut model = Model::new(kind);
        let stale = model.revisions.get_mut("cart-2").unwrap();
        stale["metadata"]["labels"][names::UNDO_TO] = "true".into();
        let verbs = run(&mut model);
        assert_eq!(verbs[1..3], [Verb::UnmarkRevision, Verb::MarkRevision]);
        assert_fired_once(&model);
    }
}

#[test]
fn the_recorded_template_is_that_of_the_target_without_what_its_controller_added() {
    for kind in Kind::ALL {
        let revision = conformance::revision(kind, "cart-1", "uid-cart", 1, "cart:1");
        let template = recorded_template(kind, &revision).unwrap();
        assert_eq!(template, model::template("cart:1"));
        assert_eq!(object::controller_uid(&revision), Some("uid-cart"));
    }
}
