//! Releases that people ship, good and bad.

use serde_json::{Value, json};

/// How a release is bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// It is not.
    Good,
    /// A malformed setting: the program ends at its start.
    CrashLoop,
    /// An image that was never pushed.
    ImagePull,
    /// The readiness probe asks a path that is not there.
    FailingProbe,
    /// A ConfigMap that nobody created.
    MissingConfig,
    /// A label that no node has.
    Unschedulable,
    /// More memory than the namespace's LimitRange allows.
    TooLarge,
    /// The network of the node, which the namespace's pod security does not allow.
    HostNetwork,
    /// A volume of a ConfigMap that nobody created.
    MissingVolume,
    /// A command that is not in the image.
    MissingCommand,
    /// An init container that serves instead of ending.
    EndlessInit,
    /// A liveness probe that ends a container after half a minute in which all was well.
    LateLiveness,
    /// More processors than any node has.
    TooManyProcessors,
    /// A device that no node has.
    MissingDevice,
    /// A label that no node has, asked for by affinity.
    NodeAffinity,
    /// Wants to be far from itself, and there is no such place.
    AntiAffinity,
    /// A claim that nobody made.
    MissingClaim,
    /// A volume of a Secret that nobody made.
    MissingSecret,
    /// A scheduler that does not run.
    MissingScheduler,
    /// A startup probe that never succeeds and grants minutes.
    NeverStarted,
}

impl Release {
    /// What it changes in the Deployment `name`.
    pub fn patch(self, name: &str) -> Value {
        let container = match self {
            Release::Good => json!({"env": [{"name": "SHOP_VERSION", "value": "v2"}]}),
            Release::CrashLoop => json!({"env": [{"name": "SHOP_TAX_RATE", "value": "19%"}]}),
            Release::ImagePull => json!({"image": "backstop.local/shop:absent"}),
            Release::FailingProbe => json!({"readinessProbe": {"httpGet": {"path": "/health", "port": "http"}}}),
            Release::MissingConfig => json!({"envFrom": [{"configMapRef": {"name": "absent"}}]}),
            Release::TooLarge => json!({"resources": {"limits": {"memory": "256Mi"}}}),
            Release::MissingVolume | Release::MissingClaim | Release::MissingSecret => {
                json!({"volumeMounts": [{"name": "absent", "mountPath": "/etc/absent"}]})
            }
            Release::TooManyProcessors => json!({"resources": {"requests": {"cpu": "1000"}}}),
            Release::MissingDevice => json!({"resources": {"limits": {"example.com/device": "1"}}}),
            Release::NeverStarted => json!({"startupProbe": {
                "httpGet": {"path": "/absent", "port": "http"}, "periodSeconds": 1, "failureThreshold": 1000,
            }}),
            Release::MissingCommand => json!({"command": ["/usr/local/bin/absent"]}),
            Release::LateLiveness => json!({"livenessProbe": {
                "httpGet": {"path": "/health", "port": "http"}, "initialDelaySeconds": 30, "periodSeconds": 5,
                "failureThreshold": 2,
            }}),
            Release::Unschedulable
            | Release::HostNetwork
            | Release::EndlessInit
            | Release::NodeAffinity
            | Release::AntiAffinity
            | Release::MissingScheduler => json!({}),
        };
        let mut container = container;
        container["name"] = json!(name);
        let mut pod = match self {
            Release::Unschedulable => json!({"nodeSelector": {"suite.backstop.dev/absent": "yes"}}),
            Release::HostNetwork => json!({"hostNetwork": true}),
            Release::MissingVolume => json!({"volumes": [{"name": "absent", "configMap": {"name": "absent"}}]}),
            Release::MissingSecret => json!({"volumes": [{"name": "absent", "secret": {"secretName": "absent"}}]}),
            Release::MissingClaim => {
                json!({"volumes": [{"name": "absent", "persistentVolumeClaim": {"claimName": "absent"}}]})
            }
            Release::MissingScheduler => json!({"schedulerName": "suite-absent"}),
            Release::NodeAffinity => json!({"affinity": {"nodeAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchExpressions": [
                    {"key": "suite.backstop.dev/absent", "operator": "Exists"},
                ]}]},
            }}}),
            // All nodes are one place.
            Release::AntiAffinity => json!({"affinity": {"podAntiAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": [{
                    "topologyKey": "kubernetes.io/os",
                    "labelSelector": {"matchLabels": {"app.kubernetes.io/name": name}},
                }],
            }}}),
            Release::EndlessInit => json!({"initContainers": [{
                "name": "wait", "image": "backstop.local/shop:dev", "imagePullPolicy": "IfNotPresent",
                "args": ["prices"],
            }]}),
            _ => json!({}),
        };
        pod["containers"] = json!([container]);
        json!({"spec": {"template": {"spec": pod}}})
    }
}
