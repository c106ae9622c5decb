//! Requests with the verdict that the admission policies must give, for each kind of target. The unit tests hold the
//! model of the policies to them, and the cluster tests a real API server: so the model means what it says.
//!
//! Nothing of it runs in the operator.

use serde_json::{Value, json};

use super::{PolicyName, Probe, Request, Resource, Verb, patch};
use crate::{
    api::v1alpha1::{
        Action, ActionKind, EvictWrite, FieldWrite, OpenGrant, Purpose, Remediation, RemediationSpec, RolloutRestart,
        RolloutUndo, Time, Undo, Verify, Write,
    },
    core::{
        actions,
        actions::{identity, rollout_restart},
        names, object,
        workload::{Kind, recorded_template},
    },
};

/// The time of the restart.
const RESTARTED_AT: Time = Time::constant(-300, 0);

/// How far an action has come when a request is sent. Each state holds what the one before it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// The Grant is closed, and nothing carries a label of ours.
    Free,
    /// The revision is marked, if the action names one, and the Grant is open for the change.
    Granted,
    /// The target is armed.
    Armed,
    /// As in `Free`, with the Grant open for the eviction.
    EvictionGranted,
}

impl State {
    /// Every state.
    pub const ALL: [State; 4] = [State::Free, State::Granted, State::Armed, State::EvictionGranted];
}

/// The objects as they are, read just before.
#[derive(Clone, Debug)]
pub struct Live {
    /// Kind of the target.
    pub kind: Kind,
    /// The Remediation that changes the target.
    pub change: Remediation,
    /// The Remediation that evicts the pod; absent where the action evicts none.
    pub eviction: Option<Remediation>,
    /// The target.
    pub target: Value,
    /// The earlier revision, which the Remediation names.
    pub revision: Value,
    /// A pod of the target.
    pub pod: Value,
}

/// What has to come of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expected {
    /// It is accepted.
    Accepted,
    /// One of these policies refuses it; of several the API server names an arbitrary one.
    RefusedBy(Vec<&'static str>),
}

/// One request, always a dry-run.
#[derive(Clone, Debug)]
pub struct Row {
    /// A sentence.
    pub name: &'static str,
    /// When it is sent.
    pub state: State,
    /// What is sent.
    pub request: Request,
    /// What must come of it.
    pub expected: Expected,
}

/// The spec of the open Grant that `state` needs; `None`: closed.
pub fn grant(live: &Live, state: State, epoch: i64, not_after: Time) -> Option<OpenGrant> {
    let remediation = match state {
        State::Free => return None,
        State::Granted | State::Armed => &live.change,
        State::EvictionGranted => live.eviction.as_ref()?,
    };
    let RemediationSpec { action_id, action, target, write, .. } = remediation.spec.clone();
    Some(OpenGrant {
        action_id,
        action: actions::of(action.kind()).armed_label.into(),
        remediation: remediation.metadata.name.clone().unwrap_or_default(),
        epoch,
        uid: target.uid,
        write,
        not_after,
    })
}

/// The requests that bring the objects from `Free` to `state`, once the Grant is as it says.
pub fn ladder(live: &Live, state: State) -> Vec<Request> {
    let mark = to_revision(live, Verb::MarkRevision, patch::mark(&live.revision), false);
    let arm = to_target(live, Verb::Arm, patch::arm(&live.target, &live.change.spec), false);
    let marks = live.change.spec.provenance.iter().map(|_| mark.clone());
    match state {
        State::Free | State::EvictionGranted => vec![],
        State::Granted => marks.collect(),
        State::Armed => marks.chain([arm]).collect(),
    }
}

/// Every case that fits `state`, built from the objects as they are in it.
pub fn cases(live: &Live, state: State) -> Vec<Row> {
    let provenance = PolicyName::provenance(live.kind);
    let refused = |policies: &[&'static str]| Expected::RefusedBy(policies.to_vec());
    let (statically, by_grant) = (PolicyName::STATIC, PolicyName::GRANT);
    let any = || refused(&[statically, by_grant, provenance]);
    let target = |verb, body| to_target(live, verb, body, true);
    let spec = &live.change.spec;
    let mut other_id = spec.clone();
    other_id.action_id = "f".repeat(32);
    let scaled = with(&live.target, json!({"op": "replace", "path": "/spec/minReadySeconds", "value": 7}));
    let marked = spec.provenance.is_some();
    let mut found = match state {
        State::Free => vec![
            (
                "an annotation of its own",
                target(probe(Probe::Static), patch::probe(&live.target, Probe::Static)),
                refused(&[statically]),
            ),
            (
                "the self-test of the grant policy",
                target(probe(Probe::Grant), patch::probe(&live.target, Probe::Grant)),
                refused(&[by_grant]),
            ),
            (
                "the self-test of the provenance policy, without a mark",
                target(probe(Probe::Provenance), patch::probe(&live.target, Probe::Provenance)),
                refused(&[provenance]),
            ),
            (
                "to arm without a Grant",
                target(Verb::Arm, patch::arm(&live.target, spec)),
                refused(&[by_grant, provenance]),
            ),
            ("to fire without arming", target(Verb::Fire, patch::fire(&live.target, spec)), refused(&[statically])),
            ("another field of an object that is not armed", target(Verb::Fire, scaled), refused(&[statically])),
            (
                "to mark a revision",
                to_revision(live, Verb::MarkRevision, patch::mark(&live.revision), true),
                Expected::Accepted,
            ),
            (
                "to change a revision",
                to_revision(
                    live,
                    Verb::MarkRevision,
                    with(&live.revision, json!({"op": "add", "path": "/metadata/labels/other", "value": "x"})),
                    true,
                ),
                refused(&[statically]),
            ),
        ],
        State::Granted => vec![
            (
                "the self-test of the provenance policy, with a mark",
                target(probe(Probe::Provenance), patch::probe(&live.target, Probe::Provenance)),
                refused(&[provenance]),
            ),
            ("to arm what is granted", target(Verb::Arm, patch::arm(&live.target, spec)), Expected::Accepted),
            ("to arm for another action", target(Verb::Arm, patch::arm(&live.target, &other_id)), refused(&[by_grant])),
            ("to arm and to change at once", target(Verb::Arm, arm_and_change(live)), any()),
            ("to fire without arming", target(Verb::Fire, patch::fire(&live.target, spec)), refused(&[statically])),
        ],
        State::Armed => vec![
            ("to fire what is granted", target(Verb::Fire, patch::fire(&live.target, spec)), Expected::Accepted),
            (
                "to fire another value",
                target(probe(Probe::OtherValue), patch::wrong_fire(&live.target, spec)),
                refused(&[by_grant, provenance]),
            ),
            (
                "to fire without the id of the action",
                target(Verb::Fire, without_receipt(patch::fire(&live.target, spec))),
                refused(&[statically, by_grant]),
            ),
            (
                "to fire for another action",
                target(Verb::Fire, patch::fire(&live.target, &other_id)),
                refused(&[statically, by_grant]),
            ),
            ("another field of an armed object", target(Verb::Fire, scaled), any()),
            ("to disarm", target(Verb::Disarm, patch::disarm(&live.target)), Expected::Accepted),
        ],
        State::EvictionGranted => {
            vec![(
                "to arm on a Grant for an eviction",
                target(Verb::Arm, patch::arm(&live.target, spec)),
                refused(&[by_grant, provenance]),
            )]
        }
    };
    if state == State::Granted && marked {
        let unmark = to_revision(live, Verb::UnmarkRevision, patch::unmark(&live.revision), true);
        found.push(("to take the mark off", unmark, Expected::Accepted));
    }
    // Whatever a Grant says: each action may change no more than its own part of the field.
    if state == State::Armed && spec.action.kind() == ActionKind::RolloutRestart {
        for (name, value) in more_than_a_restart(&live.target) {
            let body = fire_with(&live.target, spec, value);
            found.push((name, target(Verb::Fire, body), refused(&[statically, by_grant])));
        }
    }
    if let Some(remediation) = &live.eviction
        && let Write::Evict(EvictWrite { pod }) = &remediation.spec.write
    {
        let evict = |verb, body| Request {
            verb,
            resource: Resource::PodEviction,
            namespace: pod.namespace.clone(),
            name: pod.name.clone(),
            dry_run: true,
            body,
        };
        let right = patch::eviction(pod, &remediation.spec);
        let (mut bare, mut forced) = (right.clone(), right.clone());
        bare["metadata"]["labels"] = json!({});
        forced["deleteOptions"]["gracePeriodSeconds"] = json!(0);
        let mut other = remediation.spec.clone();
        other.action_id = "f".repeat(32);
        let wrong = patch::wrong_eviction(pod, &remediation.spec);
        found.extend(match state {
            State::EvictionGranted => vec![
                ("to evict the granted pod", evict(Verb::Fire, right), Expected::Accepted),
                ("to evict another pod of that name", evict(probe(Probe::OtherPod), wrong), refused(&[by_grant])),
                ("to evict for another action", evict(Verb::Fire, patch::eviction(pod, &other)), refused(&[by_grant])),
                ("to evict without a label", evict(Verb::Fire, bare), refused(&[statically])),
                ("to evict without a grace period", evict(Verb::Fire, forced), refused(&[statically])),
            ],
            State::Free | State::Granted => {
                vec![("to evict without a Grant", evict(Verb::Fire, right), refused(&[by_grant]))]
            }
            State::Armed => vec![],
        });
    }
    found.into_iter().map(|(name, request, expected)| Row { name, state, request, expected }).collect()
}

fn probe(probe: Probe) -> Verb {
    Verb::DryRunWrong(probe)
}

fn to_target(live: &Live, verb: Verb, body: Value, dry_run: bool) -> Request {
    request(verb, Resource::Target(live.kind), &live.target, body, dry_run)
}

fn to_revision(live: &Live, verb: Verb, body: Value, dry_run: bool) -> Request {
    request(verb, Resource::Revision(live.kind), &live.revision, body, dry_run)
}

fn request(verb: Verb, resource: Resource, object: &Value, body: Value, dry_run: bool) -> Request {
    let (namespace, name) = (object::meta(object, "namespace").to_owned(), object::meta(object, "name").to_owned());
    Request { verb, resource, namespace, name, dry_run, body }
}

fn with(object: &Value, change: Value) -> Value {
    json!([
        {"op": "replace", "path": "/metadata/resourceVersion", "value": object::meta(object, "resourceVersion")},
        change,
    ])
}

/// Templates that are no restart of this object's: more than the annotation changes, or it holds no time.
fn more_than_a_restart(target: &Value) -> Vec<(&'static str, Value)> {
    let template = target.pointer(rollout_restart::PATH).cloned().unwrap_or_default();
    let at = "2026-03-01T12:00:00Z";
    let also = |pointer: &str, value: Value| {
        let mut after = rollout_restart::restarted(&template, at);
        if let Some(slot) = after.pointer_mut(pointer) {
            *slot = value;
        }
        after
    };
    let mut labelled = rollout_restart::restarted(&template, at);
    labelled["metadata"]["labels"]["also"] = json!("this");
    let mut noted = rollout_restart::restarted(&template, at);
    noted["metadata"]["annotations"]["also"] = json!("this");
    vec![
        ("to restart with another image", also("/spec/containers/0/image", json!("cart:9"))),
        ("to restart with another label on the pods", labelled),
        ("to restart with another annotation on the pods", noted),
        ("to restart at a word", rollout_restart::restarted(&template, "now")),
        ("to restart with more than a time", rollout_restart::restarted(&template, &format!("{at} and more"))),
    ]
}

/// A fire with this value.
fn fire_with(target: &Value, spec: &RemediationSpec, value: Value) -> Value {
    let mut spec = spec.clone();
    if let Write::Field(field) = &mut spec.write {
        field.after = value;
    }
    patch::fire(target, &spec)
}

/// The change together with the label, in one write.
fn arm_and_change(live: &Live) -> Value {
    let mut patch = patch::arm(&live.target, &live.change.spec);
    if let (Some(list), Some(field)) = (patch.as_array_mut(), live.change.spec.write.field()) {
        list.push(json!({"op": "replace", "path": field.path, "value": field.after}));
    }
    patch
}

fn without_receipt(mut patch: Value) -> Value {
    let receipt = format!("/metadata/annotations/{}", names::LAST_ACTION.replace('/', "~1"));
    if let Some(list) = patch.as_array_mut() {
        list.retain(|op| op["path"] != receipt.as_str());
    }
    patch
}

/// The actions on a template that [`remediations`] knows.
pub const ACTIONS: [ActionKind; 2] = [ActionKind::RolloutUndo, ActionKind::RolloutRestart];

/// The two Remediations of an incident `incident` about these objects: the change that an action of this kind makes, and
/// the eviction of `pod` after that. A rollback goes back to the template that `revision` (number 1) recorded.
pub fn remediations(
    of: ActionKind,
    kind: Kind,
    target: &Value,
    revision: &Value,
    pod: &Value,
) -> (Remediation, Option<Remediation>) {
    let definition = actions::of(of);
    let before = target.pointer(definition.path).cloned().unwrap_or_default();
    let (action, after, provenance) = if of == ActionKind::RolloutRestart {
        let restarted_at = RESTARTED_AT;
        let after = rollout_restart::restarted(&before, &restarted_at.strftime("%FT%TZ").to_string());
        (Action::RolloutRestart(RolloutRestart { restarted_at }), after, None)
    } else {
        let provenance = object::object_ref(revision, Kind::API_VERSION, kind.revision_kind());
        let after = recorded_template(kind, revision).unwrap_or_default();
        (Action::RolloutUndo(RolloutUndo { to_revision: 1 }), after, Some(provenance))
    };
    let field = FieldWrite { path: definition.path.into(), before, after };
    let mut spec = RemediationSpec {
        incident: "incident".into(),
        action_id: String::new(),
        digest: String::new(),
        action: action.clone(),
        purpose: Purpose::Repair,
        follows: None,
        target: object::object_ref(target, Kind::API_VERSION, kind.as_str()),
        write: Write::Field(field),
        provenance: provenance.clone(),
        verify: Verify { settle_seconds: 1, timeout_seconds: 60 },
        // A restart has no way back.
        undo: provenance.is_some().then_some(Undo { action, provenance }),
        request_id: "request".into(),
    };
    let change = named("rem", &mut spec);
    let eviction = definition.evicts.contains(&kind).then(|| {
        let mut spec = RemediationSpec {
            purpose: Purpose::ReplacePod,
            follows: Some(spec.action_id.clone()),
            write: Write::Evict(EvictWrite { pod: object::object_ref(pod, "v1", "Pod") }),
            provenance: None,
            undo: None,
            ..spec.clone()
        };
        named("rem-pod", &mut spec)
    });
    (change, eviction)
}

/// A Remediation of this spec, which gets its digest and id.
pub fn named(name: &str, spec: &mut RemediationSpec) -> Remediation {
    (spec.digest, spec.action_id) = identity::identity(spec);
    let mut remediation = Remediation::new(name, spec.clone());
    remediation.metadata.namespace = Some(spec.target.namespace.clone());
    remediation.metadata.resource_version = Some("1".into());
    remediation
}

/// A pod template that the API server accepts for every kind of target.
pub fn template(image: &str) -> Value {
    json!({"metadata": {"creationTimestamp": null, "labels": {"app": "cart"}},
        "spec": {"containers": [{"name": "cart", "image": image, "resources": {"limits": {"cpu": "500m"}}}]}})
}

/// A target `shop/cart`.
pub fn target(kind: Kind, uid: &str, image: &str) -> Value {
    let mut spec = json!({"selector": {"matchLabels": {"app": "cart"}}, "template": template(image)});
    if kind != Kind::DaemonSet {
        spec["replicas"] = json!(2);
    }
    // What a request changes that is not granted: the API server has it by default, and prints it when it is not 0.
    spec["minReadySeconds"] = json!(1);
    if kind == Kind::StatefulSet {
        spec["serviceName"] = json!("cart");
    }
    json!({"apiVersion": Kind::API_VERSION, "kind": kind.as_str(),
        "metadata": {"name": "cart", "namespace": "shop", "uid": uid, "resourceVersion": "1", "generation": 2,
            "annotations": {names::REVISION: "2"}},
        "spec": spec})
}

/// A revision of the object with UID `owner`.
pub fn revision(kind: Kind, name: &str, owner: &str, number: i64, image: &str) -> Value {
    let mut template = template(image);
    let mut revision = json!({"apiVersion": Kind::API_VERSION, "kind": kind.revision_kind(),
        "metadata": {"name": name, "namespace": "shop", "uid": format!("uid-{name}"), "resourceVersion": "1",
            "generation": 1, "labels": {"app": "cart"},
            "ownerReferences": [{"apiVersion": Kind::API_VERSION, "kind": kind.as_str(), "name": "cart", "uid": owner,
                "controller": true}]}});
    if kind == Kind::Deployment {
        template["metadata"]["labels"][names::POD_TEMPLATE_HASH] = json!("h");
        revision["metadata"]["annotations"] = json!({names::REVISION: number.to_string()});
        revision["spec"] = json!({"replicas": 0, "template": template});
    } else {
        template["$patch"] = json!("replace");
        revision["data"] = json!({"spec": {"template": template}});
        revision["revision"] = json!(number);
    }
    revision
}

/// A pod `shop/cart-0`.
pub fn pod(uid: &str, image: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "cart-0", "namespace": "shop", "uid": uid, "resourceVersion": "1", "labels": {"app": "cart"}},
        "spec": template(image)["spec"]})
}
