//! Builders of readings and cases that read as states.

use serde_json::{Value, json};

use crate::api::v1alpha1::{
    Action, Cause, Claim, ClaimKind, Diagnosis, Fact, FactData, FieldChange, KnownGood, LedgerStatus, Mode, ObjectRef,
    Planted, PodFact, PodFailure, Policy, PolicyException, Proposal, ReferenceKind, Review, RevisionDiffFact,
    RevisionFact, RolloutRestart, RolloutUndo, Runbook, Severity, SourceName, TargetReading, Time, WorkloadFact,
};
use crate::core::{
    actions::planted::SIGN,
    blast::Reach,
    budget::{Budgets, storm::FailingTargets},
    names,
    neighbours::Storm,
    policy::{CompiledPolicy, CompiledRunbook, runbook_name},
    workload::{Kind, Pod, Presence, Revision, Workload},
};

use super::{Alerts, Belief, Books, Case, Cluster, Judgement, Rules, RunbookRule, Unreadable, ValidApproval, judge};

/// Seconds after a fixed moment.
pub fn at(second: i64) -> Time {
    Time::from_second(1_800_000_000 + second).unwrap()
}

/// Its pods work and its counts are full, whatever it was.
pub fn heal(workload: &mut Workload) {
    for pod in &mut workload.pods {
        (pod.fact.failure, pod.fact.ready) = (PodFailure::None, true);
    }
    let desired = workload.state.desired;
    (workload.state.ready, workload.state.available, workload.state.updated) = (desired, desired, desired);
}

/// So many failing targets in so many namespaces that it is a storm of the cluster.
pub fn failing_everywhere() -> FailingTargets {
    FailingTargets::of(["a", "b", "c", "d"].iter().flat_map(|name| ["1", "2", "3", "4"].map(|uid| (*name, uid))))
}

fn template(image: &str) -> Value {
    json!({"metadata": {"labels": {"app": "api"}}, "spec": {"containers": [{"name": "app", "image": image}]}})
}

/// An object of namespace `shop` whose UID is `uid-` and its name.
pub fn object(kind: &str, name: &str) -> ObjectRef {
    ObjectRef {
        api_version: "apps/v1".into(),
        kind: kind.into(),
        namespace: "shop".into(),
        name: name.into(),
        uid: format!("uid-{name}"),
    }
}

/// A recorded revision, created ten seconds before the fixed moment.
pub fn revision(number: i64, current: bool, image: &str) -> Revision {
    let template = template(image);
    let hash = names::digest(&[&names::canonical(&template)]);
    Revision {
        object: object("ReplicaSet", &format!("api-{number}")),
        fact: RevisionFact {
            number,
            current,
            created_at: Some(at(-10)),
            template_hash: hash[..16].to_string(),
            ..Default::default()
        },
        template,
        template_hash: hash,
    }
}

/// A Deployment of two replicas with revisions 1 and 2, the second current, and no pods yet.
pub fn reading() -> Workload {
    Workload {
        object: object("Deployment", "api"),
        kind: Kind::Deployment,
        state: WorkloadFact {
            generation: 2,
            observed_generation: 2,
            desired: 2,
            revision: Some(2),
            ..Default::default()
        },
        labels: Default::default(),
        annotations: Default::default(),
        template: template("api:2"),
        spec: json!({"replicas": 2}),
        ending: false,
        strategy: Default::default(),
        revisions: vec![revision(2, true, "api:2"), revision(1, false, "api:1")],
        pods: vec![],
        read_at: at(0),
        pod_security_at: None,
    }
}

/// A running pod.
pub fn pod(name: &str, revision: i64, failure: PodFailure) -> Pod {
    Pod {
        object: object("Pod", name),
        fact: PodFact {
            owner: format!("api-{revision}"),
            revision: Some(revision),
            phase: "Running".into(),
            ready: failure == PodFailure::None,
            ready_since: Some(at(-5)),
            failure,
            ..Default::default()
        },
    }
}

impl Workload {
    /// All replicas are ready.
    pub fn healthy(mut self) -> Self {
        self.state.updated = 2;
        self.state.ready = 2;
        self.state.available = 2;
        self.pods = vec![pod("api-2-a", 2, PodFailure::None), pod("api-2-b", 2, PodFailure::None)];
        self
    }

    /// The new revision crash-loops; one pod of the old one is still ready.
    pub fn crash_looping(mut self) -> Self {
        self.state.updated = 1;
        self.state.ready = 1;
        self.state.available = 1;
        self.pods = vec![pod("api-1-a", 1, PodFailure::None), pod("api-2-a", 2, PodFailure::CrashLoop)];
        if let Some(old) = self.revisions.iter_mut().find(|r| !r.fact.current) {
            old.fact.ready = 1;
            old.fact.replicas = 1;
        }
        self
    }
}

/// A Policy of namespace `shop`.
pub fn policy(spec: Value) -> CompiledPolicy {
    let mut policy = Policy::new("p", serde_json::from_value(spec).unwrap());
    policy.metadata.namespace = Some("shop".into());
    CompiledPolicy::of(&policy)
}

/// A Runbook of namespace `shop`.
pub fn runbook(name: &str, spec: Value) -> RunbookRule {
    let mut runbook = Runbook::new(name, serde_json::from_value(spec).unwrap());
    runbook.metadata.namespace = Some("shop".into());
    RunbookRule {
        name: runbook_name(&runbook),
        allowed_actions: runbook.spec.allowed_actions.clone(),
        compiled: CompiledRunbook::of(&runbook),
    }
}

/// The action that returns to this revision.
pub fn undo_to(to_revision: i64) -> Action {
    Action::RolloutUndo(RolloutUndo { to_revision })
}

/// A claim that cites facts.
pub fn claim(kind: ClaimKind, revision: Option<i64>, cites: &[&str]) -> Claim {
    let cites = cites.iter().map(|id| id.to_string()).collect();
    Claim { kind, revision, failure: None, cites, text: String::new() }
}

/// A fact that was seen at the fixed moment.
pub fn fact(id: &str, object: ObjectRef, data: FactData) -> Fact {
    Fact { id: id.into(), source: SourceName::Pods, object, seen_at: at(0), data, text: String::new() }
}

/// Facts of a Deployment of which every pod is ready.
pub fn facts_of_health() -> Vec<Fact> {
    let whole = WorkloadFact { desired: 2, updated: 2, ready: 2, available: 2, ..WorkloadFact::default() };
    let pod = PodFact { revision: Some(2), ready: true, ..PodFact::default() };
    vec![
        fact("f1", object("Deployment", "api"), FactData::Workload(whole)),
        fact("f2", object("Pod", "api-2-a"), FactData::Pod(pod)),
    ]
}

/// Owns what a [`Case`] borrows.
pub struct GateFixture {
    pub now: Time,
    pub rounds: i32,
    pub target: Result<ObjectRef, Unreadable>,
    pub firing: bool,
    pub alert_started_at: Time,
    pub alert_labels: std::collections::BTreeMap<String, String>,
    pub facts: Vec<Fact>,
    pub diagnosis: Option<Diagnosis>,
    pub second: Option<Diagnosis>,
    pub ceiling: Mode,
    pub review: Option<Review>,
    pub reading: Workload,
    pub unreadable: Option<Unreadable>,
    pub known_good: Vec<KnownGood>,
    pub presence: Vec<Presence>,
    pub full_quota: Option<String>,
    pub reach: Option<Result<Reach, Unreadable>>,
    pub mode: Option<String>,
    pub policies: Vec<CompiledPolicy>,
    pub runbooks: Vec<RunbookRule>,
    pub exceptions: Vec<PolicyException>,
    pub ledger: LedgerStatus,
    pub approvals: Vec<ValidApproval>,
    pub storm: Option<Storm>,
    pub neighbours_unread: Option<Unreadable>,
    pub failing_targets: FailingTargets,
    pub before_write: Option<TargetReading>,
    pub budgets: Budgets,
    pub enrolled: bool,
    pub audit: bool,
}

/// A bad rollout that every check lets be undone.
pub fn bad_rollout() -> GateFixture {
    let workload = object("Deployment", "api");
    let failing = PodFact { revision: Some(2), failure: PodFailure::CrashLoop, ..Default::default() };
    let change = FieldChange { path: "/spec/containers/app/image".into(), ..Default::default() };
    let diff = RevisionDiffFact { from: 1, to: 2, changes: vec![change], restart_only: false };
    let failing_so = Claim { failure: Some(PodFailure::CrashLoop), ..claim(ClaimKind::PodsFailing, None, &["f2"]) };
    GateFixture {
        now: at(1),
        rounds: 1,
        target: Ok(workload.clone()),
        firing: true,
        alert_started_at: at(-2),
        alert_labels: Default::default(),
        facts: vec![
            fact("f1", workload.clone(), FactData::Workload(WorkloadFact::default())),
            fact("f2", object("Pod", "api-2-a"), FactData::Pod(failing)),
            fact("f3", workload.clone(), FactData::RevisionDiff(diff)),
        ],
        diagnosis: Some(Diagnosis {
            ceiling: crate::core::rules::CEILING,
            diagnoser: "rules".into(),
            cause: Cause::BadRollout,
            hypothesis: "revision 2 crash-loops".into(),
            suspect: Some(workload.clone()),
            suspected_revision: Some(2),
            suspected_change: None,
            confidence: 90,
            proposal: Some(Proposal { action: undo_to(1), target: workload }),
            claims: vec![
                failing_so,
                claim(ClaimKind::FailingPodsRunRevision, Some(2), &["f2"]),
                claim(ClaimKind::TemplateChanged, Some(1), &["f3"]),
            ],
            advice: String::new(),
        }),
        second: None,
        ceiling: Mode::Observe,
        review: None,
        reading: reading().crash_looping(),
        unreadable: None,
        known_good: vec![],
        presence: vec![],
        full_quota: None,
        reach: Some(Ok(Reach::default())),
        mode: Some("auto".into()),
        policies: vec![],
        runbooks: vec![],
        exceptions: vec![],
        ledger: LedgerStatus::default(),
        approvals: vec![],
        storm: None,
        neighbours_unread: None,
        failing_targets: FailingTargets::of([("shop", "api")]),
        before_write: None,
        budgets: Budgets::default(),
        enrolled: true,
        audit: true,
    }
}

/// The action that restarts with this time.
pub fn restart_at(restarted_at: Time) -> Action {
    Action::RolloutRestart(RolloutRestart { restarted_at })
}

/// Two old pods of one template hang on two nodes, and a newer one works beside one of them: every check lets it be
/// restarted.
pub fn stale_processes() -> GateFixture {
    let mut world = bad_rollout();
    let with_map = |template: &mut Value| {
        template["spec"]["containers"][0]["envFrom"] = json!([{"configMapRef": {"name": "settings"}}]);
    };
    let hangs = |name: &str, node: &str, created: i64| {
        let mut pod = pod(name, 2, PodFailure::ProbeFailing);
        (pod.fact.created_at, pod.fact.ready_since, pod.fact.node) =
            (Some(at(created)), Some(at(-300)), node.to_owned());
        pod
    };
    let mut newer = pod("api-2-c", 2, PodFailure::None);
    (newer.fact.created_at, newer.fact.ready_since, newer.fact.node) =
        (Some(at(-120)), Some(at(-110)), "n1".to_owned());
    let reading = &mut world.reading;
    with_map(&mut reading.template);
    with_map(&mut reading.revisions[0].template);
    reading.revisions[0].fact.created_at = Some(at(-95_000));
    reading.revisions[0].fact.ready = 1;
    (reading.spec["replicas"], reading.state.desired) = (json!(3), 3);
    (reading.state.updated, reading.state.ready, reading.state.available) = (3, 1, 1);
    reading.pods = vec![hangs("api-2-a", "n1", -90_000), hangs("api-2-b", "n2", -89_000), newer.clone()];
    world.presence = vec![Presence {
        kind: ReferenceKind::ConfigMap,
        name: "settings".into(),
        exists: Some(true),
        changed_at: Some(at(-400)),
    }];
    let failing = PodFact { revision: Some(2), failure: PodFailure::ProbeFailing, ..Default::default() };
    world.facts[1] = fact("f2", object("Pod", "api-2-a"), FactData::Pod(failing));
    world.facts[2] = fact("f3", object("Pod", "api-2-c"), FactData::Pod(newer.fact));
    let failing_so = Claim { failure: Some(PodFailure::ProbeFailing), ..claim(ClaimKind::PodsFailing, None, &["f2"]) };
    world.diagnosis().cause = Cause::ConfigurationChanged;
    world.diagnosis().claims = vec![
        failing_so,
        claim(ClaimKind::FailingPodsRunRevision, Some(2), &["f2"]),
        claim(ClaimKind::TemplateUnchanged, Some(2), &["f3"]),
    ];
    world.proposal().action = restart_at(at(-120));
    world
}

/// The bad rollout, with a sign that makes investigation and rules propose the action of unit tests.
pub fn too_few_replicas() -> GateFixture {
    let mut world = bad_rollout();
    world.reading.state.progressing_reason = SIGN.into();
    world.proposal().action = Action::Planted(Planted { replicas: 3 });
    world
}

impl GateFixture {
    /// The diagnosis, to be bent.
    pub fn diagnosis(&mut self) -> &mut Diagnosis {
        self.diagnosis.as_mut().unwrap()
    }

    /// The proposal, to be bent.
    pub fn proposal(&mut self) -> &mut Proposal {
        self.diagnosis().proposal.as_mut().unwrap()
    }

    /// A revision of the reading is marked as seen healthy.
    pub fn mark(&self, index: usize) -> KnownGood {
        let revision = &self.reading.revisions[index];
        KnownGood {
            workload_uid: self.reading.object.uid.clone(),
            revision_uid: revision.object.uid.clone(),
            template_hash: revision.template_hash.clone(),
            at: at(-900),
        }
    }

    /// The decision.
    pub fn judge(&self) -> Judgement {
        judge(&self.case())
    }

    /// As the gate sees it.
    pub fn case(&self) -> Case<'_> {
        Case {
            now: self.now,
            incident: "inc",
            rounds: self.rounds,
            target: self.target.as_ref().map_err(Clone::clone),
            alerts: Alerts {
                firing: self.firing,
                started_at: self.alert_started_at,
                names: vec!["KubePodCrashLooping"],
                severity: Severity::Warning,
                labels: &self.alert_labels,
            },
            belief: Belief {
                facts: &self.facts,
                diagnosis: self.diagnosis.as_ref(),
                second_opinion: self.second.as_ref(),
                doubt: None,
                ceiling: self.ceiling,
                review: self.review.as_ref(),
                decided: self.diagnosis.as_ref().map_or("", |diagnosis| diagnosis.diagnoser.as_str()),
                again: false,
            },
            cluster: Cluster {
                workload: match &self.unreadable {
                    Some(why) => Err(why.clone()),
                    None => Ok(&self.reading),
                },
                known_good: &self.known_good,
                presence: &self.presence,
                before_write: self.before_write.as_ref(),
                full_quota: self.full_quota.as_deref(),
                reach: self.reach.as_ref().map(|reach| reach.as_ref().map_err(Clone::clone)),
            },
            rules: Rules {
                namespace_mode: self.mode.as_deref(),
                policies: &self.policies,
                runbooks: &self.runbooks,
                exceptions: &self.exceptions,
                system: "backstop-system",
            },
            books: Books {
                ledger: &self.ledger,
                approvals: &self.approvals,
                storm: self.storm.as_ref(),
                neighbours_unread: self.neighbours_unread.as_ref(),
                failing_targets: &self.failing_targets,
                budgets: &self.budgets,
                enrolled: self.enrolled,
                audit_durable: self.audit,
            },
        }
    }
}
