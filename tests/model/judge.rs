//! The controller: the product's `incident::step` and its budgets, asked once for each input.

use backstop::{
    api::v1alpha1::{
        Anomaly, Approval, ApprovalStatus, Delivery, Grant, GrantSpec, Incident, IncidentPhase, IncidentStatus,
        Investigation, InvestigationPhase, InvestigationStatus, LedgerState, LedgerStatus, OpenGrant, Remediation,
        Time, TimelineEntry,
    },
    core::{
        budget::{self, Charge},
        gate::Unreadable,
        incident::{
            self, Books, Effect, Flight, JudgementInputs, Need, Next, Notice, Rules, Seen, Step, Target, Watched,
            WriteAndJudgement,
        },
        names,
        reason::Reason,
        rules::{self, FactBundle},
        surroundings,
    },
};

use crate::{
    bugs::{self, Bug},
    objects::{self, Clock, READ},
    state::{Health, Label},
    tables::Id,
    world::World,
};

/// What a step asks for, in numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fx {
    /// Create this Investigation.
    Round(Id),
    /// Create this Remediation.
    Create(Id),
    /// Change the Ledger.
    Ledger(Id),
    /// Append a record about this action to the audit log.
    Audit {
        /// That its Remediation ended, and not that its Grant is about to open.
        ended: bool,
        /// Its id.
        action: Id,
    },
    /// Open the Grant.
    Open {
        /// For this write.
        grant: Id,
        /// Only if it still is as it was read.
        guarded: bool,
    },
    /// Close the Grant, unless it is open for another Remediation than that of this name.
    Close(Id),
    /// Mark Approvals as used.
    Use {
        /// Those of this digest.
        digest: Id,
        /// By the Remediation of this name.
        by: Id,
    },
}

/// A change of the Ledger.
#[derive(Clone, Debug)]
pub enum Booking {
    /// Reserve.
    Reserve(Charge),
    /// Settle.
    Settle(String, LedgerState),
    /// Count an anomaly of this incident.
    Anomaly(Reason, usize),
    /// The trial of a breaker succeeded.
    Trial(String),
    /// Note that this incident tells of many.
    Storm(budget::storm::Claim),
}

/// What follows a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Then {
    /// The next step at once.
    Again,
    /// The same, with more read.
    Look(u8),
    /// Wait.
    Wait,
    /// Tell people.
    Tell(u8),
}

/// A step, in numbers.
#[derive(Clone, Debug)]
pub struct Taken {
    /// Before the status.
    pub effects: Vec<Fx>,
    /// The status; 0: it stays.
    pub status: Id,
    /// After the status.
    pub after: Vec<Fx>,
    /// What follows.
    pub then: Then,
    /// The whole step, where the Ledger may refuse it.
    pub whole: Id,
}

impl Taken {
    /// It changes nothing.
    pub fn is_nothing(&self) -> bool {
        self.effects.is_empty() && self.after.is_empty() && self.status == 0 && self.then == Then::Wait
    }
}

/// Everything that a step of the controller is given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Look {
    /// Which incident.
    pub case: u8,
    /// What is read.
    pub need: u8,
    /// Its status.
    pub status: Id,
    /// The Remediation in flight: spec and status.
    pub flying: (Id, Id),
    /// The Remediation that repaired.
    pub repair: (Id, Id),
    /// The Investigation.
    pub round: Id,
    /// The target, its revisions, how it is and since when.
    pub target: (Id, [Id; 2], Health, Clock),
    /// The mode label.
    pub label: Label,
    /// The Approvals.
    pub approvals: Id,
    /// The Ledger.
    pub ledger: Id,
    /// The Grant.
    pub grant: Id,
    /// It was closed last for the Remediation in flight.
    pub closed: bool,
    /// The time.
    pub now: Clock,
}

/// What a status says that the model asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pointers {
    /// Its phase.
    pub phase: IncidentPhase,
    /// Name of the Remediation that repairs.
    pub repair: Id,
    /// Name of the Remediation that takes it back.
    pub undo: Id,
    /// Name of the Investigation.
    pub round: Id,
    /// The incident has ended: nothing is watched or told any more.
    pub closed: bool,
    /// And no write is awaited whose outcome is unknown.
    pub over: bool,
    /// Digest of the action for which an Approval is asked.
    pub digest: Id,
}

const NEEDS: [Need; 14] = [
    Need::Nothing,
    Need::Rules,
    Need::Round,
    Need::Judgement,
    Need::Approvals,
    Need::Write(Flight::Repair),
    Need::Write(Flight::Undo),
    Need::Write(Flight::Replacement),
    Need::WriteAndJudgement(Flight::Repair),
    Need::WriteAndJudgement(Flight::Undo),
    Need::WriteAndJudgement(Flight::Replacement),
    Need::Target,
    Need::Watch,
    Need::Notice,
];

/// The need of this number.
pub fn need_of(number: u8) -> Need {
    NEEDS[usize::from(number)]
}

fn number_of(need: Need) -> u8 {
    let at = NEEDS.iter().position(|it| *it == need).expect("every need is listed");
    u8::try_from(at).expect("there are few")
}

/// The status without what no step reads: sentences, verdicts, conditions and earlier lines of the timeline. A run that
/// keeps all of it ([`World::whole`]) holds the steps to that.
pub fn essence(mut status: IncidentStatus) -> IncidentStatus {
    status.message.clear();
    status.conditions.clear();
    status.reading = None;
    if let Some(last) = status.timeline.pop() {
        status.timeline = vec![TimelineEntry { message: String::new(), ..last }];
    }
    for decision in [&mut status.decision, &mut status.follow_up].into_iter().flatten() {
        decision.checks.clear();
        decision.message.clear();
        decision.hypothesis.clear();
        decision.diff.clear();
    }
    if let Some(escalation) = &mut status.escalation {
        escalation.next_step.clear();
    }
    status.diagnosis = None;
    (status.times.received, status.times.first_source) = (None, None);
    status
}

impl World {
    fn incident(&self, case: u8, status: Id) -> Incident {
        let mut incident = self.incidents[usize::from(case)].clone();
        incident.status = (status != 0).then(|| self.statuses.get(status).as_ref().clone());
        incident
    }

    /// What the next step has to have read.
    pub fn need(&self, case: u8, status: Id, now: Clock) -> u8 {
        self.needs
            .of((case, status, now), || number_of(incident::need(&self.incident(case, status), objects::time(now))))
    }

    /// What the status says.
    pub fn pointers(&self, status: Id) -> Pointers {
        if status == 0 {
            return Pointers::default();
        }
        self.pointed.of(status, || {
            let status = self.statuses.get(status);
            let text = |text: &Option<String>| text.clone().map_or(0, |text| self.texts.put(text));
            let closed = status.phase.is_final() && !status.is_watched() && !incident::has_to_tell(&status);
            let over = closed && status.unsettled.is_none();
            let asked = status.decision.as_ref().filter(|_| status.phase == IncidentPhase::AwaitingApproval);
            Pointers {
                phase: status.phase,
                repair: text(&status.remediation),
                undo: text(&status.undo),
                round: text(&status.investigation),
                closed,
                over,
                digest: asked.map_or(0, |decision| text(&decision.digest)),
            }
        })
    }

    /// Takes a step.
    pub fn decide(&self, look: Look) -> Id {
        self.decided.of(look, || {
            let incident = self.incident(look.case, look.status);
            let seen = self.seen(&look);
            let step = bugs::controller(self.bug, &incident, &seen, &self.terms, objects::time(look.now));
            if self.whole {
                self.compare(&look, &step);
            }
            self.taken(usize::from(look.case), step)
        })
    }

    /// The step from what the model keeps of the statuses is the same.
    fn compare(&self, look: &Look, step: &Step) {
        let case = usize::from(look.case);
        let essential =
            |status: &Option<Box<IncidentStatus>>| status.as_ref().map(|status| essence(status.as_ref().clone()));
        let numbers = |effects: &[Effect]| effects.iter().filter_map(|it| self.fx(case, it)).collect::<Vec<_>>();
        let kept = |(spec, status): (Id, Id)| {
            let status = if status == 0 { 0 } else { self.keep_essence(status) };
            (spec, status)
        };
        let mut incident = self.incident(look.case, look.status);
        incident.status = incident.status.map(essence);
        let seen = self.seen(&Look { flying: kept(look.flying), repair: kept(look.repair), ..*look });
        let other = incident::step(&incident, &seen, &self.terms, objects::time(look.now));
        let parts = |step: &Step| (numbers(&step.effects), numbers(&step.after), essential(&step.status), step.next);
        assert_eq!(parts(step), parts(&other), "the step reads what the model leaves out: {look:?}");
        self.compared.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    }

    fn taken(&self, case: usize, step: Step) -> Id {
        let may_be_refused = step.effects.iter().any(|it| matches!(it, Effect::Reserve(_) | Effect::ClaimStorm(_)));
        let numbers = |effects: &[Effect]| effects.iter().filter_map(|it| self.fx(case, it)).collect();
        let taken = Taken {
            effects: numbers(&step.effects),
            after: numbers(&step.after),
            status: step.status.as_ref().map_or(0, |status| {
                let status = status.as_ref().clone();
                self.statuses.put(if self.whole { status } else { essence(status) })
            }),
            then: match step.next {
                Next::Again => Then::Again,
                Next::Look(need) => Then::Look(number_of(need)),
                Next::After(_) => Then::Wait,
                Next::Deliver(notice) => Then::Tell(notice as u8),
            },
            whole: if may_be_refused { self.steps.put(step) } else { 0 },
        };
        self.takens.put(taken)
    }

    fn fx(&self, case: usize, effect: &Effect) -> Option<Fx> {
        let text = |text: &str| self.texts.put(text.to_owned());
        let booking = |booking| Some(Fx::Ledger(self.bookings.put(booking)));
        match effect {
            Effect::CreateInvestigation { name, spec } => {
                Some(Fx::Round(self.rounds.put(Investigation::new(name, spec.as_ref().clone()))))
            }
            Effect::CreateRemediation { name, spec } => {
                Some(Fx::Create(self.rems.put((name.clone(), spec.as_ref().clone()))))
            }
            Effect::CountAnomaly(reason) => booking(Booking::Anomaly(*reason, case)),
            Effect::Reserve(charge) => booking(Booking::Reserve(charge.clone())),
            Effect::ClaimStorm(claim) => booking(Booking::Storm(claim.clone())),
            Effect::Settle { action_id, state } => booking(Booking::Settle(action_id.clone(), *state)),
            Effect::TrialSucceeded { action_id } => booking(Booking::Trial(action_id.clone())),
            // Records that no property is about are written too, and what becomes of them changes nothing.
            Effect::Audit(entry) | Effect::AuditAfter(entry) => {
                let action = entry.action_id.as_deref().map(text)?;
                match entry.kind {
                    "GrantOpening" => Some(Fx::Audit { ended: false, action }),
                    "RemediationEnded" => Some(Fx::Audit { ended: true, action }),
                    _ => None,
                }
            }
            Effect::OpenGrant { version, open } => {
                Some(Fx::Open { grant: self.grants.put(open.as_ref().clone()), guarded: version == READ })
            }
            Effect::CloseGrant { remediation } => Some(Fx::Close(text(remediation))),
            Effect::UseApproval { digest, remediation } => {
                Some(Fx::Use { digest: text(digest), by: text(remediation) })
            }
            Effect::Measure(_) => None,
        }
    }

    /// The Ledger refused `booking` of the step: what is taken in its place.
    pub fn refused(&self, case: u8, status: Id, whole: Id, (ledger, booking): (Id, Id), now: Clock) -> Id {
        self.refusals.of((case, status, whole, ledger, booking, now), || {
            let at = objects::time(now);
            let refusal = self.book(ledger, booking, at).expect_err("it was refused");
            let step = self.steps.get(whole);
            let step = incident::refused(&self.incident(case, status), &step, &refusal, &self.terms, at);
            self.taken(usize::from(case), step)
        })
    }

    /// The Ledger after a booking; `None`: it is refused.
    pub fn ledger(&self, ledger: Id, booking: Id, now: Clock) -> Option<Id> {
        self.booked.of((ledger, booking, now), || {
            let next = self.book(ledger, booking, objects::time(now)).ok()?;
            Some(if next == LedgerStatus::default() { 0 } else { self.ledgers.put(next) })
        })
    }

    fn book(&self, ledger: Id, booking: Id, now: Time) -> Result<LedgerStatus, budget::Refusal> {
        let old = self.ledger_of(ledger);
        let budgets = &self.terms.budgets;
        match self.bookings.get(booking).as_ref() {
            Booking::Reserve(charge) => budget::reserve(&old, charge, budgets, now),
            Booking::Settle(action, state) => Ok(budget::settle(&old, action, *state)),
            Booking::Trial(action) => Ok(budget::trial_succeeded(&old, action)),
            Booking::Storm(claim) => budget::storm::claim(&old, claim, now),
            Booking::Anomaly(reason, case) => {
                let name = self.incidents[*case].metadata.name.clone().unwrap_or_default();
                let incident = format!("{}/{name}", objects::NAMESPACE);
                Ok(budget::anomaly(&old, Anomaly { at: now, kind: reason.as_str().into(), incident }, budgets))
            }
        }
    }

    fn ledger_of(&self, ledger: Id) -> LedgerStatus {
        if ledger == 0 { LedgerStatus::default() } else { self.ledgers.get(ledger).as_ref().clone() }
    }

    /// How an action stands in the Ledger, and how many repairs are counted there.
    pub fn books(&self, ledger: Id, action: Id) -> (Option<LedgerState>, u32) {
        if ledger == 0 {
            return (None, 0);
        }
        self.counted.of((ledger, action), || {
            let ledger = self.ledgers.get(ledger);
            let state = (action != 0).then(|| self.texts.get(action)).and_then(|action| {
                ledger.entries.iter().find(|entry| entry.action_id == *action).map(|entry| entry.state)
            });
            let counted = ledger.entries.iter().filter(|entry| !entry.undo && entry.state != LedgerState::Refunded);
            (state, u32::try_from(counted.count()).unwrap_or(u32::MAX))
        })
    }

    /// People were told: the status with that on record.
    pub fn told(&self, case: u8, status: Id, notice: u8, now: Clock) -> Id {
        self.tellings.of((case, status, notice, now), || {
            let incident = self.incident(case, status);
            let notice = Notice::ALL[usize::from(notice)];
            let earlier = incident::deliveries(&incident, notice);
            let attempts = 1 + earlier.first().map_or(0, |delivery| delivery.attempts);
            let delivery = Delivery { channel: "event".into(), delivered: true, attempts, ..Delivery::default() };
            let step = incident::told(&incident, notice, vec![delivery], false, objects::time(now));
            self.taken(usize::from(case), step)
        })
    }

    /// The Grant after it was closed for the Remediation of this name; `None`: it stays, and is not written.
    pub fn closed(&self, grant: Id, name: Id, now: Clock) -> Option<Id> {
        if grant == 0 {
            return if bugs::closes_carelessly(self.bug) { None } else { Some(0) };
        }
        let stays = self.stays_open.of((grant, name, now), || {
            let open = self.grants.get(grant);
            open.remediation != *self.texts.get(name) && open.not_after > objects::time(now)
        });
        if stays { None } else { Some(0) }
    }

    /// The Approvals after those of `digest` were used.
    pub fn used(&self, case: u8, approvals: Id, digest: Id, by: Id) -> Id {
        if approvals == 0 {
            return 0;
        }
        self.used_up.of((case, approvals, digest, by), || {
            let mut all = self.approvals.get(approvals).as_ref().clone();
            let incident = self.incidents[usize::from(case)].metadata.name.clone().unwrap_or_default();
            let digest = self.texts.get(digest);
            let used: Vec<Option<String>> = surroundings::approvals_to_use(&all, &incident, &digest)
                .into_iter()
                .map(|approval| approval.metadata.name.clone())
                .collect();
            for approval in all.iter_mut().filter(|approval| used.contains(&approval.metadata.name)) {
                let used_by = self.texts.get(by).as_ref().clone();
                approval.status = Some(ApprovalStatus { used_by, conditions: vec![] });
            }
            self.approvals.put(all)
        })
    }

    /// The Investigation after the investigator ended it, with what its sources show and the rules say of it.
    pub fn investigated(&self, look: Look) -> Id {
        self.investigations.of(look, || {
            let mut investigation = self.rounds.get(look.round).as_ref().clone();
            let now = objects::time(look.now);
            let workload = self.workload(&look);
            let facts = workload.facts();
            let spec = &investigation.spec;
            let bundle =
                FactBundle { target: spec.target.as_ref(), alert_started_at: spec.alert_started_at, facts: &facts };
            let diagnosis = rules::diagnose(bundle);
            investigation.status = Some(InvestigationStatus {
                phase: InvestigationPhase::Complete,
                started_at: Some(now),
                completed_at: Some(now),
                diagnosis: Some(diagnosis),
                facts,
                ..InvestigationStatus::default()
            });
            self.rounds.put(investigation)
        })
    }

    /// Name and number of an Investigation, and whether it has ended.
    pub fn round(&self, round: Id) -> (Id, i32, bool) {
        if round == 0 {
            return (0, 0, true);
        }
        self.round_names.of(round, || {
            let it = self.rounds.get(round);
            let name = self.texts.put(it.metadata.name.clone().unwrap_or_default());
            (name, it.spec.round, it.status.is_some())
        })
    }

    fn remediation(&self, (spec, status): (Id, Id)) -> Option<Remediation> {
        (spec != 0).then(|| self.remediation_of(spec, status))
    }

    fn seen(&self, look: &Look) -> Seen {
        match need_of(look.need) {
            Need::Nothing => Seen::Nothing,
            Need::Notice => Seen::Notice,
            Need::Rules => Seen::Rules(Box::new(rules_of(look.label))),
            Need::Round => {
                Seen::Round((look.round != 0).then(|| Box::new(self.rounds.get(look.round).as_ref().clone())))
            }
            Need::Judgement => Seen::Judgement(Box::new(self.inputs(look))),
            Need::Approvals => {
                let JudgementInputs { firing, books, .. } = self.inputs(look);
                Seen::Approvals { firing, approvals: books.approvals }
            }
            Need::Write(_) => Seen::Write(self.remediation(look.flying).map(Box::new)),
            Need::WriteAndJudgement(flight) => Seen::WriteAndJudgement(Box::new(WriteAndJudgement {
                remediation: self.remediation(look.flying),
                repair: if flight == Flight::Repair { None } else { self.remediation(look.repair) },
                grant: Some(self.grant_of(look)),
                case: self.inputs(look),
            })),
            Need::Target => Seen::Target(Box::new(Target {
                repair: self.remediation(look.repair),
                workload: Ok(self.workload(look)),
            })),
            Need::Watch => Seen::Watch(Box::new(Watched {
                repair: self.remediation(look.repair),
                workload: Ok(self.workload(look)),
                firing: firing(look),
                successor: None,
            })),
        }
    }

    fn grant_of(&self, look: &Look) -> Grant {
        let mut grant = objects::grant(&self.grant_spec(look.grant), READ);
        if look.closed && self.bug != Bug::OpensAgain {
            let note = format!("{} {}", self.rems.get(look.flying.0).0, objects::time(look.now));
            grant.metadata.annotations = Some([(names::CLOSED_FOR.to_owned(), note)].into());
        }
        grant
    }

    /// What a Grant of this number says.
    pub fn grant_spec(&self, grant: Id) -> GrantSpec {
        let open: Option<OpenGrant> = (grant != 0).then(|| self.grants.get(grant).as_ref().clone());
        GrantSpec { open, closed_because: None }
    }

    fn inputs(&self, look: &Look) -> JudgementInputs {
        let name = self.incidents[usize::from(look.case)].metadata.name.clone().unwrap_or_default();
        let approvals = self.approvals_of(look.approvals);
        JudgementInputs {
            firing: firing(look),
            rules: rules_of(look.label),
            investigation: (look.round != 0).then(|| self.rounds.get(look.round).as_ref().clone()),
            workload: Ok::<_, Unreadable>(self.workload(look)),
            books: Books {
                ledger: self.ledger_of(look.ledger),
                known_good: vec![],
                presence: vec![],
                full_quota: None,
                approvals: surroundings::valid_approvals(&approvals, &name, objects::time(look.now)),
                storm: None,
                neighbours_unread: None,
                failing_targets: 1,
                audit_durable: true,
            },
        }
    }

    /// The Approvals of this number.
    pub fn approvals_of(&self, approvals: Id) -> Vec<Approval> {
        if approvals == 0 { vec![] } else { self.approvals.get(approvals).as_ref().clone() }
    }
}

fn firing(look: &Look) -> bool {
    look.target.2 != Health::Well
}

fn rules_of(label: Label) -> Rules {
    Rules {
        mode: Some(label.as_str().into()),
        pod_security_at: None,
        enrolled: true,
        policies: vec![].into(),
        runbooks: vec![],
        chains: Some(vec![]),
    }
}
