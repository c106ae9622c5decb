//! A world for tests of the state machine: what the API server stores, an investigator, an executor, and the thin
//! driver that the controller has. Any request of the driver can go wrong.

use std::collections::{BTreeMap, BTreeSet};

use jiff::SignedDuration;
use serde_json::json;

use crate::api::v1alpha1::{
    Approval, Delivery, Diagnosis, Fact, Grant, GrantSpec, Incident, IncidentPhase, IncidentSpec, Investigation,
    InvestigationPhase, InvestigationStatus, KnownGood, LedgerState, LedgerStatus, OpenGrant, PodFailure, Purpose,
    Receipt, ReceiptStep, Remediation, RemediationPhase, RemediationSpec, RemediationStatus, Severity, Time, Write,
};
use crate::core::{
    budget,
    gate::{Unreadable, testing},
    incident::{self, Books, Case, Effect, Flight, Need, Next, Notice, Rules, Seen, Step, Target, Terms, WriteAndCase},
    names,
    reason::Reason,
    surroundings,
    workload::{Kind, Pod, Strategy, Workload},
};

pub type StepFn = fn(&Incident, &Seen, &Terms, Time) -> Step;

/// What goes wrong at a request of the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// It is refused; nothing happens.
    Error,
    /// It does not arrive.
    Timeout,
    /// It is done, and the answer is lost.
    LostAnswer,
    /// Somebody else writes the object just before.
    Conflict,
    /// What is read is as it was some requests ago.
    Stale,
}

impl Fault {
    pub const ALL: [Fault; 5] = [Fault::Error, Fault::Timeout, Fault::LostAnswer, Fault::Conflict, Fault::Stale];
}

/// How the investigator behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Investigator {
    Answers,
    Silent,
}

/// How the executor behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Executor {
    /// Writes what is granted.
    Fires,
    /// Claims, and gives up for this reason.
    Aborts(Reason),
    /// Does not claim.
    Silent,
    /// Claims, and is never heard of again.
    Dies,
    /// Loses each claim once before it fires: every Grant is opened for a second epoch.
    Reclaims,
    /// Writes repairs, and gives up undoing for this reason.
    FiresAndAbortsUndo(Reason),
}

/// What the target does after a repair was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aftermath {
    Recovers,
    StaysBroken,
    /// One pod waits to be evicted; then it recovers.
    Stuck,
    /// Somebody else changes the template.
    ChangedByOthers,
}

/// Everything outside of the state machine.
#[derive(Clone)]
pub struct World {
    pub now: Time,
    pub incident: Incident,
    pub investigations: BTreeMap<String, Investigation>,
    pub remediations: BTreeMap<String, Remediation>,
    pub grant: Grant,
    pub ledger: LedgerStatus,
    pub approvals: Vec<Approval>,
    pub firing: bool,
    pub broken: Workload,
    pub workload: Workload,
    pub readable: bool,
    /// It cannot be read any more once something was written to it.
    pub unreadable_after_write: bool,
    pub known_good: Vec<KnownGood>,
    pub facts: Vec<Fact>,
    pub diagnosis: Diagnosis,
    pub mode: Option<String>,
    pub terms: Terms,
    pub audit_works: bool,
    pub investigator: Investigator,
    pub executor: Executor,
    pub aftermath: Aftermath,
    pub receiver_works: bool,
    /// What was read some requests ago may be read again.
    pub remembers: bool,
    /// Somebody sets the mode to observe as soon as a Remediation exists.
    pub kill_switch: bool,
    /// A person approves whatever is asked, after this long.
    pub approves: bool,
    // What the oracle looks at.
    pub audit: Vec<(String, Option<String>)>,
    pub opened: Vec<OpenGrant>,
    pub writes: Vec<(Purpose, Write)>,
    pub told: Vec<Notice>,
    pub violations: BTreeSet<String>,
    pub version: u64,
    pub reclaimed: BTreeSet<String>,
}

impl World {
    /// A bad rollout of a Deployment that every check lets be undone, before anything was done.
    pub fn new() -> World {
        let base = testing::bad_rollout();
        let target = base.target.clone().expect("a target");
        let mut incident = Incident::new(
            "api-0123456789",
            IncidentSpec {
                target: Some(target),
                unresolved: None,
                alerts: vec![crate::api::v1alpha1::AlertRef {
                    namespace: "shop".into(),
                    name: "alert".into(),
                    uid: "uid-alert".into(),
                    alertname: "KubePodCrashLooping".into(),
                    starts_at: testing::at(-2),
                }],
                severity: Severity::Warning,
                request_id: "r".into(),
                opened_at: testing::at(0),
                key: "k".into(),
            },
        );
        incident.metadata.namespace = Some("shop".into());
        incident.metadata.uid = Some("uid-incident".into());
        incident.metadata.resource_version = Some("1".into());
        let mut grant = Grant::new(names::GRANT, GrantSpec { open: None, closed_because: None });
        grant.metadata.resource_version = Some("1".into());
        World {
            now: testing::at(0),
            incident,
            investigations: BTreeMap::new(),
            remediations: BTreeMap::new(),
            grant,
            ledger: LedgerStatus::default(),
            approvals: vec![],
            firing: true,
            broken: base.reading.clone(),
            workload: base.reading.clone(),
            readable: true,
            unreadable_after_write: false,
            known_good: base.known_good.clone(),
            facts: base.facts.clone(),
            diagnosis: base.diagnosis.clone().expect("a diagnosis"),
            mode: Some("auto".into()),
            terms: Terms {
                enrolled: vec!["shop".into()],
                system: "backstop-system".into(),
                evict_pods: true,
                // Short, because each look in between is a step.
                timings: incident::Timings {
                    verify_settle_seconds: 2,
                    verify_timeout_seconds: 10,
                    ..incident::Timings::default()
                },
                chain: vec!["rules".into()],
                ..Terms::default()
            },
            audit_works: true,
            investigator: Investigator::Answers,
            executor: Executor::Fires,
            aftermath: Aftermath::Recovers,
            receiver_works: true,
            remembers: false,
            kill_switch: false,
            approves: false,
            audit: vec![],
            opened: vec![],
            writes: vec![],
            told: vec![],
            violations: BTreeSet::new(),
            version: 1,
            reclaimed: BTreeSet::new(),
        }
    }

    /// The same, with a diagnosis that proposes the action of unit tests.
    pub fn planted() -> World {
        let mut world = World::new();
        let base = testing::too_few_replicas();
        world.broken = base.reading.clone();
        world.workload = base.reading;
        world.diagnosis = base.diagnosis.expect("a diagnosis");
        world
    }

    /// The same of a StatefulSet that replaces its pods in order.
    pub fn stateful() -> World {
        let mut world = World::new();
        let set = testing::object("StatefulSet", "api");
        world.incident.spec.target = Some(set.clone());
        world.diagnosis.suspect = None;
        if let Some(proposal) = &mut world.diagnosis.proposal {
            proposal.target = set.clone();
        }
        world.broken.object = set;
        world.broken.kind = Kind::StatefulSet;
        world.broken.strategy = Strategy::RollingUpdate { partition: 0, ordered: true };
        world.broken.pods =
            vec![testing::pod("api-0", 1, PodFailure::None), testing::pod("api-1", 2, PodFailure::CrashLoop)];
        world.workload = world.broken.clone();
        world
    }

    pub fn phase(&self) -> IncidentPhase {
        self.incident.status.as_ref().map(|status| status.phase).unwrap_or_default()
    }

    pub fn reason(&self) -> &str {
        self.incident.status.as_ref().map(|status| status.reason.as_str()).unwrap_or_default()
    }

    fn bump(&mut self) -> String {
        self.version += 1;
        self.version.to_string()
    }

    /// What was asked for is read.
    fn gather(&self, need: Need) -> Seen {
        let status = self.incident.status.clone().unwrap_or_default();
        let flight = |flight| {
            let name = match flight {
                Flight::Repair => &status.remediation,
                Flight::Undo => &status.undo,
                Flight::Replacement => &status.replacement,
            };
            name.as_ref().and_then(|name| self.remediations.get(name)).cloned()
        };
        match need {
            Need::Nothing => Seen::Nothing,
            Need::Notice => Seen::Notice,
            Need::Rules => Seen::Rules(Box::new(self.rules())),
            Need::Round => Seen::Round(self.investigation().map(Box::new)),
            Need::Case => Seen::Case(Box::new(self.case())),
            Need::Approvals => Seen::Approvals { firing: self.firing, approvals: self.case().books.approvals },
            Need::Write(which) => Seen::Write(flight(which).map(Box::new)),
            Need::WriteAndCase(which) => Seen::WriteAndCase(Box::new(WriteAndCase {
                remediation: flight(which),
                repair: if which == Flight::Repair { None } else { flight(Flight::Repair) },
                grant: Some(self.grant.clone()),
                case: self.case(),
            })),
            Need::Target => {
                Seen::Target(Box::new(Target { repair: flight(Flight::Repair), workload: self.read_workload() }))
            }
        }
    }

    fn rules(&self) -> Rules {
        Rules { mode: self.mode.clone(), policies: vec![].into(), runbooks: vec![] }
    }

    fn investigation(&self) -> Option<Investigation> {
        let name = self.incident.status.as_ref()?.investigation.as_ref()?;
        self.investigations.get(name).cloned()
    }

    fn read_workload(&self) -> Result<Workload, Unreadable> {
        if !self.readable || (self.unreadable_after_write && !self.writes.is_empty()) {
            return Err(Unreadable { reason: Reason::ClusterUnreadable, message: "the API server is down".into() });
        }
        Ok(Workload { read_at: self.now, ..self.workload.clone() })
    }

    fn case(&self) -> Case {
        Case {
            firing: self.firing,
            rules: self.rules(),
            investigation: self.investigation(),
            workload: self.read_workload(),
            books: Books {
                ledger: self.ledger.clone(),
                known_good: self.known_good.clone(),
                full_quota: None,
                approvals: surroundings::valid_approvals(&self.approvals, "api-0123456789", self.now),
                storm_targets: 1,
                audit_durable: self.audit_works,
            },
        }
    }

    /// Does one effect. `Err`: it was not done.
    fn apply(&mut self, effect: &Effect) -> Result<(), Refused> {
        match effect {
            Effect::CreateInvestigation { name, spec } => {
                self.investigations
                    .entry(name.clone())
                    .or_insert_with(|| Investigation::new(name, spec.as_ref().clone()));
            }
            Effect::CreateRemediation { name, spec } => {
                if !self.remediations.contains_key(name) {
                    let mut made = Remediation::new(name, spec.as_ref().clone());
                    made.metadata.namespace = Some("shop".into());
                    self.remediations.insert(name.clone(), made);
                }
            }
            Effect::CountAnomaly(reason) => {
                let anomaly = crate::api::v1alpha1::Anomaly {
                    at: self.now,
                    kind: reason.as_str().into(),
                    incident: "shop/api-0123456789".into(),
                };
                self.ledger = budget::anomaly(&self.ledger, anomaly, &self.terms.budgets);
            }
            Effect::Reserve(charge) => {
                self.ledger =
                    budget::reserve(&self.ledger, charge, &self.terms.budgets, self.now).map_err(Refused::Budget)?;
            }
            Effect::Settle { action_id, state } => self.ledger = budget::settle(&self.ledger, action_id, *state),
            Effect::TrialSucceeded { action_id } => {
                self.ledger = budget::trial_succeeded(&self.ledger, action_id);
            }
            Effect::Audit(entry) | Effect::AuditAfter(entry) => {
                if self.audit_works {
                    self.audit.push((entry.kind.to_owned(), entry.action_id.clone()));
                } else if matches!(effect, Effect::Audit(_)) {
                    return Err(Refused::Error);
                }
            }
            Effect::OpenGrant { version, open } => {
                if self.grant.metadata.resource_version.as_ref() != Some(version) {
                    return Err(Refused::Error);
                }
                self.witness_opening(open);
                self.grant.spec = GrantSpec { open: Some(open.as_ref().clone()), closed_because: None };
                self.grant.metadata.resource_version = Some(self.bump());
            }
            Effect::CloseGrant { remediation } => {
                if self.grant.spec.open.as_ref().is_some_and(|open| open.remediation == *remediation) {
                    self.grant.spec.open = None;
                    self.grant.metadata.resource_version = Some(self.bump());
                }
            }
            Effect::UseApproval { digest, remediation } => {
                for approval in &mut self.approvals {
                    if approval.spec.digest == *digest {
                        approval.status = Some(serde_json::from_value(json!({ "usedBy": remediation })).unwrap());
                    }
                }
            }
            Effect::Tell(notice) => self.told.push(*notice),
            Effect::Measure(_) => {}
        }
        Ok(())
    }

    /// What must hold whenever a Grant is opened.
    fn witness_opening(&mut self, open: &OpenGrant) {
        let mut wrong = |what: &str| {
            self.violations.insert(what.to_owned());
        };
        if !self.audit.iter().any(|(kind, id)| kind == "GrantOpening" && id.as_ref() == Some(&open.action_id)) {
            wrong("a Grant was opened without a record in the audit log");
        }
        let paid = self.ledger.entries.iter().find(|entry| entry.action_id == open.action_id);
        match paid.map(|entry| entry.state) {
            Some(LedgerState::Reserved) => {}
            Some(_) => wrong("a Grant was opened for an action that was settled"),
            None => wrong("a Grant was opened for an action that was not charged"),
        }
        if self.opened.iter().any(|old| old.remediation == open.remediation && old.epoch == open.epoch) {
            wrong("a Grant was opened twice for one epoch");
        }
        let of_another = |old: &OpenGrant| old.remediation != open.remediation && old.not_after > self.now;
        if self.grant.spec.open.as_ref().is_some_and(of_another) {
            wrong("a Grant was opened while another write was open");
        }
        if self.incident.status.as_ref().is_some_and(|status| status.phase.is_final()) {
            wrong("a Grant was opened for an incident that is over");
        }
        if !matches!(self.mode.as_deref(), Some("auto" | "approve")) {
            wrong("a Grant was opened against the mode");
        }
        let digest = self.remediations.get(&open.remediation).map(|it| (it.spec.digest.clone(), it.spec.purpose));
        if self.mode.as_deref() == Some("approve")
            && digest.as_ref().is_some_and(|(_, purpose)| *purpose == Purpose::Repair)
            && !self.approvals.iter().any(|approval| Some(&approval.spec.digest) == digest.as_ref().map(|(d, _)| d))
        {
            wrong("a Grant was opened without the Approval");
        }
        if !self.readable {
            wrong("a Grant was opened on a target that cannot be read");
        }
        self.opened.push(open.clone());
    }

    /// The others do what they do meanwhile.
    pub fn others(&mut self) {
        if self.kill_switch && !self.remediations.is_empty() {
            self.mode = Some("observe".into());
        }
        if self.investigator == Investigator::Answers {
            let (facts, diagnosis, now) = (self.facts.clone(), self.diagnosis.clone(), self.now);
            for investigation in self.investigations.values_mut() {
                if investigation.status.is_none() {
                    let facts = facts.iter().cloned().map(|fact| Fact { seen_at: now, ..fact }).collect();
                    investigation.status = Some(InvestigationStatus {
                        phase: InvestigationPhase::Complete,
                        facts,
                        diagnosis: Some(diagnosis.clone()),
                        // A clock that is wrong decides nothing.
                        completed_at: Some(Time::UNIX_EPOCH),
                        ..InvestigationStatus::default()
                    });
                }
            }
        }
        if self.approves
            && self.phase() == IncidentPhase::AwaitingApproval
            && let Some(digest) = self.incident.status.as_ref().and_then(|s| s.decision.as_ref()?.digest.clone())
            && !self.approvals.iter().any(|approval| approval.spec.digest == digest)
        {
            let spec = json!({
                "approver": "ann", "incident": "api-0123456789", "digest": digest,
                "expiresAt": (self.now + SignedDuration::from_mins(5)).to_string(),
            });
            self.approvals.push(Approval::new("a", serde_json::from_value(spec).unwrap()));
        }
        let names: Vec<String> = self.remediations.keys().cloned().collect();
        for name in names {
            self.execute(&name);
        }
    }

    fn execute(&mut self, name: &str) {
        let Some(mut remediation) = self.remediations.get(name).cloned() else { return };
        let mut status = remediation.status.clone().unwrap_or_default();
        let spec = remediation.spec.clone();
        let abort = |status: &mut RemediationStatus, reason: Reason| {
            status.phase = RemediationPhase::Aborted;
            status.reason = reason.as_str().into();
        };
        match (self.executor, status.phase) {
            (_, phase) if phase.is_final() => return,
            (Executor::Silent, _) => return,
            (_, RemediationPhase::Pending) => {
                status.phase = RemediationPhase::Claimed;
                status.epoch = 1;
            }
            (Executor::Dies, _) => return,
            (Executor::Aborts(reason), _) => abort(&mut status, reason),
            (Executor::FiresAndAbortsUndo(reason), _) if spec.purpose == Purpose::Undo => abort(&mut status, reason),
            (_, _) => {
                let granted =
                    self.grant.spec.open.clone().filter(|open| {
                        open.remediation == name && open.epoch == status.epoch && open.not_after > self.now
                    });
                let Some(open) = granted else { return };
                if self.executor == Executor::Reclaims && self.reclaimed.insert(name.to_owned()) {
                    status.epoch += 1;
                } else {
                    self.fire(&spec, &open);
                    status.phase = RemediationPhase::Fired;
                    // The executor's clock is far ahead.
                    let at = self.now + SignedDuration::from_hours(5);
                    let step = ReceiptStep::Fired;
                    status.receipts.push(Receipt { step, at, resource_version: String::new(), epoch: status.epoch });
                }
            }
        }
        remediation.status = Some(status);
        self.remediations.insert(name.to_owned(), remediation);
    }

    fn fire(&mut self, spec: &RemediationSpec, open: &OpenGrant) {
        assert_eq!(spec.write, open.write, "the Grant names another write");
        self.writes.push((spec.purpose, spec.write.clone()));
        match (spec.purpose, self.aftermath) {
            (Purpose::Undo, _) => self.workload = self.broken.clone(),
            (Purpose::Repair, Aftermath::Stuck) => self.rolled_back(spec, Pods::Stuck),
            (Purpose::Repair, Aftermath::StaysBroken) => self.rolled_back(spec, Pods::Failing),
            (Purpose::Repair, Aftermath::Recovers) | (Purpose::ReplacePod, _) => {
                let repair = self.remediations.values().find(|it| it.spec.purpose == Purpose::Repair).cloned();
                self.rolled_back(&repair.map_or_else(|| spec.clone(), |it| it.spec), Pods::Ready);
            }
            (Purpose::Repair, Aftermath::ChangedByOthers) => {
                self.workload.template = json!({"spec": {"containers": [{"name": "app", "image": "api:9"}]}});
            }
        }
        if spec.purpose != Purpose::ReplacePod {
            self.workload.annotations.insert(names::LAST_ACTION.into(), spec.action_id.clone());
        }
    }

    /// The workload has the value that was written.
    fn rolled_back(&mut self, spec: &RemediationSpec, pods: Pods) {
        let Some(field) = spec.write.field() else { return };
        let mut workload = self.broken.clone();
        if field.path == "/spec/template" {
            workload.template = field.after.clone();
            for revision in &mut workload.revisions {
                revision.fact.current = revision.template == field.after;
            }
        } else {
            workload.spec = json!({ "replicas": field.after });
            workload.state.desired = field.after.as_i64().and_then(|replicas| replicas.try_into().ok()).unwrap();
        }
        workload.annotations.insert(names::LAST_ACTION.into(), spec.action_id.clone());
        let good = workload.current().map(|revision| revision.fact.number);
        let desired = workload.state.desired;
        match pods {
            Pods::Ready => {
                workload.pods = (0..desired)
                    .map(|index| {
                        let mut pod: Pod = self.broken.pods[0].clone();
                        pod.object.name = format!("ready-{index}");
                        pod.object.uid = format!("uid-ready-{index}");
                        pod.fact = crate::api::v1alpha1::PodFact {
                            revision: good,
                            ready: true,
                            phase: "Running".into(),
                            ready_since: Some(self.now),
                            ..crate::api::v1alpha1::PodFact::default()
                        };
                        pod
                    })
                    .collect();
                workload.state.updated = desired;
                workload.state.ready = desired;
                workload.state.available = desired;
            }
            // The pods of the bad revision are still there.
            Pods::Stuck => {}
            Pods::Failing => {
                for pod in workload.pods.iter_mut().filter(|pod| pod.fact.failure.is_hard()) {
                    pod.fact.revision = good;
                }
            }
        }
        self.workload = workload;
    }
}

enum Pods {
    Ready,
    Stuck,
    Failing,
}

enum Refused {
    Budget(budget::Refusal),
    Error,
}

/// How a run went.
pub struct Run {
    /// Requests of the driver: reads, effects and status writes.
    pub requests: usize,
    /// It came to a final phase, and people know if they have to.
    pub ended: bool,
}

/// Drives the incident until it is over, with `fault(n)` at its n-th request.
pub fn drive(world: &mut World, step: StepFn, mut fault: impl FnMut(usize) -> Fault) -> Run {
    let mut requests = 0;
    let mut past: Vec<World> = Vec::new();
    let mut at = |world: &World, past: &mut Vec<World>| {
        let fault = fault(requests);
        requests += 1;
        // Kept only where it may be asked for: a World is large.
        if world.remembers {
            past.push(World { violations: BTreeSet::new(), ..world.clone() });
            if past.len() > 4 {
                past.remove(0);
            }
        }
        fault
    };
    'reconcile: for _ in 0..900 {
        world.others();
        let mut incident = world.incident.clone();
        let mut need = incident::need(&incident, world.now);
        for _ in 0..12 {
            let seen = match at(world, &mut past) {
                Fault::Error | Fault::Timeout | Fault::LostAnswer => {
                    world.now += SignedDuration::from_millis(900);
                    continue 'reconcile;
                }
                Fault::Stale => past.first().map_or_else(|| world.gather(need), |old| old.gather(need)),
                Fault::None | Fault::Conflict => world.gather(need),
            };
            let mut taken = step(&incident, &seen, &world.terms, world.now);
            match perform(world, &taken.effects.clone(), &mut past, &mut at) {
                Ok(()) => {}
                Err(Refused::Error) => {
                    world.now += SignedDuration::from_millis(900);
                    continue 'reconcile;
                }
                Err(Refused::Budget(refusal)) => {
                    taken = incident::refused(&incident, &taken, &refusal, &world.terms, world.now);
                    if perform(world, &taken.effects.clone(), &mut past, &mut at).is_err() {
                        world.now += SignedDuration::from_millis(900);
                        continue 'reconcile;
                    }
                }
            }
            if let Some(status) = taken.status {
                match at(world, &mut past) {
                    Fault::Error | Fault::Timeout => {
                        world.now += SignedDuration::from_millis(900);
                        continue 'reconcile;
                    }
                    Fault::Conflict => {
                        world.incident.metadata.resource_version = Some(world.bump());
                        continue 'reconcile;
                    }
                    Fault::LostAnswer => {
                        store(world, &incident, *status);
                        continue 'reconcile;
                    }
                    Fault::None | Fault::Stale => {
                        if !store(world, &incident, *status) {
                            continue 'reconcile;
                        }
                    }
                }
                incident = world.incident.clone();
            }
            if perform(world, &taken.after, &mut past, &mut at).is_err() {
                continue 'reconcile;
            }
            need = match taken.next {
                Next::Look(more) => more,
                Next::Again => incident::need(&incident, world.now),
                Next::After(pause) => {
                    world.now += SignedDuration::try_from(pause).unwrap();
                    if world.phase().is_final() && incident::need(&world.incident, world.now) == Need::Nothing {
                        return Run { requests, ended: true };
                    }
                    continue 'reconcile;
                }
                Next::Deliver => {
                    let delivered = world.receiver_works;
                    let earlier = incident.status.as_ref().and_then(|s| s.escalation.as_ref()?.deliveries.first());
                    let attempts = 1 + earlier.map_or(0, |delivery| delivery.attempts);
                    let delivery = Delivery { channel: "event".into(), delivered, attempts, ..Delivery::default() };
                    let done = incident::delivered(&incident, vec![delivery], false);
                    world.told.push(Notice::Escalated);
                    if let Some(status) = done.status {
                        store(world, &incident, *status);
                    }
                    if let Next::After(pause) = done.next {
                        world.now += SignedDuration::try_from(pause).unwrap();
                    }
                    continue 'reconcile;
                }
            };
            world.others();
        }
    }
    Run { requests, ended: false }
}

/// Compare-and-swap of the status.
fn store(world: &mut World, seen: &Incident, status: crate::api::v1alpha1::IncidentStatus) -> bool {
    if world.incident.metadata.resource_version != seen.metadata.resource_version {
        return false;
    }
    world.incident.status = Some(status);
    world.incident.metadata.resource_version = Some(world.bump());
    true
}

fn perform(
    world: &mut World,
    effects: &[Effect],
    past: &mut Vec<World>,
    at: &mut impl FnMut(&World, &mut Vec<World>) -> Fault,
) -> Result<(), Refused> {
    for effect in effects {
        match at(world, past) {
            Fault::None | Fault::Stale => world.apply(effect)?,
            // Whoever appends to a log meets no conflict; whoever opens a Grant does.
            Fault::Conflict => {
                world.grant.metadata.resource_version = Some(world.bump());
                world.apply(effect)?;
            }
            Fault::Error | Fault::Timeout => return Err(Refused::Error),
            Fault::LostAnswer => {
                world.apply(effect)?;
                return Err(Refused::Error);
            }
        }
    }
    Ok(())
}
