//! From what a cluster shows to the decision: raw objects as API server, scheduler and kubelet write them, through
//! reading, facts, rules, claims and evidence.

use serde_json::{Value, json};

use super::super::testing::{self, bad_rollout};
use super::super::*;
use crate::api::v1alpha1::{Cause, Diagnosis, ReferenceKind};
use crate::core::rules;
use crate::core::workload::fixtures::*;
use crate::core::workload::{Presence, Workload};

const SELECTOR: &str = "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector. no new claims to \
    deallocate, preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling.";
const OLD_HASH: &str = "1f3870be274f6c49b3e31a0c6728957f";
const NEW_HASH: &str = "8b04d5e3775d298e78455efc5ca404d5";

/// A release of Deployment `shop/checkout`, with what is known beside it.
pub struct Told {
    pub world: WorkloadFixture,
    /// Changes what the API server prints.
    twist: fn(&mut Value),
    presence: Vec<Presence>,
    /// The earlier revision is marked as known good.
    marked: bool,
}

fn exists(kind: ReferenceKind, name: &str, exists: Option<bool>) -> Presence {
    Presence { kind, name: name.into(), exists, changed_at: None }
}

/// Revision 1 as the fixtures have it, and a second one that differs by `change`, two minutes old.
pub fn release(change: impl FnOnce(&mut Value)) -> WorkloadFixture {
    let mut world = WorkloadFixture::one_revision();
    world.templates.push((template("shop:1", change), 120));
    world
}

/// The same with two templates that both are changed by `both` first.
fn releases(both: impl Fn(&mut Value), change: impl FnOnce(&mut Value)) -> WorkloadFixture {
    let mut world = WorkloadFixture::one_revision();
    world.templates[0].0 = template("shop:1", &both);
    world.templates.push((
        template("shop:1", |t| {
            both(t);
            change(t);
        }),
        120,
    ));
    world
}

/// Old pods serve, and one new pod is like this.
fn serving(world: WorkloadFixture, new: &Value) -> Told {
    told(world.pods(1, 2, &ready(3600)).pods(2, 1, new))
}

pub fn told(world: WorkloadFixture) -> Told {
    let presence = vec![exists(ReferenceKind::ConfigMap, "checkout", Some(true))];
    Told { world, twist: |_| {}, presence, marked: false }
}

impl Told {
    fn marked(self) -> Told {
        Told { marked: true, ..self }
    }

    fn twisted(self, twist: fn(&mut Value)) -> Told {
        Told { twist, ..self }
    }

    /// What the controller has, and what the rules say of it.
    pub fn gate(&self) -> (testing::GateFixture, Diagnosis) {
        let mut snapshot = self.world.snapshot();
        (self.twist)(&mut snapshot.object);
        let reading = Workload::of(&snapshot).unwrap();
        let facts = reading.facts();
        let target = reading.object.clone();
        let diagnosis =
            rules::diagnose(rules::FactBundle { target: Some(&target), alert_started_at: ago(60), facts: &facts });
        let mut world = testing::GateFixture {
            now: now(),
            target: Ok(target),
            alert_started_at: ago(60),
            facts,
            diagnosis: Some(diagnosis.clone()),
            reading,
            presence: self.presence.clone(),
            ..bad_rollout()
        };
        if self.marked {
            world.known_good = vec![world.mark(world.reading.revisions.len() - 1)];
        }
        (world, diagnosis)
    }

    fn decide(&self) -> (DecisionOutcome, String, Diagnosis) {
        let (world, diagnosis) = self.gate();
        let judgement = world.judge();
        let bad = ["ClaimUncited", "ClaimUnsupported", "ClaimUngrounded", "ObjectUnknown"];
        let told = judgement.decision.checks.iter().find(|check| bad.contains(&check.reason.as_str()));
        assert_eq!(told, None, "the rules say what is not so");
        let (reason, cause) = (judgement.reason, diagnosis.cause);
        assert!(!contradict(reason, cause), "the headline says {reason}, the diagnosis {cause:?}: {diagnosis:#?}");
        (judgement.decision.outcome, judgement.decision.reason.clone(), diagnosis)
    }
}

/// Whether a person who reads the reason of a hand-over and then the cause of the diagnosis has to believe one of them.
fn contradict(reason: Reason, cause: Cause) -> bool {
    match reason {
        Reason::NothingFails | Reason::NothingWrong => cause != Cause::Recovered,
        Reason::OnlyOneRevision => cause == Cause::BadRollout,
        Reason::TemplateUnchanged | Reason::FailureUnexplained => {
            matches!(cause, Cause::BadRollout | Cause::NeverWorked | Cause::Recovered)
        }
        Reason::ReferenceMissing => matches!(cause, Cause::NeverWorked | Cause::Recovered),
        Reason::AllChecksPassed => cause != Cause::BadRollout,
        _ => false,
    }
}

fn selector(template: &mut Value) {
    template["spec"]["nodeSelector"] = json!({"disk": "tape"});
}

fn scheduler(template: &mut Value) {
    template["spec"]["schedulerName"] = json!("tape");
}

fn secret(template: &mut Value) {
    let variable = json!({"name": "DB", "valueFrom": {"secretKeyRef": {"name": "db", "key": "url"}}});
    template["spec"]["containers"][0]["env"].as_array_mut().unwrap().push(variable);
}

fn level(template: &mut Value) {
    template["spec"]["containers"][0]["env"][0]["value"] = json!("debug");
}

pub fn image(template: &mut Value) {
    template["spec"]["containers"][0]["image"] = json!("shop:2");
}

fn init(template: &mut Value) {
    template["spec"]["initContainers"] = json!([{"name": "init", "image": "wait:1"}]);
}

fn liveness(template: &mut Value) {
    template["spec"]["containers"][0]["livenessProbe"] = json!({"httpGet": {"path": "/", "port": 8080},
        "initialDelaySeconds": 60, "periodSeconds": 10, "failureThreshold": 3, "timeoutSeconds": 1});
}

fn checksum(hash: &'static str) -> impl Fn(&mut Value) {
    move |t| t["metadata"]["annotations"] = json!({"checksum/config": hash})
}

fn refused(world: WorkloadFixture, message: &str) -> Told {
    told(WorkloadFixture { refused: Some(message.into()), ..world.pods(1, 2, &ready(3600)) })
}

/// The release changed ConfigMap `checkout`, which both templates name: `since` seconds ago, or it could not be read.
fn with_map_changed(told: Told, since: Option<i64>) -> Told {
    let mut map = exists(ReferenceKind::ConfigMap, "checkout", since.map(|_| true));
    map.changed_at = since.map(ago);
    Told { presence: vec![map], ..told }
}

/// Revision 2 is two minutes old, and the pods of revision 1 are older than an hour.
#[test]
fn a_release_that_changed_its_config_map_too_is_a_persons_to_take_back() {
    let crashes = || serving(release(image), &crash_loop());
    for since in [Some(122), Some(720), Some(121), None] {
        let told = with_map_changed(crashes(), since);
        let (outcome, reason, _) = told.decide();
        let expected = (DecisionOutcome::AwaitApproval, Reason::ConfigurationChangedToo.as_str());
        assert_eq!((outcome, reason.as_str()), expected, "{since:?}");
        let (mut world, _) = told.gate();
        let asked = world.judge().decision;
        assert!(
            asked.message.contains("ConfigMap checkout") && asked.message.contains("backstop approve"),
            "{asked:?}"
        );
        let digest = asked.digest.unwrap();
        world.approvals = vec![ValidApproval { digest, approver: "ann".into(), ..ValidApproval::default() }];
        assert_eq!(world.judge().decision.outcome, DecisionOutcome::Act, "{since:?}: a person said which it was");
        world.approvals.clear();
        world.mode = Some("observe".into());
        let told = world.judge().decision;
        assert_eq!(told.outcome, DecisionOutcome::Escalate);
        assert!(told.message.contains("the cause may be the configuration"), "{}", told.message);
    }
}

#[test]
fn a_config_map_that_cannot_be_the_cause_or_is_proven_keeps_no_release_from_being_taken_back() {
    let crashes = || serving(release(image), &crash_loop());
    let young = {
        let mut world = release(image);
        world.templates[0].1 = 700;
        serving(world, &crash_loop())
    };
    let later = |mut told: Told| {
        let pod = &mut told.world.pods[0];
        pod["metadata"]["creationTimestamp"] = json!(ago(600));
        told
    };
    for (what, told) in [
        ("long before", with_map_changed(crashes(), Some(722))),
        ("before the earlier revision was made", with_map_changed(young, Some(710))),
        ("before a pod of the earlier one was made, which works", with_map_changed(later(crashes()), Some(601))),
        (
            "an image that cannot be had",
            with_map_changed(serving(release(image), &waiting("ImagePullBackOff")), Some(122)),
        ),
        ("a ConfigMap of one template only", {
            let only = |t: &mut Value| {
                image(t);
                let sources = t["spec"]["containers"][0]["envFrom"].as_array_mut().unwrap();
                sources.push(json!({"configMapRef": {"name": "new", "optional": true}}));
            };
            let mut told = serving(release(only), &crash_loop());
            let mut new = exists(ReferenceKind::ConfigMap, "new", Some(true));
            new.changed_at = Some(ago(122));
            told.presence.push(new);
            told
        }),
    ] {
        assert_eq!(told.decide().0, DecisionOutcome::Act, "{what}");
    }
}

#[test]
fn a_bad_rollout_is_taken_back_however_it_shows() {
    let resources = |limits: Value| move |t: &mut Value| t["spec"]["containers"][0]["resources"] = limits;
    let gpu = "0/1 nodes are available: 1 Insufficient nvidia.com/gpu. preemption: 0/1 nodes are available: 1 No \
        preemption victims found for incoming pod.";
    let claim = "0/1 nodes are available: persistentvolumeclaim \"data\" not found. not found";
    let mounts = |t: &mut Value| t["spec"]["volumes"] = json!([{"name": "cfg", "configMap": {"name": "absent"}}]);
    let serving = |world, new: &Value| serving(world, new);
    for (what, told) in [
        ("a selector that no node has", serving(release(selector), &unschedulable(SELECTOR, 60))),
        ("a scheduler that does not run", serving(release(scheduler), &json!({"phase": "Pending"}))),
        ("a GPU", serving(release(resources(json!({"limits": {"nvidia.com/gpu": "1"}}))), &unschedulable(gpu, 60))),
        (
            "a claim that does not exist",
            serving(
                release(|t| {
                    t["spec"]["volumes"] = json!([{"name": "d", "persistentVolumeClaim": {"claimName": "data"}}])
                }),
                &unschedulable(claim, 60),
            ),
        ),
        (
            "pod security",
            refused(
                release(|t| t["spec"]["hostNetwork"] = json!(true)),
                r#"pods "checkout-2-" is forbidden: violates PodSecurity "baseline:latest": host namespaces (hostNetwork=true)"#,
            ),
        ),
        (
            "a LimitRange",
            refused(
                release(resources(json!({"limits": {"cpu": "0.5", "memory": "256Mi"}}))),
                r#"pods "checkout-2-" is forbidden: maximum memory usage per Container is 128Mi, but limit is 256Mi"#,
            ),
        ),
        (
            "a quota",
            refused(
                release(resources(json!({"limits": {"cpu": "64"}}))),
                r#"pods "checkout-2-" is forbidden: exceeded quota: team, requested: limits.cpu=64, used: limits.cpu=1, limited: limits.cpu=2"#,
            ),
        ),
        (
            "an account that does not exist",
            refused(
                release(|t| t["spec"]["serviceAccountName"] = json!("api")),
                r#"pods "checkout-2-" is forbidden: error looking up service account shop/api: serviceaccount "api" not found"#,
            ),
        ),
        (
            "a webhook",
            refused(release(image), r#"admission webhook "v.example.com" denied the request: image must be signed"#),
        ),
        ("a volume that cannot be mounted", serving(release(mounts), &stuck_creating(60))),
        (
            "a Secret that only the release names",
            serving(release(secret), &waiting_because("CreateContainerConfigError", r#"secret "db" not found"#)),
        ),
        (
            "a key that only the release names",
            serving(
                releases(secret, |t| {
                    t["spec"]["containers"][0]["env"][2]["valueFrom"]["secretKeyRef"]["key"] = json!("uri")
                }),
                &waiting_because("CreateContainerConfigError", "couldn't find key uri in Secret shop/db"),
            ),
        ),
        (
            "a command that is not in the image",
            serving(release(|t| t["spec"]["containers"][0]["command"] = json!(["/usr/local/bin/x"])), &never_started()),
        ),
        ("an init container that does not end", serving(release(init), &in_init(61))),
        ("a liveness probe that kills late", serving(release(liveness), &ended_by_liveness(92))),
        ("a checksum beside a new image", {
            let mut world = release(|t| {
                image(t);
                checksum(NEW_HASH)(t);
            });
            checksum(OLD_HASH)(&mut world.templates[0].0);
            serving(world, &crash_loop())
        }),
        (
            "a rollout that is not done in time",
            serving(release(liveness), &{
                let mut slow = not_ready(100);
                slow["containerStatuses"][0]["started"] = json!(false);
                slow
            })
            .twisted(|object| object["status"]["conditions"][0]["reason"] = json!("ProgressDeadlineExceeded")),
        ),
        ("one that took every old pod away", told(release(image).pods(2, 2, &crash_loop())).marked()),
        (
            "one that took every old pod away and shares a Secret that its containers were made with",
            told(releases(secret, image).pods(2, 2, &crash_loop())).marked(),
        ),
    ] {
        let (outcome, reason, diagnosis) = told.decide();
        assert_eq!(
            (outcome, diagnosis.cause),
            (DecisionOutcome::Act, Cause::BadRollout),
            "{what}: {reason} {diagnosis:#?}"
        );
    }
}

#[test]
fn what_the_release_does_not_explain_is_a_persons() {
    use Cause::{ConfigurationChanged, Unknown};
    let away = "0/2 nodes are available: 1 Insufficient memory, 1 node(s) had untolerated taint \
        {node.kubernetes.io/unreachable: }.";
    let injected = || {
        let mut pod = crash_loop();
        pod["containerStatuses"][0]["name"] = json!("istio-proxy");
        pod
    };
    let no_secret = || waiting_because("CreateContainerConfigError", r#"secret "db" not found"#);
    let env = |name: &'static str, value: &'static str| {
        move |t: &mut Value| {
            let variable = json!({"name": name, "value": value});
            t["spec"]["containers"][0]["env"].as_array_mut().unwrap().push(variable);
        }
    };
    for (what, told, reason, cause) in [
        ("a node went away", serving(release(image), &unschedulable(away, 60)), "FailureUnexplained", Unknown),
        (
            "no scheduler runs at all",
            serving(release(image), &json!({"phase": "Pending"})),
            "FailureUnexplained",
            Unknown,
        ),
        (
            "the selector was there before",
            serving(releases(selector, image), &unschedulable(SELECTOR, 60)),
            "FailureUnexplained",
            Unknown,
        ),
        (
            "a quota of pods",
            refused(
                release(image),
                r#"pods "c" is forbidden: exceeded quota: q, requested: pods=1, used: pods=2, limited: pods=2"#,
            ),
            "FailureUnexplained",
            Unknown,
        ),
        (
            "a webhook that does not answer",
            refused(
                release(image),
                r#"Internal error occurred: failed calling webhook "v.example.com": failed to call webhook: Post "https://v.p.svc:443/validate": dial tcp 10.96.0.9:443: connect: connection refused"#,
            ),
            "FailureUnexplained",
            Unknown,
        ),
        (
            "a registry that is down",
            serving(release(level), &waiting("ImagePullBackOff")),
            "FailureUnexplained",
            Unknown,
        ),
        ("a mount that was there before", serving(release(image), &stuck_creating(60)), "FailureUnexplained", Unknown),
        (
            "an init container that was there",
            serving(releases(init, level), &in_init(90)),
            "FailureUnexplained",
            Unknown,
        ),
        ("a container that is injected", serving(release(image), &injected()), "FailureUnexplained", Unknown),
        (
            "a label",
            serving(release(|t| t["metadata"]["labels"]["version"] = json!("2")), &crash_loop()),
            "FailureUnexplained",
            Unknown,
        ),
        (
            "a Secret that both need",
            serving(releases(secret, level), &no_secret()),
            "ReferenceMissing",
            ConfigurationChanged,
        ),
        (
            "a key that both need",
            serving(
                releases(secret, level),
                &waiting_because("CreateContainerConfigError", "couldn't find key url in Secret shop/db"),
            ),
            "ReferenceMissing",
            ConfigurationChanged,
        ),
        (
            "a claim that both need",
            serving(
                releases(
                    |t| t["spec"]["volumes"] = json!([{"name": "d", "persistentVolumeClaim": {"claimName": "data"}}]),
                    image,
                ),
                &unschedulable("0/1 nodes are available: persistentvolumeclaim \"data\" not found.", 60),
            ),
            "ReferenceMissing",
            ConfigurationChanged,
        ),
        (
            "a checksum of configuration alone",
            {
                let mut world = release(checksum(NEW_HASH));
                checksum(OLD_HASH)(&mut world.templates[0].0);
                serving(world, &crash_loop())
            },
            "TemplateUnchanged",
            ConfigurationChanged,
        ),
        (
            "the first checksum",
            serving(release(checksum(NEW_HASH)), &crash_loop()),
            "TemplateUnchanged",
            ConfigurationChanged,
        ),
        (
            "the variable of a reloader",
            serving(
                release(env("STAKATER_CHECKOUT_CONFIGMAP", "a94a8fe5ccb19ba61c4c0873d391e987982fbbd3")),
                &crash_loop(),
            ),
            "TemplateUnchanged",
            ConfigurationChanged,
        ),
    ] {
        let (outcome, why, diagnosis) = told.decide();
        assert_eq!((outcome, why.as_str()), (DecisionOutcome::Escalate, reason), "{what}: {diagnosis:#?}");
        assert_eq!((diagnosis.cause, diagnosis.proposal.is_none()), (cause, true), "{what}: {diagnosis:#?}");
    }
}

#[test]
fn an_earlier_template_that_cannot_start_is_not_returned_to() {
    let with = |told: Told, presence: Vec<Presence>| Told { presence, ..told };
    let claim = |t: &mut Value| {
        t["spec"]["volumes"] = json!([{"name": "d", "persistentVolumeClaim": {"claimName": "data"}}]);
        t["spec"]["serviceAccountName"] = json!("api");
    };
    let map = |known| exists(ReferenceKind::ConfigMap, "checkout", known);
    for (what, told, reason) in [
        (
            "its ConfigMap is gone",
            with(serving(release(image), &crash_loop()), vec![map(Some(false))]),
            "ReferenceMissing",
        ),
        (
            "its claim is gone",
            with(
                serving(releases(claim, image), &crash_loop()),
                vec![
                    map(Some(true)),
                    exists(ReferenceKind::PersistentVolumeClaim, "data", Some(false)),
                    exists(ReferenceKind::ServiceAccount, "api", Some(true)),
                ],
            ),
            "ReferenceMissing",
        ),
        (
            "its ConfigMap cannot be read, and may have changed",
            with(serving(release(image), &crash_loop()), vec![map(None)]),
            "ConfigurationChangedToo",
        ),
        (
            "its ConfigMap cannot be read, and is in use and not to blame",
            with(serving(release(image), &waiting("ErrImagePull")), vec![map(None)]),
            "AllChecksPassed",
        ),
        (
            "nobody runs with its ConfigMap, which cannot be read",
            with(told(release(image).pods(2, 2, &waiting("ErrImagePull"))).marked(), vec![map(None)]),
            "ReferenceMissing",
        ),
        (
            "nothing shows that its Secret is there",
            told(releases(secret, image).pods(2, 2, &waiting("ErrImagePull"))).marked(),
            "ReferenceMissing",
        ),
        (
            "a pod of it runs with its Secret",
            told(releases(secret, image).pods(1, 1, &ready(3600)).pods(2, 2, &waiting("ErrImagePull"))),
            "AllChecksPassed",
        ),
    ] {
        assert_eq!(told.decide().1, reason, "{what}");
    }
}

#[test]
fn what_may_still_start_by_itself_is_waited_for() {
    for (what, told) in [
        ("unschedulable for 20 s", serving(release(selector), &unschedulable(SELECTOR, 20))),
        ("the scheduler makes room", {
            let mut pod = unschedulable(SELECTOR, 300);
            pod["nominatedNodeName"] = json!("worker-1");
            serving(release(selector), &pod)
        }),
        ("created for 20 s", serving(release(image), &stuck_creating(20))),
        ("a large image", serving(release(image), &waiting("ContainerCreating"))),
        ("an init container for 30 s", serving(release(init), &in_init(30))),
    ] {
        let (outcome, reason, _) = told.decide();
        assert_eq!((outcome, reason.as_str()), (DecisionOutcome::Wait, "ReplicasNotReady"), "{what}");
    }
}

#[test]
fn what_somebody_paused_is_theirs_at_once_whatever_else_is_to_be_said() {
    let edited = release(image).pods(1, 2, &ready(3600)).pods(2, 1, &crash_loop());
    for edit in [false, true] {
        let mut snapshot = edited.snapshot();
        snapshot.object["spec"]["paused"] = json!(true);
        if edit {
            // The fix, which is no revision yet.
            snapshot.object["spec"]["template"]["spec"]["containers"][0]["image"] = json!("shop:3");
        }
        let reading = Workload::of(&snapshot).unwrap();
        let world = testing::GateFixture {
            now: now(),
            target: Ok(reading.object.clone()),
            reading,
            facts: vec![],
            diagnosis: None,
            ..bad_rollout()
        };
        let decision = world.judge().decision;
        assert_eq!(
            (decision.outcome, decision.reason.as_str()),
            (DecisionOutcome::Escalate, "RolloutPaused"),
            "{edit}"
        );
    }
}

#[test]
fn the_judge_is_not_laxer_than_the_rules_about_what_worked() {
    // It ran for 80 s: less than ten minutes, and more than a crash loop.
    let mut ran = crash_loop();
    ran["containerStatuses"][0]["lastState"]["terminated"]["startedAt"] = json!(ago(90));
    let reading = Workload::of(&release(image).pods(1, 2, &ready(3600)).pods(2, 1, &ran).snapshot()).unwrap();
    let mut lied = bad_rollout();
    lied.now = now();
    lied.target = Ok(reading.object.clone());
    lied.reading = reading;
    let checks = lied.judge().decision.checks;
    let found = checks.iter().find(|check| check.check == "CurrentTemplateNeverWorked").unwrap();
    assert_eq!(found.reason, "TemplateUnchanged", "{}", found.message);
}
