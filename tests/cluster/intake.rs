//! The intake with a real API server: nothing that is answered 202 is off record.

use anyhow::{Result, ensure};
use backstop::api::v1alpha1::{Alert, IntakeReason};
use k8s_openapi::api::{
    admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding},
    apps::v1::Deployment,
};
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, ListParams, PostParams},
};
use serde_json::{Value, json};

use crate::support::bench::{Bench, deployment, payload};
use crate::support::{SYSTEM, until};

/// A policy of the cluster that refuses every Alert in the namespace of the test, as "every object needs a label team"
/// would.
async fn refuse_alerts(bench: &Bench) -> Result<()> {
    let client = &bench.suite.client;
    let policy: ValidatingAdmissionPolicy = serde_json::from_value(json!({
        "metadata": {"name": bench.ns},
        "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": {"resourceRules": [{
                "apiGroups": ["backstop.dev"], "apiVersions": ["*"], "operations": ["CREATE"], "resources": ["alerts"],
            }]},
            "validations": [{"expression": "has(object.metadata.labels) && 'team' in object.metadata.labels"}],
        },
    }))?;
    let binding: ValidatingAdmissionPolicyBinding = serde_json::from_value(json!({
        "metadata": {"name": bench.ns},
        "spec": {
            "policyName": bench.ns, "validationActions": ["Deny"],
            "matchResources": {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": bench.ns}}},
        },
    }))?;
    Api::all(client.clone()).create(&PostParams::default(), &policy).await?;
    Api::all(client.clone()).create(&PostParams::default(), &binding).await?;
    let probe: Alert = serde_json::from_value(json!({
        "apiVersion": "backstop.dev/v1alpha1", "kind": "Alert", "metadata": {"name": "probe", "namespace": bench.ns},
        "spec": {"fingerprint": "probe", "startsAt": backstop::clock::now(), "labels": {}},
    }))?;
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    until("the namespace refuses Alerts", || async {
        Ok(bench.api::<Alert>().create(&dry, &probe).await.is_err().then_some(()))
    })
    .await
}

async fn let_alerts_in(bench: &Bench) -> Result<()> {
    let client = &bench.suite.client;
    let binding: Api<ValidatingAdmissionPolicyBinding> = Api::all(client.clone());
    binding.delete(&bench.ns, &DeleteParams::default()).await?;
    let policy: Api<ValidatingAdmissionPolicy> = Api::all(client.clone());
    policy.delete(&bench.ns, &DeleteParams::default()).await?;
    Ok(())
}

pub async fn what_a_namespace_refuses_is_kept_in_the_system_namespace_and_ends_there(bench: Bench) -> Result<()> {
    bench.healthy("api").await?;
    refuse_alerts(&bench).await?;
    let outcome = kept_in_the_system_namespace(&bench).await;
    let_alerts_in(&bench).await?;
    outcome
}

async fn kept_in_the_system_namespace(bench: &Bench) -> Result<()> {
    let mut body = payload(&[bench.labels(&[("deployment", "api"), ("severity", "info")])]);
    let answer = bench.post(&body).await?;
    ensure!(answer.code == 202 && answer.body["displaced"] == 1, "answered {} {}", answer.code, answer.body);
    let alerts: Api<Alert> = Api::namespaced(bench.suite.client.clone(), SYSTEM);
    let ours = ListParams::default().labels(&format!("backstop.dev/belongs-to={}", bench.ns));
    let kept = alerts.list(&ours).await?.items;
    ensure!(kept.len() == 1, "{} Alerts in {SYSTEM} belong to {}", kept.len(), bench.ns);
    let spec = &kept[0].spec;
    ensure!(spec.belongs_to.as_deref() == Some(bench.ns.as_str()), "it belongs to {:?}", spec.belongs_to);
    let reason = spec.note.as_ref().map(|note| note.reason);
    ensure!(reason == Some(IntakeReason::RefusedByNamespace), "its note is {:?}", spec.note);
    body["alerts"][0]["status"] = json!("resolved");
    body["alerts"][0]["endsAt"] = json!(backstop::clock::now().to_string());
    let answer = bench.post(&body).await?;
    ensure!(answer.body["resolved"] == 1, "its end was answered {}", answer.body);
    let ended = alerts.get(&kept[0].name_any()).await?;
    ensure!(ended.spec.ends_at.is_some(), "it has no end");
    bench.nothing_written().await
}

pub async fn a_long_request_with_an_alert_that_cannot_be_read_is_taken(bench: Bench) -> Result<()> {
    bench.create::<Deployment>(deployment("api", 1)).await?;
    let labels: Vec<_> = (0..20)
        .map(|i| bench.labels(&[("alertname", &*format!("Long{i}")), ("deployment", "api"), ("severity", "info")]))
        .collect();
    let mut body = payload(&labels);
    for alert in body["alerts"].as_array_mut().into_iter().flatten() {
        alert["annotations"]["description"] = json!("What to check first. ".repeat(4000));
    }
    body["alerts"][7]["annotations"]["summary"] = Value::Null;
    let length = body.to_string().len();
    ensure!(length > 3 << 19, "only {length} bytes");
    let answer = bench.post(&body).await?;
    ensure!(answer.code == 202, "answered {} {}", answer.code, answer.body);
    ensure!(answer.body["accepted"] == 19 && answer.body["refused"] == 1, "answered {}", answer.body);
    let alerts = bench.api::<Alert>().list(&ListParams::default()).await?.items;
    ensure!(alerts.len() == 20, "{} of 20 alerts are on record", alerts.len());
    let noted: Vec<_> = alerts.iter().filter_map(|alert| alert.spec.note.as_ref()).collect();
    ensure!(noted.len() == 1 && noted[0].reason == IntakeReason::Unreadable, "the notes are {noted:?}");
    bench.nothing_written().await
}
