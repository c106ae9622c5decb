//! Old processes that hold on to what is out of date are replaced by new ones, and nothing else is.
//!
//! `catalog` reads where its prices come from when it starts, and is ready only while it reaches them. That moves: a new
//! Service, its address in the ConfigMap, the old Service gone, the pod behind it replaced. What runs fails from then on, and what starts works.

use anyhow::{Context as _, Result, ensure};
use backstop::api::v1alpha1::{Incident, IncidentPhase};
use backstop::core::names;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Service};
use kube::{
    ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams},
};
use serde_json::{Value, json};

use crate::support::{
    bench::{Bench, deployment, verdict},
    until,
};

/// A Service for the pods of `prices`.
async fn service(bench: &Bench, name: &str) -> Result<()> {
    let spec =
        json!({"selector": {"app.kubernetes.io/name": "prices"}, "ports": [{"port": 8080, "targetPort": "http"}]});
    bench.create::<Service>(json!({"metadata": {"name": name}, "spec": spec})).await.map(drop)
}

async fn address(bench: &Bench, url: &str) -> Result<()> {
    let edit = json!({"data": {"SHOP_PRICES_URL": url}});
    bench.api::<ConfigMap>().patch("addresses", &PatchParams::default(), &Patch::Merge(&edit)).await?;
    Ok(())
}

async fn catalog_pods(bench: &Bench) -> Result<Vec<Pod>> {
    let list = ListParams::default().labels("app.kubernetes.io/name=catalog");
    Ok(bench.api::<Pod>().list(&list).await?.items)
}

/// Since how many seconds a pod is ready, or with a minus sign is not.
fn ready_for(pod: &Pod) -> i64 {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let Some(ready) = conditions.into_iter().find(|condition| condition.type_ == "Ready") else { return 0 };
    let since = ready.last_transition_time.as_ref().map_or(0, |time| time.0.as_second());
    let seconds = backstop::clock::now().as_second() - since;
    if ready.status == "True" { seconds } else { -seconds }
}

/// Three pods of `catalog`, of which the address that they read is gone.
async fn moved(bench: &Bench) -> Result<()> {
    service(bench, "prices-before").await?;
    bench.healthy("prices").await?;
    let data = json!({"SHOP_PRICES_URL": "http://prices-before:8080"});
    bench.create::<ConfigMap>(json!({"metadata": {"name": "addresses"}, "data": data})).await?;
    let mut catalog = deployment("catalog", 3);
    let main = &mut catalog["spec"]["template"]["spec"]["containers"][0];
    main["args"] = json!(["catalog"]);
    main["envFrom"] = json!([{"configMapRef": {"name": "addresses"}}]);
    main["readinessProbe"]["httpGet"]["path"] = json!("/chain");
    main["readinessProbe"]["timeoutSeconds"] = json!(3);
    bench.healthy_as("catalog", catalog).await?;
    service(bench, "prices-now").await?;
    address(bench, "http://prices-now:8080").await?;
    bench.api::<Service>().delete("prices-before", &DeleteParams::default()).await?;
    // What is connected stays so without a Service, as long as the pod behind it lives.
    let prices = ListParams::default().labels("app.kubernetes.io/name=prices");
    bench.api::<Pod>().delete_collection(&DeleteParams::default(), &prices).await?;
    bench.rolled_out("prices").await?;
    until("every pod of catalog hangs", || async {
        Ok(catalog_pods(bench).await?.iter().all(|pod| ready_for(pod) < -20).then_some(()))
    })
    .await
}

/// One pod is replaced, as a drain of its node would. It works, and for longer than those that hang did.
async fn one_is_new(bench: &Bench) -> Result<String> {
    let first = catalog_pods(bench).await?.into_iter().next().context("catalog has no pod")?.name_any();
    bench.api::<Pod>().delete(&first, &DeleteParams::default()).await?;
    until("a new pod works for longer than the others did", || async {
        let pods = catalog_pods(bench).await?;
        let began = |pod: &Pod| pod.creation_timestamp().map_or(0, |time| time.0.as_second());
        let worked = |pod: &Pod| backstop::clock::now().as_second() + ready_for(pod) - began(pod);
        let longest = pods.iter().filter(|pod| ready_for(pod) < 0).map(worked).max().unwrap_or(0);
        let new = pods.iter().find(|pod| ready_for(pod) > longest.max(65));
        Ok(new.map(ResourceExt::name_any))
    })
    .await
}

fn restarted_at(template: &Value) -> Option<&str> {
    template.pointer("/metadata/annotations")?.get(names::RESTARTED_AT)?.as_str()
}

pub async fn old_processes_that_hold_on_to_a_former_address_are_restarted(bench: Bench) -> Result<()> {
    moved(&bench).await?;
    let new = bench.api::<Pod>().get(&one_is_new(&bench).await?).await?;
    bench.alert("catalog").await?;
    bench.recovered().await?;
    let fires = bench.fires().await?;
    ensure!(fires.len() == 1, "{} fires, expected exactly one: {fires:#?}", fires.len());
    let fire = &fires[0];
    let created = new.creation_timestamp().context("a pod has a date")?.0.strftime("%FT%TZ").to_string();
    ensure!(restarted_at(&fire.after) == Some(&created), "{:?}, and not {created}", restarted_at(&fire.after));
    let mut back = fire.after.clone();
    let metadata = back["metadata"].as_object_mut().context("a template has metadata")?;
    metadata.remove("annotations");
    ensure!(back == fire.before, "more than the annotation was written: {back} and {}", fire.before);
    bench.rolled_out("catalog").await?;
    bench.nothing_in_flight().await
}

/// What the new pod works with is not what the ConfigMap says any more: nothing shows that that would work.
pub async fn configuration_that_no_pod_has_proved_is_not_restarted_into(bench: Bench) -> Result<()> {
    moved(&bench).await?;
    one_is_new(&bench).await?;
    address(&bench, "http://prices-nowhere:8080").await?;
    bench.alert("catalog").await?;
    let incident = handed_over(&bench).await?;
    let told = verdict(&incident, "ConfigurationProven");
    ensure!(told.is_none() || told.as_deref() == Some("RestartUnproven"), "the check says {told:?}");
    bench.nothing_written().await
}

/// No new pod works either, because what it needs is still away.
pub async fn a_dependency_that_is_still_away_is_not_restarted_for(bench: Bench) -> Result<()> {
    moved(&bench).await?;
    bench.api::<Service>().delete("prices-now", &DeleteParams::default()).await?;
    let first = catalog_pods(&bench).await?.into_iter().next().context("catalog has no pod")?.name_any();
    bench.api::<Pod>().delete(&first, &DeleteParams::default()).await?;
    bench.alert("catalog").await?;
    handed_over(&bench).await?;
    bench.nothing_written().await
}

async fn handed_over(bench: &Bench) -> Result<Incident> {
    let incident = bench.ended().await?;
    let phase = crate::support::bench::phase(&incident);
    ensure!(phase == IncidentPhase::Escalated, "the incident is {phase:?}");
    Ok(incident)
}
