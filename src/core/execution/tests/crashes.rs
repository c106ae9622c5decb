//! Crashes and lost messages at every request, pairs of them, and whatever chance makes of it.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::core::execution::MAX_TRIES;

#[test]
fn a_fault_at_any_request_still_writes_exactly_once() {
    for model in every_write() {
        for fault in FAULTS {
            for at in 0..16 {
                let mut model = model.clone();
                let run = drive(&mut model, step, |n, _| if n == at { fault } else { Fault::None }, |_, _| {});
                assert!(run.ended, "{}: {fault:?} at {at}: {:?}", about(&model), run.verbs);
                assert_fired_once(&model);
            }
        }
    }
}

/// Of each kind a repair, one by another action, and an eviction.
fn one_of_each() -> Vec<Model> {
    Kind::ALL.map(Model::new).into_iter().chain([Model::planted(), Model::stuck_pod()]).collect()
}

#[test]
fn a_crash_and_another_fault_in_either_order_still_write_exactly_once() {
    let crash = Fault::CrashAfter;
    for model in one_of_each() {
        for first in 0..12 {
            for second in first + 1..16 {
                let pairs = FAULTS.into_iter().map(|other| (crash, other));
                let reversed = [(Fault::LostAnswer, crash), (Fault::Conflict, crash)];
                for (one, other) in pairs.chain(reversed) {
                    let mut model = model.clone();
                    let fault = |n, _| match n {
                        n if n == first => one,
                        n if n == second => other,
                        _ => Fault::None,
                    };
                    let run = drive(&mut model, step, fault, |_, _| {});
                    let said = format!("{}: {one:?} at {first}, {other:?} at {second}", about(&model));
                    assert!(run.ended && wrote_once(&model), "{said}: {:?} {}", run.verbs, model.reason());
                    assert_fired_once(&model);
                }
            }
        }
    }
}

#[test]
fn an_object_that_changes_all_the_time_gets_five_tries_of_a_write() {
    for model in every_change() {
        let mut busy_model = model.clone();
        let busy = |_, verb| if verb == Verb::Fire { Fault::Conflict } else { Fault::None };
        let run = drive(&mut busy_model, step, busy, |_, _| {});
        assert!(run.ended);
        assert_eq!(run.verbs.iter().filter(|verb| **verb == Verb::Fire).count(), usize::from(MAX_TRIES));
        assert_aborted(&busy_model, "TooManyConflicts");

        let mut model = model;
        let fires = std::cell::Cell::new(0);
        let busy = |_, verb| {
            if verb == Verb::Fire {
                fires.set(fires.get() + 1);
                if fires.get() < MAX_TRIES {
                    return Fault::Conflict;
                }
            }
            Fault::None
        };
        drive(&mut model, step, busy, |_, _| {});
        assert_fired_once(&model);
    }
}

#[test]
fn a_label_that_cannot_be_taken_off_ends_the_action_so_that_the_sweep_takes_it() {
    for mut model in every_change() {
        let closed = std::cell::Cell::new(false);
        let refused = |_, verb| if verb == Verb::Disarm { Fault::Conflict } else { Fault::None };
        let run = drive(&mut model, step, refused, |model, verbs| {
            if verbs.contains(&Verb::Arm) && !closed.replace(true) {
                model.close_grant();
            }
        });
        assert!(run.ended, "{:?}", run.verbs);
        assert!(!run.verbs.contains(&Verb::Fire));
        let status = model.remediation.status.clone().unwrap();
        assert_eq!((status.phase, &*status.reason), (RemediationPhase::Aborted, "TooManyConflicts"));
    }
}

fn faults() -> impl Strategy<Value = Vec<Fault>> {
    let fault = prop_oneof![
        6 => Just(Fault::None),
        6 => prop::sample::select(FAULTS.to_vec()),
    ];
    prop::collection::vec(prop_oneof![3 => Just(Fault::None), 1 => fault], 0..60)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn whatever_goes_wrong_it_ends_clean_with_at_most_one_write(
        which in 0usize..9, faults in faults(), lag in 0usize..4,
        events in prop::collection::vec((0usize..40, 0u8..9), 0..4)
    ) {
        let mut model = every_write().swap_remove(which);
        model.lag = lag;
        let kinds: BTreeSet<u8> = events.iter().map(|(_, kind)| *kind).collect();
        let happened = std::cell::RefCell::new(BTreeSet::new());
        let run = drive(
            &mut model,
            step,
            |n, _| faults.get(n).copied().unwrap_or(Fault::None),
            |model, verbs| {
                for (index, (at, kind)) in events.iter().enumerate() {
                    if verbs.len() >= *at && happened.borrow_mut().insert(index) {
                        match kind {
                            0 => model.mode = "observe",
                            1 => model.deploy("cart:3"),
                            2 => { model.revisions.remove("cart-1"); }
                            3 => model.close_grant(),
                            4 => model.touch(),
                            5 => model.healthy = true,
                            6 => model.readable_at = model.now + jiff::SignedDuration::from_secs(30),
                            7 => model.blocked_until = model.now + jiff::SignedDuration::from_secs(20),
                            _ => model.policies.clear(),
                        }
                    }
                }
            },
        );
        prop_assert!(run.ended, "{:?}", run.verbs);
        prop_assert!(wrote_once(&model) || wrote_nothing(&model));
        // What somebody changed after a write that a process before this one made may be unproven too.
        let unproven = model.phase() == RemediationPhase::Unproven;
        prop_assert!(unproven || (model.phase() == RemediationPhase::Fired) == wrote_once(&model));
        prop_assert!(!unproven || kinds.contains(&1) || wrote_once(&model));
        // Marking is a write: with the kill switch on, the sweep cannot replace a revision that vanished.
        let stuck = kinds.contains(&0) && kinds.contains(&2);
        prop_assert!(stuck || model.armed().is_empty());
    }
}
