//! Cases in which the right answer is not to act, each handed over with its reason.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use backstop::api::v1alpha1::{Alert, Incident, IncidentPhase, Policy, Remediation, RemediationPhase};
use backstop::core::names;
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{ConfigMap, Event as CoreEvent, Pod, Secret},
};
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, ListParams, Patch, PatchParams},
};
use serde_json::{Value, json};

use crate::support::bench::{Bench, Release, deployment, expect, payload, verdict};
use crate::support::{SYSTEM, taps::Point, until};

/// A person was told, by webhook and by Event, with the reason and what to do next.
async fn is_told(bench: &Bench, incident: &Incident, reason: &str) -> Result<()> {
    let name = incident.name_any();
    let page = until("the escalation arrives at the webhook", || async {
        Ok(bench
            .suite
            .pages
            .about(&incident.namespace().unwrap_or_default())
            .into_iter()
            .find(|page| page["incident"] == name && page["status"] == "firing"))
    })
    .await?;
    ensure!(page["reason"] == reason, "the page says {}, expected {reason}", page["reason"]);
    ensure!(page["nextStep"].as_str().is_some_and(|text| !text.is_empty()), "the page names no next step");
    ensure!(page["checks"].as_array().is_some_and(|checks| !checks.is_empty()), "the page shows no verdicts");
    let events: Api<CoreEvent> = Api::namespaced(bench.suite.client.clone(), &incident.namespace().unwrap_or_default());
    until("an Event says that the incident was escalated", || async {
        let list = events.list(&ListParams::default()).await?;
        Ok(list.items.into_iter().find(|e| {
            e.reporting_component.as_deref() == Some("backstop-controller") && e.type_.as_deref() == Some("Warning")
        }))
    })
    .await
    .map(drop)
}

pub async fn is_handed_over(bench: &Bench, reason: &str) -> Result<Incident> {
    let incident = bench.escalated(reason).await?;
    bench.nothing_written().await?;
    is_told(bench, &incident, reason).await?;
    Ok(incident)
}

fn broken_from_the_start(name: &str) -> Value {
    let mut manifest = deployment(name, 1);
    manifest["spec"]["template"]["spec"]["containers"][0]["env"] = json!([{"name": "SHOP_TAX_RATE", "value": "19%"}]);
    manifest
}

pub async fn a_first_release_has_nothing_to_return_to(bench: Bench) -> Result<()> {
    bench.create::<Deployment>(broken_from_the_start("api")).await?;
    bench.failing("api").await?;
    bench.alert("api").await?;
    is_handed_over(&bench, "OnlyOneRevision").await.map(drop)
}

pub async fn what_argo_cd_owns_is_left_to_it(bench: Bench) -> Result<()> {
    let mut manifest = deployment("api", 1);
    manifest["metadata"]["annotations"] = json!({"argocd.argoproj.io/tracking-id": "shop:apps/Deployment:shop/api"});
    bench.healthy_as("api", manifest).await?;
    bench.broken("api", Release::CrashLoop).await?;
    bench.alert("api").await?;
    is_handed_over(&bench, "ManagedByGitOps").await.map(drop)
}

/// As OLM owns the Deployments of its operators: without being their controller.
pub async fn an_owner_that_is_no_controller_owns_it_all_the_same(bench: Bench) -> Result<()> {
    let owner: ConfigMap = bench.create(json!({"metadata": {"name": "stands-for-an-operators-object"}})).await?;
    let mut manifest = deployment("api", 1);
    manifest["metadata"]["ownerReferences"] = json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": owner.name_any(),
        "uid": owner.uid(), "controller": false, "blockOwnerDeletion": false}]);
    bench.healthy_as("api", manifest).await?;
    bench.broken("api", Release::CrashLoop).await?;
    bench.alert("api").await?;
    is_handed_over(&bench, "OwnedByController").await.map(drop)
}

/// The kinds of canaries may not be read; what one makes of its target may.
pub async fn the_target_of_a_canary_is_left_to_it(bench: Bench) -> Result<()> {
    let mut copy = deployment("api-primary", 1);
    copy["metadata"]["ownerReferences"] = json!([{"apiVersion": "flagger.app/v1beta1", "kind": "Canary", "name": "api",
        "uid": "11111111-1111-1111-1111-111111111111", "controller": true}]);
    bench.create::<Deployment>(copy).await?;
    bench.healthy("api").await?;
    bench.broken("api", Release::CrashLoop).await?;
    bench.alert("api").await?;
    is_handed_over(&bench, "ManagedByTool").await.map(drop)
}

pub async fn what_helm_installed_is_left_to_it_unless_a_policy_allows_it(bench: Bench) -> Result<()> {
    let mut manifest = deployment("api", 1);
    manifest["metadata"]["labels"]["app.kubernetes.io/managed-by"] = json!("Helm");
    manifest["metadata"]["annotations"] =
        json!({"meta.helm.sh/release-name": "shop", "meta.helm.sh/release-namespace": bench.ns});
    bench.healthy_as("api", manifest).await?;
    bench.broken("api", Release::CrashLoop).await?;
    bench.alert("api").await?;
    is_handed_over(&bench, "ManagedByHelm").await.map(drop)
}

/// There is an earlier revision, and it would not help: the template did not change, its ConfigMap did.
pub async fn a_config_map_edited_in_place_is_not_rolled_back(bench: Bench) -> Result<()> {
    bench.create::<ConfigMap>(json!({"metadata": {"name": "settings"}, "data": {"SHOP_TAX_RATE": "0.19"}})).await?;
    let mut manifest = deployment("api", 1);
    manifest["spec"]["template"]["spec"]["containers"][0]["envFrom"] = json!([{"configMapRef": {"name": "settings"}}]);
    bench.healthy_as("api", manifest).await?;
    bench.ship("api", Release::Good).await?;
    bench.rolled_out("api").await?;
    known_good_twice(&bench).await?;
    let settings: Api<ConfigMap> = bench.api();
    let edit = json!({"data": {"SHOP_TAX_RATE": "19%"}});
    settings.patch("settings", &PatchParams::default(), &Patch::Merge(&edit)).await?;
    let pods: Api<Pod> = bench.api();
    pods.delete_collection(&DeleteParams::default(), &ListParams::default()).await?;
    bench.failing("api").await?;
    bench.alert("api").await?;
    is_handed_over(&bench, "TemplateUnchanged").await.map(drop)
}

/// The old pods run on with what they read, and no pod of either revision can start.
pub async fn a_secret_that_both_revisions_need_is_not_rolled_back(bench: Bench) -> Result<()> {
    bench.create::<Secret>(json!({"metadata": {"name": "db"}, "stringData": {"url": "postgres.example"}})).await?;
    let mut manifest = deployment("api", 1);
    let variable = json!({"name": "DB", "valueFrom": {"secretKeyRef": {"name": "db", "key": "url"}}});
    manifest["spec"]["template"]["spec"]["containers"][0]["env"].as_array_mut().context("no env")?.push(variable);
    bench.healthy_as("api", manifest).await?;
    let secrets: Api<Secret> = bench.api();
    secrets.delete("db", &DeleteParams::default()).await?;
    bench.broken("api", Release::Good).await?;
    bench.alert("api").await?;
    let incident = is_handed_over(&bench, "ReferenceMissing").await?;
    let message = incident.status.unwrap_or_default().message;
    ensure!(message.contains("Secret db"), "the Secret is not named: {message}");
    Ok(())
}

/// The ConfigMap is changed in place, and a checksum in the template makes the pods restart.
pub async fn a_checksum_of_configuration_alone_is_not_rolled_back(bench: Bench) -> Result<()> {
    bench.create::<ConfigMap>(json!({"metadata": {"name": "settings"}, "data": {"SHOP_TAX_RATE": "0.19"}})).await?;
    let mut manifest = deployment("api", 1);
    manifest["spec"]["template"]["spec"]["containers"][0]["envFrom"] = json!([{"configMapRef": {"name": "settings"}}]);
    manifest["spec"]["template"]["metadata"]["annotations"] = json!({"checksum/config": "1f3870be274f6c49"});
    bench.healthy_as("api", manifest).await?;
    let settings: Api<ConfigMap> = bench.api();
    let edit = json!({"data": {"SHOP_TAX_RATE": "19%"}});
    settings.patch("settings", &PatchParams::default(), &Patch::Merge(&edit)).await?;
    let checksum = json!({"metadata": {"annotations": {"checksum/config": "8b04d5e3775d298e"}}});
    bench.patch("api", json!({"spec": {"template": checksum}})).await?;
    bench.failing("api").await?;
    bench.alert("api").await?;
    is_handed_over(&bench, "TemplateUnchanged").await.map(drop)
}

/// Somebody is at work: told at once, not after a minute.
pub async fn a_rollout_that_somebody_paused_and_edited_is_left_to_them_at_once(bench: Bench) -> Result<()> {
    bench.healthy("api").await?;
    bench.broken("api", Release::CrashLoop).await?;
    // While it runs for the first time it only starts, and that is said first.
    bench.restarted("api").await?;
    bench.patch("api", json!({"spec": {"paused": true}})).await?;
    bench.ship("api", Release::Good).await?;
    let start = std::time::Instant::now();
    bench.alert("api").await?;
    is_handed_over(&bench, "RolloutPaused").await?;
    ensure!(start.elapsed() < Duration::from_secs(30), "told after {:?}", start.elapsed());
    Ok(())
}

async fn known_good_twice(bench: &Bench) -> Result<()> {
    let ledgers: Api<backstop::api::v1alpha1::Ledger> = Api::namespaced(bench.suite.client.clone(), SYSTEM);
    until("both revisions are marked as known good", || async {
        let ledger = ledgers.get_opt(&format!("known-good.{}", bench.ns)).await?;
        Ok(ledger.and_then(|ledger| ledger.status).filter(|status| status.known_good.len() >= 2).map(drop))
    })
    .await
}

pub async fn an_object_that_does_not_exist_is_handed_over(bench: Bench) -> Result<()> {
    bench.alert("nowhere").await?;
    is_handed_over(&bench, "TargetNotFound").await.map(drop)
}

pub async fn an_object_that_people_protect_is_not_touched(bench: Bench) -> Result<()> {
    let mut manifest = deployment("api", 1);
    manifest["metadata"]["annotations"] = json!({"backstop.dev/protected": "true"});
    bench.healthy_as("api", manifest).await?;
    bench.broken("api", Release::CrashLoop).await?;
    bench.alert("api").await?;
    is_handed_over(&bench, "Protected").await.map(drop)
}

pub async fn a_policy_that_forbids_the_action_is_obeyed(bench: Bench) -> Result<()> {
    bench
        .create::<Policy>(json!({
            "apiVersion": "backstop.dev/v1alpha1", "kind": "Policy", "metadata": {"name": "frozen"},
            "spec": {"mode": "auto", "allowedActions": ["RolloutUndo"], "validations": [{"expression": "target.name != 'api'", "message": "api is frozen this week"}]},
        }))
        .await?;
    bench.healthy("api").await?;
    bench.broken("api", Release::CrashLoop).await?;
    bench.alert("api").await?;
    let incident = is_handed_over(&bench, "PolicyValidationFailed").await?;
    let message = incident.status.unwrap_or_default().message;
    ensure!(message.contains("api is frozen this week"), "the Policy's sentence is not passed on: {message}");
    Ok(())
}

pub async fn in_observe_mode_nothing_is_written(bench: Bench) -> Result<()> {
    bench.mode("observe").await?;
    bench.healthy("api").await?;
    bench.broken("api", Release::CrashLoop).await?;
    bench.alert("api").await?;
    let incident = is_handed_over(&bench, "ModeForbids").await?;
    ensure!(verdict(&incident, "EarlierRevisionHealthy").as_deref() == Some("Ok"), "the other checks were not asked");
    Ok(())
}

pub async fn a_healthy_object_is_left_alone(bench: Bench) -> Result<()> {
    bench.healthy("api").await?;
    bench.ship("api", Release::Good).await?;
    bench.rolled_out("api").await?;
    bench.alert("api").await?;
    let incident = bench.nth_ended(1).await?;
    expect(&incident, IncidentPhase::Resolved, "NothingWrong")?;
    ensure!(incident.status.is_some_and(|status| status.escalation.is_none()), "somebody was called");
    bench.nothing_written().await
}

/// An alert about a healthy target is closed with it. The same alert, when it fires again, is looked at again.
pub async fn an_alert_that_ends_and_fires_again_is_another_incident(bench: Bench) -> Result<()> {
    bench.healthy("api").await?;
    let fires = payload(&[bench.labels(&[("deployment", "api")])]);
    let mut ends = fires.clone();
    ends["status"] = json!("resolved");
    ends["alerts"][0]["status"] = json!("resolved");
    ends["alerts"][0]["endsAt"] = json!((backstop::clock::now() + Duration::from_secs(1)).to_string());
    for count in 1..=2 {
        bench.post(&fires).await?;
        expect(&bench.nth_ended(count).await?, IncidentPhase::Resolved, "NothingWrong")?;
        bench.post(&ends).await?;
        until(&format!("incident {count} is closed"), || async {
            let incidents = bench.incidents().await?;
            let watched = |incident: &Incident| incident.status.as_ref().is_some_and(|status| status.is_watched());
            Ok((incidents.len() == count && !incidents.iter().any(watched)).then_some(()))
        })
        .await?;
    }
    bench.nothing_written().await
}

pub async fn an_alert_in_a_tenants_namespace_may_only_name_that_namespace(bench: Bench) -> Result<()> {
    let foreign = bench
        .create::<Alert>(json!({
            "apiVersion": "backstop.dev/v1alpha1", "kind": "Alert", "metadata": {"name": "foreign"},
            "spec": {
                "fingerprint": "foreign", "startsAt": backstop::clock::now(),
                "labels": {"alertname": "Foreign", "namespace": "kube-system", "deployment": "coredns"},
            },
        }))
        .await;
    let refusal = foreign.err().context("the API server took an Alert that names another namespace")?;
    ensure!(format!("{refusal:#}").contains("may only name that namespace"), "refused for another reason: {refusal:#}");
    ensure!(bench.incidents().await?.is_empty(), "an incident was opened");
    bench.nothing_written().await
}

/// Labels that try to reach other paths, other queries and other namespaces. Each alert is kept and handed over, and
/// what it names is never part of a request.
pub async fn labels_that_inject_paths_reach_nothing(bench: Bench) -> Result<()> {
    let long = "a".repeat(10_000);
    let tries: Vec<(&str, &str)> = vec![
        ("namespace", "../kube-system"),
        ("namespace", "kube-system/../../secrets"),
        ("deployment", "../../../../api/v1/secrets"),
        ("deployment", "api?watch=true"),
        ("deployment", "api%2f..%2f..%2fsecrets"),
        ("deployment", "api\u{0}"),
        ("deployment", "api\r\nX-Remote-User: admin"),
        ("deployment", &long),
        ("namespace", &long),
        ("pod", "\u{202e}ipa"),
        ("exported_namespace", "../kube-system"),
        ("deployment", "$(kubectl get secrets)"),
    ];
    let mut alerts = Vec::new();
    for (number, (label, value)) in tries.iter().enumerate() {
        let name = format!("Injection{number}{}", bench.suite.run);
        alerts.push(bench.labels(&[("alertname", name.as_str()), ("deployment", "api"), (*label, *value)]));
    }
    let answer = bench.post(&payload(&alerts)).await?;
    ensure!(answer.code == 202, "the intake answered {} {}", answer.code, answer.body);
    ensure!(answer.body["accepted"] == tries.len(), "not every alert was kept: {}", answer.body);

    let incidents: Api<Incident> = Api::all(bench.suite.client.clone());
    let mark = bench.suite.run.clone();
    let ours = |incident: &Incident| {
        incident
            .spec
            .alerts
            .iter()
            .any(|alert| alert.alertname.starts_with("Injection") && alert.alertname.ends_with(&mark))
    };
    until("every alert is handed over", || async {
        let all = incidents.list(&ListParams::default()).await?.items;
        let ended: Vec<&Incident> =
            all.iter().filter(|i| ours(i) && crate::support::bench::phase(i).is_final()).collect();
        let alerts: usize = ended.iter().map(|incident| incident.spec.alerts.len()).sum();
        for incident in &ended {
            ensure!(incident.spec.target.is_none(), "an alert with an injected label found {:?}", incident.spec.target);
            crate::support::bench::expect(
                incident,
                backstop::api::v1alpha1::IncidentPhase::Escalated,
                "TargetInvalid",
            )?;
        }
        Ok((alerts == tries.len()).then_some(()))
    })
    .await?;
    bench.nothing_written().await?;
    // Whatever the operator asked for by name is a valid name, and nothing of it lies where the labels pointed.
    let asked = bench.suite.events_of_operator(&bench.ns).await?;
    for event in &asked {
        let valid =
            |name: &str| name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.:".contains(c));
        ensure!(valid(&event.name) && valid(&event.namespace), "asked for {:?} in {:?}", event.name, event.namespace);
        ensure!(event.resource != "secrets", "asked for Secret {}/{}", event.namespace, event.name);
    }
    Ok(())
}

pub async fn bad_requests_get_a_helpful_answer_and_leave_nothing(bench: Bench) -> Result<()> {
    let operator = &bench.suite.operator;
    let token = operator.token().await?;
    let good = serde_json::to_vec(&payload(&[bench.labels(&[("deployment", "api")])]))?;
    let cases: Vec<(&str, Option<&str>, Vec<u8>, u16)> = vec![
        ("without a token", None, good.clone(), 401),
        ("with another token", Some("guess"), good, 401),
        ("not JSON", Some(&token), b"firing!".to_vec(), 400),
        ("another version", Some(&token), br#"{"version":"3","alerts":[]}"#.to_vec(), 400),
        ("without alerts", Some(&token), br#"{"version":"4"}"#.to_vec(), 400),
    ];
    for (what, token, body, code) in cases {
        let answer = operator.post(token, body).await?;
        ensure!(answer.code == code, "{what}: answered {} {}, expected {code}", answer.code, answer.body);
        ensure!(
            answer.body["nextStep"].as_str().is_some_and(|text| !text.is_empty()),
            "{what}: no next step in {}",
            answer.body
        );
    }
    let alerts: Api<Alert> = bench.api();
    ensure!(alerts.list(&ListParams::default()).await?.items.is_empty(), "a refused request left an Alert");
    Ok(())
}

/// Everybody who may edit the target can set the annotation that is our receipt.
pub async fn an_annotation_that_a_person_sets_is_not_reported_as_a_write(bench: Bench) -> Result<()> {
    bench.healthy("api").await?;
    bench.broken("api", Release::CrashLoop).await?;
    let claimed = bench.hold(Point::after("executor", "claim"));
    bench.alert("api").await?;
    claimed.reached().await?;
    let all = bench.api::<Remediation>().list(&ListParams::default()).await?.items;
    let remediation = all.first().context("nothing was claimed")?;
    let receipt = json!({"metadata": {"annotations": {names::LAST_ACTION: remediation.spec.action_id}}});
    bench.patch("api", receipt).await?;
    drop(claimed);
    let incident = bench.escalated("ChangedByOthers").await?;
    ensure!(bench.fires().await?.is_empty(), "it was written");
    let ended = bench.api::<Remediation>().get(&remediation.name_any()).await?.status.unwrap_or_default();
    ensure!(ended.phase == RemediationPhase::Aborted, "it is {:?}", ended.phase);
    ensure!(incident.status.is_some_and(|status| status.times.fired.is_none()), "it is reported as written");
    Ok(())
}
