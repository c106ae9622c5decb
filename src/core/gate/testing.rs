//! Builders of readings and cases that read as states.

use serde_json::{Value, json};

use crate::api::v1alpha1::{
    Action, ActionKind, Cause, Claim, ClaimKind, Diagnosis, Fact, FactData, KnownGood, LedgerStatus, ObjectRef,
    PodFact, PodFailure, Proposal, RevisionDiffFact, RevisionFact, RolloutUndo, SourceName, Time, WorkloadFact,
};
use crate::core::{
    names,
    policy::CompiledPolicy,
    workload::{Pod, Revision, Workload},
};
use crate::settings::Settings;

use super::{Case, Judgement, judge};

/// Seconds after a fixed moment.
pub fn at(second: i64) -> Time {
    Time::from_second(1_800_000_000 + second).unwrap()
}

fn template(image: &str) -> Value {
    json!({"metadata": {"labels": {"app": "api"}}, "spec": {"containers": [{"name": "app", "image": image}]}})
}

fn object(kind: &str, name: &str) -> ObjectRef {
    ObjectRef {
        api_version: "apps/v1".into(),
        kind: kind.into(),
        namespace: "shop".into(),
        name: name.into(),
        uid: format!("uid-{name}"),
    }
}

fn revision(number: i64, current: bool, image: &str) -> Revision {
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
        workload: WorkloadFact { generation: 2, observed_generation: 2, desired: 2, revision: 2, ..Default::default() },
        labels: Default::default(),
        annotations: Default::default(),
        template: template("api:2"),
        revisions: vec![revision(2, true, "api:2"), revision(1, false, "api:1")],
        pods: vec![],
        read_at: at(0),
    }
}

fn pod(name: &str, revision: i64, failure: PodFailure) -> Pod {
    Pod {
        object: object("Pod", name),
        fact: PodFact {
            owner: format!("api-{revision}"),
            revision,
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
        self.workload.updated = 2;
        self.workload.ready = 2;
        self.workload.available = 2;
        self.pods = vec![pod("api-2-a", 2, PodFailure::None), pod("api-2-b", 2, PodFailure::None)];
        self
    }

    /// The new revision crash-loops; one pod of the old one is still ready.
    pub fn crash_looping(mut self) -> Self {
        self.workload.updated = 1;
        self.workload.ready = 1;
        self.workload.available = 1;
        self.pods = vec![pod("api-1-a", 1, PodFailure::None), pod("api-2-a", 2, PodFailure::CrashLoop)];
        if let Some(old) = self.revisions.iter_mut().find(|r| !r.fact.current) {
            old.fact.ready = 1;
            old.fact.replicas = 1;
        }
        self
    }
}

/// Owns what a [`Case`] borrows: a bad rollout that every check lets be undone.
pub struct World {
    pub now: Time,
    pub target: Option<ObjectRef>,
    pub firing: bool,
    pub rounds: i32,
    pub facts: Vec<Fact>,
    pub diagnosis: Option<Diagnosis>,
    pub second: Option<Diagnosis>,
    pub reading: Workload,
    pub mode: Option<String>,
    pub policies: Vec<CompiledPolicy>,
    pub runbooks: Vec<(String, Vec<ActionKind>)>,
    pub known_good: Vec<KnownGood>,
    pub ledger: LedgerStatus,
    pub storm: u32,
    pub full_quota: Option<String>,
    pub approvals: Vec<(String, String)>,
    pub audit: bool,
    pub settings: Settings,
}

/// A bad rollout that every check lets be undone.
pub fn bad_rollout() -> World {
    let fact = |id: &str, object: ObjectRef, data| Fact {
        id: id.into(),
        source: SourceName::Pods,
        object,
        seen_at: at(0),
        data,
        text: String::new(),
    };
    let claim = |kind, revision, cites: &[&str]| Claim {
        kind,
        revision,
        failure: PodFailure::None,
        cites: cites.iter().map(|c| c.to_string()).collect(),
        text: String::new(),
    };
    let failing = PodFact { revision: 2, failure: PodFailure::CrashLoop, ..Default::default() };
    let diff = RevisionDiffFact {
        from: 1,
        to: 2,
        changes: vec![crate::api::v1alpha1::FieldChange {
            path: "/spec/containers/app/image".into(),
            ..Default::default()
        }],
        restart_only: false,
    };
    World {
        now: at(1),
        target: Some(object("Deployment", "api")),
        firing: true,
        rounds: 1,
        facts: vec![
            fact("f1", object("Deployment", "api"), FactData::Workload(WorkloadFact::default())),
            fact("f2", object("Pod", "api-2-a"), FactData::Pod(failing)),
            fact("f3", object("Deployment", "api"), FactData::RevisionDiff(diff)),
        ],
        diagnosis: Some(Diagnosis {
            diagnoser: "rules".into(),
            cause: Cause::BadRollout,
            hypothesis: "revision 2 crash-loops".into(),
            suspect: Some(object("Deployment", "api")),
            suspected_revision: 2,
            confidence: 90,
            proposal: Some(Proposal {
                action: Action::RolloutUndo(RolloutUndo { to_revision: 1 }),
                target: object("Deployment", "api"),
            }),
            claims: vec![
                claim(ClaimKind::PodsFailing, 0, &["f2"]),
                claim(ClaimKind::FailingPodsRunRevision, 2, &["f2"]),
                claim(ClaimKind::TemplateChanged, 1, &["f3"]),
            ],
            advice: String::new(),
        }),
        second: None,
        reading: reading().crash_looping(),
        mode: Some("auto".into()),
        policies: vec![],
        runbooks: vec![],
        known_good: vec![],
        ledger: LedgerStatus::default(),
        storm: 1,
        full_quota: None,
        approvals: vec![],
        audit: true,
        settings: Settings { namespaces: vec!["shop".into()], ..Settings::default() },
    }
}

impl World {
    /// The diagnosis, to be bent.
    pub fn diagnosis(&mut self) -> &mut Diagnosis {
        self.diagnosis.as_mut().unwrap()
    }

    /// Judges it.
    pub fn judge(&self) -> Judgement {
        judge(&self.case())
    }

    /// As the gate sees it.
    pub fn case(&self) -> Case<'_> {
        Case {
            now: self.now,
            incident: "inc",
            target: self.target.as_ref(),
            unresolved: None,
            alert_firing: self.firing,
            alert_started_at: at(-2),
            alert_names: vec!["KubePodCrashLooping"],
            rounds: self.rounds,
            facts: &self.facts,
            diagnosis: self.diagnosis.as_ref(),
            second_opinion: self.second.as_ref(),
            reading: Ok(&self.reading),
            namespace_mode: self.mode.as_deref(),
            policies: &self.policies,
            runbooks: &self.runbooks,
            known_good: &self.known_good,
            ledger: &self.ledger,
            storm_targets: self.storm,
            full_quota: self.full_quota.clone(),
            approvals: &self.approvals,
            audit_durable: self.audit,
            settings: &self.settings,
        }
    }
}
