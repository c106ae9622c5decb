//! The executor: the product's `execution::step`, and the API server with its admission policies, which is the one that
//! the unit tests of the executor have and that `conformance` holds to the real one.

use backstop::{
    api::v1alpha1::{RemediationPhase, RemediationStatus, Time},
    core::{
        execution::{
            self, Consent, Evidence, Memory, Next, Observation, Request, Resource, Response, Surroundings, Verb, Wait,
            model::Model,
        },
        names, object,
        workload::Kind,
    },
};
use serde_json::{Value, json};

use crate::{
    bugs,
    objects::{self, Clock, OTHER, READ},
    state::{CASES, Health, Label, fresh},
    tables::Id,
    world::World,
};

/// Everything that the executor reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Reading {
    /// Which incident.
    pub case: u8,
    /// The Remediation: spec and status.
    pub rem: (Id, Id),
    /// The Grant.
    pub grant: Id,
    /// The target.
    pub target: Id,
    /// Its revisions.
    pub revisions: [Id; 2],
    /// Another target, if it is armed.
    pub other_target: Id,
    /// Revisions of the other target, those that are marked.
    pub other_revisions: [Id; 2],
    /// What it reads for itself: how the target is, since when, the mode, the Approvals, and at which time.
    pub evidence: Option<(Health, Clock, Label, Id, Clock)>,
}

/// What the executor does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Turn {
    /// Nothing will ever be left to do.
    Nothing,
    /// Wait.
    Wait {
        /// It reads the evidence along, the next time.
        look: bool,
        /// For moments.
        brief: bool,
    },
    /// Read again, with the evidence.
    Look,
    /// Send this.
    Send(Id),
}

/// A request as it meets the API server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Ask {
    /// The request.
    pub request: Id,
    /// The Remediation that it is for: spec and status.
    pub rem: (Id, Id),
    /// The target.
    pub target: Id,
    /// Its revisions.
    pub revisions: [Id; 2],
    /// Revisions of the other target, those that are marked.
    pub other_revisions: [Id; 2],
    /// The Grant as the policies see it.
    pub grant: Id,
    /// It is the version that the sender read.
    pub same: bool,
    /// The mode label.
    pub label: Label,
    /// What is still as the sender read it.
    pub fresh: u8,
    /// The time.
    pub now: Clock,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The answer.
    pub response: Id,
    /// The objects afterwards.
    pub target: Id,
    /// The revisions afterwards.
    pub revisions: [Id; 2],
    /// The status of the Remediation afterwards.
    pub status: Id,
    /// What was written: bits of [`fresh`].
    pub wrote: u8,
    /// The target has another spec.
    pub changed: bool,
    /// It was refused.
    pub refused: bool,
}

/// Labels of ours, and what accounts for them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Leftovers {
    /// The targets.
    pub targets: [Id; CASES],
    /// Their revisions.
    pub revisions: [[Id; 2]; CASES],
    /// Specs of the Remediations that are open.
    pub open: [[Id; 2]; CASES],
}

/// What the status of a Remediation says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Claim {
    /// Its phase.
    pub phase: RemediationPhase,
    /// Its epoch.
    pub epoch: u8,
}

/// What an open Grant says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Granted {
    /// Of which action.
    pub action: Id,
    /// Name of the Remediation.
    pub name: Id,
    /// For which claim.
    pub epoch: u8,
    /// The last whole tick in which it is valid.
    pub until: Clock,
}

/// The status without what no step reads: sentences, conditions, and receipts but those of the write.
pub fn essence(mut status: RemediationStatus) -> RemediationStatus {
    use backstop::api::v1alpha1::ReceiptStep::{Fired, ReadBack};
    status.message.clear();
    status.conditions.clear();
    status.receipts.retain(|receipt| matches!(receipt.step, Fired | ReadBack));
    status
}

fn with_version(object: &Value, version: &str) -> Value {
    let mut object = object.clone();
    object["metadata"]["resourceVersion"] = json!(version);
    object
}

impl World {
    fn kept(&self, status: RemediationStatus) -> RemediationStatus {
        if self.whole { status } else { essence(status) }
    }

    /// The number of what is kept of a status.
    pub fn keep_essence(&self, status: Id) -> Id {
        self.rem_statuses.put(essence(self.rem_statuses.get(status).as_ref().clone()))
    }

    /// Whether a target is armed, or a revision marked.
    pub fn is_labelled(&self, object: Id) -> bool {
        self.labelled.of(object, || {
            let it = self.objects.get(object);
            object::label(&it, names::ARMED).is_some() || object::label(&it, names::UNDO_TO).is_some()
        })
    }

    /// What a status of a Remediation says.
    pub fn claim(&self, status: Id) -> Claim {
        if status == 0 {
            return Claim::default();
        }
        self.remembered.of(status, || {
            let status = self.rem_statuses.get(status);
            Claim { phase: status.phase, epoch: u8::try_from(status.epoch).unwrap_or(u8::MAX) }
        })
    }

    /// What an open Grant says.
    pub fn granted(&self, grant: Id) -> Granted {
        if grant == 0 {
            return Granted::default();
        }
        self.granted.of(grant, || {
            let open = self.grants.get(grant);
            let valid = |tick: &u16| objects::time(tick * 16) <= open.not_after;
            let last = (0..64).take_while(valid).last().unwrap_or(0);
            Granted {
                action: self.texts.put(open.action_id.clone()),
                name: self.texts.put(open.remediation.clone()),
                epoch: u8::try_from(open.epoch).unwrap_or(u8::MAX),
                until: last * 16 + 15,
            }
        })
    }

    /// What is read, as one observation.
    pub fn view(&self, reading: Reading) -> Id {
        self.read.of(reading, || self.views.put(self.observation(&reading)))
    }

    fn observation(&self, reading: &Reading) -> Observation {
        let get = |id: Id| self.objects.get(id).as_ref().clone();
        let labelled = |id: &Id| *id != 0 && self.is_labelled(*id);
        let remediation = self.remediation_of(reading.rem.0, reading.rem.1);
        let target = get(reading.target);
        let revisions: Vec<Value> = reading.revisions.iter().map(|id| get(*id)).collect();
        let named = remediation.spec.provenance.as_ref().map(|it| it.name.clone());
        let armed: Vec<Value> =
            [reading.target, reading.other_target].iter().filter(|id| labelled(id)).map(|id| get(*id)).collect();
        let all = reading.revisions.iter().chain(&reading.other_revisions);
        let marked: Vec<Value> = all.filter(|id| labelled(id)).map(|id| get(*id)).collect();
        let siblings = if !armed.is_empty() && marked.is_empty() { revisions.clone() } else { vec![] };
        let evidence = reading.evidence.map(|(health, since, label, approvals, now)| {
            let workload = self.workload_of(reading.case, reading.target, reading.revisions, (health, since), now);
            let consent =
                |approval: backstop::api::v1alpha1::Approval| Consent { spec: approval.spec, status: approval.status };
            Ok(Evidence {
                workload,
                known_good: vec![],
                namespace_mode: Some(label.as_str().into()),
                policies: vec![],
                approvals: self.approvals_of(approvals).into_iter().map(consent).collect(),
            })
        });
        Observation {
            grant: Some(objects::grant(&self.grant_spec(reading.grant), READ)),
            revision: revisions.into_iter().find(|it| Some(object::meta(it, "name")) == named.as_deref()),
            target: Some(target),
            pod: None,
            marked,
            armed,
            siblings,
            holder: "executor/backstop-system".into(),
            not_ready: String::new(),
            evidence,
            remediation,
        }
    }

    fn memory(&self, memory: Id) -> Memory {
        if memory == 0 { Memory::default() } else { self.memories.get(memory).as_ref().clone() }
    }

    fn memory_is(&self, memory: Memory) -> Id {
        if memory == Memory::default() { 0 } else { self.memories.put(memory) }
    }

    /// One look of the executor.
    pub fn turn(&self, memory: Id, view: Id, now: Clock) -> (Id, Turn) {
        self.turns.of((memory, view, now), || {
            let mut memory = self.memory(memory);
            let seen = self.views.get(view);
            let before = self.whole.then(|| memory.clone());
            let next = bugs::executor(self.bug, &mut memory, &seen, objects::time(now));
            if let Some(before) = before {
                self.compare_turns(before, &seen, (&memory, &next), objects::time(now));
            }
            let turn = match next {
                Next::Nothing => Turn::Nothing,
                Next::Look => Turn::Look,
                Next::Wait(wait, pause) => {
                    Turn::Wait { look: matches!(wait, Wait::Grant | Wait::Evidence), brief: pause.as_secs() == 0 }
                }
                Next::Send(request) => Turn::Send(self.requests.put(request)),
            };
            (self.memory_is(memory), turn)
        })
    }

    /// The turn from what the model keeps of the status is the same.
    fn compare_turns(&self, mut before: Memory, seen: &Observation, (memory, next): (&Memory, &Next), now: Time) {
        let mut seen = seen.clone();
        seen.remediation.status = seen.remediation.status.map(essence);
        let other = execution::step(&mut before, &seen, now);
        let of_status = |next: &Next| match next {
            Next::Send(request) if request.verb.is_status() => {
                let status = request.body.pointer("/1/value").cloned().unwrap_or_default();
                let status = serde_json::from_value(status).map(essence);
                (Next::Send(Request { body: Value::Null, ..request.clone() }), status.ok())
            }
            next => (next.clone(), None),
        };
        assert_eq!((&before, of_status(&other)), (memory, of_status(next)), "it reads what the model leaves out");
        self.compared.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    }

    /// What the executor knows after an answer, and what it can go on from; 0: it reads again.
    pub fn learn(&self, memory: Id, view: Id, request: Id, response: Id, now: Clock) -> (Id, Id) {
        self.learned.of((memory, view, request, response, now), || {
            let mut memory = self.memory(memory);
            let (seen, request) = (self.views.get(view), self.requests.get(request));
            let response = self.responses.get(response);
            execution::on_response(&mut memory, &seen, &request, &response, objects::time(now));
            let carried = seen.as_ref().clone().carried(&request, &response);
            (self.memory_is(memory), carried.map_or(0, |seen| self.views.put(seen)))
        })
    }

    /// The answer that nobody heard.
    pub fn unknown(&self) -> Id {
        self.responses.put(Response::Unknown("timeout".into()))
    }

    /// What is not told apart: verb and dry-run of a request.
    pub fn verb(&self, request: Id) -> (Verb, bool, Resource) {
        let request = self.requests.get(request);
        (request.verb, request.dry_run, request.resource)
    }

    /// The API server answers.
    pub fn answer(&self, ask: Ask) -> Answer {
        self.answers.of(ask, || {
            let request = self.requests.get(ask.request);
            let mut model = self.server(&ask);
            let response = model.send(&request);
            self.answered(&ask, &model, response, &request)
        })
    }

    fn server(&self, ask: &Ask) -> Model {
        let version = |bit: u8| if ask.fresh & bit == 0 { OTHER } else { READ };
        let mut model = Model::new(Kind::Deployment);
        model.target = Some(with_version(&self.objects.get(ask.target), version(fresh::TARGET)));
        model.revisions.clear();
        let mine = ask.revisions.iter().enumerate().map(|(at, id)| (*id, version(fresh::REVISION << at)));
        for (id, version) in mine.chain(ask.other_revisions.iter().map(|id| (*id, READ))).filter(|(id, _)| *id != 0) {
            let revision = with_version(&self.objects.get(id), version);
            model.revisions.insert(object::meta(&revision, "name").to_owned(), revision);
        }
        if ask.rem.0 != 0 {
            model.remediation = self.remediation_of(ask.rem.0, ask.rem.1);
            model.remediation.metadata.resource_version = Some(version(fresh::STATUS).into());
        }
        model.mode = ask.label.as_str();
        model.now = objects::time(ask.now);
        let grant = objects::grant(&self.grant_spec(ask.grant), if ask.same { READ } else { OTHER });
        bugs::admission(self.bug, &mut model, &grant);
        let marked = !model.marked().is_empty();
        model.policies_see(grant, marked);
        model
    }

    fn answered(&self, ask: &Ask, model: &Model, response: Response, request: &Request) -> Answer {
        let refused = matches!(response, Response::Refused { .. });
        let done = matches!(response, Response::Done(_)) && !request.dry_run;
        let response = match response {
            Response::Done(_) if request.resource == Resource::RemediationStatus => {
                let mut stored = model.remediation.clone();
                stored.status = stored.status.map(|status| self.kept(status));
                let object = serde_json::to_value(stored).expect("it can be written");
                Response::Done(with_version(&object, READ))
            }
            Response::Done(object) => Response::Done(with_version(&object, READ)),
            other => other,
        };
        let mut answer = Answer {
            response: self.responses.put(response),
            target: ask.target,
            revisions: ask.revisions,
            status: ask.rem.1,
            wrote: 0,
            changed: !model.spec_changes.is_empty(),
            refused,
        };
        if !done {
            return answer;
        }
        match request.resource {
            Resource::Target(_) => {
                let target = model.target.as_ref().expect("it was written");
                answer.target = self.objects.put(with_version(target, READ));
                answer.wrote = fresh::TARGET;
            }
            Resource::Revision(_) => {
                for at in 0..2 {
                    let name = object::meta(&self.objects.get(ask.revisions[at]), "name").to_owned();
                    if name == request.name {
                        answer.revisions[at] = self.objects.put(with_version(&model.revisions[&name], READ));
                        answer.wrote = fresh::REVISION << at;
                    }
                }
            }
            Resource::RemediationStatus => {
                let status = model.remediation.status.clone().unwrap_or_default();
                answer.status = self.rem_statuses.put(self.kept(status));
                answer.wrote = fresh::STATUS;
            }
            Resource::PodEviction => {}
        }
        answer
    }

    /// The request that takes a leftover away, and of which target; 0: there is none.
    pub fn sweep(&self, left: Leftovers) -> Id {
        self.swept.of(left, || {
            let get = |id: Id| (Kind::Deployment, self.objects.get(id).as_ref().clone());
            let labelled = |id: &Id| *id != 0 && self.is_labelled(*id);
            let flat = || left.revisions.as_flattened().iter().copied();
            let open = left.open.as_flattened().iter().filter(|id| **id != 0).map(|id| {
                let rem = self.rems.get(*id);
                (rem.1.action_id.clone(), rem.1.target.uid.clone())
            });
            let armed: Vec<_> = left.targets.iter().copied().filter(|id| labelled(id)).map(get).collect();
            let marked: Vec<_> = flat().filter(|id| labelled(id)).map(get).collect();
            let revisions = if !armed.is_empty() && marked.is_empty() {
                flat().filter(|id| *id != 0).map(get).collect()
            } else {
                vec![]
            };
            let seen = Surroundings { armed, marked, revisions, open: open.collect() };
            execution::orphans(&seen).map_or(0, |request| self.requests.put(request))
        })
    }
}
