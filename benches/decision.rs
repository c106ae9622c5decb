//! How long a decision takes over what a platform may ask of it: fifty Policies of which every sixth looks through two
//! hundred facts, with every core kept busy by something else. `make bench-decision` prints the table.
//!
//! Times inform, because what else the machine does falls on them. What may fail are ratios of times of one run: a decision
//! with Policies to one without, and twice as many Policies to these.

use std::{
    collections::BTreeMap,
    hint::black_box,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use backstop::{
    api::v1alpha1::{
        Action, Cause, Claim, ClaimKind, DecisionOutcome, Diagnosis, Fact, FactData, FieldChange, LedgerStatus, Mode,
        ObjectRef, PodFact, PodFailure, Policy, Proposal, RevisionDiffFact, RevisionFact, RolloutUndo, Severity,
        SourceName, Time, WorkloadFact,
    },
    core::{
        blast::Reach,
        budget::{Budgets, storm::FailingTargets},
        gate::{self, Alerts, Belief, Books, Case, Cluster, Rules},
        names,
        policy::CompiledPolicy,
        rules,
        workload::{Kind, Pod, Revision, Strategy, Workload},
    },
};
use serde_json::{Value, json};

/// Facts of the incident.
const FACTS: usize = 200;
/// Policies that hold for its target.
const POLICIES: usize = 50;
/// Decisions of each kind, taken in turns.
const ROUNDS: usize = 1_500;
/// The longest that all but one of a hundred may take, with fifty Policies and every core busy.
const WANTED: Duration = Duration::from_millis(5);
/// So many times as long as a decision without Policies may one with fifty take.
const MAX_FIFTY: f64 = 40.0;
/// So many times as long as one with fifty may one with a hundred take.
const MAX_TWICE: f64 = 3.0;

fn main() -> anyhow::Result<()> {
    let world = World::new();
    let (few, many) = (policies(POLICIES), policies(2 * POLICIES));
    let kinds: [&[CompiledPolicy]; 3] = [&[], &few, &many];
    for all in kinds {
        let decision = world.decide(all);
        anyhow::ensure!(decision == DecisionOutcome::Act, "with {} Policies: {decision:?}", all.len());
    }
    let cores = thread::available_parallelism()?.get();
    println!("\n{FACTS} facts, {ROUNDS} decisions of each kind in turns; {cores} cores\n");
    println!("| Policies | every core busy | p50 µs | p99 µs | worst µs |\n|---|---|---|---|---|");
    for busy in [false, true] {
        let [none, fifty, hundred] = with_cores(if busy { cores } else { 0 }, || {
            let mut times = [(); 3].map(|()| Vec::with_capacity(ROUNDS));
            for _ in 0..ROUNDS {
                for (times, all) in times.iter_mut().zip(kinds) {
                    let began = Instant::now();
                    black_box(world.decide(all));
                    times.push(began.elapsed());
                }
            }
            times.map(Times::of)
        });
        for (count, times) in [(0, &none), (POLICIES, &fifty), (2 * POLICIES, &hundred)] {
            let [p50, p99, worst] = [50, 99, 100].map(|percent| times.at(percent).as_micros());
            println!("| {count} | {} | {p50} | {p99} | {worst} |", if busy { "yes" } else { "no" });
        }
        if busy {
            let p99 = fifty.at(99);
            let word = if p99 <= WANTED { "kept" } else { "missed on this machine" };
            println!("\nwanted with {POLICIES} Policies and every core busy: p99 <= {WANTED:?}: {word} ({p99:?})");
        } else {
            let ratio = |a: &Times, b: &Times| a.at(50).as_secs_f64() / b.at(50).as_secs_f64();
            let (of_fifty, of_twice) = (ratio(&fifty, &none), ratio(&hundred, &fifty));
            anyhow::ensure!(of_fifty <= MAX_FIFTY, "{POLICIES} Policies take {of_fifty:.1} times as long as none");
            anyhow::ensure!(of_twice <= MAX_TWICE, "twice as many take {of_twice:.1} times as long");
        }
    }
    Ok(())
}

/// Does `work` while so many threads do nothing but compute.
fn with_cores<T>(busy: usize, work: impl FnOnce() -> T) -> T {
    let go_on = AtomicBool::new(true);
    thread::scope(|scope| {
        for _ in 0..busy {
            scope.spawn(|| {
                while go_on.load(Ordering::Relaxed) {
                    black_box((0..1_000_u64).sum::<u64>());
                }
            });
        }
        let done = work();
        go_on.store(false, Ordering::Relaxed);
        done
    })
}

/// Times, the shortest first.
struct Times(Vec<Duration>);

impl Times {
    fn of(mut times: Vec<Duration>) -> Times {
        times.sort();
        Times(times)
    }

    fn at(&self, percent: usize) -> Duration {
        let last = self.0.len() - 1;
        self.0[(self.0.len() * percent / 100).min(last)]
    }
}

/// What the Policies of a platform say. They are compiled before: a decision takes them from the cache.
fn policies(count: usize) -> Vec<CompiledPolicy> {
    let rules = [
        "target.labels.all(k, k.startsWith('example.com/'))",
        "blast.percent <= 50 && !blast.toZero && blast.services.all(s, s.lost < s.ready)",
        "now - timestamp(alert.startsAt) >= duration('0s') && alert.severity != 'info'",
        "after.spec.containers.all(c, c.image.startsWith('registry.example.com/'))",
        "budget.actionsOfTargetInDay < 3 && budget.actionsInHour < budget.maxInHour",
        "facts.exists(f, has(f.data.pod) && f.data.pod.failure == 'CrashLoop' && f.id == 'f200')",
    ];
    let policy = |number: usize| {
        let spec = json!({
            "mode": "auto",
            "matchConditions": [{"name": "kind", "expression": "target.kind in ['Deployment', 'StatefulSet']"}],
            "variables": [{"name": "small", "expression": "target.replicas <= 1000"}],
            "validations": [{"expression": rules[number % rules.len()]}, {"expression": "variables.small"}],
            "windows": [{"kind": "deny", "schedule": "0 4 * * 0", "durationSeconds": 3600, "timeZone": "Europe/Berlin"}],
        });
        let policy = Policy::new(&format!("p{number}"), serde_json::from_value(spec).expect("a Policy"));
        let policy = CompiledPolicy::of(&policy);
        assert!(policy.error().is_none(), "{:?}", policy.error());
        policy
    };
    (0..count).map(policy).collect()
}

/// A bad rollout of a large Deployment.
struct World {
    target: ObjectRef,
    workload: Workload,
    facts: Vec<Fact>,
    diagnosis: Diagnosis,
    reach: Reach,
    ledger: LedgerStatus,
    budgets: Budgets,
    failing: FailingTargets,
    labels: BTreeMap<String, String>,
}

fn at(second: i64) -> Time {
    Time::from_second(1_800_000_000 + second).expect("a time")
}

fn object(kind: &str, name: &str) -> ObjectRef {
    let (kind, name, uid) = (kind.to_owned(), name.to_owned(), format!("uid-{name}"));
    ObjectRef { api_version: "apps/v1".into(), kind, namespace: "shop".into(), name, uid }
}

fn template(image: &str) -> Value {
    let env: Vec<Value> = (0..32).map(|n| json!({"name": format!("NAME_{n}"), "value": "x".repeat(64)})).collect();
    json!({
        "metadata": {"labels": {"app": "api"}},
        "spec": {"containers": [{"name": "app", "image": format!("registry.example.com/{image}"), "env": env}]},
    })
}

fn revision(number: i64, current: bool) -> Revision {
    let template = template(&format!("api:{number}"));
    let hash = names::digest(&[&names::canonical(&template)]);
    let fact = RevisionFact {
        number,
        current,
        created_at: Some(at(-10)),
        template_hash: hash[..16].to_owned(),
        ready: i32::from(!current),
        replicas: i32::from(!current),
        ..Default::default()
    };
    Revision { object: object("ReplicaSet", &format!("api-{number}")), fact, template, template_hash: hash }
}

fn pod(number: usize) -> PodFact {
    PodFact {
        owner: "api-2".into(),
        revision: Some(2),
        phase: "Running".into(),
        created_at: Some(at(-10)),
        node: format!("node-{number}"),
        failure: PodFailure::CrashLoop,
        container: "app".into(),
        reason: "CrashLoopBackOff".into(),
        exit_code: Some(1),
        restarts: 3,
        last_terminated_at: Some(at(-1)),
        ..Default::default()
    }
}

impl World {
    fn new() -> World {
        let target = object("Deployment", "api");
        let count = FACTS - 2;
        let replicas = i32::try_from(count).expect("few");
        let pods: Vec<Pod> = (0..count)
            .map(|number| Pod { object: object("Pod", &format!("api-2-{number}")), fact: pod(number) })
            .collect();
        let change = FieldChange { path: "/spec/containers/app/image".into(), ..Default::default() };
        let diff = RevisionDiffFact { from: 1, to: 2, changes: vec![change], restart_only: false };
        let fact = |number: usize, object: ObjectRef, data: FactData| Fact {
            id: format!("f{number}"),
            source: SourceName::Pods,
            object,
            seen_at: at(0),
            data,
            text: "x".repeat(256),
        };
        let mut facts = vec![
            fact(1, target.clone(), FactData::Workload(WorkloadFact::default())),
            fact(2, target.clone(), FactData::RevisionDiff(diff)),
        ];
        let of_pods = pods.iter().enumerate();
        facts.extend(of_pods.map(|(n, pod)| fact(n + 3, pod.object.clone(), FactData::Pod(pod.fact.clone()))));
        let claim = |kind, revision, cites: &str| Claim {
            kind,
            revision,
            failure: (kind == ClaimKind::PodsFailing).then_some(PodFailure::CrashLoop),
            cites: vec![cites.to_owned()],
            text: String::new(),
        };
        let diagnosis = Diagnosis {
            ceiling: rules::CEILING,
            diagnoser: rules::NAME.into(),
            cause: Cause::BadRollout,
            hypothesis: "revision 2 crash-loops".into(),
            suspect: Some(target.clone()),
            suspected_revision: Some(2),
            confidence: 90,
            proposal: Some(Proposal {
                action: Action::RolloutUndo(RolloutUndo { to_revision: 1 }),
                target: target.clone(),
            }),
            claims: vec![
                claim(ClaimKind::PodsFailing, None, "f3"),
                claim(ClaimKind::FailingPodsRunRevision, Some(2), "f3"),
                claim(ClaimKind::TemplateChanged, Some(1), "f2"),
            ],
            ..Default::default()
        };
        let workload = Workload {
            object: target.clone(),
            kind: Kind::Deployment,
            state: WorkloadFact {
                generation: 2,
                observed_generation: 2,
                desired: replicas,
                updated: replicas,
                revision: Some(2),
                ..Default::default()
            },
            labels: (0..32).map(|n| (format!("example.com/key-{n}"), "value".to_owned())).collect(),
            annotations: BTreeMap::new(),
            template: template("api:2"),
            spec: json!({"replicas": replicas}),
            ending: false,
            strategy: Strategy::default(),
            revisions: vec![revision(2, true), revision(1, false)],
            pods,
            read_at: at(0),
            pod_security_at: None,
        };
        World {
            target,
            workload,
            facts,
            diagnosis,
            reach: Reach::among(1, 1),
            ledger: LedgerStatus::default(),
            budgets: Budgets::default(),
            failing: FailingTargets::of([("shop", "api")]),
            labels: BTreeMap::new(),
        }
    }

    fn decide(&self, policies: &[CompiledPolicy]) -> DecisionOutcome {
        let case = Case {
            now: at(1),
            incident: "api-0123456789",
            rounds: 1,
            target: Ok(&self.target),
            alerts: Alerts {
                firing: true,
                started_at: at(-2),
                names: vec!["KubePodCrashLooping"],
                severity: Severity::Warning,
                labels: &self.labels,
            },
            belief: Belief {
                facts: &self.facts,
                diagnosis: Some(&self.diagnosis),
                decided: rules::NAME,
                ..Belief::default()
            },
            cluster: Cluster {
                workload: Ok(&self.workload),
                known_good: &[],
                presence: &[],
                before_write: None,
                full_quota: None,
                reach: Some(Ok(&self.reach)),
            },
            rules: Rules {
                namespace_mode: Some(Mode::Auto.as_str()),
                policies,
                runbooks: &[],
                exceptions: &[],
                system: "backstop-system",
            },
            books: Books {
                ledger: &self.ledger,
                approvals: &[],
                storm: None,
                neighbours_unread: None,
                failing_targets: &self.failing,
                budgets: &self.budgets,
                enrolled: true,
                audit_durable: true,
            },
        };
        gate::judge(&case).decision.outcome
    }
}
