//! Realistic objects for tests, as builders: a Deployment with its ReplicaSets and pods, as an API server prints them.

use serde_json::{Value, json};

use super::RawWorkload;
use crate::api::v1alpha1::Time;

/// When the snapshot is read.
pub const NOW: &str = "2026-03-01T12:00:00Z";

/// The time [`NOW`].
pub fn now() -> Time {
    NOW.parse().unwrap()
}

/// A time some seconds before [`NOW`].
pub fn ago(seconds: i64) -> Time {
    Time::from_second(now().as_second() - seconds).unwrap()
}

/// A workload `shop/checkout` under construction.
pub struct World {
    /// Replicas asked for.
    pub replicas: i32,
    /// Metadata of the Deployment that a test adds.
    pub metadata: Value,
    /// Templates of the revisions, oldest first, with the age of each in seconds.
    pub templates: Vec<(Value, i64)>,
    /// Pods as JSON.
    pub pods: Vec<Value>,
}

/// A template with this image; `change` may alter it.
pub fn template(image: &str, change: impl FnOnce(&mut Value)) -> Value {
    let mut template = json!({
        "metadata": {"creationTimestamp": null, "labels": {"app": "checkout"}},
        "spec": {
            "containers": [{
                "name": "app", "image": image, "imagePullPolicy": "IfNotPresent",
                "env": [{"name": "LEVEL", "value": "info"}, {"name": "DB_PASSWORD", "value": "hunter2hunter2"}],
                "envFrom": [{"configMapRef": {"name": "checkout"}}],
                "ports": [{"containerPort": 8080, "protocol": "TCP"}],
                "resources": {"limits": {"cpu": "0.5"}},
                "readinessProbe": {"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 5, "failureThreshold": 3,
                    "timeoutSeconds": 1, "successThreshold": 1},
                "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File"
            }],
            "dnsPolicy": "ClusterFirst", "restartPolicy": "Always", "schedulerName": "default-scheduler",
            "securityContext": {}, "terminationGracePeriodSeconds": 30
        }
    });
    change(&mut template);
    template
}

impl World {
    /// One healthy revision that is a day old.
    pub fn one_revision() -> World {
        World { replicas: 2, metadata: json!({}), templates: vec![(template("shop:1", |_| {}), 86_400)], pods: vec![] }
    }

    /// Two revisions; the second is two minutes old.
    pub fn two_revisions() -> World {
        let mut world = World::one_revision();
        world.templates.push((template("shop:2", |_| {}), 120));
        world
    }

    /// Adds pods of the revision of this number.
    pub fn pods(mut self, revision: usize, count: usize, status: &Value) -> World {
        let (template, age) = &self.templates[revision - 1];
        for index in 0..count {
            self.pods.push(json!({
                "metadata": {
                    "name": format!("checkout-{revision}-{index}"), "namespace": "shop",
                    "uid": format!("pod-{revision}-{index}"), "creationTimestamp": ago(*age),
                    "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "controller": true,
                        "name": format!("checkout-{revision}"), "uid": format!("rs-{revision}")}]
                },
                "spec": template["spec"],
                "status": status,
            }));
        }
        self
    }

    /// The snapshot.
    pub fn snapshot(&self) -> RawWorkload {
        let last = self.templates.len();
        let mut metadata = json!({
            "name": "checkout", "namespace": "shop", "uid": "deploy-1", "generation": last,
            "annotations": {"deployment.kubernetes.io/revision": last.to_string()},
            "labels": {"app": "checkout"}
        });
        json_patch::merge(&mut metadata, &self.metadata);
        let ready = self.pods.iter().filter(|pod| is_ready(pod)).count();
        let object = json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata,
            "spec": {"replicas": self.replicas, "selector": {"matchLabels": {"app": "checkout"}},
                "template": self.templates[last - 1].0},
            "status": {"observedGeneration": last, "updatedReplicas": self.replicas, "replicas": self.pods.len(),
                "readyReplicas": ready, "availableReplicas": ready,
                "conditions": [{"type": "Progressing", "status": "True", "reason": "ReplicaSetUpdated"}]}
        });
        let revisions = self.templates.iter().enumerate().map(|(index, (template, age))| {
            let number = index + 1;
            let mut template = template.clone();
            template["metadata"]["labels"]["pod-template-hash"] = json!(format!("hash{number}"));
            let ready = self.pods.iter().filter(|pod| is_ready(pod) && owner(pod) == format!("rs-{number}")).count();
            json!({
                "metadata": {
                    "name": format!("checkout-{number}"), "namespace": "shop", "uid": format!("rs-{number}"),
                    "creationTimestamp": ago(*age),
                    "annotations": {"deployment.kubernetes.io/revision": number.to_string()},
                    "ownerReferences": [{"apiVersion": "apps/v1", "kind": "Deployment", "controller": true,
                        "name": "checkout", "uid": "deploy-1"}]
                },
                "spec": {"replicas": self.replicas, "template": template},
                "status": {"replicas": self.replicas, "readyReplicas": ready}
            })
        });
        RawWorkload { object, owners: vec![], revisions: revisions.collect(), pods: self.pods.clone(), read_at: now() }
    }
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    conditions.into_iter().flatten().any(|c| c["type"] == "Ready" && c["status"] == "True")
}

fn owner(pod: &Value) -> &str {
    pod["metadata"]["ownerReferences"][0]["uid"].as_str().unwrap()
}

/// Status of a pod with one container `app`.
pub fn status(phase: &str, ready: bool, ready_since: i64, container: &Value) -> Value {
    let mut container = container.clone();
    container["name"] = json!("app");
    json!({
        "phase": phase,
        "conditions": [
            {"type": "PodScheduled", "status": "True", "lastTransitionTime": ago(ready_since)},
            {"type": "Ready", "status": if ready { "True" } else { "False" }, "lastTransitionTime": ago(ready_since),
                "reason": if ready { Value::Null } else { json!("ContainersNotReady") }}
        ],
        "containerStatuses": [container]
    })
}

/// Ready for this many seconds.
pub fn ready(since: i64) -> Value {
    status(
        "Running",
        true,
        since,
        &json!({"ready": true, "started": true, "restartCount": 0,
        "state": {"running": {"startedAt": ago(since + 2)}}}),
    )
}

/// In CrashLoopBackOff; the last run of a second ended ten seconds ago.
pub fn crash_loop() -> Value {
    status(
        "Running",
        false,
        100,
        &json!({"ready": false, "started": false, "restartCount": 3,
        "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 40s"}},
        "lastState": {"terminated": {"exitCode": 1, "reason": "Error", "startedAt": ago(11), "finishedAt": ago(10)}}}),
    )
}

/// Waiting for this reason.
pub fn waiting(reason: &str) -> Value {
    status(
        "Pending",
        false,
        100,
        &json!({"ready": false, "started": false, "restartCount": 0,
        "state": {"waiting": {"reason": reason}}}),
    )
}

/// Running for this long and not ready.
pub fn not_ready(up: i64) -> Value {
    status(
        "Running",
        false,
        up + 2,
        &json!({"ready": false, "started": true, "restartCount": 0,
        "state": {"running": {"startedAt": ago(up)}}}),
    )
}
