//! The model of the admission policies gives the verdicts of `conformance`, as the API server does on the lab.

use super::*;
use crate::api::v1alpha1::ActionKind;
use crate::core::execution::conformance::{self, Expected, State};

/// A model of this action in this state.
fn in_state(of: ActionKind, kind: Kind, state: State) -> Model {
    let mut model = if of == ActionKind::RolloutRestart { Model::restart(kind) } else { Model::new(kind) };
    model.open_for(state);
    for index in 0..conformance::ladder(&model.live(), state).len() {
        let request = conformance::ladder(&model.live(), state).swap_remove(index);
        assert!(matches!(model.send(&request), Response::Done(_)), "{state:?}: {request:?}");
    }
    model
}

#[test]
fn the_model_of_the_policies_gives_the_verdict_of_every_case() {
    let mut refused = 0;
    for (of, kind) in conformance::ACTIONS.into_iter().flat_map(|of| Kind::ALL.map(|kind| (of, kind))) {
        for state in State::ALL {
            if state == State::EvictionGranted && kind != Kind::StatefulSet {
                continue;
            }
            let mut model = in_state(of, kind, state);
            let cases = conformance::cases(&model.live(), state);
            assert!(!cases.is_empty());
            for case in cases {
                assert!(case.request.dry_run, "{}", case.name);
                let before = (model.target.clone(), model.revisions.clone(), model.pod.clone());
                let outcome = model.send(&case.request);
                let said = format!("{of} of a {kind}, {state:?}, {}: {outcome:?}", case.name);
                match (&case.expected, &outcome) {
                    (Expected::Accepted, Response::Done(_)) => {}
                    (Expected::RefusedBy(any), Response::Refused { policy: Some(policy), .. }) => {
                        assert!(any.contains(&policy.as_str()), "{said}");
                        refused += 1;
                    }
                    _ => panic!("{said}"),
                }
                assert_eq!((model.target.clone(), model.revisions.clone(), model.pod.clone()), before);
            }
        }
    }
    assert!(refused >= 110, "only {refused} refusals");
}

#[test]
fn a_policy_that_is_missing_changes_verdicts() {
    for kind in Kind::ALL {
        let names = Model::new(kind).policies;
        for missing in names {
            let mut found = false;
            for state in [State::Free, State::Granted, State::Armed] {
                let mut model = in_state(ActionKind::RolloutUndo, kind, state);
                model.policies.retain(|policy| *policy != missing);
                for case in conformance::cases(&model.live(), state) {
                    found |=
                        case.expected != Expected::Accepted && matches!(model.send(&case.request), Response::Done(_));
                }
            }
            assert!(found, "{kind}: no case notices that {missing} is missing");
        }
    }
}
