//! A small API server for tests: objects with resourceVersions, JSON patches, evictions, the admission policies in
//! short, and a controller that opens Grants. It can lose answers, refuse and lag on request.

mod policies;

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{
    Consent, Evidence, Observation, PolicyBounds, PolicyName, Request, Resource, Response, conformance,
    conformance::{Live, State},
    patch, refusal,
    step::armed_by,
};
use crate::{
    api::v1alpha1::{
        Action, ActionKind, ApprovalSpec, FieldWrite, Grant, GrantSpec, KnownGood, Planted, PodFact, PodFailure,
        Purpose, Remediation, RemediationPhase, RemediationSpec, RevisionFact, RolloutUndo, Time, Undo, WorkloadFact,
        Write,
    },
    core::{
        actions::{self, Prediction, planted},
        names, object,
        workload::{Kind, Pod, Revision, Strategy, Workload, recorded_template, same_template},
    },
};

pub const HOLDER: &str = "executor/backstop-system";
pub use conformance::template;

/// What else of the cluster's admission looks at writes to targets and evictions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Nothing.
    Nothing,
    /// A webhook that denies, with this status.
    Denies(u16),
    /// A webhook that has side effects, and so takes no dry-run.
    TakesNoDryRun,
    /// A webhook that must be asked and is away until then.
    AwayUntil(Time),
    /// A policy of somebody else.
    OtherPolicy,
    /// A webhook that puts a label on whatever is written.
    Labels,
    /// A webhook that writes images of templates with their digest.
    Pins,
}

/// The cluster.
#[derive(Clone)]
pub struct Model {
    pub kind: Kind,
    pub version: u64,
    pub target: Option<Value>,
    pub revisions: BTreeMap<String, Value>,
    /// The pod `cart-0`, which fails and runs the revision that is not the current one.
    pub pod: Option<Value>,
    pub remediation: Remediation,
    pub grant: Grant,
    pub now: Time,
    /// Every change of a spec, with the value afterwards.
    pub spec_changes: Vec<Value>,
    /// UIDs of pods that were evicted.
    pub evictions: Vec<String>,
    /// What an eviction meets a full disruption budget until.
    pub blocked_until: Time,
    pub mode: &'static str,
    pub policies: Vec<&'static str>,
    /// The policies see the Grant and the marks of this many requests ago.
    pub lag: usize,
    past: Vec<(Grant, bool)>,
    pub not_ready: String,
    pub grant_seconds: i64,
    pub opened: i64,
    /// Until then the API server has not set its policies up, and refuses what they match.
    pub settled_at: Time,
    /// Until then the API server knows of no rights.
    pub rights_at: Time,
    /// The right to write workloads is missing.
    pub missing_right: bool,
    /// The right to evict pods is missing.
    pub missing_eviction_right: bool,
    /// Whoever else admits writes.
    pub admission: Admission,
    /// The pods of the target are ready.
    pub healthy: bool,
    /// What is bent in the evidence.
    pub bend: fn(&mut Evidence),
    /// Approvals of the namespace.
    pub approvals: Vec<Consent>,
    /// Policies that the executor reads.
    pub policy_bounds: Vec<PolicyBounds>,
    /// The evidence cannot be read until then.
    pub readable_at: Time,
    /// Until then the status of the target is about the generation before, and shows no failure.
    pub status_at: Time,
    /// How often the evidence was read.
    pub looks: std::cell::Cell<usize>,
}

impl Model {
    /// A bad rollout, to be repaired.
    pub fn new(kind: Kind) -> Model {
        let target = conformance::target(kind, "uid-cart", "cart:2");
        let revision = |number: i64| {
            let (name, image) = (format!("cart-{number}"), format!("cart:{number}"));
            (name.clone(), conformance::revision(kind, &name, "uid-cart", number, &image))
        };
        let pod = conformance::pod("uid-pod", "cart:2");
        let (name, old) = revision(1);
        let (remediation, _) = conformance::remediations(ActionKind::RolloutUndo, kind, &target, &old, &pod);
        let mut grant = Grant::new(names::GRANT, GrantSpec { open: None, closed_because: None });
        grant.metadata.resource_version = Some("1".into());
        let mut policies = vec![PolicyName::STATIC, PolicyName::GRANT];
        policies.push(PolicyName::provenance(kind));
        Model {
            kind,
            version: 1,
            target: Some(target),
            revisions: [(name, old), revision(2)].into(),
            pod: Some(pod),
            remediation,
            grant,
            now: Time::UNIX_EPOCH,
            spec_changes: Vec::new(),
            evictions: Vec::new(),
            blocked_until: Time::UNIX_EPOCH,
            mode: "auto",
            policies,
            lag: 0,
            past: Vec::new(),
            not_ready: String::new(),
            grant_seconds: 60,
            opened: 0,
            settled_at: Time::UNIX_EPOCH,
            rights_at: Time::UNIX_EPOCH,
            missing_right: false,
            missing_eviction_right: false,
            admission: Admission::Nothing,
            healthy: false,
            bend: |_| {},
            approvals: Vec::new(),
            policy_bounds: Vec::new(),
            readable_at: Time::UNIX_EPOCH,
            status_at: Time::UNIX_EPOCH,
            looks: Default::default(),
        }
    }

    /// A StatefulSet whose repair was written and whose pod is stuck: the pod is to be evicted.
    pub fn stuck_pod() -> Model {
        let mut model = Model::new(Kind::StatefulSet);
        let target = model.target.clone().unwrap();
        let (old, pod) = (&model.revisions["cart-1"], model.pod.clone().unwrap());
        let (repair, eviction) = conformance::remediations(ActionKind::RolloutUndo, model.kind, &target, old, &pod);
        model.written(&repair.spec);
        model.remediation = eviction.unwrap();
        model
    }

    /// A repair that did not help, to be taken back.
    pub fn to_undo(kind: Kind) -> Model {
        let mut model = Model::new(kind);
        let repair = model.remediation.spec.clone();
        let Write::Field(FieldWrite { path, before, after }) = repair.write.clone() else { unreachable!() };
        let back = object::object_ref(&model.revisions["cart-2"], Kind::API_VERSION, kind.revision_kind());
        let mut spec = RemediationSpec {
            purpose: Purpose::Undo,
            follows: Some(repair.action_id.clone()),
            action: Action::RolloutUndo(RolloutUndo { to_revision: 2 }),
            write: Write::Field(FieldWrite { path, before: after, after: before }),
            provenance: Some(back),
            undo: Some(Undo { action: repair.action.clone(), provenance: repair.provenance.clone() }),
            ..repair.clone()
        };
        model.written(&repair);
        model.remediation = conformance::named("rem", &mut spec);
        model
    }

    /// Old pods that hang beside a newer one that works, to be restarted.
    pub fn restart(kind: Kind) -> Model {
        let mut model = Model::new(kind);
        let (target, old, pod) =
            (model.target.clone().unwrap(), &model.revisions["cart-1"], model.pod.clone().unwrap());
        (model.remediation, _) = conformance::remediations(ActionKind::RolloutRestart, kind, &target, old, &pod);
        model
    }

    /// The action of unit tests, which writes a number and needs no revision.
    pub fn planted() -> Model {
        let mut model = Model::new(Kind::Deployment);
        let target = model.target.as_mut().unwrap();
        target["status"]["conditions"] = json!([{"type": "Progressing", "reason": planted::SIGN}]);
        let workload = model.workload(model.target.as_ref().unwrap());
        let action = Action::Planted(Planted { replicas: 3 });
        let predicted = (actions::of(action.kind()).predict)(&workload, &action).unwrap();
        let Prediction { action, write, provenance, undo, .. } = predicted;
        let mut spec = RemediationSpec { action, write, provenance, undo, ..model.remediation.spec.clone() };
        model.remediation = conformance::named("rem", &mut spec);
        model
    }

    /// The same, to be taken back.
    pub fn planted_to_undo() -> Model {
        let mut model = Model::planted();
        let repair = model.remediation.spec.clone();
        let Prediction { action, write, provenance, undo, .. } = actions::undo_of(&repair).unwrap();
        let follows = Some(repair.action_id.clone());
        let mut spec =
            RemediationSpec { purpose: Purpose::Undo, follows, action, write, provenance, undo, ..repair.clone() };
        model.written(&repair);
        model.remediation = conformance::named("rem", &mut spec);
        model
    }

    /// The repair of this spec was written.
    fn written(&mut self, repair: &RemediationSpec) {
        let target = self.target.as_mut().unwrap();
        let field = repair.write.field().unwrap();
        *target.pointer_mut(&field.path).unwrap() = field.after.clone();
        target["metadata"]["annotations"][names::LAST_ACTION] = json!(repair.action_id);
    }

    /// A person approves this digest.
    pub fn approve(&mut self, digest: &str) -> &mut Consent {
        let spec = ApprovalSpec {
            approver: "ann".into(),
            groups: vec![],
            incident: "incident".into(),
            digest: digest.into(),
            answer: Default::default(),
            expires_at: self.now + jiff::SignedDuration::from_hours(1),
        };
        self.approvals.push(Consent { spec, status: None });
        self.approvals.last_mut().unwrap()
    }

    pub fn phase(&self) -> RemediationPhase {
        self.remediation.status.as_ref().map(|status| status.phase).unwrap_or_default()
    }

    pub fn reason(&self) -> String {
        self.remediation.status.as_ref().map(|status| status.reason.clone()).unwrap_or_default()
    }

    pub fn message(&self) -> String {
        self.remediation.status.as_ref().map(|status| status.message.clone()).unwrap_or_default()
    }

    pub fn on(&self, policy: &str) -> bool {
        self.policies.contains(&policy)
    }

    pub fn marked(&self) -> Vec<Value> {
        self.revisions.values().filter(|it| object::label(it, names::UNDO_TO).is_some()).cloned().collect()
    }

    pub fn armed(&self) -> Vec<Value> {
        self.target.iter().filter(|it| armed_by(it).is_some()).cloned().collect()
    }

    /// Nothing of ours is left on any object.
    pub fn is_clean(&self) -> bool {
        self.marked().is_empty() && self.armed().is_empty()
    }

    /// The objects for `conformance`.
    pub fn live(&self) -> Live {
        let original = conformance::target(self.kind, "uid-cart", "cart:2");
        let old = conformance::revision(self.kind, "cart-1", "uid-cart", 1, "cart:1");
        let pod = self.pod.clone().unwrap();
        let of = self.remediation.spec.action.kind();
        let (change, eviction) = conformance::remediations(of, self.kind, &original, &old, &pod);
        let (target, revision) = (self.target.clone().unwrap(), self.revisions["cart-1"].clone());
        Live { kind: self.kind, change, eviction, target, revision, pod }
    }

    /// Opens the Grant that a state of `conformance` needs.
    pub fn open_for(&mut self, state: State) {
        let not_after = self.now + jiff::SignedDuration::from_secs(60);
        self.grant.spec.open = conformance::grant(&self.live(), state, 1, not_after);
    }

    pub fn observe(&self, look: bool) -> Observation {
        let spec = &self.remediation.spec;
        let field = spec.write.field().is_some();
        let siblings = if field && !self.armed().is_empty() && self.marked().is_empty() {
            self.revisions.values().cloned().collect()
        } else {
            Vec::new()
        };
        Observation {
            remediation: self.remediation.clone(),
            grant: Some(self.grant.clone()),
            target: self.target.clone(),
            revision: spec.provenance.as_ref().and_then(|it| self.revisions.get(&it.name)).cloned(),
            pod: if field { None } else { self.pod.clone() },
            marked: if field { self.marked() } else { Vec::new() },
            armed: if field { self.armed() } else { Vec::new() },
            siblings,
            holder: HOLDER.into(),
            not_ready: self.not_ready.clone(),
            evidence: look.then(|| self.evidence()),
        }
    }

    /// What the executor reads for itself.
    fn evidence(&self) -> Result<Evidence, String> {
        self.looks.set(self.looks.get() + 1);
        if self.now < self.readable_at {
            return Err("cannot read pods in namespace shop: no answer".into());
        }
        let Some(target) = &self.target else { return Err("Deployment shop/cart does not exist".into()) };
        let mut evidence = Evidence {
            workload: self.workload(target),
            known_good: vec![KnownGood {
                workload_uid: "uid-cart".into(),
                revision_uid: "uid-cart-1".into(),
                template_hash: hash(&template("cart:1")),
                at: self.now,
            }],
            namespace_mode: Some(self.mode.into()),
            policies: self.policy_bounds.clone(),
            approvals: self.approvals.clone(),
            unread: vec![],
        };
        (self.bend)(&mut evidence);
        Ok(evidence)
    }

    /// The reading in typed fields, as `Workload::of` would give it for this kind.
    fn workload(&self, target: &Value) -> Workload {
        let current = &target["spec"]["template"];
        let mut revisions: Vec<Revision> = self
            .revisions
            .values()
            .filter_map(|raw| {
                let template = recorded_template(self.kind, raw)?;
                let number =
                    object::int(raw, "/revision").or_else(|| object::annotation(raw, names::REVISION)?.parse().ok())?;
                let fact = RevisionFact {
                    number,
                    current: same_template(&template, current),
                    created_at: Some(self.now),
                    ..RevisionFact::default()
                };
                let object = object::object_ref(raw, Kind::API_VERSION, self.kind.revision_kind());
                let template_hash = hash(&template);
                Some(Revision { object, fact, template, template_hash })
            })
            .collect();
        revisions.sort_by_key(|revision| std::cmp::Reverse(revision.fact.number));
        let behind = self.now < self.status_at;
        let healthy = self.healthy || behind;
        let image = |raw: &Value| object::string(raw, "/spec/containers/0/image").to_owned();
        let number = |image: &str| {
            let runs = |it: &&Revision| image == object::string(&it.template, "/spec/containers/0/image");
            revisions.iter().find(runs).map(|it| it.fact.number)
        };
        let running = revisions.iter().find(|it| it.fact.current).map(|it| it.fact.number);
        let restarts = self.remediation.spec.action.kind() == ActionKind::RolloutRestart;
        let of_pod = |raw: &Value| Pod {
            object: object::object_ref(raw, "v1", "Pod"),
            fact: PodFact {
                // The pod that is to be evicted still runs the template before; elsewhere it was replaced.
                revision: if self.remediation.spec.purpose == Purpose::ReplacePod {
                    number(&image(raw))
                } else {
                    running
                },
                phase: "Running".into(),
                ready: healthy,
                failure: if healthy { PodFailure::None } else { PodFailure::CrashLoop },
                created_at: Some(self.now),
                ready_since: Some(self.now),
                ..PodFact::default()
            },
        };
        let alive = |pod: &&Value| pod.pointer("/metadata/deletionTimestamp").is_none();
        let pods =
            if restarts { stale_pods(running, healthy) } else { self.pod.iter().filter(alive).map(of_pod).collect() };
        let (desired, ready) = match (restarts, healthy) {
            (true, true) => (3, 3),
            (true, false) => (3, 1),
            (false, true) => (1, 1),
            (false, false) => (1, 0),
        };
        Workload {
            object: object::object_ref(target, Kind::API_VERSION, self.kind.as_str()),
            kind: self.kind,
            strategy: Strategy::of(self.kind, target),
            spec: target["spec"].clone(),
            ending: object::is_ending(target),
            state: WorkloadFact {
                generation: object::generation(target),
                observed_generation: object::generation(target) - i64::from(behind),
                desired,
                updated: if restarts { desired } else { ready },
                ready,
                available: ready,
                progressing_reason: object::condition(target, "Progressing")
                    .map(|condition| object::string(condition, "/reason").to_owned())
                    .unwrap_or_default(),
                ..WorkloadFact::default()
            },
            labels: object::string_map(target, "/metadata/labels"),
            annotations: object::string_map(target, "/metadata/annotations"),
            template: current.clone(),
            pods,
            revisions,
            read_at: self.now,
            pod_security_at: None,
        }
    }

    /// Anybody writes anything: the resourceVersion moves.
    pub fn touch(&mut self) {
        self.version += 1;
        if let Some(target) = &mut self.target {
            target["metadata"]["resourceVersion"] = json!(self.version.to_string());
        }
    }

    /// The controller takes the Grant back.
    pub fn close_grant(&mut self) {
        self.grant.spec.open = None;
        self.version += 1;
        self.grant.metadata.resource_version = Some(self.version.to_string());
    }

    /// Somebody deploys another image.
    pub fn deploy(&mut self, image: &str) {
        self.touch();
        if let Some(target) = &mut self.target {
            target["spec"]["template"] = template(image);
            target["metadata"]["generation"] = json!(object::generation(target) + 1);
        }
    }

    /// Somebody else changes the very field that is to be written.
    pub fn change_field(&mut self) {
        let path = actions::of(self.remediation.spec.action.kind()).path;
        if path == "/spec/template" {
            return self.deploy("cart:3");
        }
        self.touch();
        if let Some(target) = &mut self.target {
            *target.pointer_mut(path).unwrap() = json!(5);
            target["metadata"]["generation"] = json!(object::generation(target) + 1);
        }
    }

    /// The controller: opens the Grant once for each claimed epoch, closes it at the end.
    pub fn control(&mut self) {
        let Some(status) = self.remediation.status.clone() else { return };
        let open_for = self.grant.spec.open.as_ref().map(|open| open.epoch);
        let before = self.grant.clone();
        if status.phase.is_final() {
            self.grant.spec.open = None;
        } else if status.phase == RemediationPhase::Claimed
            && open_for != Some(status.epoch)
            && self.opened < status.epoch
        {
            self.opened = status.epoch;
            let RemediationSpec { action_id, action, target, write, .. } = self.remediation.spec.clone();
            let not_after = self.now + jiff::SignedDuration::from_secs(self.grant_seconds);
            self.grant.spec.open = Some(crate::api::v1alpha1::OpenGrant {
                action_id,
                action: actions::of(action.kind()).armed_label.into(),
                remediation: self.remediation.metadata.name.clone().unwrap(),
                epoch: status.epoch,
                uid: target.uid,
                write,
                not_after,
            });
        }
        if self.grant != before {
            self.version += 1;
            self.grant.metadata.resource_version = Some(self.version.to_string());
        }
    }

    /// The Grant, and whether a revision is marked, as the policies see them.
    fn lagging(&self) -> (Grant, bool) {
        self.past[self.past.len().saturating_sub(1 + self.lag)].clone()
    }

    /// Answers a request.
    pub fn send(&mut self, request: &Request) -> Response {
        self.past.push((self.grant.clone(), !self.marked().is_empty()));
        let outcome = match request.resource {
            Resource::PodEviction => self.evict(request),
            _ => self.answer(request),
        };
        self.now += jiff::SignedDuration::from_millis(5);
        outcome
    }

    fn no_right(&self, missing: bool, what: &str) -> Option<Response> {
        (missing || self.now < self.rights_at).then(|| {
            let message = format!("{what} is forbidden: User \"executor\" cannot patch resource");
            Response::Refused { policy: None, message }
        })
    }

    /// What mutating webhooks do, before policies look.
    fn mutate(&self, new: &mut Value) {
        let target = self.target.as_ref().map(|target| target["kind"].clone());
        if target.as_ref() != Some(&new["kind"]) {
            return;
        }
        match self.admission {
            Admission::Labels => new["metadata"]["labels"]["team"] = json!("shop"),
            Admission::Pins => {
                if let Some(Value::String(image)) = new.pointer_mut("/spec/template/spec/containers/0/image")
                    && !image.contains('@')
                    && image != "cart:2"
                {
                    image.push_str("@sha256:0");
                }
            }
            _ => {}
        }
    }

    /// What validating webhooks and others' policies say, after ours.
    fn refused_by_others(&self, request: &Request) -> Option<Response> {
        let said = |code, message: &str| Some(refusal::classify(code, "", message));
        match self.admission {
            Admission::Denies(code) => said(code, "admission webhook \"v.example.com\" denied the request: no team"),
            Admission::TakesNoDryRun if request.dry_run => {
                said(400, "admission webhook \"v.example.com\" does not support dry run")
            }
            Admission::AwayUntil(time) if self.now < time => {
                said(500, "Internal error occurred: failed calling webhook \"v.example.com\": failed to call webhook")
            }
            Admission::OtherPolicy => said(
                422,
                "x \"cart\" is forbidden: ValidatingAdmissionPolicy 'require-team' with binding 'b' denied request: no",
            ),
            _ => None,
        }
    }

    fn evict(&mut self, request: &Request) -> Response {
        if let Some(refusal) = self.no_right(self.missing_eviction_right, "pods/eviction") {
            return refusal;
        }
        let Some(pod) = self.pod.as_mut().filter(|pod| object::meta(pod, "name") == request.name) else {
            return Response::NotFound;
        };
        let pod = pod.clone();
        if let Some((policy, message)) = policies::refusal(self, request, &pod, &pod) {
            return Response::Refused { policy: Some(policy.into()), message };
        }
        if let Some(refusal) = self.refused_by_others(request) {
            return refusal;
        }
        if object::meta(&pod, "uid") != object::string(&request.body, "/deleteOptions/preconditions/uid") {
            return Response::Conflict;
        }
        if self.now < self.blocked_until {
            return Response::BlockedByDisruptionBudget("it would violate the pod's disruption budget".into());
        }
        if !request.dry_run && pod.pointer("/metadata/deletionTimestamp").is_none() {
            self.evictions.push(object::meta(&pod, "uid").to_owned());
            self.pod.as_mut().unwrap()["metadata"]["deletionTimestamp"] = json!(self.now);
        }
        Response::Done(json!({"kind": "Status", "status": "Success"}))
    }

    fn answer(&mut self, request: &Request) -> Response {
        let old = match request.resource {
            Resource::Target(kind) if kind == self.kind => self.target.clone(),
            Resource::Revision(_) => self.revisions.get(&request.name).cloned(),
            Resource::RemediationStatus => serde_json::to_value(&self.remediation).ok(),
            _ => None,
        };
        let Some(old) = old else { return Response::NotFound };
        let Ok(mut new) = patch::apply(&old, &request.body) else { return Response::Conflict };
        // A probe is not guarded.
        if object::meta(&new, "resourceVersion") != object::meta(&old, "resourceVersion") {
            return Response::Conflict;
        }
        let missing = self.missing_right && request.resource != Resource::RemediationStatus;
        if let Some(refusal) = self.no_right(missing, "deployments.apps") {
            return refusal;
        }
        let guarded = request.resource != Resource::RemediationStatus;
        if guarded {
            self.mutate(&mut new);
        }
        if let Some((policy, message)) = policies::refusal(self, request, &old, &new) {
            return Response::Refused { policy: Some(policy.into()), message };
        }
        if let Some(refusal) = self.refused_by_others(request).filter(|_| guarded) {
            return refusal;
        }
        let spec_changed = old["spec"] != new["spec"];
        if spec_changed {
            new["metadata"]["generation"] = json!(object::generation(&old) + 1);
            if old["kind"] == "DaemonSet" {
                new["metadata"]["annotations"]["deprecated.daemonset.template.generation"] =
                    json!((object::generation(&old) + 1).to_string());
            }
        }
        if request.dry_run {
            return Response::Done(new);
        }
        self.version += 1;
        new["metadata"]["resourceVersion"] = json!(self.version.to_string());
        if spec_changed {
            self.spec_changes.push(new["spec"].clone());
        }
        match request.resource {
            Resource::Target(_) => self.target = Some(new.clone()),
            Resource::Revision(_) => drop(self.revisions.insert(request.name.clone(), new.clone())),
            _ => self.remediation = serde_json::from_value(new.clone()).unwrap(),
        }
        Response::Done(new)
    }
}

/// Two pods of more than a day that hang on two nodes, and one that was created five minutes before the beginning and works;
/// or all three work.
fn stale_pods(revision: Option<i64>, healthy: bool) -> Vec<Pod> {
    let before = |seconds: i64| Time::from_second(-seconds).ok();
    let pod = |name: &str, node: &str, works: bool, created: i64, since: i64| Pod {
        object: object::object_ref(
            &json!({"apiVersion": "v1", "kind": "Pod",
                "metadata": {"name": name, "namespace": "shop", "uid": format!("uid-{name}")}}),
            "v1",
            "Pod",
        ),
        fact: PodFact {
            revision,
            phase: "Running".into(),
            ready: works,
            failure: if works { PodFailure::None } else { PodFailure::ProbeFailing },
            created_at: before(created),
            ready_since: before(since),
            node: node.into(),
            ..PodFact::default()
        },
    };
    vec![
        pod("cart-a", "n1", healthy, 200_000, 400),
        pod("cart-b", "n2", healthy, 199_000, 400),
        pod("cart-c", "n1", true, 300, 290),
    ]
}

fn hash(template: &Value) -> String {
    use sha2::Digest as _;
    hex::encode(sha2::Sha256::digest(names::canonical(template).as_bytes()))
}

/// A revision of another target.
pub fn revision_of_another(kind: Kind) -> Value {
    conformance::revision(kind, "another-1", "uid-another", 1, "another:1")
}
