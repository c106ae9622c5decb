//! Restarts, from what a cluster shows to the decision: the one that fits is made for every kind, and the likeliest
//! wrong ones are each refused with the reason that a person would give, whoever proposes them.

use serde_json::{Value, json};

use super::super::testing::{self, bad_rollout, restart_at};
use super::super::*;
use crate::api::v1alpha1::{
    Cause, Diagnosis, LedgerEntry, LedgerState, Proposal, ReferenceKind, RolloutRestart, Verdict,
};
use crate::core::rules;
use crate::core::workload::fixtures::*;
use crate::core::workload::{Kind, Presence};

/// Age of the newer pod in seconds: the time of the restart is its creation.
const NEWER: i64 = 300;

/// A pod with its age in seconds and its node.
type Told<'a> = (Value, i64, &'a str);

/// A container that runs and has not been ready for so many seconds.
fn hangs(since: i64) -> Value {
    status(
        "Running",
        false,
        since,
        &json!({"ready": false, "started": true, "restartCount": 0,
        "state": {"running": {"startedAt": ago(since + 30)}}}),
    )
}

/// Two pods of more than a day hang on two nodes since ten minutes, and one of five minutes works beside the first.
fn stale() -> Vec<Told<'static>> {
    vec![(hangs(600), 100_000, "n1"), (hangs(600), 99_000, "n2"), (ready(NEWER - 10), NEWER, "n1")]
}

/// A workload of one revision with these pods.
fn of(kind: Kind, pods: &[Told<'_>]) -> WorkloadFixture {
    let mut world = WorkloadFixture::one_revision().of(kind);
    world.templates[0].1 = 200_000;
    world.replicas = i32::try_from(pods.len()).unwrap();
    for (index, (status, age, node)) in pods.iter().enumerate() {
        world = world.pods(1, 1, status);
        let pod = world.pods.last_mut().unwrap();
        pod["metadata"]["name"] = json!(format!("checkout-{index}"));
        pod["metadata"]["uid"] = json!(format!("pod-{index}"));
        pod["metadata"]["creationTimestamp"] = json!(ago(*age));
        pod["spec"]["nodeName"] = json!(node);
    }
    world
}

/// A case about what is read, before anybody bends it.
fn case_of(world: &WorkloadFixture, twist: impl Fn(&mut Value)) -> testing::GateFixture {
    let mut snapshot = world.snapshot();
    twist(&mut snapshot.object);
    let reading = Workload::of(&snapshot).unwrap();
    let (facts, target) = (reading.facts(), reading.object.clone());
    let diagnosis =
        rules::diagnose(rules::FactBundle { target: Some(&target), alert_started_at: ago(60), facts: &facts });
    let map = Presence {
        kind: ReferenceKind::ConfigMap,
        name: "checkout".into(),
        exists: Some(true),
        changed_at: Some(ago(700)),
    };
    testing::GateFixture {
        now: now(),
        target: Ok(target),
        alert_started_at: ago(60),
        facts,
        diagnosis: Some(diagnosis),
        reading,
        presence: vec![map],
        ..bad_rollout()
    }
}

/// Whoever diagnosed proposes the restart, whatever the rules say.
fn proposed(world: &mut testing::GateFixture, at: i64) {
    let target = world.reading.object.clone();
    let diagnosis = world.diagnosis();
    diagnosis.cause = Cause::ConfigurationChanged;
    diagnosis.proposal = Some(Proposal { action: restart_at(ago(at)), target });
}

#[test]
fn old_processes_that_hang_beside_newer_ones_that_work_are_restarted_whatever_the_kind() {
    for kind in Kind::ALL {
        let world = case_of(&of(kind, &stale()), |_| {});
        let Diagnosis { cause, proposal, hypothesis, .. } = world.diagnosis.clone().unwrap();
        let restart = Action::RolloutRestart(RolloutRestart { restarted_at: ago(NEWER) });
        assert_eq!(proposal.map(|proposal| proposal.action), Some(restart.clone()), "{kind}: {hypothesis}");
        assert_eq!(cause, Cause::ConfigurationChanged);
        let Judgement { decision, prediction, charge, .. } = world.judge();
        assert_eq!(decision.outcome, DecisionOutcome::Act, "{kind}: {}: {:#?}", decision.message, decision.checks);
        let Prediction { write, undo, action, .. } = prediction.unwrap();
        assert_eq!((action, undo), (restart, None));
        assert_eq!(charge.unwrap().change, None, "no change of a template is taken back");
        let at = &write.field().unwrap().after["metadata"]["annotations"]["kubectl.kubernetes.io/restartedAt"];
        assert_eq!(at, &json!("2026-03-01T11:55:00Z"));
        let spec = super::following::repair_of(&world);
        let own = own_evidence(&spec, &world.reading, Some(&[]), false, Override::No);
        assert_eq!(own.refusal, None, "{kind}: the executor sees it too");
    }
}

#[test]
fn a_large_workload_of_which_most_pods_hang_is_restarted_too() {
    let mut pods: Vec<Told<'_>> = (0..70).map(|index| (hangs(600), 100_000 - index, "n1")).collect();
    pods.extend((0..8).map(|index| (ready(NEWER - 10), NEWER - index, "n1")));
    let decision = case_of(&of(Kind::Deployment, &pods), |_| {}).judge().decision;
    assert_eq!(decision.outcome, DecisionOutcome::Act, "{}", decision.message);
}

#[test]
fn a_configmap_that_changed_in_between_is_named_and_one_that_changed_since_stops_the_rules() {
    use crate::api::v1alpha1::{ConfigFact, FactData, ObjectRef, SourceName};
    use crate::core::workload::{Draft, number};
    let reading = Workload::of(&of(Kind::Deployment, &stale()).snapshot()).unwrap();
    let diagnose = |changed: i64| {
        let object = ObjectRef { kind: "ConfigMap".into(), name: "checkout".into(), ..reading.object.clone() };
        let data =
            FactData::Config(ConfigFact { exists: true, changed_at: Some(ago(changed)), ..ConfigFact::default() });
        let config = Draft { source: SourceName::ConfigReferences, object, seen_at: now(), data, text: String::new() };
        let drafts = [reading.workload_facts(), reading.pod_facts(), reading.history_facts(), vec![config]].concat();
        let facts = number(drafts);
        rules::diagnose(rules::FactBundle { target: Some(&reading.object), alert_started_at: ago(60), facts: &facts })
    };
    let named = diagnose(700);
    assert_eq!((named.confidence, named.suspect.unwrap().kind.as_str()), (90, "ConfigMap"));
    assert!(named.hypothesis.contains("ConfigMap checkout changed in between"), "{}", named.hypothesis);
    assert!(named.proposal.is_some());
    let before = diagnose(150_000);
    assert_eq!((before.confidence, before.proposal.is_some()), (80, true), "it changed before any of them began");
    assert_eq!(diagnose(100).proposal, None, "no pod has proved what it is now");
}

/// What is wrong with a restart, how it comes about, and which check says so in which words.
struct Wrong {
    what: &'static str,
    world: WorkloadFixture,
    twist: fn(&mut Value),
    bend: fn(&mut testing::GateFixture),
    refused_by: (&'static str, Reason, &'static str),
}

fn wrong(what: &'static str, pods: &[Told<'_>], refused_by: (&'static str, Reason, &'static str)) -> Wrong {
    Wrong { what, world: of(Kind::Deployment, pods), twist: |_| {}, bend: |_| {}, refused_by }
}

fn with(first: Value, second: Value) -> Vec<Told<'static>> {
    let mut pods = stale();
    (pods[0].0, pods[1].0) = (first, second);
    pods
}

fn killed_for_memory() -> Value {
    let mut status = crash_loop();
    status["containerStatuses"][0]["lastState"]["terminated"]["reason"] = json!("OOMKilled");
    status
}

/// Wrong because of what the pods show.
fn by_their_pods() -> Vec<Wrong> {
    use Reason::{RestartCuresNothing as Nothing, RestartUnproven as Unproven};
    let hung = |age, node| (hangs(600), age, node);
    let newer = || (ready(NEWER - 10), NEWER, "n1");
    vec![
        wrong(
            "a crash loop, which has tried new processes",
            &with(crash_loop(), crash_loop()),
            ("ProcessesHang", Nothing, "its container was started again 3 times already"),
        ),
        wrong(
            "the alert says out of memory: the next process needs as much",
            &with(killed_for_memory(), hangs(600)),
            ("ProcessesHang", Nothing, "fails with OutOfMemory: its container was started again"),
        ),
        wrong(
            "an image that is gone from the registry",
            &with(waiting("ImagePullBackOff"), hangs(600)),
            ("ProcessesHang", Nothing, "fails with ImagePull: no process of it hangs"),
        ),
        wrong(
            "the dependency is still away: new pods do not become ready either",
            &[hung(100_000, "n1"), hung(99_000, "n2"), (hangs(200), 230, "n1")],
            ("NewerPodsWork", Unproven, "nothing shows that a new process would"),
        ),
        wrong(
            "the newest pod fails like the old ones",
            &[hung(100_000, "n1"), newer(), (hangs(90), 120, "n2")],
            ("NewerPodsWork", Unproven, "a new process does not cure it"),
        ),
        wrong(
            "one pod of several is broken by itself",
            &[hung(100_000, "n1"), (ready(150_000), 150_010, "n2"), newer()],
            ("SeveralPodsFail", Nothing, "replacing that pod cures, and the others need no restart"),
        ),
        wrong(
            "one node is broken",
            &[hung(100_000, "n7"), hung(99_000, "n7"), newer()],
            ("NotOneNode", Nothing, "every pod that fails runs on node n7, and none that works: look at the node"),
        ),
        wrong(
            "it leaks, and stops after forty minutes each time",
            &[(hangs(600), 3000, "n1"), (hangs(600), 2900, "n2"), newer()],
            ("NewProcessesLast", Nothing, "worked for 2400 s before it stopped"),
        ),
        wrong(
            "a pod of the same age works",
            &[hung(100_000, "n1"), hung(99_000, "n2"), (ready(99_400), 99_500, "n2"), newer()],
            ("AgeTellsApart", Nothing, "their age is not what makes the difference"),
        ),
        wrong(
            "it has healed",
            &[(ready(500), 100_000, "n1"), (ready(500), 99_000, "n2"), newer()],
            ("PodsFail", Reason::NothingFails, "none of 3 pods fails"),
        ),
    ]
}

/// Wrong although old pods hang and newer ones work.
fn by_what_is_around() -> Vec<Wrong> {
    let of_stale = |what, refused_by| wrong(what, &stale(), refused_by);
    let mut refused = of(Kind::Deployment, &stale());
    refused.refused = Some(
        "pods \"checkout-9\" is forbidden: violates PodSecurity \"restricted:latest\": runAsNonRoot != true".to_owned(),
    );
    let mut own_data = of(Kind::StatefulSet, &stale());
    own_data.spec = json!({"volumeClaimTemplates": [{"metadata": {"name": "data"}}]});
    vec![
        Wrong {
            bend: |w| w.presence[0].changed_at = Some(ago(100)),
            ..of_stale(
                "the ConfigMap changed since",
                ("ConfigurationProven", Reason::RestartUnproven, "checkout changed at"),
            )
        },
        Wrong {
            bend: |w| w.presence[0].exists = Some(false),
            ..of_stale(
                "the ConfigMap is gone",
                ("ConfigurationProven", Reason::ReferenceMissing, "which does not exist"),
            )
        },
        Wrong {
            bend: |w| w.presence.clear(),
            ..of_stale("nobody could look", ("ConfigurationProven", Reason::ReferenceMissing, "is not known"))
        },
        Wrong {
            world: refused,
            ..of_stale("pod security keeps new pods out", ("NewPodsLetIn", Reason::NewPodsRefused, "PodSecurity"))
        },
        Wrong {
            bend: |w| w.reading.pod_security_at = Some(ago(100)),
            ..of_stale(
                "pod security was tightened since",
                ("PodSecurityAsItWas", Reason::RestartUnproven, "nothing shows that new ones"),
            )
        },
        Wrong {
            bend: |w| w.full_quota = Some("pods (pods: 3/3)".into()),
            ..of_stale("a quota keeps new pods out", ("QuotaHasRoom", Reason::QuotaExhausted, "no room for new pods"))
        },
        Wrong {
            twist: |object| object["spec"]["strategy"] = json!({"type": "Recreate"}),
            ..of_stale("it would end what serves", ("ServesMeanwhile", Reason::BlastRadius, "the 1 that work included"))
        },
        Wrong {
            twist: |object| {
                object["spec"]["strategy"] =
                    json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": "100%"}});
            },
            ..of_stale("all may be away at once", ("ServesMeanwhile", Reason::BlastRadius, "maxUnavailable"))
        },
        Wrong {
            world: own_data,
            ..of_stale(
                "each pod has its own data",
                ("NoVolumesOfTheirOwn", Reason::RestartUnproven, "those that fail may fail for what is in them"),
            )
        },
        Wrong {
            twist: |object| object["spec"]["paused"] = json!(true),
            ..of_stale("somebody paused it", ("RolloutNotPaused", Reason::RolloutPaused, "somebody paused"))
        },
        Wrong {
            world: of(Kind::DaemonSet, &stale()).on_delete(),
            ..of_stale("it replaces no pods", ("RolloutAutomatic", Reason::UpdateStrategyOnDelete, "OnDelete"))
        },
        Wrong {
            twist: |object| object["status"]["updatedReplicas"] = json!(1),
            ..of_stale("a rollout is under way", ("RolloutComplete", Reason::RolloutUnderWay, "1 of 3 replicas"))
        },
        Wrong {
            bend: |w| w.reading.state.managed_by = vec!["argocd".into()],
            ..of_stale("Argo CD would revert it", ("NotManagedByTool", Reason::ManagedByGitOps, "revert the commit"))
        },
        Wrong {
            bend: |w| w.reading.state.owners = vec!["Rollout/checkout".into()],
            ..of_stale("an operator owns it", ("TopmostController", Reason::OwnedByController, "Rollout/checkout"))
        },
        Wrong {
            bend: |w| {
                w.ledger.entries = vec![LedgerEntry {
                    action_id: "0".repeat(32),
                    namespace: "shop".into(),
                    target_uid: w.reading.object.uid.clone(),
                    target: String::new(),
                    action: String::new(),
                    node: String::new(),
                    failed: String::new(),
                    failed_at: None,
                    change: None,
                    incident: "another".into(),
                    at: ago(5),
                    state: LedgerState::Spent,
                    undo: false,
                }];
            },
            ..of_stale("it was restarted a moment ago", ("TargetCooldown", Reason::Cooldown, ""))
        },
        Wrong {
            bend: |w| w.proposal().target.name = "database".into(),
            ..of_stale("another object is proposed", ("ProposalNamesTarget", Reason::WrongTarget, "database"))
        },
    ]
}

#[test]
fn the_likeliest_wrong_restarts_are_refused_with_the_reason_that_a_person_would_give() {
    for Wrong { what, world, twist, bend, refused_by: (name, reason, words) } in
        by_their_pods().into_iter().chain(by_what_is_around())
    {
        let mut case = case_of(&world, twist);
        proposed(&mut case, NEWER);
        bend(&mut case);
        let decision = case.judge().decision;
        assert_ne!(decision.outcome, DecisionOutcome::Act, "{what}");
        let check = decision.checks.iter().find(|check| check.check == name).unwrap();
        let refused = matches!(check.verdict, Verdict::Refused | Verdict::Unknown);
        assert!(refused && check.reason == reason.as_str(), "{what}: {check:?}");
        assert!(check.message.contains(words), "{what}: {}", check.message);
    }
}

/// What the pods show is refused by the rules as well, so that a stolen controller cannot have it written.
#[test]
fn what_the_pods_show_to_be_wrong_is_proposed_by_no_rule_and_written_by_no_executor() {
    for Wrong { what, world, .. } in by_their_pods() {
        let reading = case_of(&world, |_| {}).reading;
        let own = rules::candidate(&reading, None).map(|proposal| proposal.action);
        assert!(!matches!(own, Some(Action::RolloutRestart(_))), "{what}: {own:?}");
        let mut spec = super::following::repair_of(&case_of(&of(Kind::Deployment, &stale()), |_| {}));
        spec.action = restart_at(ago(NEWER));
        if let Ok(Prediction { write, .. }) = (actions::of(spec.action.kind()).predict)(&reading, &spec.action) {
            spec.write = write;
        }
        let own = own_evidence(&spec, &reading, Some(&[]), false, Override::No);
        assert!(own.refusal.is_some(), "{what}");
    }
}

#[test]
fn a_newer_pod_that_has_only_begun_is_waited_for() {
    let mut pods = stale();
    pods[2] = (ready(20), 25, "n1");
    let mut case = case_of(&of(Kind::Deployment, &pods), |_| {});
    assert_eq!(case.judge().decision.outcome, DecisionOutcome::Wait, "nobody proposes anything yet");
    proposed(&mut case, 25);
    let decision = case.judge().decision;
    assert_eq!((decision.outcome, decision.reason.as_str()), (DecisionOutcome::Wait, "RestartUnproven"));
}

#[test]
fn a_bad_release_that_hangs_is_rolled_back_and_not_restarted() {
    let mut world = WorkloadFixture::two_revisions().pods(1, 2, &ready(3600)).pods(2, 2, &hangs(100));
    world.replicas = 4;
    let case = case_of(&world, |_| {});
    let proposal = case.diagnosis.clone().unwrap().proposal.unwrap();
    assert_eq!(proposal.action.kind(), ActionKind::RolloutUndo);
    let mut restart = case;
    proposed(&mut restart, 50);
    assert_ne!(restart.judge().decision.outcome, DecisionOutcome::Act);
}

#[test]
fn another_time_than_that_of_the_reading_is_written_by_nobody() {
    let mut case = case_of(&of(Kind::Deployment, &stale()), |_| {});
    proposed(&mut case, NEWER + 1);
    let decision = case.judge().decision;
    assert_eq!((decision.outcome, decision.reason.as_str()), (DecisionOutcome::Escalate, "OpinionsDiffer"));
}
