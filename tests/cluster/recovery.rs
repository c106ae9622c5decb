//! Bad rollouts that Backstop repairs.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use backstop::api::v1alpha1::{Alert, Approval, Incident, IncidentPhase};
use k8s_openapi::api::{
    admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding},
    apps::v1::Deployment,
    core::v1::{LimitRange, Namespace, Node, Pod, ResourceQuota},
};
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use serde_json::json;

use crate::support::bench::{Bench, Release, deployment, first_template, payload, phase};
use crate::support::{taps::Point, until};

async fn is_rolled_back(bench: &Bench, release: Release) -> Result<Incident> {
    bench.healthy("api").await?;
    bench.broken("api", release).await?;
    bench.alert("api").await?;
    let incident = bench.recovered().await?;
    bench.fired_once_to_first_revision("api").await?;
    bench.rolled_out("api").await?;
    Ok(incident)
}

pub async fn a_crash_loop_after_a_rollout_is_rolled_back(bench: Bench) -> Result<()> {
    let incident = is_rolled_back(&bench, Release::CrashLoop).await?;
    let status = incident.status.context("an ended incident has a status")?;
    ensure!(status.plan.is_some(), "the incident shows no plan");
    ensure!(
        status.decision.is_some_and(|decision| decision.checks.len() > 20),
        "the decision does not show every check"
    );
    for event in ["AlertReceived", "PlanWritten", "Diagnosed", "GrantOpened", "Fired", "Healthy"] {
        ensure!(status.timeline.iter().any(|entry| entry.event == event), "the timeline does not show {event}");
    }
    Ok(())
}

pub async fn an_image_that_cannot_be_pulled_is_rolled_back(bench: Bench) -> Result<()> {
    is_rolled_back(&bench, Release::ImagePull).await.map(drop)
}

pub async fn a_failing_probe_is_rolled_back(bench: Bench) -> Result<()> {
    is_rolled_back(&bench, Release::FailingProbe).await.map(drop)
}

pub async fn a_missing_config_map_is_rolled_back(bench: Bench) -> Result<()> {
    is_rolled_back(&bench, Release::MissingConfig).await.map(drop)
}

/// No container of the release fails: its pods do not start, or are not even made.
async fn that_does_not_start_is_rolled_back(bench: &Bench, release: Release) -> Result<()> {
    bench.healthy("api").await?;
    bench.ship("api", release).await?;
    bench.not_starting("api").await?;
    // What does not start is told from what takes its time after a minute at most, and an alert is waited with for no
    // longer than that. Real ones come later than this.
    tokio::time::sleep(Duration::from_secs(10)).await;
    bench.alert("api").await?;
    bench.recovered().await?;
    bench.fired_once_to_first_revision("api").await?;
    bench.rolled_out("api").await
}

pub async fn a_release_that_no_node_takes_is_rolled_back(bench: Bench) -> Result<()> {
    that_does_not_start_is_rolled_back(&bench, Release::Unschedulable).await
}

pub async fn a_release_with_more_processors_than_a_node_has_is_rolled_back(bench: Bench) -> Result<()> {
    that_does_not_start_is_rolled_back(&bench, Release::TooManyProcessors).await
}

pub async fn a_release_with_a_device_that_no_node_has_is_rolled_back(bench: Bench) -> Result<()> {
    that_does_not_start_is_rolled_back(&bench, Release::MissingDevice).await
}

pub async fn a_release_whose_node_affinity_no_node_fits_is_rolled_back(bench: Bench) -> Result<()> {
    that_does_not_start_is_rolled_back(&bench, Release::NodeAffinity).await
}

pub async fn a_release_that_wants_to_be_far_from_itself_is_rolled_back(bench: Bench) -> Result<()> {
    that_does_not_start_is_rolled_back(&bench, Release::AntiAffinity).await
}

pub async fn a_release_with_a_claim_that_nobody_made_is_rolled_back(bench: Bench) -> Result<()> {
    that_does_not_start_is_rolled_back(&bench, Release::MissingClaim).await
}

pub async fn a_release_with_a_secret_that_nobody_made_is_rolled_back(bench: Bench) -> Result<()> {
    that_does_not_start_is_rolled_back(&bench, Release::MissingSecret).await
}

pub async fn a_release_for_a_scheduler_that_does_not_run_is_rolled_back(bench: Bench) -> Result<()> {
    that_does_not_start_is_rolled_back(&bench, Release::MissingScheduler).await
}

/// No container fails and none is ended: the rollout just does not get on in its time.
pub async fn a_release_that_passes_its_progress_deadline_is_rolled_back(bench: Bench) -> Result<()> {
    let mut manifest = deployment("api", 1);
    manifest["spec"]["progressDeadlineSeconds"] = json!(20);
    bench.healthy_as("api", manifest).await?;
    bench.ship("api", Release::NeverStarted).await?;
    until("its progress deadline has passed", || async {
        let conditions = bench.api::<Deployment>().get("api").await?.status.and_then(|status| status.conditions);
        let passed = conditions.iter().flatten().any(|c| c.reason.as_deref() == Some("ProgressDeadlineExceeded"));
        Ok(passed.then_some(()))
    })
    .await?;
    bench.alert("api").await?;
    bench.recovered().await?;
    bench.fired_once_to_first_revision("api").await.map(drop)
}

pub async fn a_release_that_a_quota_refuses_is_rolled_back(bench: Bench) -> Result<()> {
    bench
        .create::<ResourceQuota>(json!({
            "metadata": {"name": "small"}, "spec": {"hard": {"limits.memory": "256Mi"}},
        }))
        .await?;
    until("the quota is counted", || async {
        let quota = bench.api::<ResourceQuota>().get("small").await?;
        Ok(quota.status.and_then(|status| status.hard).map(drop))
    })
    .await?;
    that_does_not_start_is_rolled_back(&bench, Release::TooLarge).await
}

/// Somebody's own policy for pods, as a webhook would be: it lets no image with the tag of the release in.
pub async fn a_release_that_a_policy_of_the_cluster_refuses_is_rolled_back(bench: Bench) -> Result<()> {
    let policies: Api<ValidatingAdmissionPolicy> = Api::all(bench.suite.client.clone());
    let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(bench.suite.client.clone());
    let name = format!("suite-no-absent-images-{}", bench.suite.run);
    let policy = json!({
        "metadata": {"name": name},
        "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": {"resourceRules": [{
                "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"],
            }]},
            "validations": [{
                "expression": "object.spec.containers.all(c, !c.image.endsWith(':absent'))",
                "message": "images have to be signed",
            }],
        },
    });
    let binding = json!({
        "metadata": {"name": name},
        "spec": {
            "policyName": name, "validationActions": ["Deny"],
            "matchResources": {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": bench.ns}}},
        },
    });
    policies.create(&Default::default(), &serde_json::from_value(policy)?).await?;
    bindings.create(&Default::default(), &serde_json::from_value(binding)?).await?;
    let play = async {
        let refused = json!({
            "metadata": {"name": "try"}, "spec": {"containers": [{"name": "c", "image": "backstop.local/shop:absent"}]},
        });
        until("the policy is in force", || async {
            let dry = PostParams { dry_run: true, ..PostParams::default() };
            let answer = bench.api::<Pod>().create(&dry, &serde_json::from_value(refused.clone())?).await;
            Ok(answer.is_err_and(|error| error.to_string().contains("have to be signed")).then_some(()))
        })
        .await?;
        that_does_not_start_is_rolled_back(&bench, Release::ImagePull).await
    };
    let outcome = play.await;
    bindings.delete(&name, &DeleteParams::default()).await?;
    policies.delete(&name, &DeleteParams::default()).await?;
    outcome
}

pub async fn a_release_that_a_limit_range_refuses_is_rolled_back(bench: Bench) -> Result<()> {
    bench
        .create::<LimitRange>(json!({
            "metadata": {"name": "small"}, "spec": {"limits": [{"type": "Container", "max": {"memory": "128Mi"}}]},
        }))
        .await?;
    that_does_not_start_is_rolled_back(&bench, Release::TooLarge).await
}

pub async fn a_release_that_pod_security_refuses_is_rolled_back(bench: Bench) -> Result<()> {
    let namespaces: Api<Namespace> = Api::all(bench.suite.client.clone());
    let patch = json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "baseline"}}});
    namespaces.patch(&bench.ns, &PatchParams::default(), &Patch::Merge(&patch)).await?;
    that_does_not_start_is_rolled_back(&bench, Release::HostNetwork).await
}

pub async fn a_release_whose_volume_cannot_be_mounted_is_rolled_back(bench: Bench) -> Result<()> {
    that_does_not_start_is_rolled_back(&bench, Release::MissingVolume).await
}

pub async fn a_release_whose_init_container_does_not_end_is_rolled_back(bench: Bench) -> Result<()> {
    that_does_not_start_is_rolled_back(&bench, Release::EndlessInit).await
}

pub async fn a_command_that_is_not_in_the_image_is_rolled_back(bench: Bench) -> Result<()> {
    is_rolled_back(&bench, Release::MissingCommand).await.map(drop)
}

pub async fn a_liveness_probe_that_ends_containers_late_is_rolled_back(bench: Bench) -> Result<()> {
    bench.healthy("api").await?;
    bench.ship("api", Release::LateLiveness).await?;
    // The old pod is gone and all looks well, until the probe ends the first container.
    bench.rolled_out("api").await?;
    // Not ready is it already while it is being ended, or for a second on a busy machine.
    bench.restarted("api").await?;
    bench.alert("api").await?;
    bench.recovered().await?;
    bench.fired_once_to_first_revision("api").await.map(drop)
}

/// The pod that the alert names was drained away; what made it is still there, and so is the bad release.
pub async fn a_pod_that_is_gone_leads_to_what_made_it(bench: Bench) -> Result<()> {
    bench.healthy("api").await?;
    bench.broken("api", Release::CrashLoop).await?;
    let pods: Api<Pod> = bench.api();
    let newest = pods.list(&ListParams::default()).await?.items;
    let name = newest.iter().max_by_key(|pod| pod.creation_timestamp()).context("no pod")?.name_any();
    pods.delete(&name, &DeleteParams::default()).await?;
    until("the pod is gone", || async { Ok(pods.get_opt(&name).await?.is_none().then_some(())) }).await?;
    bench.failing("api").await?;
    bench.alert_with(&[("pod", &name)]).await?;
    bench.recovered().await?;
    bench.fired_once_to_first_revision("api").await.map(drop)
}

/// Every pod is replaced before the first alert: only the mark says that revision 1 was good.
pub async fn an_outage_of_all_pods_is_rolled_back(bench: Bench) -> Result<()> {
    let mut manifest = deployment("api", 2);
    manifest["spec"]["strategy"] = json!({"type": "Recreate"});
    bench.healthy_as("api", manifest).await?;
    bench.broken("api", Release::CrashLoop).await?;
    bench.alert("api").await?;
    bench.recovered().await?;
    bench.fired_once_to_first_revision("api").await.map(drop)
}

/// Somebody changes the object right before each of the executor's writes to it, again and again: what it has decided on is
/// never the newest version any more. (A crash loop alone writes the object's status some twenty times a minute.)
pub async fn an_object_whose_resource_version_changes_all_the_time_is_rolled_back(bench: Bench) -> Result<()> {
    bench.healthy("api").await?;
    bench.broken("api", Release::CrashLoop).await?;
    let (arm, fire) = (Point::before("executor", "arm"), Point::before("executor", "fire"));
    let mut hold = bench.hold(arm);
    bench.alert("api").await?;
    for (write, next) in [arm, arm, fire, fire, fire].into_iter().enumerate() {
        hold.reached().await?;
        let patch = json!({"metadata": {"annotations": {"example.com/restless": write.to_string()}}});
        bench.patch("api", patch).await?;
        // Placed before the executor goes on; the one that it leaves is dropped.
        hold = bench.hold(next);
    }
    hold.reached().await?;
    drop(hold);
    bench.recovered().await?;
    bench.fired_once_to_first_revision("api").await.map(drop)
}

pub async fn the_same_alert_five_hundred_times_is_one_incident_and_one_fire(bench: Bench) -> Result<()> {
    bench.healthy("api").await?;
    bench.broken("api", Release::CrashLoop).await?;
    let same = payload(&[bench.labels(&[("deployment", "api")])]);
    let (token, body) = (bench.suite.operator.token().await?, serde_json::to_vec(&same)?);
    let mut sending = tokio::task::JoinSet::new();
    for sender in 0..10 {
        let (bench, token, body) = (bench.clone(), token.clone(), body.clone());
        sending.spawn(async move {
            for number in 0..50 {
                // Alertmanager tries a 503 again, and so does this sender.
                until(&format!("alert {number} of sender {sender} is taken"), || async {
                    let answer = bench.suite.operator.post(Some(&token), body.clone()).await?;
                    ensure!([202, 503].contains(&answer.code), "the intake answered {} {}", answer.code, answer.body);
                    Ok((answer.code == 202).then_some(()))
                })
                .await?;
            }
            anyhow::Ok(())
        });
    }
    for sent in sending.join_all().await {
        sent?;
    }
    bench.recovered().await?;
    let alerts: Api<Alert> = bench.api();
    let alerts = alerts.list(&ListParams::default()).await?.items;
    ensure!(alerts.len() == 1, "{} Alerts, expected one", alerts.len());
    bench.fired_once_to_first_revision("api").await.map(drop)
}

pub async fn alerts_about_a_pod_and_its_deployment_are_one_incident(bench: Bench) -> Result<()> {
    bench.healthy("api").await?;
    bench.broken("api", Release::CrashLoop).await?;
    let pods: Api<k8s_openapi::api::core::v1::Pod> = bench.api();
    let pods = pods.list(&ListParams::default()).await?;
    let failing = pods.items.iter().max_by_key(|pod| pod.creation_timestamp()).context("no pod")?.name_any();
    let both = payload(&[
        bench.labels(&[("deployment", "api")]),
        bench.labels(&[("alertname", "KubePodCrashLooping"), ("pod", &failing)]),
    ]);
    let answer = bench.post(&both).await?;
    ensure!(answer.code == 202, "the intake answered {} {}", answer.code, answer.body);
    let incident = bench.recovered().await?;
    ensure!(incident.spec.alerts.len() == 2, "the incident lists {} alerts, expected 2", incident.spec.alerts.len());
    bench.fired_once_to_first_revision("api").await.map(drop)
}

pub async fn an_alert_that_a_person_applies_is_worked_on_like_any_other(bench: Bench) -> Result<()> {
    bench.healthy("api").await?;
    bench.broken("api", Release::ImagePull).await?;
    bench
        .create::<Alert>(json!({
            "apiVersion": "backstop.dev/v1alpha1", "kind": "Alert", "metadata": {"name": "by-hand"},
            "spec": {
                "fingerprint": "by-hand", "startsAt": backstop::clock::now(),
                "labels": {"alertname": "ByHand", "namespace": bench.ns, "deployment": "api"},
            },
        }))
        .await?;
    let incident = bench.recovered().await?;
    ensure!(!incident.spec.request_id.is_empty(), "the incident has no request id");
    bench.fired_once_to_first_revision("api").await.map(drop)
}

pub async fn in_approve_mode_nothing_is_written_until_a_person_approves_the_exact_action(bench: Bench) -> Result<()> {
    bench.mode("approve").await?;
    bench.healthy("api").await?;
    bench.broken("api", Release::CrashLoop).await?;
    bench.alert("api").await?;
    let waiting = bench.incident_in(IncidentPhase::AwaitingApproval).await?;
    bench.nothing_written().await?;
    let asked = |page: &serde_json::Value| page["reason"] == "ApprovalMissing" && page["phase"] == "AwaitingApproval";
    ensure!(bench.suite.pages.about(&bench.ns).iter().any(asked), "nobody was asked by the webhook");
    let digest =
        waiting.status.as_ref().and_then(|s| s.decision.as_ref()).map(|d| d.digest.clone()).context("no digest")?;
    let user = whoami(&bench).await?;
    let approve = |name: &str, digest: String| {
        json!({
            "apiVersion": "backstop.dev/v1alpha1", "kind": "Approval", "metadata": {"name": name},
            "spec": {
                "approver": user, "incident": waiting.name_any(), "digest": digest,
                "expiresAt": backstop::clock::now() + jiff::SignedDuration::from_mins(20),
            },
        })
    };
    // A yes to something else is no yes.
    bench.create::<Approval>(approve("other", "0".repeat(64))).await?;
    bench.create::<Approval>(approve("exact", digest.context("the decision has no digest")?)).await?;
    bench.recovered().await?;
    bench.fired_once_to_first_revision("api").await?;
    let used = |name: &'static str| {
        let api: Api<Approval> = bench.api();
        async move { anyhow::Ok(api.get(name).await?.status.unwrap_or_default().used_by) }
    };
    ensure!(!used("exact").await?.is_empty(), "the Approval is not marked as used");
    ensure!(used("other").await?.is_empty(), "an Approval of another action was used");
    Ok(())
}

/// The user name of this suite, as the API server sees it.
async fn whoami(bench: &Bench) -> Result<String> {
    use k8s_openapi::api::authentication::v1::SelfSubjectReview;
    let api: Api<SelfSubjectReview> = Api::all(bench.suite.client.clone());
    let review = api.create(&Default::default(), &SelfSubjectReview::default()).await?;
    review
        .status
        .and_then(|status| status.user_info)
        .and_then(|user| user.username)
        .context("the API server does not say who we are")
}

/// Revision 1 needs a node label that is gone when Backstop returns to it: nothing in the cluster's objects shows that
/// before the write. The release did not work either, so it is not written back.
pub async fn a_rollback_that_does_not_help_is_left_in_place_and_handed_over(bench: Bench) -> Result<()> {
    let key = format!("suite.backstop.dev/{}", &bench.ns[bench.ns.len() - 12..].trim_matches('-'));
    let nodes: Api<Node> = Api::all(bench.suite.client.clone());
    let all = nodes.list(&ListParams::default()).await?;
    let label = async |value: serde_json::Value| -> Result<()> {
        for node in &all.items {
            let patch = json!({"metadata": {"labels": {&key: value}}});
            nodes.patch(&node.name_any(), &PatchParams::default(), &Patch::Merge(&patch)).await?;
        }
        Ok(())
    };
    label(json!("yes")).await?;
    let mut manifest = deployment("api", 1);
    manifest["spec"]["strategy"] = json!({"type": "Recreate"});
    manifest["spec"]["progressDeadlineSeconds"] = json!(20);
    manifest["spec"]["template"]["spec"]["nodeSelector"] = json!({&key: "yes"});
    let broken = async {
        bench.healthy_as("api", manifest).await?;
        let mut release = Release::CrashLoop.patch("api");
        release["spec"]["template"]["spec"]["nodeSelector"] = json!({&key: null});
        bench.patch("api", release).await?;
        bench.failing("api").await
    };
    let broken = broken.await;
    label(json!(null)).await?;
    broken?;
    let timings = json!({"timings": {"verifyTimeoutSeconds": 20}});
    bench.suite.operator.reconfigure(timings).await?;
    bench.alert("api").await?;
    bench.escalated("VerifyFailed").await?;
    let events = bench.events().await?;
    let fires = bench.suite.witness.fires(&events);
    ensure!(fires.len() == 1, "{} fires, expected the write alone: {fires:#?}", fires.len());
    let first = first_template(&events, "api")?;
    ensure!(fires[0].after == first, "the write was not the template of revision 1");
    ensure!(bench.template("api").await? == first, "the template is not the one that was written");
    bench.nothing_in_flight().await
}

/// Recovered is not the end: the target is watched, and a relapse continues the same incident.
pub async fn a_repair_that_somebody_reverts_while_it_is_watched_is_told(bench: Bench) -> Result<()> {
    bench.healthy("api").await?;
    bench.broken("api", Release::CrashLoop).await?;
    bench.alert("api").await?;
    bench.recovered().await?;
    bench.rolled_out("api").await?;
    bench.broken("api", Release::CrashLoop).await?;
    let incident = until("the relapse is told", || async {
        let escalated = |incident: &Incident| phase(incident) == IncidentPhase::Escalated;
        Ok(bench.incidents().await?.into_iter().find(escalated))
    })
    .await?;
    crate::support::bench::expect(&incident, IncidentPhase::Escalated, "ChangedByOthers")?;
    let watched = incident.status.as_ref().and_then(|status| status.watch.as_ref());
    ensure!(watched.is_some_and(|watch| watch.over.is_some()), "it was not the watch that saw it");
    ensure!(bench.incidents().await?.len() == 1, "it is the same incident");
    let fires = bench.fires().await?;
    ensure!(fires.len() == 1, "{} fires, expected only the repair", fires.len());
    Ok(())
}

pub async fn a_second_bad_release_inside_the_cooldown_is_handed_over(bench: Bench) -> Result<()> {
    bench.healthy("api").await?;
    bench.broken("api", Release::CrashLoop).await?;
    bench.alert("api").await?;
    bench.recovered().await?;
    bench.rolled_out("api").await?;
    bench.broken("api", Release::ImagePull).await?;
    bench.alert("api").await?;
    let second = bench.nth_ended(2).await?;
    crate::support::bench::expect(&second, IncidentPhase::Escalated, "Cooldown")?;
    let fires = bench.fires().await?;
    ensure!(fires.len() == 1, "{} fires, expected only that of the first incident", fires.len());
    bench.nothing_in_flight().await
}

/// The suite's operator is told of a Prometheus that is not there.
pub async fn an_absent_prometheus_is_a_fact_and_no_obstacle(bench: Bench) -> Result<()> {
    let incident = is_rolled_back(&bench, Release::MissingConfig).await?;
    let status = incident.status.context("an ended incident has a status")?;
    let api: Api<backstop::api::v1alpha1::Investigation> = bench.api();
    let investigation = api
        .get(status.investigation.as_deref().unwrap_or_default())
        .await?
        .status
        .context("the investigation has no status")?;
    let text = serde_json::to_string(&investigation)?.to_lowercase();
    ensure!(text.contains("metrics"), "the investigation does not say that there were no metrics: {text}");
    Ok(())
}
