//! Every check of every chain earns its place: the registry is walked, and each check needs a sentence, a case in which
//! it alone refuses, and that case must notice when the check is broken.

use serde_json::json;

use super::super::chains::{self, Chain};
use super::super::check::planted;
use super::super::testing::{
    GateFixture, at, bad_rollout, failing_everywhere, pod, policy, restart_at, revision, runbook, stale_processes,
    too_few_replicas, undo_to,
};
use super::super::*;
use super::following::{replacement, taking_back};
use crate::api::v1alpha1::{
    BreakerState, Cause, FactData, LedgerEntry, LedgerState, Obstacle, PodFailure, Reference, ReferenceKind, Review,
    Verdict, WorkloadFact,
};
use crate::core::workload::{Kind, Presence, Strategy};

/// A case of one chain.
pub struct Bench {
    pub world: GateFixture,
    /// For chains that follow a repair.
    pub repair: RemediationSpec,
    /// For evictions.
    pub pod: ObjectRef,
    /// Changes the Remediation that the executor is given.
    pub tamper: fn(&mut RemediationSpec),
    pub definition_of: fn(ActionKind) -> &'static Definition,
}

type Bend = fn(&mut Bench);

/// The definition of an action that is for no kind of object.
fn for_nothing(kind: ActionKind) -> &'static Definition {
    Box::leak(Box::new(Definition { targets: &[], ..*actions::of(kind) }))
}

/// A case in which this action is taken.
fn acting(action: Option<ActionKind>) -> GateFixture {
    match action {
        None | Some(ActionKind::RolloutUndo) => bad_rollout(),
        Some(ActionKind::RolloutRestart) => stale_processes(),
        Some(ActionKind::Planted) => too_few_replicas(),
    }
}

/// A case that every check of the chain lets through.
fn bench(chain: &Chain) -> Bench {
    let (world, repair, pod) = match chain.name {
        "Undo" | "Executor, undo" => {
            let (world, repair) = taking_back();
            (world, repair, ObjectRef::default())
        }
        "ReplacePod" | "Executor, replace pod" => replacement(),
        _ => (acting(chain.action), taking_back().1, ObjectRef::default()),
    };
    Bench { world, repair, pod, tamper: |_| {}, definition_of: actions::of }
}

impl Bench {
    fn verdicts(&self, chain: &Chain) -> Vec<CheckVerdict> {
        let case = self.world.case();
        let own = |mut spec: RemediationSpec| {
            (self.tamper)(&mut spec);
            own_evidence_by(
                &spec,
                &self.world.reading,
                Some(&self.world.known_good),
                false,
                Override::No,
                self.definition_of,
            )
            .verdicts
        };
        let following = |purpose, judgement: Judgement| RemediationSpec {
            purpose,
            follows: Some(self.repair.action_id.clone()),
            write: judgement.prediction.as_ref().unwrap().write.clone(),
            ..self.repair.clone()
        };
        match chain.name {
            name if chain.action.is_some_and(|kind| kind.as_str() == name) => {
                judge_repair(&case, Facts::Fresh, self.definition_of).decision.checks
            }
            "Undo" => judge_undo(&case, &self.repair).decision.checks,
            "ReplacePod" => judge_replacement(&case, &self.repair, &self.pod).decision.checks,
            "Executor, repair" => {
                let action = self.world.diagnosis.as_ref().unwrap().proposal.as_ref().unwrap().action.clone();
                let predicted = (actions::of(action.kind()).predict)(&self.world.reading, &action);
                let spec = match predicted {
                    Ok(Prediction { write, provenance, .. }) => {
                        RemediationSpec { action, write, provenance, ..self.repair.clone() }
                    }
                    Err(_) => RemediationSpec { action, ..self.repair.clone() },
                };
                own(spec)
            }
            "Executor, undo" => own(following(Purpose::Undo, judge_undo(&taking_back().0.case(), &self.repair))),
            "Executor, replace pod" => {
                let judgement = judge_replacement(&replacement().0.case(), &self.repair, &self.pod);
                own(following(Purpose::ReplacePod, judgement))
            }
            other => panic!("no test knows the chain {other}: add it to the bench"),
        }
    }

    fn refusals(&self, chain: &Chain) -> Vec<String> {
        let refused = |check: &CheckVerdict| matches!(check.verdict, Verdict::Refused | Verdict::Unknown);
        self.verdicts(chain).into_iter().filter(refused).map(|check| check.check).collect()
    }
}

/// What makes this check refuse, and no other, in a chain of this action; where the action does not matter it is `_`.
fn case(action: Option<ActionKind>, check: &str) -> Option<Bend> {
    let bend: Bend = match (action, check) {
        (_, "TargetResolved") => |b| {
            b.world.target = Err(Unreadable { reason: Reason::TargetAmbiguous, message: "two workloads".into() });
        },
        (_, "TargetReadable") => |b| {
            b.world.unreadable = Some(Unreadable { reason: Reason::KindNotSupported, message: "a CronJob".into() });
        },
        (_, "SameTarget" | "SameObject") => |b| b.world.reading.object.uid = "another".into(),
        (_, "AlertFiring") => |b| b.world.firing = false,
        (Some(ActionKind::RolloutRestart), check) => match restart(check) {
            Some(bend) => bend,
            None => return case(None, check),
        },
        (_, "PodsFail") => |b| {
            b.world.reading.pods[1].fact.failure = PodFailure::None;
            b.world.diagnosis().claims.drain(..2);
        },
        (_, "KindSupported") => |b| b.definition_of = for_nothing,
        (_, "TopmostController") => |b| b.world.reading.state.owners = vec!["Rollout/api".into()],
        (_, "NotManagedByTool") => |b| b.world.reading.state.managed_by = vec!["argocd".into()],
        (_, "NotProtected" | "StillNotProtected") => |b| {
            b.world.reading.annotations.insert("backstop.dev/protected".into(), String::new());
        },
        (_, "NotBeingDeleted") => |b| b.world.reading.ending = true,
        (_, "RolloutAutomatic") => |b| b.world.reading.strategy = Strategy::OnDelete,
        (_, "RolloutNotPaused") => |b| b.world.reading.state.paused = true,
        (_, "CurrentRevisionRecorded") => |b| {
            b.world.reading.revisions[0].fact.current = false;
            b.world.diagnosis().claims.pop();
        },
        (_, "FailingPodsRunCurrentRevision") => |b| {
            b.world.reading.pods.push(pod("api-7-a", 7, PodFailure::CrashLoop));
            b.world.diagnosis().claims.remove(1);
        },
        (_, "EarlierRevisionExists") => |b| {
            b.world.reading.revisions.truncate(1);
            b.world.reading.pods.remove(0);
            b.world.diagnosis().claims.pop();
        },
        (_, "RevisionRecorded") => |b| b.world.proposal().action = undo_to(7),
        (_, "TemplateDiffers") => |b| {
            b.world.reading.revisions[1].template = b.world.reading.revisions[0].template.clone();
            b.world.diagnosis().claims.pop();
        },
        (_, "ChangeExplainsFailure") => |b| b.world.reading.pods[1].fact.container = "injected".into(),
        (_, "EarlierTemplateCanStart") => |b| {
            let secret = Reference { kind: ReferenceKind::Secret, name: "db".into(), key: None };
            b.world.reading.revisions[1].fact.references = vec![secret];
            b.world.reading.pods.remove(0);
        },
        (_, "ConfigurationApart") => |b| {
            let reading = &mut b.world.reading;
            let templates = reading.revisions.iter_mut().map(|revision| &mut revision.template);
            for template in templates.chain([&mut reading.template]) {
                template["spec"]["containers"][0]["envFrom"] = json!([{"configMapRef": {"name": "prices"}}]);
            }
            let made = reading.revisions[0].fact.created_at;
            let (kind, name) = (ReferenceKind::ConfigMap, "prices".to_owned());
            reading.revisions[1].fact.created_at = Some(at(-90_000));
            b.world.presence = vec![Presence { kind, name, exists: Some(true), changed_at: made }];
        },
        (_, "CurrentTemplateNeverWorked") => |b| b.world.known_good = vec![b.world.mark(0)],
        (_, "RolloutRecent") => |b| b.world.reading.revisions[0].fact.created_at = None,
        (_, "EarlierRevisionHealthy") => |b| b.world.reading.revisions[1].fact.ready = 0,
        (Some(ActionKind::Planted), "FewReplicas") => |b| b.world.reading.spec = json!({"replicas": 3}),
        (Some(ActionKind::Planted), "RulesAgree") => |b| b.world.reading.state.progressing_reason.clear(),
        // The newest earlier revision is the current one restarted: it broke without a change of the template.
        (_, "RulesAgree") => |b| b.world.reading.revisions.insert(1, revision(9, false, "api:2")),
        (_, "WriteFollowsFromAction") => |b| {
            b.tamper = |spec| {
                if let Write::Field(field) = &mut spec.write {
                    field.after = (actions::of(spec.action.kind()).wrong_value)(field);
                }
            };
        },
        (_, "ActionProposed") => |b| b.world.diagnosis().proposal = None,
        (_, "ProposalNamesTarget") => |b| b.world.proposal().target.namespace = "other".into(),
        (_, "ClaimsCiteFacts") => |b| b.world.diagnosis().claims.clear(),
        (_, "ClaimsSupported") => |b| b.world.diagnosis().claims[2].cites = vec!["f2".into()],
        (_, "ClaimsHold") => |b| {
            b.world.diagnosis().claims[0].failure = Some(PodFailure::OutOfMemory);
            if let FactData::Pod(pod) = &mut b.world.facts[1].data {
                pod.failure = PodFailure::OutOfMemory;
            }
        },
        (_, "CauseHolds") => |b| b.world.diagnosis().cause = Cause::Recovered,
        (_, "ObjectsExist") => |b| b.world.diagnosis().suspected_revision = Some(77),
        (_, "OpinionsAgree") => |b| {
            let mut second = b.world.diagnosis.clone().unwrap();
            second.proposal.as_mut().unwrap().action = undo_to(9);
            b.world.second = Some(second);
        },
        (_, "NoObjection") => |b| {
            b.world.review = Some(Review { rung: "second".into(), objects: true, reason: "a node is full".into() });
        },
        (_, "ConfidenceAboveFloor") => |b| {
            b.world.policies = vec![policy(json!({"mode": "auto", "confidenceFloor": 95}))];
        },
        (_, "FactsFresh") => |b| b.world.now = at(62),
        (_, "NamespaceEnrolled") => |b| b.world.enrolled = false,
        (_, "PolicyAllows" | "PolicyAllowsFollowing") => |b| {
            b.world.policies = vec![policy(json!({"mode": "auto", "allowedActions": []}))];
        },
        (_, "RunbookAllows") => |b| {
            b.world.runbooks = vec![runbook("look", json!({"summary": "s", "match": {}, "allowedActions": []}))];
        },
        (_, "BlastRadius") => |b| {
            b.world.policies = vec![policy(json!({"mode": "auto", "limits": {"maxPods": 0}}))];
        },
        (_, "QuotaHasRoom") => |b| b.world.full_quota = Some("pods (pods: 2/2)".into()),
        (_, "LoopBudget") => |b| b.world.rounds = MAX_ROUNDS + 1,
        (_, "TargetCooldown") => |b| b.world.ledger.entries = vec![entry(0, &b.world.reading.object.uid)],
        (_, "TargetNotHeld") => |b| {
            let failed =
                LedgerEntry { at: at(-7200), failed: "Relapsed".into(), ..entry(0, &b.world.reading.object.uid) };
            b.world.ledger.entries = vec![failed];
        },
        (_, "DailyBudget") => |b| b.world.budgets.actions_per_target_per_day = 0,
        (_, "HourlyBudget") => |b| b.world.budgets.actions_per_namespace_per_hour = 0,
        (_, "FewUnderWay") => |b| {
            b.world.policies = vec![policy(json!({"mode": "auto", "limits": {"concurrent": 1}}))];
            let under_way =
                LedgerEntry { namespace: "shop".into(), state: LedgerState::Reserved, ..entry(0, "another") };
            b.world.ledger.entries = vec![under_way];
        },
        (_, "LedgerHasRoom") => |b| {
            b.world.ledger.entries = (0..2000).map(|number| entry(number, "another")).collect();
        },
        (_, "NoStorm") => |b| b.world.failing_targets = failing_everywhere(),
        (_, "MadeWorse") => |b| b.world.before_write = None,
        (_, "CascadeBreakerClosed") => |b| {
            b.world.ledger.breaker.state = BreakerState::Open;
            b.world.ledger.breaker.opened_at = Some(at(0));
        },
        (_, "AuditDurable") => |b| b.world.audit = false,
        (_, "ModeAllows") => |b| b.world.mode = None,
        (_, "Approved") => |b| b.world.mode = Some("approve".into()),
        (_, "LastWriteOurs") => |b| {
            b.world.reading.annotations.insert("backstop.dev/last-action".into(), "f".repeat(32));
        },
        (_, "FieldStillOurs") => |b| b.world.reading.template["spec"]["containers"][0]["image"] = json!("api:3"),
        (_, "StillUnhealthy") => |b| {
            let WorkloadFact { updated, ready, available, .. } = &mut b.world.reading.state;
            (*updated, *ready, *available) = (2, 2, 2);
            b.world.reading.pods = vec![pod("a", 1, PodFailure::None), pod("b", 1, PodFailure::None)];
        },
        (_, "KindKeepsStuckPods") => |b| {
            b.world.reading.kind = Kind::DaemonSet;
            b.world.reading.object.kind = "DaemonSet".into();
            b.world.target.as_mut().unwrap().kind = "DaemonSet".into();
            b.repair.target.kind = "DaemonSet".into();
        },
        (_, "PodStuck") => |b| b.world.reading.pods[1].object.uid = "recreated".into(),
        _ => return None,
    };
    Some(bend)
}

/// The same for checks that a restart alone has, or that another state turns.
fn restart(check: &str) -> Option<Bend> {
    let bend: Bend = match check {
        "PodsFail" => |b| {
            b.world.reading.pods.iter_mut().for_each(|pod| pod.fact.failure = PodFailure::None);
            b.world.diagnosis().claims.drain(..2);
        },
        "RulesAgree" => |b| b.world.proposal().action = restart_at(at(-119)),
        "RolloutComplete" => |b| b.world.reading.state.updated = 2,
        "ProcessesHang" => |b| b.world.reading.pods[0].fact.failure = PodFailure::CrashLoop,
        "SeveralPodsFail" => |b| drop(b.world.reading.pods.remove(1)),
        "NewerPodsWork" => |b| b.world.reading.pods[2].fact.ready_since = Some(at(-5)),
        "AgeTellsApart" => |b| {
            let mut between = b.world.reading.pods[2].clone();
            between.object.name = "api-2-d".into();
            between.fact.created_at = Some(at(-89_500));
            b.world.reading.pods.push(between);
        },
        "NotOneNode" => |b| {
            b.world.reading.pods[1].fact.node = "n1".into();
            b.world.reading.pods[2].fact.node = "n3".into();
        },
        "NewProcessesLast" => |b| b.world.reading.pods[0].fact.ready_since = Some(at(-80_000)),
        "NoVolumesOfTheirOwn" => |b| b.world.reading.spec["volumeClaimTemplates"] = json!([{}]),
        "ServesMeanwhile" => |b| b.world.reading.strategy = Strategy::Recreate,
        "NewPodsLetIn" => |b| {
            let message = "pods \"api-2-d\" is forbidden: violates PodSecurity \"restricted:latest\"".into();
            b.world.reading.revisions[0].fact.refused = Some(Obstacle { message, ..Obstacle::default() });
        },
        "PodSecurityAsItWas" => |b| b.world.reading.pod_security_at = Some(at(-60)),
        "ConfigurationProven" => |b| b.world.presence[0].changed_at = Some(at(-60)),
        _ => return None,
    };
    Some(bend)
}

fn entry(number: usize, target_uid: &str) -> LedgerEntry {
    LedgerEntry {
        action_id: format!("{number:032}"),
        namespace: "elsewhere".into(),
        target_uid: target_uid.into(),
        target: String::new(),
        action: String::new(),
        node: String::new(),
        failed: String::new(),
        failed_at: None,
        change: None,
        incident: "another".into(),
        at: at(0),
        state: LedgerState::Spent,
        undo: false,
    }
}

/// Checks that look at the same evidence as the rules, which then refuse too.
fn is_evidence(check: &str) -> bool {
    let own =
        ActionKind::ALL.iter().map(|kind| actions::of(*kind)).flat_map(|it| it.evidence.iter().chain(it.looked_up));
    evidence::COMMON.iter().chain(own).any(|listed| listed.name == check)
}

#[test]
fn every_chain_lets_its_own_case_through() {
    for chain in chains::all() {
        let Chain { name, checks, .. } = &chain;
        let verdicts = bench(&chain).verdicts(&chain);
        let asked: Vec<&str> = verdicts.iter().map(|check| check.check.as_str()).collect();
        let listed: Vec<&str> = checks.iter().map(|(check, _)| *check).collect();
        assert_eq!(asked, listed, "{name}: the registry lists what is asked, in order");
        assert!(verdicts.iter().all(|check| check.verdict == Verdict::Passed), "{name}: {verdicts:#?}");
    }
}

#[test]
fn every_check_is_the_only_one_that_refuses_some_case_and_its_absence_is_noticed() {
    let mut asked = 0;
    for chain in chains::all() {
        let Chain { name, action, checks, .. } = &chain;
        for (check, _) in checks {
            let bend = case(*action, check).unwrap_or_else(|| panic!("{name}: no case turns {check}: add one"));
            let mut bent = bench(&chain);
            bend(&mut bent);
            let alone = |mut refusals: Vec<String>| {
                if is_evidence(check) {
                    refusals.retain(|refused| refused != "RulesAgree");
                }
                refusals
            };
            assert_eq!(alone(bent.refusals(&chain)), [*check], "{name} {action:?}: {check}");
            let broken = planted::with(check, || alone(bent.refusals(&chain)));
            assert!(!broken.contains(&check.to_string()), "{name}: {check} is broken and nobody notices");
            asked += 1;
        }
    }
    assert!(asked > 100, "{asked}");
}

/// A person's word on a model's proposal goes before the disagreement of rules and reviewers and before what only they can
/// tell apart, and before nothing else.
#[test]
fn no_approval_of_a_models_proposal_gets_past_any_other_check() {
    const OVERRULED: [&str; 5] = ["ConfigurationApart", "RulesAgree", "OpinionsAgree", "NoObjection", "Approved"];
    let chain = chains::repair(ActionKind::RolloutUndo);
    for (check, _) in &chain.checks {
        let mut bent = bench(&chain);
        let allow = policy(json!({"mode": "auto", "modelMode": "approve"}));
        let world = &mut bent.world;
        world.diagnosis().diagnoser = "haiku".into();
        world.ceiling = crate::api::v1alpha1::Mode::Approve;
        case(chain.action, check).unwrap()(&mut bent);
        let world = &mut bent.world;
        world.policies.push(allow);
        let judged = judge_repair(&world.case(), Facts::Fresh, bent.definition_of);
        let digest = judged.decision.digest.unwrap_or_default();
        bent.world.approvals = vec![ValidApproval { digest, approver: "ann".into(), ..ValidApproval::default() }];
        let judged = judge_repair(&bent.world.case(), Facts::Fresh, bent.definition_of);
        let acts = judged.decision.outcome == DecisionOutcome::Act;
        assert_eq!(acts, OVERRULED.contains(check), "{check}: {}", judged.decision.message);
    }
}

#[test]
fn every_check_says_in_one_sentence_what_it_asks() {
    let mut said = std::collections::BTreeMap::new();
    for Chain { name: chain, checks, says, .. } in chains::all() {
        assert!(says.ends_with('.'), "{chain}");
        let mut names = std::collections::BTreeSet::new();
        for (check, sentence) in checks {
            assert!(names.insert(check), "{chain} asks {check} twice");
            assert!((30..200).contains(&sentence.len()) && sentence.ends_with('.'), "{check}: {sentence:?}");
            assert!(!sentence.contains('|') && !sentence.contains("  "), "{check}: {sentence:?}");
            let before = said.insert(check, sentence);
            assert!(before.is_none_or(|before| before == sentence), "{check} says two things");
        }
    }
}

/// Where nobody refuses but a check had nothing to look at, nothing is written.
#[test]
fn a_chain_that_asks_nothing_lets_nothing_through() {
    let mut world = bad_rollout();
    world.proposal().action = undo_to(7);
    let broken = planted::with("RevisionRecorded", || world.judge().decision);
    assert_ne!(broken.outcome, DecisionOutcome::Act);
    world.reading.revisions[0].fact.current = false;
    world.diagnosis().claims.pop();
    let broken = planted::with("RulesAgree", || world.judge());
    assert_ne!(broken.decision.outcome, DecisionOutcome::Act);
}
