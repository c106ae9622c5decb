//! A world for tests of the state machine: what the API server stores, what is read of it, and what a step's effects do
//! to it.

use std::collections::{BTreeMap, BTreeSet};

use jiff::SignedDuration;
use serde_json::json;

use crate::api::v1alpha1::{
    Approval, ApprovalAnswer, Diagnosis, Fact, Grant, GrantSpec, Incident, IncidentPhase, IncidentSpec, IncidentStatus,
    Investigation, KnownGood, LedgerState, LedgerStatus, ModelChain, OpenGrant, PodFailure, Purpose, Remediation,
    RemediationStatus, Review, Severity, Time, Write,
};
use crate::core::{
    budget,
    gate::{Unreadable, testing},
    incident::{
        self, Books, Effect, Flight, JudgementInputs, Need, Notice, Rules, Seen, Step, Target, Terms, Watched,
        WriteAndJudgement,
    },
    names,
    neighbours::Storm,
    policy::CompiledPolicy,
    reason::Reason,
    surroundings::{self, Successor},
    workload::{Kind, Presence, Strategy, Workload},
};

/// What the rung of this name answers, made from the right diagnosis; `None` when it cannot be reached.
pub type Model = fn(&str, &Diagnosis) -> Option<Diagnosis>;
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
    /// It does not arrive in time, and arrives [`LATE`] later.
    Late,
    /// Somebody else writes the object just before.
    Conflict,
    /// What is read is as it was some requests ago.
    Stale,
}

impl Fault {
    pub const ALL: [Fault; 6] =
        [Fault::Error, Fault::Timeout, Fault::LostAnswer, Fault::Late, Fault::Conflict, Fault::Stale];
}

/// How late a request arrives that nobody waits for any more: longer than any answer is waited for.
pub const LATE: SignedDuration = SignedDuration::from_secs(7);

/// A request that is under way.
#[derive(Clone, Debug)]
pub enum Delayed {
    Effect(Effect),
    /// The status, for the version of the Incident that it was sent for.
    Status {
        version: Option<String>,
        status: Box<IncidentStatus>,
    },
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
    /// Writes what is granted, and reports it once the incident is over.
    ReportsLate,
    /// Gives up once the incident is over.
    AbortsLate(Reason),
    /// Writes what is granted, and gives up evicting a pod because that went by itself.
    FiresAndFindsPodGone,
    /// Writes what is granted, and gives up evicting a pod for this reason.
    FiresAndAbortsEviction(Reason),
    /// Finds the annotation of the write on the target, and another value.
    FindsAnnotation,
    /// Writes what is granted, and cannot say that it did.
    WritesUnproven,
}

/// What the target does after a repair was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aftermath {
    Recovers,
    StaysBroken,
    /// Its rollout advances, and ends after more than the timeout.
    RecoversSlowly,
    /// Nothing of it works any more.
    MakesItWorse,
    /// It is healthy, and fails again while it is watched.
    Relapses,
    /// It is healthy, and somebody writes the former value back.
    IsReverted,
    /// Somebody scales it to 0.
    IsScaledDown,
    /// One pod waits to be evicted; then it recovers.
    Stuck,
    /// The same, but the pod goes by itself as soon as its eviction is planned.
    StuckAndGoes,
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
    /// How long after the write the alert ends; `None` when it never does.
    pub alert_lasts: Option<SignedDuration>,
    /// How long after the beginning the alert ends.
    pub alert_ends_after: Option<SignedDuration>,
    /// How long after the beginning the target fails, and what the investigator says of it then.
    pub fails_after: Option<(SignedDuration, Diagnosis)>,
    /// The alert ends as soon as an Approval is asked for.
    pub alert_ends_when_asked: bool,
    /// As soon as an Approval is asked for, an alert of this severity and name joins.
    pub joins_when_asked: Option<(Severity, &'static str)>,
    /// When something was last written to the target.
    pub fired: Option<Time>,
    /// Many workloads fail at once.
    pub storm: Option<Storm>,
    /// A later incident is about the same target.
    pub successor: Option<Successor>,
    pub broken: Workload,
    pub workload: Workload,
    /// It heals by itself as soon as a Remediation exists.
    pub heals_before_write: bool,
    pub readable: bool,
    /// It cannot be read any more once something was written to it.
    pub unreadable_after_write: bool,
    /// It cannot be read any more once it has recovered.
    pub unreadable_after_recovery: bool,
    pub known_good: Vec<KnownGood>,
    pub presence: Vec<Presence>,
    pub policies: Vec<CompiledPolicy>,
    pub facts: Vec<Fact>,
    pub diagnosis: Diagnosis,
    /// The ModelChains of the system namespace.
    pub chains: Vec<ModelChain>,
    /// How their models answer; the rules answer besides.
    pub model: Model,
    /// How long a round that asks models takes.
    pub models_take: SignedDuration,
    /// A round that asks models never ends.
    pub models_hang: bool,
    /// How long after the beginning the other workloads of the namespace cannot be read.
    pub neighbours_unread: SignedDuration,
    /// What a reviewer says of every proposal.
    pub review: Option<Review>,
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
    /// Somebody sets the mode to observe while a request to open a Grant is under way.
    pub kill_switch_once_sent: bool,
    /// A person approves whatever is asked, after this long.
    pub approves: bool,
    /// People who answer whatever is asked, each with a group of theirs.
    pub answers: &'static [(&'static str, &'static str, ApprovalAnswer)],
    /// Requests that nobody waits for any more, with the time at which they arrive.
    pub delayed: Vec<(Time, Delayed)>,
    /// Grants that are closed already are not written again, as a careless controller would have it.
    pub closes_carelessly: bool,
    // What the oracle looks at.
    pub audit: Vec<(String, Option<String>)>,
    pub records: Vec<incident::Entry>,
    pub opened: Vec<OpenGrant>,
    pub writes: Vec<(Purpose, Write)>,
    pub told: Vec<Notice>,
    /// What told each of `told` from others of its kind.
    pub occasions: Vec<String>,
    pub violations: BTreeSet<String>,
    pub version: u64,
    pub reclaimed: BTreeSet<String>,
    pub unreported: BTreeMap<String, RemediationStatus>,
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
            alert_lasts: Some(SignedDuration::from_secs(8)),
            alert_ends_after: None,
            fails_after: None,
            alert_ends_when_asked: false,
            joins_when_asked: None,
            fired: None,
            storm: None,
            successor: None,
            broken: base.reading.clone(),
            workload: base.reading.clone(),
            heals_before_write: false,
            readable: true,
            unreadable_after_write: false,
            unreadable_after_recovery: false,
            known_good: base.known_good.clone(),
            presence: base.presence.clone(),
            policies: vec![],
            facts: base.facts.clone(),
            diagnosis: base.diagnosis.clone().expect("a diagnosis"),
            chains: vec![],
            model: |_, _| None,
            models_take: SignedDuration::ZERO,
            models_hang: false,
            neighbours_unread: SignedDuration::ZERO,
            review: None,
            mode: Some("auto".into()),
            terms: Terms {
                system: "backstop-system".into(),
                evict_pods: true,
                // Short, because each look in between is a step.
                timings: incident::Timings {
                    verify_settle_seconds: 2,
                    verify_timeout_seconds: 10,
                    watch_seconds: 90,
                    alert_goes_on_seconds: 60,
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
            kill_switch_once_sent: false,
            approves: false,
            answers: &[],
            delayed: vec![],
            closes_carelessly: false,
            audit: vec![],
            records: vec![],
            opened: vec![],
            writes: vec![],
            told: vec![],
            occasions: vec![],
            violations: BTreeSet::new(),
            version: 1,
            reclaimed: BTreeSet::new(),
            unreported: BTreeMap::new(),
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

    /// Old processes that hang beside a newer one that works, before anything was done.
    pub fn stale() -> World {
        let mut world = World::new();
        let base = testing::stale_processes();
        (world.facts, world.presence) = (base.facts, base.presence);
        world.broken = base.reading.clone();
        world.workload = base.reading;
        world.diagnosis = base.diagnosis.expect("a diagnosis");
        world
    }

    /// The bad rollout of a StatefulSet that replaces its pods in order.
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

    /// The same, but nothing is wrong with the target any more.
    pub fn healthy() -> World {
        let mut world = World::new();
        world.workload = testing::reading().healthy();
        world.facts = testing::facts_of_health();
        world.diagnosis.cause = crate::api::v1alpha1::Cause::Recovered;
        world.diagnosis.proposal = None;
        world.diagnosis.claims.clear();
        world
    }

    /// The same, where a pod of the new release serves for the time being.
    pub fn half_serving() -> World {
        let mut world = World::new();
        world.broken.pods.push(testing::pod("api-2-b", 2, PodFailure::None));
        world.broken.state.ready = 2;
        world.workload = world.broken.clone();
        world
    }

    pub fn phase(&self) -> IncidentPhase {
        self.incident.status.as_ref().map(|status| status.phase).unwrap_or_default()
    }

    pub fn reason(&self) -> &str {
        self.incident.status.as_ref().map(|status| status.reason.as_str()).unwrap_or_default()
    }

    pub fn status(&self) -> IncidentStatus {
        self.incident.status.clone().unwrap_or_default()
    }

    pub fn bump(&mut self) -> String {
        self.version += 1;
        self.version.to_string()
    }

    /// What was asked for is read.
    pub fn gather(&self, need: Need) -> Seen {
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
            Need::Judgement => Seen::Judgement(Box::new(self.case())),
            Need::Approvals => Seen::Approvals { firing: self.firing, approvals: self.case().books.approvals },
            Need::Write(which) => Seen::Write(flight(which).map(Box::new)),
            Need::WriteAndJudgement(which) => Seen::WriteAndJudgement(Box::new(WriteAndJudgement {
                remediation: flight(which),
                repair: if which == Flight::Repair { None } else { flight(Flight::Repair) },
                grant: Some(self.grant.clone()),
                case: self.case(),
            })),
            Need::Target => {
                Seen::Target(Box::new(Target { repair: flight(Flight::Repair), workload: self.read_workload() }))
            }
            Need::Watch => Seen::Watch(Box::new(Watched {
                repair: flight(Flight::Repair),
                workload: self.read_workload(),
                firing: self.firing,
                successor: self.successor.clone(),
            })),
        }
    }

    fn rules(&self) -> Rules {
        Rules {
            mode: self.mode.clone(),
            pod_security_at: None,
            enrolled: true,
            policies: self.policies.clone().into(),
            runbooks: vec![],
            compiled: Default::default(),
            exceptions: vec![],
            chains: Some(self.chains.clone()),
        }
    }

    fn investigation(&self) -> Option<Investigation> {
        let name = self.incident.status.as_ref()?.investigation.as_ref()?;
        self.investigations.get(name).cloned()
    }

    fn read_workload(&self) -> Result<Workload, Unreadable> {
        let unreadable = (self.unreadable_after_write && !self.writes.is_empty())
            || (self.unreadable_after_recovery && self.phase() == IncidentPhase::Resolved);
        if !self.readable || unreadable {
            return Err(Unreadable { reason: Reason::ClusterUnreadable, message: "the API server is down".into() });
        }
        Ok(Workload { read_at: self.now, ..self.workload.clone() })
    }

    fn case(&self) -> JudgementInputs {
        JudgementInputs {
            firing: self.firing,
            rules: self.rules(),
            investigation: self.investigation(),
            workload: self.read_workload(),
            books: Books {
                ledger: self.ledger.clone(),
                known_good: self.known_good.clone(),
                presence: self.presence.clone(),
                full_quota: None,
                approvals: surroundings::valid_approvals(&self.approvals, "api-0123456789", self.now),
                storm: self.storm.clone(),
                neighbours_unread: (self.now.duration_since(testing::at(0)) < self.neighbours_unread).then(|| {
                    Unreadable { reason: Reason::ClusterUnreadable, message: "pods could not be listed".into() }
                }),
                failing_targets: budget::storm::FailingTargets::of([("shop", "api")]),
                workloads_of_namespace: 1,
                audit_durable: self.audit_works,
                reach: Some(Ok(crate::core::blast::Reach::default())),
                alert_labels: Default::default(),
            },
        }
    }

    /// Does one effect. `Err`: it was not done.
    pub fn apply(&mut self, effect: &Effect) -> Result<(), Refused> {
        match effect {
            Effect::CreateInvestigation { name, spec } => {
                let made = k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(self.now);
                self.investigations.entry(name.clone()).or_insert_with(|| {
                    let mut investigation = Investigation::new(name, spec.as_ref().clone());
                    investigation.metadata.creation_timestamp = Some(made);
                    investigation
                });
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
            Effect::ClaimStorm(claim) => {
                self.ledger = budget::storm::claim(&self.ledger, claim, self.now).map_err(Refused::Budget)?;
            }
            Effect::Settle { action_id, state } => self.ledger = budget::settle(&self.ledger, action_id, *state),
            Effect::TrialSucceeded { action_id } => {
                self.ledger = budget::trial_succeeded(&self.ledger, action_id);
            }
            Effect::Audit(entry) | Effect::AuditAfter(entry) => {
                if self.audit_works {
                    self.audit.push((entry.kind.to_owned(), entry.action_id.clone()));
                    self.records.push(entry.clone());
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
                let open = self.grant.spec.open.as_ref();
                let of_another = open.is_some_and(|open| open.remediation != *remediation && open.not_after > self.now);
                let stays = of_another || (self.closes_carelessly && open.is_none());
                if !stays {
                    self.grant.spec.open = None;
                    let note = format!("{remediation} {}", self.now);
                    self.grant.metadata.annotations = Some([(names::CLOSED_FOR.to_owned(), note)].into());
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
            Effect::Measure(_) => {}
        }
        Ok(())
    }

    /// What is to be told of the cascade breakers that the incident opened.
    pub fn opened_breakers(&self) -> Vec<String> {
        budget::breaker::told_by(&self.ledger, "shop/api-0123456789")
    }

    /// Compare-and-swap of the status.
    pub fn store(&mut self, version: Option<&String>, status: IncidentStatus) -> bool {
        if self.incident.metadata.resource_version.as_ref() != version {
            return false;
        }
        self.incident.status = Some(status);
        self.incident.metadata.resource_version = Some(self.bump());
        true
    }

    /// What was under way for long enough arrives. Nobody hears the answer.
    pub fn arrive(&mut self) {
        let now = self.now;
        let (due, rest) = std::mem::take(&mut self.delayed).into_iter().partition(|(at, _)| *at <= now);
        self.delayed = rest;
        let due: Vec<(Time, Delayed)> = due;
        for (_, request) in due {
            match request {
                Delayed::Effect(effect) => drop(self.apply(&effect)),
                Delayed::Status { version, status } => _ = self.store(version.as_ref(), *status),
            }
        }
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
        let purpose = self.remediations.get(&open.remediation).map(|it| it.spec.purpose);
        if purpose == Some(Purpose::Undo) && self.workload.state.ready > 0 {
            wrong("a Grant was opened to take back what had not made it worse");
        }
        if purpose == Some(Purpose::Repair) && self.storm.is_some() {
            wrong("a Grant was opened in a storm");
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
}

/// Why an effect was not done.
pub enum Refused {
    Budget(budget::Refusal),
    Error,
}
