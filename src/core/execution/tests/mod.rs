//! The step function against the model of an API server: each boundary crashed, each answer lost, for each kind of
//! target and each purpose.

mod conform;
mod crashes;
mod defects;
mod evictions;
mod labels;
mod own_reading;
mod refusals;
mod writes;

use serde_json::json;

use super::{Memory, Next, Observation, Response, Verb, model::Model, on_response, step};
use crate::{
    api::v1alpha1::{FieldWrite, RemediationPhase, RemediationSpec, Time, Write},
    core::workload::Kind,
};

type Step = fn(&mut Memory, &Observation, Time) -> Next;

/// What may go wrong at a request.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    None,
    /// The process dies before it is sent.
    CrashBefore,
    /// The process dies before it hears the answer.
    CrashAfter,
    /// The request never arrives; the answer is a timeout.
    LostRequest,
    /// The answer is lost.
    LostAnswer,
    /// Somebody else writes the object just before.
    Conflict,
    /// The API server answers with an error, and nothing is written.
    Error,
}

const FAULTS: [Fault; 6] =
    [Fault::CrashBefore, Fault::CrashAfter, Fault::LostRequest, Fault::LostAnswer, Fault::Conflict, Fault::Error];

struct Run {
    verbs: Vec<Verb>,
    ended: bool,
}

/// Drives one Remediation until nothing is left to do, with faults at the given requests.
fn drive(
    model: &mut Model,
    step: Step,
    mut fault: impl FnMut(usize, Verb) -> Fault,
    hook: impl Fn(&mut Model, &[Verb]),
) -> Run {
    let mut memory = Memory::default();
    let mut carried = None;
    let mut look = false;
    let mut verbs = Vec::new();
    for _ in 0..2000 {
        model.control();
        hook(model, &verbs);
        let seen = carried.take().unwrap_or_else(|| model.observe(look));
        look = false;
        match step(&mut memory, &seen, model.now) {
            Next::Nothing => return Run { verbs, ended: true },
            Next::Look => {
                assert!(seen.evidence.is_none(), "it asks for evidence that it has");
                look = true;
            }
            Next::Wait(_, pause) => {
                model.now += jiff::SignedDuration::try_from(pause).unwrap();
            }
            Next::Send(request) => {
                let at = verbs.len();
                verbs.push(request.verb);
                let outcome = match fault(at, request.verb) {
                    Fault::None => model.send(&request),
                    Fault::CrashBefore => {
                        memory = Memory::default();
                        continue;
                    }
                    Fault::CrashAfter => {
                        model.send(&request);
                        memory = Memory::default();
                        continue;
                    }
                    Fault::LostRequest => Response::Unknown("timeout".into()),
                    Fault::Error => Response::Unknown("500 InternalError: etcdserver: request timed out".into()),
                    Fault::LostAnswer => {
                        model.send(&request);
                        Response::Unknown("reset".into())
                    }
                    Fault::Conflict => {
                        model.touch();
                        model.send(&request)
                    }
                };
                on_response(&mut memory, &seen, &request, &outcome, model.now);
                carried = seen.carried(&request, &outcome);
            }
        }
    }
    Run { verbs, ended: false }
}

fn run(model: &mut Model) -> Vec<Verb> {
    let run = drive(model, step, |_, _| Fault::None, |_, _| {});
    assert!(run.ended, "it did not end: {:?}", run.verbs);
    run.verbs
}

/// As [`run`], with something that happens once, right after the first request of this kind.
fn run_with(model: &mut Model, after: Verb, event: fn(&mut Model)) -> Vec<Verb> {
    let happened = std::cell::Cell::new(false);
    let run = drive(
        model,
        step,
        |_, _| Fault::None,
        |model, verbs| {
            if verbs.contains(&after) && !happened.replace(true) {
                event(model);
            }
        },
    );
    assert!(run.ended, "it did not end: {:?}", run.verbs);
    run.verbs
}

/// Every case in which something is written: a repair and an undo of each kind and of another action, a restart of each
/// kind, and an eviction.
fn every_write() -> Vec<Model> {
    let mut all = Vec::new();
    for kind in Kind::ALL {
        all.push(Model::new(kind));
        all.push(Model::to_undo(kind));
        all.push(Model::restart(kind));
    }
    all.push(Model::planted());
    all.push(Model::planted_to_undo());
    all.push(Model::stuck_pod());
    all
}

/// Those that write a value that a revision recorded.
fn every_recorded_change() -> Vec<Model> {
    every_change().into_iter().filter(|model| model.remediation.spec.provenance.is_some()).collect()
}

/// Whether a request of this kind is ever sent when all goes well.
fn asks(model: &Model, verb: Verb) -> bool {
    run(&mut model.clone()).contains(&verb)
}

/// Those that change a field.
fn every_change() -> Vec<Model> {
    every_write().into_iter().filter(|model| model.remediation.spec.write.field().is_some()).collect()
}

fn field(write: &mut Write) -> &mut FieldWrite {
    let Write::Field(field) = write else { panic!("no field is written") };
    field
}

/// What it is about, for messages.
fn about(model: &Model) -> String {
    let RemediationSpec { purpose, action, .. } = &model.remediation.spec;
    format!("{purpose:?} by {} of a {}", action.kind(), model.kind)
}

/// Exactly the granted write happened, once.
fn wrote_once(model: &Model) -> bool {
    match &model.remediation.spec.write {
        Write::Field(field) => {
            model.evictions.is_empty()
                && model.spec_changes.len() == 1
                && json!({ "spec": model.spec_changes[0] }).pointer(&field.path) == Some(&field.after)
        }
        Write::Evict(write) => model.spec_changes.is_empty() && model.evictions == [write.pod.uid.clone()],
    }
}

/// It is reported as written, or as perhaps written: of an eviction that a process before this one sent, nobody knows for
/// sure.
fn says_written(model: &Model) -> bool {
    let evicts = model.remediation.spec.write.field().is_none();
    model.phase() == RemediationPhase::Fired || (evicts && model.phase() == RemediationPhase::Unproven)
}

fn wrote_nothing(model: &Model) -> bool {
    model.spec_changes.is_empty() && model.evictions.is_empty()
}

fn assert_fired_once(model: &Model) {
    let (reason, message) = (model.reason(), model.message());
    assert!(says_written(model), "{}: {:?} {reason} {message}", about(model), model.phase());
    assert!(wrote_once(model), "{}", about(model));
    assert!(model.is_clean());
}

fn assert_aborted(model: &Model, reason: &str) {
    let about = format!("{}: {}", about(model), model.message());
    assert_eq!((model.phase(), model.reason().as_str()), (RemediationPhase::Aborted, reason), "{about}");
    assert!(wrote_nothing(model), "something was written: {about}");
    assert!(model.is_clean(), "labels were left behind: {about}");
}
