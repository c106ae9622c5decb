//! The unit tests of the executor run against a model of the admission policies. Here the API server gets the same
//! requests on real objects in the same states, as the executor would send them, and has to give the same verdicts.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use backstop::{
    act,
    api::v1alpha1::{ActionKind, Grant, Remediation},
    core::{
        execution::{
            PolicyName, Probe, Request, Resource, Response, Verb,
            conformance::{ACTIONS, Expected, Live, Row, State, cases, grant, ladder, remediations},
            patch,
        },
        names, object,
        workload::Kind,
    },
};
use jiff::{SignedDuration, Timestamp};
use kube::{Client, ResourceExt as _};
use serde_json::{Value, json};

use crate::support::{
    bench::{Bench, Release, deployment},
    thief::Thief,
    until,
    workloads::{Kind as Set, Workload},
};

/// What a Grant is opened for; the chart allows no more than 90 s.
const OPEN: SignedDuration = SignedDuration::from_secs(60);
/// A Grant that is older is opened again before the next case, so that none expires in the middle of one.
const RENEW: Duration = Duration::from_secs(25);
/// How often a case is sent again because its object changed meanwhile or the API server had no answer.
const TRIES: usize = 20;

/// One case and what the API server said to it.
struct Seen {
    of: ActionKind,
    kind: Kind,
    case: Row,
    outcome: Response,
}

/// The objects of one kind, and the executor's account.
struct Play<'a> {
    bench: &'a Bench,
    executor: &'a Client,
    kind: Kind,
    name: String,
    revision: String,
    pod: String,
    change: Remediation,
    eviction: Option<Remediation>,
}

pub async fn the_api_server_gives_the_verdicts_that_the_executor_is_tested_with(bench: Bench) -> Result<()> {
    for kind in Kind::ALL {
        two_revisions(&bench, kind).await?;
    }
    until("the Grant exists", || async { Ok(bench.api::<Grant>().get_opt(names::GRANT).await?.map(drop)) }).await?;
    let play = async {
        let executor = Thief::of(&bench, "executor").await?;
        let mut seen = Vec::new();
        for (of, kind) in ACTIONS.into_iter().flat_map(|of| Kind::ALL.map(|kind| (of, kind))) {
            let play = Play::of(&bench, &executor.client, of, kind).await?;
            let outcome = play.all(&mut seen).await;
            // Whatever came of it: what is left marked would be in the way of the next kind, and of the clean-up.
            play.clear().await?;
            outcome?;
        }
        judged(&seen)
    };
    bench.suite.operator.without(&["controller", "executor"], Box::pin(play)).await?;
    let events = bench.events().await?;
    let witness = &bench.suite.witness;
    let (fires, evictions) = (witness.fires(&events), witness.evictions(&events));
    ensure!(fires.is_empty() && evictions.is_empty(), "a dry-run was written: {fires:#?} {evictions:#?}");
    bench.nothing_in_flight().await
}

fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::Deployment => "deployment",
        Kind::StatefulSet => "statefulset",
        Kind::DaemonSet => "daemonset",
    }
}

/// A target with two healthy revisions: its status does not change while the cases are sent.
async fn two_revisions(bench: &Bench, kind: Kind) -> Result<()> {
    let name = name(kind);
    let set = match kind {
        Kind::Deployment => {
            let mut manifest = deployment(name, 1);
            manifest["spec"]["minReadySeconds"] = json!(1);
            bench.healthy_as(name, manifest).await?;
            bench.ship(name, Release::Good).await?;
            return bench.rolled_out(name).await;
        }
        Kind::StatefulSet => Set::StatefulSet,
        Kind::DaemonSet => Set::DaemonSet,
    };
    let mut manifest = set.manifest(name, 1);
    manifest["spec"]["minReadySeconds"] = json!(1);
    let workload = Workload::healthy(bench, set, name, manifest).await?;
    workload.patch(Release::Good.patch(name)).await?;
    workload.rolled_out().await
}

impl<'a> Play<'a> {
    async fn of(bench: &'a Bench, executor: &'a Client, of: ActionKind, kind: Kind) -> Result<Play<'a>> {
        let name = name(kind).to_owned();
        let target = read(bench, targets(kind), &name).await?;
        let uid = object::meta(&target, "uid");
        let first = |it: &Value| match kind {
            Kind::Deployment => object::annotation(it, names::REVISION) == Some("1"),
            Kind::StatefulSet | Kind::DaemonSet => it["revision"] == 1,
        };
        let owned = |it: &Value| {
            it.pointer("/metadata/ownerReferences/0/uid").and_then(Value::as_str) == Some(uid) && first(it)
        };
        let listed = read(bench, revisions(kind), "").await?;
        let revision = listed["items"].as_array().into_iter().flatten().find(|it| owned(it));
        let revision = object::meta(revision.with_context(|| format!("{name} has no revision 1"))?, "name").to_owned();
        let pods = read(bench, "api/v1 pods", "").await?;
        let label = |it: &Value| object::label(it, "app.kubernetes.io/name") == Some(name.as_str());
        let pod = pods["items"].as_array().into_iter().flatten().find(|it| label(it) && !object::is_ending(it));
        let pod = object::meta(pod.with_context(|| format!("{name} has no pod"))?, "name").to_owned();
        let (old, one) = (read(bench, revisions(kind), &revision).await?, read(bench, "api/v1 pods", &pod).await?);
        let (change, eviction) = remediations(of, kind, &target, &old, &one);
        ensure!(eviction.is_some() == (kind == Kind::StatefulSet), "{kind}: pods of another kind are to be evicted");
        Ok(Play { bench, executor, kind, name, revision, pod, change, eviction })
    }

    async fn live(&self) -> Result<Live> {
        Ok(Live {
            kind: self.kind,
            change: self.change.clone(),
            eviction: self.eviction.clone(),
            target: read(self.bench, targets(self.kind), &self.name).await?,
            revision: read(self.bench, revisions(self.kind), &self.revision).await?,
            pod: read(self.bench, "api/v1 pods", &self.pod).await?,
        })
    }

    /// Sends every case of every state.
    async fn all(&self, seen: &mut Vec<Seen>) -> Result<()> {
        for state in State::ALL {
            if state == State::EvictionGranted && self.eviction.is_none() {
                continue;
            }
            let mut entered = self.enter(state).await?;
            for index in 0..cases(&self.live().await?, state).len() {
                if entered.elapsed() > RENEW {
                    entered = self.enter(state).await?;
                }
                seen.push(self.ask(state, index).await?);
            }
        }
        Ok(())
    }

    /// Sends one case. Another writer's change and an API server without an answer are no verdicts.
    async fn ask(&self, state: State, index: usize) -> Result<Seen> {
        let mut said = Response::NotFound;
        for _ in 0..TRIES {
            let case = cases(&self.live().await?, state).swap_remove(index);
            ensure!(case.request.dry_run, "{} is not a dry-run", case.name);
            said = act::send(self.executor, &case.request).await;
            if !matches!(said, Response::Conflict | Response::Unknown(_)) {
                return Ok(Seen { of: self.change.spec.action.kind(), kind: self.kind, case, outcome: said });
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        let case = cases(&self.live().await?, state).swap_remove(index);
        bail!("{}, {state:?}, {}: no verdict in {TRIES} tries, the last answer: {said:?}", self.kind, case.name)
    }

    /// Brings the objects to `state`, and waits until the policies see them so: from then on each verdict counts.
    async fn enter(&self, state: State) -> Result<Instant> {
        self.clear().await?;
        let now = Instant::now();
        // The policy compares with times of managedFields, which are whole seconds.
        let end = Timestamp::from_second((backstop::clock::now() + OPEN).as_second())?;
        self.set_grant(grant(&self.live().await?, state, 1, end)).await?;
        let steps = ladder(&self.live().await?, state).len();
        for index in 0..steps {
            until(&format!("{} is in state {state:?}", self.name), || async {
                let live = self.live().await?;
                match act::send(self.executor, &ladder(&live, state).swap_remove(index)).await {
                    Response::Done(_) => Ok(Some(())),
                    other => bail!("step {index}: {other:?}"),
                }
            })
            .await?;
            // The first step marks the revision, where the action names one.
            if index == 0 && self.change.spec.provenance.is_some() {
                self.marked_is(true).await?;
            }
        }
        Ok(now)
    }

    /// Disarms, takes the mark off and closes the Grant.
    async fn clear(&self) -> Result<()> {
        until(&format!("{} is neither armed nor marked", self.name), || async {
            let live = self.live().await?;
            let armed = object::label(&live.target, names::ARMED).is_some();
            let marked = object::label(&live.revision, names::UNDO_TO).is_some();
            let (verb, resource, of, body) = if armed {
                (Verb::Disarm, Resource::Target(self.kind), &live.target, patch::disarm(&live.target))
            } else if marked {
                let body = patch::unmark(&live.revision);
                (Verb::UnmarkRevision, Resource::Revision(self.kind), &live.revision, body)
            } else {
                return Ok(Some(()));
            };
            let (namespace, name) = (self.bench.ns.clone(), object::meta(of, "name").to_owned());
            let request = Request { verb, resource, namespace, name, dry_run: false, body };
            match act::send(self.executor, &request).await {
                Response::Done(_) => Ok(None),
                other => bail!("{verb:?}: {other:?}"),
            }
        })
        .await?;
        self.set_grant(None).await?;
        self.marked_is(false).await
    }

    /// Writes the Grant, and waits until the policy looks at it.
    async fn set_grant(&self, open: Option<backstop::api::v1alpha1::OpenGrant>) -> Result<()> {
        let (api, open) = (self.bench.api::<Grant>(), &open);
        let version = until("the Grant is written", || async {
            let mut grant = api.get(names::GRANT).await?;
            grant.spec.open.clone_from(open);
            grant.spec.closed_because = None;
            Ok(api.replace(names::GRANT, &Default::default(), &grant).await?.resource_version())
        })
        .await?;
        let seen = format!("(grant resourceVersion {version})");
        self.probed(Probe::Grant, |message| message.contains(&seen)).await
    }

    /// Waits until the policy that compares with revisions sees a marked one, or none.
    async fn marked_is(&self, marked: bool) -> Result<()> {
        let words = if marked { "self-test: in force" } else { "no params found" };
        self.probed(Probe::Provenance, |message| message.contains(words)).await
    }

    /// Waits until a self-test on the target, which is not armed, is refused with words that are `right`.
    async fn probed(&self, probe: Probe, right: impl Fn(&str) -> bool) -> Result<()> {
        let right = &right;
        until(&format!("the policies see {} as it is", self.name), || async {
            let live = self.live().await?;
            let request = Request {
                verb: Verb::DryRunWrong(probe),
                resource: Resource::Target(self.kind),
                namespace: self.bench.ns.clone(),
                name: self.name.clone(),
                dry_run: true,
                body: patch::probe(&live.target, probe),
            };
            match act::send(self.executor, &request).await {
                Response::Refused { policy: Some(_), message } if right(&message) => Ok(Some(())),
                other => bail!("{probe:?}: {other:?}"),
            }
        })
        .await
    }
}

fn targets(kind: Kind) -> &'static str {
    match kind {
        Kind::Deployment => "apis/apps/v1 deployments",
        Kind::StatefulSet => "apis/apps/v1 statefulsets",
        Kind::DaemonSet => "apis/apps/v1 daemonsets",
    }
}

fn revisions(kind: Kind) -> &'static str {
    match kind {
        Kind::Deployment => "apis/apps/v1 replicasets",
        Kind::StatefulSet | Kind::DaemonSet => "apis/apps/v1 controllerrevisions",
    }
}

/// An object as the API server has it, or with an empty name the list of them.
async fn read(bench: &Bench, what: &str, name: &str) -> Result<Value> {
    let (group, plural) = what.split_once(' ').context("group and plural")?;
    let path = format!("/{group}/namespaces/{}/{plural}/{name}", bench.ns);
    let request = http::Request::get(path.trim_end_matches('/')).body(vec![])?;
    bench.suite.client.request(request).await.with_context(|| format!("read {plural} {name}"))
}

// --- verdicts ---------------------------------------------------------------------------------------------------------

/// Compares all answers, after it is sure that it would see a difference.
fn judged(seen: &[Seen]) -> Result<()> {
    let refused = seen.iter().filter(|one| one.case.expected != Expected::Accepted).count();
    println!("conformance: {} cases, {refused} of them to be refused", seen.len());
    for kind in Kind::ALL {
        let mut policies = vec![PolicyName::STATIC, PolicyName::GRANT];
        policies.push(PolicyName::provenance(kind));
        for policy in policies {
            let noticed = differences(seen.iter().filter(|one| one.kind == kind), |it| without(it, policy));
            ensure!(!noticed.is_empty(), "{kind}: a model without {policy} would give the same verdicts");
        }
        let strict = Expected::RefusedBy(PolicyName::ALL.to_vec());
        let noticed = differences(seen.iter().filter(|one| one.kind == kind), |_| strict.clone());
        ensure!(!noticed.is_empty(), "{kind}: a model that refuses everything would give the same verdicts");
    }
    let evictions = || seen.iter().filter(|one| one.case.request.resource == Resource::PodEviction);
    for policy in [PolicyName::STATIC, PolicyName::GRANT] {
        let noticed = differences(evictions(), |it| without(it, policy));
        ensure!(!noticed.is_empty(), "evictions: a model without {policy} would give the same verdicts");
    }
    let found = differences(seen.iter(), Expected::clone);
    ensure!(found.is_empty(), "{} of {} verdicts differ from the model's:\n{}", found.len(), seen.len(), table(&found));
    Ok(())
}

/// What a model would expect that lacks `policy`.
fn without(expected: &Expected, policy: &str) -> Expected {
    match expected {
        Expected::Accepted => Expected::Accepted,
        Expected::RefusedBy(any) => match any.iter().copied().filter(|name| *name != policy).collect::<Vec<_>>() {
            rest if rest.is_empty() => Expected::Accepted,
            rest => Expected::RefusedBy(rest),
        },
    }
}

/// Kind and state, case, expected and given verdict of each answer that is not as expected.
fn differences<'a>(
    seen: impl Iterator<Item = &'a Seen>,
    expectation: impl Fn(&Expected) -> Expected,
) -> Vec<[String; 4]> {
    seen.filter_map(|one| {
        let expected = expectation(&one.case.expected);
        let same = match (&expected, &one.outcome) {
            (Expected::Accepted, Response::Done(_)) => true,
            (Expected::RefusedBy(any), Response::Refused { policy: Some(policy), .. }) => {
                any.contains(&policy.as_str())
            }
            _ => false,
        };
        let words = match &expected {
            Expected::Accepted => "accepted".to_owned(),
            Expected::RefusedBy(any) => any.join(" or "),
        };
        let given = match &one.outcome {
            Response::Done(_) => "accepted".to_owned(),
            Response::Refused { policy, message } => format!("{}: {message}", policy.as_deref().unwrap_or("no policy")),
            other => format!("{other:?}"),
        };
        (!same).then(|| {
            [format!("{} of {} {:?}", one.of, one.kind, one.case.state), one.case.name.to_owned(), words, given]
        })
    })
    .collect()
}

fn table(rows: &[[String; 4]]) -> String {
    let head = ["action, kind and state", "request", "model", "API server"].map(str::to_owned);
    let rows: Vec<&[String; 4]> = std::iter::once(&head).chain(rows).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths = [width(0), width(1), width(2)];
    let line = |row: &[String; 4]| {
        let [place, case, expected, given] = row;
        let [a, b, c] = widths;
        format!("{place:a$}  {case:b$}  {expected:c$}  {given}\n")
    };
    rows.into_iter().map(line).collect()
}
