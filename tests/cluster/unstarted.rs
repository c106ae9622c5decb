//! Releases whose pods no node takes or the API server does not let in, for reasons that need something of the cluster's own:
//! a node with a taint, a webhook that nobody serves.

use std::time::Duration;

use anyhow::{Result, ensure};
use k8s_openapi::api::{
    admissionregistration::v1::ValidatingWebhookConfiguration,
    core::v1::{Node, Pod},
};
use kube::{
    Api,
    api::{DeleteParams, PostParams},
};
use serde_json::{Value, json};

use crate::support::bench::Bench;
use crate::support::until;

/// What is shipped does not start, and somebody is alerted.
async fn does_not_start(bench: &Bench, template: Value) -> Result<()> {
    bench.healthy("api").await?;
    bench.patch("api", json!({"spec": {"template": template}})).await?;
    bench.not_starting("api").await?;
    // See `recovery::that_does_not_start_is_rolled_back`.
    tokio::time::sleep(Duration::from_secs(10)).await;
    bench.alert("api").await.map(drop)
}

/// The release asks for the nodes of a pool, all of which have a taint that it does not tolerate. The node is one that no
/// kubelet runs: nothing could be started on it.
pub async fn a_release_for_a_pool_with_a_taint_is_rolled_back(bench: Bench) -> Result<()> {
    let nodes: Api<Node> = Api::all(bench.suite.client.clone());
    let name = format!("suite-tainted-{}", bench.suite.run);
    let node = json!({
        "metadata": {"name": name, "labels": {"suite.backstop.dev/pool": name}},
        "spec": {"taints": [{"key": "suite.backstop.dev/dedicated", "value": "others", "effect": "NoSchedule"}]},
    });
    nodes.create(&PostParams::default(), &serde_json::from_value(node)?).await?;
    let play = async {
        does_not_start(&bench, json!({"spec": {"nodeSelector": {"suite.backstop.dev/pool": name}}})).await?;
        bench.recovered().await?;
        bench.fired_once_to_first_revision("api").await?;
        bench.rolled_out("api").await
    };
    let outcome = play.await;
    nodes.delete(&name, &DeleteParams::default()).await?;
    outcome
}

/// The release joins what a webhook looks after, and nobody serves that webhook: what is broken is the webhook, the next release
/// of anything else meets it too, and a person is told its name. (What a webhook denies is a bad release: a policy of the
/// cluster plays that in `recovery`.)
pub async fn a_release_that_meets_a_webhook_that_nobody_serves_is_handed_over(bench: Bench) -> Result<()> {
    let webhooks: Api<ValidatingWebhookConfiguration> = Api::all(bench.suite.client.clone());
    let name = format!("suite-unserved-{}", bench.suite.run);
    let webhook = json!({
        "metadata": {"name": name},
        "webhooks": [{
            "name": "pods.suite.backstop.dev", "admissionReviewVersions": ["v1"], "sideEffects": "None",
            "failurePolicy": "Fail", "timeoutSeconds": 2,
            "clientConfig": {"service": {"namespace": bench.ns, "name": "absent", "path": "/"}},
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": bench.ns}},
            "objectSelector": {"matchLabels": {"suite.backstop.dev/mesh": "yes"}},
            "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}],
        }],
    });
    webhooks.create(&PostParams::default(), &serde_json::from_value(webhook)?).await?;
    let labels = json!({"suite.backstop.dev/mesh": "yes"});
    let play = async {
        let probe = json!({
            "metadata": {"name": "probe", "labels": labels},
            "spec": {"containers": [{"name": "c", "image": "backstop.local/shop:dev"}]},
        });
        until("the webhook is asked", || async {
            let dry = PostParams { dry_run: true, ..PostParams::default() };
            let answer = bench.api::<Pod>().create(&dry, &serde_json::from_value(probe.clone())?).await;
            Ok(answer.is_err_and(|error| error.to_string().contains("pods.suite.backstop.dev")).then_some(()))
        })
        .await?;
        does_not_start(&bench, json!({"metadata": {"labels": labels}})).await?;
        let incident = bench.escalated("FailureUnexplained").await?;
        let message = incident.status.unwrap_or_default().message;
        ensure!(message.contains("pods.suite.backstop.dev"), "the webhook is not named: {message}");
        bench.nothing_written().await
    };
    let outcome = play.await;
    webhooks.delete(&name, &DeleteParams::default()).await?;
    outcome
}
