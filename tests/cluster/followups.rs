//! What a stolen controller can order after a write: that it is taken back, or that a pod is evicted for it. The real
//! repair was made before; what is ordered is exactly what an honest controller would write down, of a target that needs
//! none of it.

use anyhow::{Context as _, Result, ensure};
use backstop::{
    api::v1alpha1::{Purpose, Remediation, RemediationPhase, RemediationSpec, RemediationStatus},
    core::actions::identity,
};
use k8s_openapi::api::core::v1::Pod;
use kube::{ResourceExt as _, api::ListParams};
use serde_json::{Value, json};

use crate::support::{
    bench::{Bench, Release},
    thief::{BACKSTOP, Thief},
    until,
    workloads::{Kind, Workload},
};

/// The Remediation of the real repair.
async fn repair(bench: &Bench) -> Result<Remediation> {
    let all = bench.api::<Remediation>().list(&ListParams::default()).await?.items;
    all.into_iter().find(|one| one.spec.purpose == Purpose::Repair).context("nothing was repaired")
}

/// A Remediation that follows the repair, with the digest and id that belong to it.
fn following(repair: &Remediation, change: impl FnOnce(&mut Value)) -> Result<Value> {
    let mut spec = serde_json::to_value(&repair.spec)?;
    spec["follows"] = json!(repair.spec.action_id);
    change(&mut spec);
    let typed: RemediationSpec = serde_json::from_value(spec.clone()).context("the Remediation's shape")?;
    let (digest, id) = identity::identity(&typed);
    (spec["digest"], spec["actionId"]) = (json!(digest), json!(id));
    Ok(json!({
        "apiVersion": "backstop.dev/v1alpha1", "kind": "Remediation",
        "metadata": {"name": id, "ownerReferences": repair.owner_references()}, "spec": spec,
    }))
}

/// Sets the Grant of the namespace in the controller's name.
async fn grant(bench: &Bench, thief: &Thief<'_>, spec: &Value) -> Result<()> {
    let path = format!("/{BACKSTOP}/namespaces/{}/grants/active", bench.ns);
    until("the Grant is written", || async {
        let mut grant = thief.ask(http::Method::GET, path.clone()).await?;
        grant["spec"] = spec.clone();
        thief.replace(BACKSTOP, "grants", "active", &grant).await?;
        Ok(Some(()))
    })
    .await
}

/// Orders it, opens the Grant for each claim, and waits until the real executor has ended it.
async fn ordered(bench: &Bench, thief: &Thief<'_>, remediation: &Value) -> Result<RemediationStatus> {
    let (id, spec) = (remediation["metadata"]["name"].as_str().unwrap_or_default(), &remediation["spec"]);
    thief.create(BACKSTOP, "remediations", remediation).await?;
    let mut granted = 0;
    loop {
        let before = granted;
        let status = until("the executor claims or ends it", || async {
            let status = bench.api::<Remediation>().get(id).await?.status.unwrap_or_default();
            Ok((status.phase.is_final() || status.epoch > before).then_some(status))
        })
        .await?;
        if status.phase.is_final() {
            grant(bench, thief, &json!({})).await?;
            return Ok(status);
        }
        granted = status.epoch;
        let end = backstop::clock::now() + jiff::SignedDuration::from_secs(55);
        let open = json!({
            "actionId": id, "action": "rollout-undo", "remediation": id, "epoch": granted,
            "uid": spec["target"]["uid"], "write": spec["write"],
            "notAfter": jiff::Timestamp::from_second(end.as_second())?,
        });
        grant(bench, thief, &json!({ "open": open })).await?;
    }
}

/// The executor gave it up for what it read itself, and not because the order was not well made.
fn refused(status: &RemediationStatus) -> Result<()> {
    let wrong = ["DigestMismatch", "Unsupported", "NoGrant", "GrantExpired", "NotReady"];
    ensure!(
        status.phase == RemediationPhase::Aborted && !wrong.contains(&status.reason.as_str()),
        "the executor ended it as {:?}: {} {}",
        status.phase,
        status.reason,
        status.message
    );
    Ok(())
}

/// A repair that helped is ordered to be taken back: the known bad template over a healthy workload.
pub async fn a_stolen_controller_cannot_have_a_good_repair_taken_back(bench: Bench) -> Result<()> {
    bench.healthy("api").await?;
    bench.broken("api", Release::CrashLoop).await?;
    bench.alert("api").await?;
    bench.recovered().await?;
    bench.rolled_out("api").await?;
    let play = async {
        let thief = Thief::of(&bench, "controller").await?;
        let repair = repair(&bench).await?;
        let back = following(&repair, |spec| {
            let Value::Object(field) = spec["write"]["field"].take() else { return };
            spec["purpose"] = json!("Undo");
            spec["write"] =
                json!({"field": {"path": field["path"], "before": field["after"], "after": field["before"]}});
            let (undo, action) = (spec["undo"].take(), spec["action"].take());
            let provenance = spec["provenance"].take();
            spec["action"] = undo["action"].clone();
            spec["provenance"] = undo["provenance"].clone();
            spec["undo"] = json!({"action": action, "provenance": provenance});
        })?;
        let status = ordered(&bench, &thief, &back).await?;
        refused(&status)?;
        ensure!(status.message.contains("own reading"), "not for what it read itself: {}", status.message);
        // The real repair is the one write, and still there.
        bench.fired_once_to_first_revision("api").await.map(drop)
    };
    bench.suite.operator.without(&["controller"], Box::pin(play)).await
}

/// Pods that work are ordered to be evicted after a repair of a StatefulSet, one by one.
pub async fn a_stolen_controller_cannot_have_a_pod_evicted_that_works(bench: Bench) -> Result<()> {
    let set = Workload::healthy(&bench, Kind::StatefulSet, "api", Kind::StatefulSet.manifest("api", 2)).await?;
    set.broken(Release::CrashLoop).await?;
    set.alert().await?;
    bench.recovered().await?;
    set.rolled_out().await?;
    let evicted = async || Ok::<_, anyhow::Error>(bench.suite.witness.evictions(&bench.events().await?).len());
    let before = evicted().await?;
    let play = async {
        let thief = Thief::of(&bench, "controller").await?;
        let repair = repair(&bench).await?;
        for pod in set.pods().await? {
            let wanted = json!({
                "apiVersion": "v1", "kind": "Pod", "namespace": bench.ns, "name": pod.name_any(), "uid": pod.uid(),
            });
            let order = following(&repair, |spec| {
                spec["purpose"] = json!("ReplacePod");
                spec["write"] = json!({"evict": {"pod": wanted}});
                for absent in ["provenance", "undo"] {
                    spec.as_object_mut().map(|spec| spec.remove(absent));
                }
            })?;
            refused(&ordered(&bench, &thief, &order).await?)?;
            let still = bench.api::<Pod>().get(&pod.name_any()).await?;
            ensure!(still.uid() == pod.uid(), "{} was replaced", pod.name_any());
        }
        ensure!(evicted().await? == before, "a pod was evicted for a thief");
        set.fired_once().await.map(drop)
    };
    bench.suite.operator.without(&["controller"], Box::pin(play)).await
}
