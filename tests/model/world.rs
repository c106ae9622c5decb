//! Everything that the model knows by number, and what both roles read.

use std::sync::atomic::AtomicUsize;

use backstop::{
    api::v1alpha1::{
        Approval, Incident, IncidentStatus, Investigation, LedgerState, LedgerStatus, OpenGrant, Remediation,
        RemediationSpec, RemediationStatus,
    },
    core::{
        execution::{Memory, Observation, Request, Response},
        incident::{Step, Terms},
        workload::Workload,
    },
};
use serde_json::Value;

use crate::{
    bugs::Bug,
    hands::{Answer, Ask, Leftovers, Reading, Turn},
    judge::{Booking, Look, Pointers, Taken},
    objects::{self, Clock},
    state::{CASES, Health},
    tables::{Id, Memo, Values},
};

/// Values and results.
#[derive(Default)]
pub struct World {
    /// What is planted.
    pub bug: Bug,
    /// Statuses are kept as they are, and each step is compared with that from what is kept of them otherwise.
    pub whole: bool,
    /// How many were compared.
    pub compared: AtomicUsize,
    pub terms: Terms,
    pub incidents: Vec<Incident>,

    pub texts: Values<String>,
    pub statuses: Values<IncidentStatus>,
    pub rounds: Values<Investigation>,
    pub rems: Values<(String, RemediationSpec)>,
    pub rem_statuses: Values<RemediationStatus>,
    pub grants: Values<OpenGrant>,
    pub ledgers: Values<LedgerStatus>,
    pub bookings: Values<Booking>,
    pub approvals: Values<Vec<Approval>>,
    pub objects: Values<Value>,
    pub steps: Values<Step>,
    pub takens: Values<Taken>,
    pub memories: Values<Memory>,
    pub views: Values<Observation>,
    pub requests: Values<Request>,
    pub responses: Values<Response>,

    pub needs: Memo<(u8, Id, Clock), u8>,
    pub pointed: Memo<Id, Pointers>,
    pub decided: Memo<Look, Id>,
    pub refusals: Memo<(u8, Id, Id, Id, Id, Clock), Id>,
    pub booked: Memo<(Id, Id, Clock), Option<Id>>,
    pub counted: Memo<(Id, Id), (Option<LedgerState>, u32)>,
    pub tellings: Memo<(u8, Id, u8, Clock), Id>,
    pub stays_open: Memo<(Id, Id, Clock), bool>,
    pub used_up: Memo<(u8, Id, Id, Id), Id>,
    pub investigations: Memo<Look, Id>,
    pub round_names: Memo<Id, (Id, i32, bool)>,
    pub read: Memo<Reading, Id>,
    pub turns: Memo<(Id, Id, Clock), (Id, Turn)>,
    pub learned: Memo<(Id, Id, Id, Id, Clock), (Id, Id)>,
    pub answers: Memo<Ask, Answer>,
    pub swept: Memo<Leftovers, Id>,
    pub labelled: Memo<Id, bool>,
    pub remembered: Memo<Id, crate::hands::Claim>,
    pub granted: Memo<Id, crate::hands::Granted>,
    pub deployed: Memo<(Id, bool), Id>,
    pub named: Memo<Id, (Id, Id)>,
}

impl World {
    /// With this bug planted.
    pub fn new(bug: Bug, whole: bool) -> World {
        World {
            bug,
            whole,
            terms: objects::terms(),
            incidents: (0..CASES).map(objects::incident).collect(),
            ..World::default()
        }
    }

    /// The reading of a target, for controller and executor alike.
    pub fn workload(&self, look: &Look) -> Workload {
        let (target, revisions, health, since) = look.target;
        self.workload_of(look.case, target, revisions, (health, since), look.now)
    }

    /// The same, by its parts.
    pub fn workload_of(
        &self,
        case: u8,
        target: Id,
        revisions: [Id; 2],
        (health, since): (Health, Clock),
        now: Clock,
    ) -> Workload {
        let target = self.objects.get(target);
        let [one, two] = revisions.map(|id| self.objects.get(id));
        objects::read(usize::from(case), &target, [&one, &two], health, since, now)
    }

    /// A Remediation as it is stored.
    pub fn remediation_of(&self, spec: Id, status: Id) -> Remediation {
        let rem = self.rems.get(spec);
        let (name, spec) = rem.as_ref();
        let mut remediation = Remediation::new(name, spec.clone());
        remediation.metadata.namespace = Some(objects::NAMESPACE.into());
        remediation.metadata.resource_version = Some(objects::READ.into());
        remediation.metadata.generation = Some(1);
        remediation.status = (status != 0).then(|| self.rem_statuses.get(status).as_ref().clone());
        remediation
    }

    /// Name and action id of a Remediation.
    pub fn names_of(&self, spec: Id) -> (Id, Id) {
        if spec == 0 {
            return (0, 0);
        }
        self.named.of(spec, || {
            let rem = self.rems.get(spec);
            (self.texts.put(rem.0.clone()), self.texts.put(rem.1.action_id.clone()))
        })
    }
}
