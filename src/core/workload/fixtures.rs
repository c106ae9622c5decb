//! Realistic objects for tests, as builders: a workload with its revisions and pods, as an API server prints them.

use serde_json::{Value, json};

use super::{Kind, RawWorkload, Refusals};
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
#[derive(Clone)]
pub struct WorkloadFixture {
    /// Its kind; set it with [`WorkloadFixture::of`] before pods are added.
    pub kind: Kind,
    /// Replicas asked for; of a DaemonSet the nodes that should run a pod of it.
    pub replicas: i32,
    /// Metadata of the workload that a test adds.
    pub metadata: Value,
    /// Fields of the workload's spec that a test adds.
    pub spec: Value,
    /// Templates of the revisions, oldest first, with the age of each in seconds.
    pub templates: Vec<(Value, i64)>,
    /// Pods as JSON.
    pub pods: Vec<Value>,
    /// What the API server says when it refuses to create pods of the newest revision: in a condition of the ReplicaSet,
    /// for other kinds in an Event of 20 seconds ago.
    pub refused: Option<String>,
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

impl WorkloadFixture {
    /// One healthy revision that is a day old.
    pub fn one_revision() -> WorkloadFixture {
        WorkloadFixture {
            kind: Kind::Deployment,
            replicas: 2,
            metadata: json!({}),
            spec: json!({}),
            templates: vec![(template("shop:1", |_| {}), 86_400)],
            pods: vec![],
            refused: None,
        }
    }

    /// Two revisions; the second is two minutes old.
    pub fn two_revisions() -> WorkloadFixture {
        let mut world = WorkloadFixture::one_revision();
        world.templates.push((template("shop:2", |_| {}), 120));
        world
    }

    /// The same as a workload of this kind.
    pub fn of(mut self, kind: Kind) -> WorkloadFixture {
        assert!(self.pods.is_empty(), "pods name their owner: choose the kind first");
        self.kind = kind;
        self
    }

    /// With the update strategy `OnDelete`.
    pub fn on_delete(mut self) -> WorkloadFixture {
        json_patch::merge(&mut self.spec, &json!({"updateStrategy": {"type": "OnDelete", "rollingUpdate": null}}));
        self
    }

    /// With the partition of a StatefulSet.
    pub fn partition(mut self, partition: i32) -> WorkloadFixture {
        let strategy = json!({"updateStrategy": {"rollingUpdate": {"partition": partition}}});
        json_patch::merge(&mut self.spec, &strategy);
        self
    }

    /// With the pod management policy `Parallel` of a StatefulSet.
    pub fn parallel(mut self) -> WorkloadFixture {
        json_patch::merge(&mut self.spec, &json!({"podManagementPolicy": "Parallel"}));
        self
    }

    /// UID of the workload.
    pub fn uid(&self) -> &'static str {
        match self.kind {
            Kind::Deployment => "deploy-1",
            Kind::StatefulSet => "stateful-1",
            Kind::DaemonSet => "daemon-1",
        }
    }

    /// UID of the object that recorded the revision of this number.
    pub fn revision_uid(&self, number: usize) -> String {
        match self.kind {
            Kind::Deployment => format!("rs-{number}"),
            Kind::StatefulSet | Kind::DaemonSet => format!("cr-{number}"),
        }
    }

    /// Name of the object that recorded the revision of this number.
    fn revision_name(&self, number: usize) -> String {
        format!("checkout-{number}")
    }

    /// Adds pods of the revision of this number. Those of a StatefulSet get the next ordinals.
    pub fn pods(mut self, revision: usize, count: usize, status: &Value) -> WorkloadFixture {
        for index in 0..count {
            let (template, age) = &self.templates[revision - 1];
            let set = self.revision_name(revision);
            let (name, labels, owner, uid) = match self.kind {
                Kind::Deployment => {
                    let labels = json!({"app": "checkout", "pod-template-hash": format!("hash{revision}")});
                    (format!("{set}-{index}"), labels, ("ReplicaSet", set), self.revision_uid(revision))
                }
                Kind::StatefulSet => {
                    let labels = json!({"app": "checkout", "controller-revision-hash": set});
                    let owner = (self.kind.as_str(), "checkout".to_owned());
                    (format!("checkout-{}", self.pods.len()), labels, owner, self.uid().to_owned())
                }
                Kind::DaemonSet => {
                    let labels = json!({"app": "checkout", "controller-revision-hash": revision.to_string()});
                    let owner = (self.kind.as_str(), "checkout".to_owned());
                    (format!("{set}-{index}"), labels, owner, self.uid().to_owned())
                }
            };
            self.pods.push(json!({
                "metadata": {
                    "name": name, "namespace": "shop", "labels": labels,
                    "uid": format!("pod-{revision}-{index}"), "creationTimestamp": ago(*age),
                    "ownerReferences": [{"apiVersion": "apps/v1", "kind": owner.0, "controller": true,
                        "name": owner.1, "uid": uid}]
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
            "name": "checkout", "namespace": "shop", "uid": self.uid(), "generation": last, "annotations": {},
            "labels": {"app": "checkout"}
        });
        if self.kind == Kind::Deployment {
            metadata["annotations"]["deployment.kubernetes.io/revision"] = json!(last.to_string());
        }
        json_patch::merge(&mut metadata, &self.metadata);
        let mut spec =
            json!({"selector": {"matchLabels": {"app": "checkout"}}, "template": self.templates[last - 1].0});
        json_patch::merge(&mut spec, &self.spec_of_kind());
        json_patch::merge(&mut spec, &self.spec);
        let object = json!({"apiVersion": "apps/v1", "kind": self.kind.as_str(), "metadata": metadata, "spec": spec,
            "status": self.status()});
        let revisions = (1..=last).map(|number| self.revision(number)).collect();
        RawWorkload {
            object,
            owners: vec![],
            primary: None,
            rivals: vec![],
            revisions,
            pods: self.pods.clone(),
            refusals: self.refusals(),
            read_at: now(),
        }
    }

    fn refusals(&self) -> Refusals {
        match (&self.refused, self.kind) {
            (None, _) | (_, Kind::Deployment) => Refusals::Unknown,
            (Some(message), kind) => Refusals::Events(vec![failed_create(self.uid(), kind, message, 20)]),
        }
    }

    fn spec_of_kind(&self) -> Value {
        match self.kind {
            Kind::Deployment => json!({"replicas": self.replicas}),
            Kind::StatefulSet => json!({"replicas": self.replicas, "serviceName": "checkout",
                "podManagementPolicy": "OrderedReady",
                "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}}}),
            Kind::DaemonSet => json!({
                "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}}}),
        }
    }

    fn status(&self) -> Value {
        let last = self.templates.len();
        let ready = self.pods.iter().filter(|pod| is_ready(pod)).count();
        let updated = self.pods.iter().filter(|pod| self.is_of(pod, last)).count();
        match self.kind {
            Kind::Deployment => json!({"observedGeneration": last, "updatedReplicas": self.replicas,
                "replicas": self.pods.len(), "readyReplicas": ready, "availableReplicas": ready,
                "conditions": [{"type": "Progressing", "status": "True", "reason": "ReplicaSetUpdated"}]}),
            Kind::StatefulSet => json!({"observedGeneration": last, "updatedReplicas": updated,
                "replicas": self.pods.len(), "readyReplicas": ready, "availableReplicas": ready, "collisionCount": 0,
                "currentReplicas": self.pods.len() - updated, "currentRevision": self.revision_name(1),
                "updateRevision": self.revision_name(last)}),
            Kind::DaemonSet => json!({"observedGeneration": last, "updatedNumberScheduled": updated,
                "desiredNumberScheduled": self.replicas, "currentNumberScheduled": self.pods.len(),
                "numberMisscheduled": 0, "numberReady": ready, "numberAvailable": ready}),
        }
    }

    fn revision(&self, number: usize) -> Value {
        let (template, age) = &self.templates[number - 1];
        let mut template = template.clone();
        let mut revision = json!({"metadata": {
            "name": self.revision_name(number), "namespace": "shop", "uid": self.revision_uid(number),
            "creationTimestamp": ago(*age), "labels": {"app": "checkout"},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": self.kind.as_str(), "controller": true,
                "name": "checkout", "uid": self.uid()}]
        }});
        match self.kind {
            Kind::Deployment => {
                template["metadata"]["labels"]["pod-template-hash"] = json!(format!("hash{number}"));
                let ready = self.pods.iter().filter(|pod| is_ready(pod) && self.is_of(pod, number)).count();
                let annotations = json!({"deployment.kubernetes.io/revision": number.to_string()});
                revision["metadata"]["annotations"] = annotations;
                revision["spec"] = json!({"replicas": self.replicas, "template": template});
                revision["status"] = json!({"replicas": self.replicas, "readyReplicas": ready});
                if let Some(message) = self.refused.as_ref().filter(|_| number == self.templates.len()) {
                    revision["status"] = json!({"replicas": 0, "conditions": [{"type": "ReplicaFailure",
                        "status": "True", "reason": "FailedCreate", "message": message,
                        "lastTransitionTime": ago(100)}]});
                }
            }
            Kind::StatefulSet | Kind::DaemonSet => {
                let hash = if self.kind == Kind::DaemonSet {
                    "controller-revision-hash"
                } else {
                    "controller.kubernetes.io/hash"
                };
                template["$patch"] = json!("replace");
                revision["metadata"]["labels"][hash] = json!(number.to_string());
                revision["revision"] = json!(number);
                revision["data"] = json!({"spec": {"template": template}});
            }
        }
        revision
    }

    /// Whether a pod runs the revision of this number.
    fn is_of(&self, pod: &Value, number: usize) -> bool {
        let (pointer, expected) = match self.kind {
            Kind::Deployment => ("/metadata/ownerReferences/0/uid", self.revision_uid(number)),
            Kind::StatefulSet => ("/metadata/labels/controller-revision-hash", self.revision_name(number)),
            Kind::DaemonSet => ("/metadata/labels/controller-revision-hash", number.to_string()),
        };
        pod.pointer(pointer).and_then(Value::as_str) == Some(&expected)
    }
}

/// An Event of so many seconds ago: a controller could not create a pod.
pub fn failed_create(uid: &str, kind: Kind, message: &str, age: i64) -> Value {
    json!({"type": "Warning", "reason": "FailedCreate", "note": message, "deprecatedLastTimestamp": ago(age),
        "deprecatedCount": 4, "regarding": {"apiVersion": "apps/v1", "kind": kind.as_str(), "namespace": "shop",
            "name": "checkout", "uid": uid}})
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    conditions.into_iter().flatten().any(|c| c["type"] == "Ready" && c["status"] == "True")
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

/// Waiting for this reason, with these words of the kubelet.
pub fn waiting_because(reason: &str, message: &str) -> Value {
    let mut status = waiting(reason);
    status["containerStatuses"][0]["state"]["waiting"]["message"] = json!(message);
    status
}

/// A container whose command is not in its image, as the kubelet shows it: it "started" in 1970.
pub fn never_started() -> Value {
    status(
        "Running",
        false,
        100,
        &json!({"ready": false, "started": false, "restartCount": 3,
        "state": {"waiting": {"reason": "RunContainerError", "message": NOT_IN_THE_IMAGE}},
        "lastState": {"terminated": {"exitCode": 127, "reason": "StartError", "message": NOT_IN_THE_IMAGE,
            "startedAt": "1970-01-01T00:00:00Z", "finishedAt": ago(10)}}}),
    )
}

/// What containerd 2 says of a command that is not in the image.
pub const NOT_IN_THE_IMAGE: &str = "failed to create containerd task: failed to create shim task: OCI runtime create \
    failed: runc create failed: unable to start container process: error during container init: exec: \
    \"/usr/local/bin/catalog-server\": stat /usr/local/bin/catalog-server: no such file or directory";

/// A pod that no node takes since so many seconds, with the words of the scheduler.
pub fn unschedulable(message: &str, since: i64) -> Value {
    json!({"phase": "Pending", "conditions": [
        {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message,
            "lastTransitionTime": ago(since)}]})
}

/// A pod whose node cannot prepare it since so many seconds.
pub fn stuck_creating(since: i64) -> Value {
    let mut status = waiting("ContainerCreating");
    status["conditions"] = json!([
        {"type": "PodReadyToStartContainers", "status": "False", "lastTransitionTime": ago(since)},
        {"type": "PodScheduled", "status": "True", "lastTransitionTime": ago(since)},
        {"type": "Ready", "status": "False", "reason": "ContainersNotReady", "lastTransitionTime": ago(since)}]);
    status
}

/// A pod whose init container `init` runs for so many seconds.
pub fn in_init(up: i64) -> Value {
    let mut status = waiting("PodInitializing");
    status["initContainerStatuses"] = json!([{"name": "init", "ready": false, "started": true, "restartCount": 0,
        "state": {"running": {"startedAt": ago(up)}}}]);
    status
}

/// A container that its liveness probe ended after so many seconds, and that is up again and ready since three.
pub fn ended_by_liveness(ran: i64) -> Value {
    status(
        "Running",
        true,
        3,
        &json!({"ready": true, "started": true, "restartCount": 1, "state": {"running": {"startedAt": ago(3)}},
        "lastState": {"terminated": {"exitCode": 137, "reason": "Error", "startedAt": ago(5 + ran), "finishedAt": ago(5)}}}),
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

/// What a Kubernetes 1.34.4 said of a workload, from `testdata`: see the README there.
pub fn recorded(json: &str) -> RawWorkload {
    let mut recorded: Value = serde_json::from_str(json).unwrap();
    let mut list = |name: &str| serde_json::from_value::<Vec<Value>>(recorded[name].take()).unwrap();
    let (revisions, pods) = (list("revisions"), list("pods"));
    let read_at = recorded["readAt"].as_str().unwrap().parse().unwrap();
    RawWorkload {
        object: recorded["object"].take(),
        owners: vec![],
        primary: None,
        rivals: vec![],
        revisions,
        pods,
        refusals: Refusals::Unknown,
        read_at,
    }
}

/// A StatefulSet whose third revision cannot pull its image, before a rollback.
pub const STATEFUL_SET_BROKEN: &str = include_str!("testdata/statefulset-broken.json");
/// The same after `kubectl rollout undo --to-revision=1`: its controller has seen it, and `ledger-2` is stuck.
pub const STATEFUL_SET_UNDONE: &str = include_str!("testdata/statefulset-undone.json");
/// The same with two pods stuck.
pub const STATEFUL_SET_TWO_STUCK: &str = include_str!("testdata/statefulset-twostuck.json");
/// The same with partition 2, of which the one pod above is of the current revision.
pub const STATEFUL_SET_PARTITION: &str = include_str!("testdata/statefulset-partition.json");
/// A DaemonSet whose third revision cannot pull its image.
pub const DAEMON_SET_BROKEN: &str = include_str!("testdata/daemonset-broken.json");
/// The same after `kubectl rollout undo --to-revision=1`.
pub const DAEMON_SET_UNDONE: &str = include_str!("testdata/daemonset-undone.json");
