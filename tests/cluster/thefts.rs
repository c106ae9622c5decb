//! What each stolen token allows, alone and in pairs: raw requests with the token of a ServiceAccount, beside or instead
//! of the real roles. The audit log says what came of it.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use backstop::{
    api::v1alpha1::{Incident, IncidentPhase, Investigation, Remediation},
    core::names,
};
use k8s_openapi::api::{
    apps::v1::{Deployment, ReplicaSet},
    core::v1::Pod,
    policy::v1::PodDisruptionBudget,
};
use kube::{Resource as _, ResourceExt as _, api::ListParams};
use serde_json::{Value, json};

use crate::support::{
    bench::{Bench, Release, expect, first_template, phase},
    taps::Point,
    thief::{APPS, BACKSTOP, Plan, Thief, refused},
    until,
};

/// Three revisions: two that worked, and on request a third that fails.
async fn history(bench: &Bench, broken: bool) -> Result<()> {
    bench.healthy("api").await?;
    bench.ship("api", Release::Good).await?;
    bench.rolled_out("api").await?;
    bench.known_good_of("api", 2).await?;
    if broken {
        bench.broken("api", Release::CrashLoop).await?;
    }
    Ok(())
}

/// The ReplicaSet of a revision of the Deployment `name`, with the template that it recorded.
async fn revision(bench: &Bench, name: &str, number: i64) -> Result<(Value, Value)> {
    let sets = bench.api::<ReplicaSet>().list(&ListParams::default()).await?.items;
    let owned = |set: &&ReplicaSet| {
        set.owner_references().iter().any(|owner| owner.name == name)
            && set.annotations().get("deployment.kubernetes.io/revision").is_some_and(|at| *at == number.to_string())
    };
    let found = sets.iter().find(owned).with_context(|| format!("{name} has no revision {number}"))?.name_any();
    let path = format!("/{APPS}/namespaces/{}/replicasets/{found}", bench.ns);
    let set: Value = bench.suite.client.request(http::Request::get(path).body(vec![])?).await?;
    let mut template = set["spec"]["template"].clone();
    if let Some(labels) = template.pointer_mut("/metadata/labels").and_then(Value::as_object_mut) {
        labels.remove("pod-template-hash");
    }
    Ok((set, template))
}

/// A return of `name` to one of its revisions.
async fn to_revision(bench: &Bench, name: &str, number: i64) -> Result<Plan> {
    let (set, template) = revision(bench, name, number).await?;
    Plan::new(bench, name, number, template, &set).await
}

// --- the investigator's token -----------------------------------------------------------------------------------------

/// Lets the real investigator finish, then overwrites what it said with `forge`, before the controller has looked.
async fn diagnosis_forged(bench: &Bench, forge: impl Fn(&mut Value)) -> Result<Incident> {
    let hold = bench.hold(Point::after("controller", "create-investigation"));
    bench.alert("api").await?;
    hold.reached().await?;
    let complete = until("the real investigation is complete", || async {
        let all = bench.api::<Investigation>().list(&ListParams::default()).await?.items;
        Ok(all.into_iter().find(|one| one.status.as_ref().is_some_and(|status| status.phase.is_final())))
    })
    .await?;
    let mut forged = serde_json::to_value(&complete)?;
    forge(&mut forged["status"]);
    let thief = Thief::of(bench, "investigator").await?;
    let lie = json!([{"op": "add", "path": "/status/diagnosis", "value": forged["status"]["diagnosis"]}]);
    thief.patch(BACKSTOP, "investigations", &format!("{}/status", complete.name_any()), lie).await?;
    drop(hold);
    let incident = bench.ended().await?;
    let taken = bench.api::<Investigation>().get(&complete.name_any()).await?;
    let forged: Investigation = serde_json::from_value(forged)?;
    let diagnosis = |of: Investigation| of.status.and_then(|status| status.diagnosis);
    ensure!(diagnosis(taken) == diagnosis(forged), "the forgery was not what the controller read");
    Ok(incident)
}

/// Says that a revision broke it and that going back to another one helps, with whatever real facts are there.
fn accuse(bench: &Bench, status: &mut Value, uid: &str, suspected: i64, back_to: i64) {
    let target = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "namespace": bench.ns, "name": "api", "uid": uid,
    });
    let ids = |source: &str| -> Vec<Value> {
        let facts = status["facts"].as_array().cloned().unwrap_or_default();
        facts.iter().filter(|fact| fact["source"] == source).map(|fact| fact["id"].clone()).take(32).collect()
    };
    let (pods, history) = (ids("Pods"), ids("RolloutHistory"));
    let claim = |kind: &str, about: (&str, Value), cites: &[Value]| {
        let mut claim = json!({"kind": kind, "cites": cites, "text": "so it is"});
        claim[about.0] = about.1;
        claim
    };
    status["diagnosis"] = json!({
        "diagnoser": "rules", "cause": "BadRollout", "hypothesis": format!("revision {suspected} broke it"),
        "suspect": target, "suspectedRevision": suspected, "confidence": 100,
        "claims": [
            claim("PodsFailing", ("failure", json!("CrashLoop")), &pods),
            claim("FailingPodsRunRevision", ("revision", json!(suspected)), &pods),
            claim("TemplateChanged", ("revision", json!(back_to)), &history),
        ],
        "proposal": {"action": {"rolloutUndo": {"toRevision": back_to}}, "target": target},
    });
}

async fn uid(bench: &Bench) -> Result<String> {
    Ok(bench.api::<Deployment>().get("api").await?.uid().unwrap_or_default())
}

/// The real facts, and another revision than the rules pick.
pub async fn a_stolen_investigator_cannot_choose_the_revision(bench: Bench) -> Result<()> {
    history(&bench, true).await?;
    let uid = uid(&bench).await?;
    let incident = diagnosis_forged(&bench, |status| accuse(&bench, status, &uid, 3, 1)).await?;
    if phase(&incident) == IncidentPhase::Escalated {
        return bench.nothing_written().await;
    }
    // Judged before the pod had crashed twice, it was investigated once more, by the real investigator.
    let (fires, chosen) = (bench.fires().await?, first_template(&bench.events().await?, "api")?);
    ensure!(fires.len() == 1 && fires[0].after != chosen, "the thief chose the revision: {fires:#?}");
    bench.nothing_in_flight().await
}

pub async fn a_stolen_investigator_cannot_have_a_healthy_workload_rolled_back(bench: Bench) -> Result<()> {
    history(&bench, false).await?;
    let uid = uid(&bench).await?;
    let incident = diagnosis_forged(&bench, |status| accuse(&bench, status, &uid, 2, 1)).await?;
    expect(&incident, IncidentPhase::Resolved, "NothingWrong")?;
    bench.nothing_written().await
}

// --- the controller's token -------------------------------------------------------------------------------------------

/// Writes Incident and Remediation, opens the Grant for each claim, and waits until the real executor has ended it.
async fn ordered(bench: &Bench, thief: &Thief<'_>, plan: &Plan) -> Result<Remediation> {
    let incident = thief.create(BACKSTOP, "incidents", &plan.incident()).await?;
    let mut remediation = plan.remediation.clone();
    remediation["metadata"]["ownerReferences"] = json!([{
        "apiVersion": Incident::api_version(&()), "kind": "Incident", "name": incident["metadata"]["name"],
        "uid": incident["metadata"]["uid"],
    }]);
    thief.create(BACKSTOP, "remediations", &remediation).await?;
    let mut granted = 0;
    loop {
        let (name, granted_before) = (plan.id.clone(), granted);
        let seen = until("the executor claims or ends it", || async {
            let seen = bench.api::<Remediation>().get(&name).await?;
            let status = seen.status.clone().unwrap_or_default();
            Ok((status.phase.is_final() || status.epoch > granted_before).then_some(seen))
        })
        .await?;
        let status = seen.status.clone().unwrap_or_default();
        if status.phase.is_final() {
            return Ok(seen);
        }
        granted = status.epoch;
        plan.open_grant(thief, granted).await?;
    }
}

/// The real executor refused an order of a stolen controller, and touched nothing on its way.
async fn order_is_refused(bench: &Bench, number: i64) -> Result<()> {
    let before = bench.template("api").await?;
    let play = async {
        let thief = Thief::of(bench, "controller").await?;
        let plan = to_revision(bench, "api", number).await?;
        let ended = ordered(bench, &thief, &plan).await?;
        let status = ended.status.unwrap_or_default();
        ensure!(
            serde_json::to_value(status.phase)? == "Aborted",
            "the executor ended it as {:?}: {} {}",
            status.phase,
            serde_json::to_value(&status.reason)?,
            status.message
        );
        ensure!(bench.fires().await?.is_empty(), "the executor fired for a thief");
        ensure!(bench.template("api").await? == before, "the template is another one");
        // The real controller would take the thief's incident for one of its own.
        let incident = plan.incident()["metadata"]["name"].as_str().unwrap_or_default().to_string();
        let path = format!("/{BACKSTOP}/namespaces/{}/incidents/{incident}", bench.ns);
        thief.ask(http::Method::DELETE, path).await.context("remove the thief's incident")?;
        until("the thief's incident and its Remediation are gone", || async {
            let incidents = bench.api::<Incident>().list(&ListParams::default()).await?.items;
            let remediations = bench.api::<Remediation>().list(&ListParams::default()).await?.items;
            let gone = incidents.iter().all(|one| one.name_any() != incident)
                && remediations.iter().all(|one| one.spec.incident != incident);
            Ok(gone.then_some(()))
        })
        .await?;
        plan.close_grant(&thief).await
    };
    bench.suite.operator.without(&["controller"], Box::pin(play)).await?;
    bench.nothing_written().await
}

pub async fn a_stolen_controller_cannot_have_a_healthy_workload_rolled_back(bench: Bench) -> Result<()> {
    history(&bench, false).await?;
    order_is_refused(&bench, 1).await
}

pub async fn a_stolen_controller_cannot_choose_the_revision(bench: Bench) -> Result<()> {
    history(&bench, true).await?;
    order_is_refused(&bench, 1).await
}

/// The very write that the rules would choose, where a person has to say yes and nobody did.
pub async fn a_stolen_controller_cannot_do_without_the_approval(bench: Bench) -> Result<()> {
    bench.mode("approve").await?;
    history(&bench, true).await?;
    order_is_refused(&bench, 2).await
}

/// With the investigator's token too: a forged investigation is no evidence to the executor.
pub async fn a_stolen_controller_and_investigator_cannot_have_a_healthy_workload_rolled_back(
    bench: Bench,
) -> Result<()> {
    history(&bench, false).await?;
    let uid = uid(&bench).await?;
    let incident = diagnosis_forged(&bench, |status| accuse(&bench, status, &uid, 2, 1)).await?;
    expect(&incident, IncidentPhase::Resolved, "NothingWrong")?;
    order_is_refused(&bench, 1).await
}

// --- the executor's token ---------------------------------------------------------------------------------------------

/// Everything that the executor's account could be wanted for, without a Grant.
async fn everything_is_refused(bench: &Bench, thief: &Thief<'_>) -> Result<()> {
    let plan = to_revision(bench, "api", 1).await?;
    let pod = bench.api::<Pod>().list(&ListParams::default()).await?.items.into_iter().next().context("no pod")?;
    let (pod, ns) = (pod.name_any(), bench.ns.clone());
    let core = format!("/api/v1/namespaces/{ns}");
    let template = json!([{"op": "replace", "path": "/spec/template", "value": plan.write["field"]["after"]}]);
    let scale = json!([{"op": "replace", "path": "/spec/replicas", "value": 0}]);
    let eviction = json!({
        "apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": ns},
    });
    let mut armed = eviction.clone();
    armed["metadata"]["labels"] = json!({names::ARMED: "rollout-undo"});
    let open = json!({
        "apiVersion": "backstop.dev/v1alpha1", "kind": "Grant", "metadata": {"name": "active"}, "spec": {},
    });
    refused("write a template", thief.patch(APPS, "deployments", "api", template).await)?;
    refused("arm", plan.arm(thief, "api").await)?;
    refused("scale", thief.patch(APPS, "deployments", "api", scale.clone()).await)?;
    refused("scale by /scale", thief.patch(APPS, "deployments", "api/scale", scale).await)?;
    refused("delete a pod", thief.ask(http::Method::DELETE, format!("{core}/pods/{pod}")).await)?;
    refused("evict a pod", thief.create("api/v1", &format!("pods/{pod}/eviction"), &eviction).await)?;
    refused("evict a pod, armed", thief.create("api/v1", &format!("pods/{pod}/eviction"), &armed).await)?;
    refused("read Secrets", thief.ask(http::Method::GET, format!("{core}/secrets")).await)?;
    refused("run a command", thief.ask(http::Method::POST, format!("{core}/pods/{pod}/exec?command=id")).await)?;
    refused("open a Grant", thief.replace(BACKSTOP, "grants", "active", &open).await)?;
    refused("order something", thief.create(BACKSTOP, "remediations", &plan.remediation).await)?;
    plan.disarm(thief, "api").await
}

/// No account of ours changed a spec, evicted or deleted anything. (A thief may put the mark on a revision and take it
/// off again; it changes nothing.)
async fn nothing_changed(bench: &Bench) -> Result<()> {
    let events = bench.events().await?;
    let witness = &bench.suite.witness;
    let (fires, evictions) = (witness.fires(&events), witness.evictions(&events));
    ensure!(fires.is_empty() && evictions.is_empty(), "{fires:#?} {evictions:#?}");
    let found = witness.unsafe_writes(&events);
    ensure!(found.is_empty(), "{found:#?}");
    bench.nothing_in_flight().await
}

pub async fn a_stolen_executor_is_refused_by_the_api_server(bench: Bench) -> Result<()> {
    history(&bench, true).await?;
    let play = async {
        let thief = Thief::of(&bench, "executor").await?;
        everything_is_refused(&bench, &thief).await?;
        nothing_changed(&bench).await
    };
    bench.suite.operator.without(&["executor"], Box::pin(play)).await
}

/// With the investigator's token too: the real controller does not believe it and opens no Grant.
pub async fn a_stolen_executor_and_investigator_are_refused_by_the_api_server(bench: Bench) -> Result<()> {
    history(&bench, false).await?;
    let uid = uid(&bench).await?;
    let play = async {
        let incident = diagnosis_forged(&bench, |status| accuse(&bench, status, &uid, 2, 1)).await?;
        expect(&incident, IncidentPhase::Resolved, "NothingWrong")?;
        let thief = Thief::of(&bench, "executor").await?;
        everything_is_refused(&bench, &thief).await?;
        nothing_changed(&bench).await
    };
    bench.suite.operator.without(&["executor"], Box::pin(play)).await
}

/// Controller and executor stolen: what is left is a past revision of the same object, and nothing else of it. This is the limit
/// that the README states.
pub async fn a_stolen_controller_and_executor_reach_a_past_revision_and_nothing_else(bench: Bench) -> Result<()> {
    history(&bench, false).await?;
    bench.healthy("other").await?;
    let play = async {
        let (controller, executor) = (Thief::of(&bench, "controller").await?, Thief::of(&bench, "executor").await?);
        let (first, template) = revision(&bench, "api", 1).await?;
        let mut evil = template.clone();
        evil["spec"]["containers"][0]["image"] = json!("registry.example.com/evil:1");
        let (foreign, others) = revision(&bench, "other", 1).await?;
        for (what, after, set) in [
            ("a template that never was", evil, &first),
            ("the template of another object", others.clone(), &first),
            ("the revision of another object", others, &foreign),
        ] {
            let plan = Plan::new(&bench, "api", 1, after, set).await?;
            plan.open_grant(&controller, 1).await?;
            armed(&plan, &executor).await?;
            // Not only while the API server's policies do not know the Grant or the mark yet.
            for _ in 0..20 {
                refused(what, plan.fire(&executor, "api").await)?;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            plan.disarm(&executor, "api").await?;
            plan.close_grant(&controller).await?;
        }
        nothing_changed(&bench).await?;
        let plan = to_revision(&bench, "api", 1).await?;
        plan.open_grant(&controller, 1).await?;
        armed(&plan, &executor).await?;
        until("a past revision is written", || async { Ok(Some(plan.fire(&executor, "api").await?)) }).await?;
        plan.disarm(&executor, "api").await?;
        plan.close_grant(&controller).await?;
        let events = bench.events().await?;
        let fires = bench.suite.witness.fires(&events);
        ensure!(fires.len() == 1, "{} fires, expected one: {fires:#?}", fires.len());
        ensure!(fires[0].after == first_template(&events, "api")?, "it is not the template of revision 1");
        ensure!(bench.suite.witness.unsafe_writes(&events).is_empty(), "something else changed with it");
        anyhow::Ok(())
    };
    bench.suite.operator.without(&["controller", "executor"], Box::pin(play)).await
}

/// Arms; the API server's policies may need a moment to see the Grant that was just opened.
async fn armed(plan: &Plan, executor: &Thief<'_>) -> Result<()> {
    until("the object is armed", || async { Ok(Some(plan.arm(executor, "api").await.map(drop)?)) }).await
}

/// Controller and executor stolen: with a Grant for it, a pod can be evicted as far as its disruption budget allows, and not a
/// pod more.
pub async fn a_stolen_controller_and_executor_evict_within_the_disruption_budget(bench: Bench) -> Result<()> {
    bench.healthy("api").await?;
    bench
        .create::<PodDisruptionBudget>(json!({
            "metadata": {"name": "api"},
            "spec": {"maxUnavailable": 0, "selector": {"matchLabels": {"app.kubernetes.io/name": "api"}}},
        }))
        .await?;
    until("the disruption budget is computed", || async {
        let budget = bench.api::<PodDisruptionBudget>().get("api").await?;
        Ok(budget.status.and_then(|status| status.observed_generation).map(drop))
    })
    .await?;
    let play = async {
        let (controller, executor) = (Thief::of(&bench, "controller").await?, Thief::of(&bench, "executor").await?);
        let pods = bench.api::<Pod>().list(&ListParams::default()).await?.items;
        let pod = pods.into_iter().next().context("no pod")?;
        let (name, uid) = (pod.name_any(), pod.uid().unwrap_or_default());
        let id = "e".repeat(32);
        let end = jiff::Timestamp::from_second(backstop::clock::now().as_second() + 55)?;
        let target = json!({
            "apiVersion": "v1", "kind": "Pod", "namespace": bench.ns, "name": name, "uid": uid,
        });
        let path = format!("/{BACKSTOP}/namespaces/{}/grants/active", bench.ns);
        let mut grant = controller.ask(http::Method::GET, path).await?;
        grant["spec"] = json!({"open": {
            "actionId": id, "action": "rollout-undo", "remediation": id, "epoch": 1, "uid": uid,
            "write": {"evict": {"pod": target}}, "notAfter": end,
        }});
        controller.replace(BACKSTOP, "grants", "active", &grant).await?;
        let eviction = json!({
            "apiVersion": "policy/v1", "kind": "Eviction",
            "metadata": {
                "name": name, "namespace": bench.ns, "labels": {names::ARMED: "rollout-undo"},
                "annotations": {names::ACTION: id},
            },
            "deleteOptions": {"preconditions": {"uid": uid}},
        });
        for _ in 0..20 {
            refused(
                "evict against the disruption budget",
                executor.create("api/v1", &format!("pods/{name}/eviction"), &eviction).await,
            )?;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let still = bench.api::<Pod>().get(&name).await?;
        ensure!(still.uid().as_deref() == Some(&uid), "the pod is gone");
        nothing_written_but_grants(&bench).await
    };
    bench.suite.operator.without(&["controller", "executor"], Box::pin(play)).await
}

async fn nothing_written_but_grants(bench: &Bench) -> Result<()> {
    let events = bench.events().await?;
    ensure!(bench.suite.witness.evictions(&events).is_empty(), "a pod was evicted");
    ensure!(bench.suite.witness.fires(&events).is_empty(), "a template was written");
    Ok(())
}
