//! Does a changed template explain how its pods fail? The one table of which failure depends on which fields; rules and
//! gate both ask here.
//!
//! A change explains a failure when it changes a field that this kind of failure depends on, in the container that
//! fails or in the pod. Where scheduler, kubelet or API server name fields, these count and no others. What both
//! templates need and does not exist, and what no template put there, is not explained by a difference.

use std::collections::BTreeSet;

use serde_json::Value;

use super::references::needs;
use crate::api::v1alpha1::{
    FieldChange, Obstacle, PodFact, PodFailure, Reference, RevisionFact, TemplateField as Field,
};

/// Fields by which a container that starts can end.
const CRASH: &[Field] = &[
    Field::Image,
    Field::Command,
    Field::Environment,
    Field::Resources,
    Field::Mounts,
    Field::Volumes,
    Field::SecurityContext,
    Field::Probes,
    Field::HostNamespaces,
    Field::Network,
    Field::ServiceAccount,
    Field::Runtime,
];
/// Fields by which a container that runs can fail its probes.
const PROBE: &[Field] = &[
    Field::Image,
    Field::Command,
    Field::Environment,
    Field::Resources,
    Field::Mounts,
    Field::Volumes,
    Field::SecurityContext,
    Field::Probes,
    Field::Ports,
    Field::HostNamespaces,
    Field::Network,
    Field::ServiceAccount,
    Field::Runtime,
];

/// The fields of a pod template that this kind of failure depends on.
pub fn fields(failure: PodFailure) -> &'static [Field] {
    match failure {
        PodFailure::CrashLoop | PodFailure::InitNotEnding => CRASH,
        PodFailure::ProbeFailing | PodFailure::LivenessFailing | PodFailure::NeverReady => PROBE,
        PodFailure::OutOfMemory => &[
            Field::Image,
            Field::Command,
            Field::Environment,
            Field::Resources,
            Field::Mounts,
            Field::Volumes,
            Field::Runtime,
        ],
        PodFailure::ImagePull => &[Field::Image, Field::ImagePull, Field::ServiceAccount],
        PodFailure::ConfigError => {
            &[Field::Environment, Field::Mounts, Field::Volumes, Field::SecurityContext, Field::Image]
        }
        PodFailure::StartError => &[
            Field::Image,
            Field::Command,
            Field::Environment,
            Field::Resources,
            Field::Mounts,
            Field::Volumes,
            Field::SecurityContext,
            Field::Ports,
            Field::HostNamespaces,
            Field::Runtime,
        ],
        PodFailure::StuckCreating => &[
            Field::Mounts,
            Field::Volumes,
            Field::SecurityContext,
            Field::Ports,
            Field::HostNamespaces,
            Field::ServiceAccount,
            Field::Runtime,
        ],
        PodFailure::Unschedulable => &[
            Field::Resources,
            Field::Volumes,
            Field::Ports,
            Field::HostNamespaces,
            Field::NodeSelection,
            Field::PodAffinity,
            Field::Tolerations,
            Field::TopologySpread,
            Field::Priority,
            Field::Runtime,
        ],
        PodFailure::Refused => &[
            Field::Image,
            Field::ImagePull,
            Field::Command,
            Field::Environment,
            Field::Resources,
            Field::Mounts,
            Field::Volumes,
            Field::SecurityContext,
            Field::Probes,
            Field::Ports,
            Field::HostNamespaces,
            Field::Network,
            Field::ServiceAccount,
            Field::NodeSelection,
            Field::PodAffinity,
            Field::Tolerations,
            Field::TopologySpread,
            Field::Priority,
            Field::Runtime,
            Field::Metadata,
            Field::Other,
        ],
        PodFailure::Starting | PodFailure::None => &[],
    }
}

/// Fields by which a template names other objects.
const REFERENCES: &[Field] =
    &[Field::Environment, Field::Mounts, Field::Volumes, Field::ServiceAccount, Field::Priority, Field::Runtime];

/// Whether the data of a ConfigMap or Secret can make pods fail so.
pub fn configuration_can_cause(failure: PodFailure) -> bool {
    match failure {
        PodFailure::CrashLoop
        | PodFailure::OutOfMemory
        | PodFailure::ConfigError
        | PodFailure::StartError
        | PodFailure::ProbeFailing
        | PodFailure::LivenessFailing
        | PodFailure::InitNotEnding
        | PodFailure::StuckCreating
        | PodFailure::NeverReady => true,
        PodFailure::ImagePull
        | PodFailure::Unschedulable
        | PodFailure::Refused
        | PodFailure::Starting
        | PodFailure::None => false,
    }
}

/// Whether pods that fail so wait for something that does not exist, or may.
pub fn waits_for_objects(failure: PodFailure) -> bool {
    match failure {
        PodFailure::ConfigError
        | PodFailure::StuckCreating
        | PodFailure::NeverReady
        | PodFailure::Unschedulable
        | PodFailure::Refused => true,
        PodFailure::CrashLoop
        | PodFailure::OutOfMemory
        | PodFailure::StartError
        | PodFailure::ProbeFailing
        | PodFailure::LivenessFailing
        | PodFailure::InitNotEnding
        | PodFailure::ImagePull
        | PodFailure::Starting
        | PodFailure::None => false,
    }
}

/// One way in which pods of a revision fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trouble<'a> {
    /// How.
    pub failure: PodFailure,
    /// The container that fails; empty when it is the pod.
    pub container: &'a str,
    /// What is said to be in the way.
    pub obstacle: Option<&'a Obstacle>,
}

impl<'a> Trouble<'a> {
    /// That of a pod; `None` when it does not fail in a way that a template can cause.
    pub fn of_pod(pod: &'a PodFact) -> Option<Trouble<'a>> {
        let PodFact { failure, container, obstacle, .. } = pod;
        failure.is_hard().then_some(Trouble { failure: *failure, container, obstacle: obstacle.as_ref() })
    }

    /// That of a revision whose pods are refused.
    pub fn of_revision(revision: &'a RevisionFact) -> Option<Trouble<'a>> {
        let obstacle = revision.refused.as_ref()?;
        Some(Trouble { failure: PodFailure::Refused, container: "", obstacle: Some(obstacle) })
    }
}

/// Why a difference of templates does not explain a failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unexplained {
    /// The failing container is not in the template: something adds it to the pods.
    Injected(String),
    /// Both templates need this, and it does not exist.
    Shared(Reference),
    /// Whoever says what is in the way names nothing of the template.
    Outside,
    /// No field that this failure depends on differs.
    OtherFields,
}

/// The changes from the revision `earlier` to `current` that explain a failure of pods of `current`.
pub fn explain<'a>(
    trouble: &Trouble<'_>,
    current: &RevisionFact,
    earlier: &RevisionFact,
    changes: &'a [FieldChange],
) -> Result<Vec<&'a FieldChange>, Unexplained> {
    let Trouble { failure, container, obstacle } = *trouble;
    if !container.is_empty() && !current.containers.iter().any(|own| own == container) {
        return Err(Unexplained::Injected(container.to_owned()));
    }
    let missing = obstacle.and_then(|obstacle| obstacle.missing.as_ref());
    if let Some(missing) = missing.filter(|missing| needs(&earlier.references, missing)) {
        return Err(Unexplained::Shared(missing.clone()));
    }
    let named = obstacle.map(|obstacle| obstacle.fields.as_slice()).unwrap_or_default();
    if named.contains(&Field::Outside) {
        return Err(Unexplained::Outside);
    }
    let depends = match (missing, named) {
        (Some(_), _) => REFERENCES,
        (None, []) => fields(failure),
        (None, named) => named,
    };
    let scarce = obstacle.map(|obstacle| obstacle.resources.as_slice()).unwrap_or_default();
    let touching = |change: &FieldChange, depends: &[Field]| {
        let Changed { fields, place } = Changed::of(&change.path);
        let mut touched = fields.iter().filter(|field| depends.contains(field));
        let here = match place {
            Place::Pod | Place::InitContainer => true,
            Place::Container(name) => container.is_empty() || name == container,
        };
        // Asking for less of what is scarce is no reason.
        let resources_count = scarce.is_empty() || asks_for_more(change, scarce);
        here && touched.any(|field| *field != Field::Resources || resources_count)
    };
    let effective: Vec<&FieldChange> = changes.iter().filter(|change| !carries_hash(change)).collect();
    let found: Vec<&FieldChange> = effective.iter().copied().filter(|change| touching(change, depends)).collect();
    // A refusal names all that is wrong: what was wrong before would be refused again.
    let all_named = failure != PodFailure::Refused
        || named.iter().all(|field| found.iter().any(|change| touching(change, set_by(field))));
    if found.is_empty() || !all_named { Err(Unexplained::OtherFields) } else { Ok(found) }
}

/// The fields that can have set what is refused: with the network of the node, the API server makes a host port of each
/// port of a container.
fn set_by(field: &Field) -> &[Field] {
    match field {
        Field::Ports => &[Field::Ports, Field::HostNamespaces],
        field => std::slice::from_ref(field),
    }
}

/// Where a change lies.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    /// In the pod, or all over the template.
    Pod,
    /// In an init container: what it leaves behind is what the others start from.
    InitContainer,
    /// In this container.
    Container(String),
}

/// What a changed path is about.
struct Changed {
    fields: BTreeSet<Field>,
    place: Place,
}

impl Changed {
    fn of(path: &str) -> Changed {
        let parts: Vec<String> =
            path.split('/').skip(1).map(|part| part.replace("~1", "/").replace("~0", "~")).collect();
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        let pod = |fields: &[Field]| Changed { fields: fields.iter().copied().collect(), place: Place::Pod };
        match parts.as_slice() {
            [] | ["spec"] => pod(fields(PodFailure::Refused)),
            ["metadata", ..] => pod(&[Field::Metadata]),
            // A container that came or went can take from or leave something to every other.
            ["spec", "containers" | "initContainers"] | ["spec", "containers" | "initContainers", _] => {
                pod(fields(PodFailure::Refused))
            }
            ["spec", "initContainers", _, field, ..] => {
                Changed { fields: BTreeSet::from([of_container(field)]), place: Place::InitContainer }
            }
            ["spec", "containers", name, field, ..] => {
                let place = Place::Container((*name).to_owned());
                Changed { fields: BTreeSet::from([of_container(field)]), place }
            }
            ["spec", "affinity", "nodeAffinity", ..] => pod(&[Field::NodeSelection]),
            ["spec", "affinity", _, ..] => pod(&[Field::PodAffinity]),
            ["spec", "affinity"] => pod(&[Field::NodeSelection, Field::PodAffinity]),
            ["spec", field, ..] => pod(&[of_pod(field)]),
            _ => pod(&[Field::Other]),
        }
    }
}

fn of_container(field: &str) -> Field {
    match field {
        "image" => Field::Image,
        "imagePullPolicy" => Field::ImagePull,
        "command" | "args" | "workingDir" | "lifecycle" | "restartPolicy" | "stdin" | "stdinOnce" | "tty" => {
            Field::Command
        }
        "env" | "envFrom" => Field::Environment,
        "resources" | "resizePolicy" => Field::Resources,
        "volumeMounts" | "volumeDevices" => Field::Mounts,
        "securityContext" => Field::SecurityContext,
        "livenessProbe" | "readinessProbe" | "startupProbe" => Field::Probes,
        "ports" => Field::Ports,
        _ => Field::Other,
    }
}

fn of_pod(field: &str) -> Field {
    match field {
        "volumes" => Field::Volumes,
        "securityContext" => Field::SecurityContext,
        "imagePullSecrets" => Field::ImagePull,
        "hostNetwork" | "hostPID" | "hostIPC" | "hostUsers" | "shareProcessNamespace" => Field::HostNamespaces,
        "dnsPolicy" | "dnsConfig" | "hostAliases" | "hostname" | "subdomain" | "setHostnameAsFQDN"
        | "hostnameOverride" | "enableServiceLinks" => Field::Network,
        "serviceAccountName" | "serviceAccount" | "automountServiceAccountToken" => Field::ServiceAccount,
        "nodeSelector" | "nodeName" | "schedulerName" => Field::NodeSelection,
        "tolerations" => Field::Tolerations,
        "topologySpreadConstraints" => Field::TopologySpread,
        "priorityClassName" | "priority" | "preemptionPolicy" => Field::Priority,
        "runtimeClassName" | "overhead" | "os" => Field::Runtime,
        "readinessGates" => Field::Probes,
        "resources" | "resourceClaims" => Field::Resources,
        _ => Field::Other,
    }
}

/// Whether a change of resources can make one of these scarce: it asks for more of one of them, or names or leaves out
/// a bound of it. Where amounts cannot be compared, any difference counts.
fn asks_for_more(change: &FieldChange, scarce: &[String]) -> bool {
    let last = change.path.rsplit('/').next().unwrap_or_default().replace("~1", "/");
    if !scarce.contains(&last) {
        // A whole map, a container that came: it may hold any of them.
        return scarce.iter().any(|name| change.after.contains(name.as_str()) || change.before.contains(name.as_str()));
    }
    match (amount(&change.before), amount(&change.after)) {
        (Some(before), Some(after)) => after > before,
        _ => true,
    }
}

/// A quantity of Kubernetes as a number, near enough to compare two.
fn amount(text: &str) -> Option<f64> {
    const UNITS: &[(&str, f64)] = &[
        ("Ki", 1024.0),
        ("Mi", 1_048_576.0),
        ("Gi", 1_073_741_824.0),
        ("Ti", 1_099_511_627_776.0),
        ("Pi", 1_125_899_906_842_624.0),
        ("Ei", 1_152_921_504_606_846_976.0),
        ("n", 1e-9),
        ("u", 1e-6),
        ("m", 1e-3),
        ("k", 1e3),
        ("M", 1e6),
        ("G", 1e9),
        ("T", 1e12),
        ("P", 1e15),
        ("E", 1e18),
    ];
    let unit = UNITS.iter().find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, *factor)));
    let (number, factor) = unit.unwrap_or((text, 1.0));
    number.parse::<f64>().ok().filter(|number| number.is_finite()).map(|number| number * factor)
}

/// Parts of names of annotations, labels and variables that carry a hash, in lower case.
const HASH_NAMES: &[&str] = &["checksum", "hash", "sha256", "sha1", "md5", "digest", "fingerprint"];
/// Names that restart pods when a ConfigMap or Secret changed, whatever their value looks like.
const RELOAD_NAMES: &[&str] = &["reloader.stakater.com", "last-reloaded", "restartedat", "restarted-at"];
/// Prefix of the variables that Reloader sets to the hash of a ConfigMap or Secret.
const RELOADER_VARIABLE: &str = "STAKATER_";

/// Whether a change only carries a hash or a time that is there to restart the pods: what the hash is of lies outside
/// of the template, and returning to the old hash brings nothing of it back.
pub fn carries_hash(change: &FieldChange) -> bool {
    let parts: Vec<String> =
        change.path.split('/').skip(1).map(|part| part.replace("~1", "/").replace("~0", "~")).collect();
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    match parts.as_slice() {
        ["metadata", "annotations" | "labels", name] => is_hash_mark(name, &change.before, &change.after),
        // The first annotation, or the last one that went.
        ["metadata", "annotations" | "labels"] => {
            let entries = |text: &str| serde_json::from_str::<serde_json::Map<String, Value>>(text).unwrap_or_default();
            let all: Vec<(String, Value)> = entries(&change.before).into_iter().chain(entries(&change.after)).collect();
            let mark = |(name, value): &(String, Value)| is_hash_mark(name, "", value.as_str().unwrap_or_default());
            !all.is_empty() && all.iter().all(mark)
        }
        ["spec", "containers" | "initContainers", _, "env", name, "value"] => {
            name.starts_with(RELOADER_VARIABLE)
                || names_hash(name) && [&change.before, &change.after].iter().all(|value| may_be_hash(value))
        }
        _ => false,
    }
}

/// Whether templates differ in nothing but hashes of configuration, and labels and annotations beside them.
pub fn only_configuration(changes: &[FieldChange]) -> bool {
    let beside = |change: &FieldChange| carries_hash(change) || change.path.starts_with("/metadata/");
    changes.iter().any(carries_hash) && changes.iter().all(beside)
}

fn names_hash(name: &str) -> bool {
    let name = name.to_lowercase();
    HASH_NAMES.iter().any(|word| name.contains(word)) || name.ends_with("_sha")
}

fn is_hash_mark(name: &str, before: &str, after: &str) -> bool {
    let lower = name.to_lowercase();
    if RELOAD_NAMES.iter().any(|word| lower.contains(word)) {
        return true;
    }
    let all = [before, after].iter().all(|value| may_be_hash(value));
    all && (names_hash(name) || [before, after].iter().any(|value| value.len() >= 16))
}

/// Hexadecimal text with a letter, or Base64 as long as a hash. What is not there may be one.
fn may_be_hash(value: &str) -> bool {
    let value = value.rsplit_once(':').map_or(value, |(_, hash)| hash);
    let hexadecimal = value.bytes().all(|c| c.is_ascii_hexdigit());
    let letters = value.bytes().any(|c| c.is_ascii_alphabetic());
    let digits = value.bytes().any(|c| c.is_ascii_digit());
    let base64 = value.bytes().all(|c| c.is_ascii_alphanumeric() || b"+/=_-".contains(&c));
    value.is_empty()
        || (hexadecimal && letters && value.len() >= 7)
        || (base64 && letters && digits && value.len() >= 27)
}

#[cfg(test)]
#[path = "explains_tests.rs"]
mod tests;
