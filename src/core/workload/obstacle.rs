//! What the scheduler, the kubelet and the API server say is in the way of a pod, as fields of its template.
//!
//! Their sentences are read here once, and nowhere else: rules and checks see the typed fields. Words that are not
//! understood name no field.

use std::sync::LazyLock;

use regex::Regex;

use crate::api::v1alpha1::{Obstacle, Reference, ReferenceKind, TemplateField as Field};
use crate::core::kube_name::is_subdomain;
use crate::core::redact;

/// The longest message that is kept, in bytes.
const MAX_MESSAGE: usize = 512;
/// Text beyond this is not looked at, in bytes.
const MAX_INPUT: usize = 4096;
/// Resources that are kept.
const MAX_RESOURCES: usize = 8;

/// Words, in lower case, and the fields that they are about.
const WORDS: &[(&str, &[Field])] = &[
    // The scheduler, for each node: pkg/scheduler/framework/plugins.
    ("didn't match pod's node affinity/selector", &[Field::NodeSelection]),
    ("didn't match the requested node name", &[Field::NodeSelection]),
    ("had untolerated taint", &[Field::Tolerations]),
    ("didn't match pod affinity rules", &[Field::PodAffinity]),
    ("didn't match pod anti-affinity rules", &[Field::PodAffinity]),
    ("didn't satisfy existing pods anti-affinity rules", &[Field::PodAffinity]),
    ("didn't match pod topology spread constraints", &[Field::TopologySpread]),
    ("didn't have free ports for the requested pod ports", &[Field::Ports, Field::HostNamespaces]),
    ("persistentvolumeclaim", &[Field::Volumes]),
    ("volume node affinity conflict", &[Field::Volumes]),
    ("no available volume zone", &[Field::Volumes]),
    ("exceed max volume count", &[Field::Volumes]),
    ("persistent volumes to bind", &[Field::Volumes]),
    ("non-existent pv(s)", &[Field::Volumes]),
    ("cannot allocate all claims", &[Field::Resources]),
    ("too many pods", &[Field::Outside]),
    // Pod security, when a pod is created: staging/src/k8s.io/pod-security-admission/policy.
    ("host namespaces (", &[Field::HostNamespaces]),
    ("hostport (", &[Field::Ports]),
    ("hostpath volumes (", &[Field::Volumes]),
    ("restricted volume types (", &[Field::Volumes]),
    ("privileged (", &[Field::SecurityContext]),
    ("allowprivilegeescalation != false", &[Field::SecurityContext]),
    ("unrestricted capabilities (", &[Field::SecurityContext]),
    ("non-default capabilities (", &[Field::SecurityContext]),
    ("runasnonroot != true", &[Field::SecurityContext]),
    ("runasuser=0 (", &[Field::SecurityContext]),
    ("seccompprofile (", &[Field::SecurityContext]),
    ("forbidden sysctls (", &[Field::SecurityContext]),
    ("seloptions (", &[Field::SecurityContext]),
    ("procmount (", &[Field::SecurityContext]),
    ("hostprocess (", &[Field::SecurityContext]),
    // Other admission of pods.
    ("usage per container is ", &[Field::Resources]),
    ("usage per pod is ", &[Field::Resources]),
    ("limit to request ratio per ", &[Field::Resources]),
    ("error looking up service account", &[Field::ServiceAccount]),
    ("no priorityclass with name", &[Field::Priority]),
    ("runtimeclass", &[Field::Runtime]),
    ("failed calling webhook", &[Field::Outside]),
    ("because it is being terminated", &[Field::Outside]),
    // The kubelet.
    ("secret \"", &[Field::Environment, Field::Mounts, Field::Volumes]),
    ("configmap \"", &[Field::Environment, Field::Mounts, Field::Volumes]),
    ("couldn't find key ", &[Field::Environment, Field::Mounts, Field::Volumes]),
    ("references non-existent config key", &[Field::Mounts, Field::Volumes]),
    ("references non-existent secret key", &[Field::Mounts, Field::Volumes]),
    ("runasnonroot and image", &[Field::SecurityContext, Field::Image]),
    ("breaks non-root policy", &[Field::SecurityContext, Field::Image]),
    ("mountvolume.", &[Field::Mounts, Field::Volumes]),
    ("unable to attach or mount volumes", &[Field::Mounts, Field::Volumes]),
    ("failed to create pod sandbox", &[Field::Outside]),
];

/// Signs of a node that went away, is cordoned or is in need. What the others say then is what is left of the cluster,
/// not what the template asked for.
const NODES_IN_TROUBLE: &[&str] =
    &["taint {node.kubernetes.io/", "taint(s) {node.kubernetes.io/", "were unschedulable"];

struct Patterns {
    missing: Regex,
    key: Regex,
    class: Regex,
    insufficient: Regex,
    quota: Regex,
    quantity: Regex,
    unset: Regex,
    maximum: Regex,
}

#[expect(clippy::expect_used, reason = "constant expressions, compiled by a test")]
static PATTERNS: LazyLock<Patterns> = LazyLock::new(|| {
    let regex = |pattern: &str| Regex::new(pattern).expect("a constant expression compiles");
    Patterns {
        missing: regex(
            r#"(?i)\b(secret|configmap|serviceaccount|persistentvolumeclaim|runtimeclass(?:\.node\.k8s\.io)?) "([^"]{1,253})" not found"#,
        ),
        key: regex(r"couldn't find key ([-._A-Za-z0-9]{1,253}) in (Secret|ConfigMap) [^/\s]{1,63}/([^\s,]{1,253})"),
        class: regex(r"no PriorityClass with name (\S{1,253}) was found"),
        insufficient: regex(r"Insufficient ([A-Za-z0-9./-]{1,128})"),
        quota: regex(r"exceeded quota: [^,]{1,253}, requested: (.{1,1024}?), used: "),
        quantity: regex(r"(?:^|,)\s*([A-Za-z0-9./-]{1,128})="),
        unset: regex(r"failed quota: .{1,300}?must specify "),
        maximum: regex(r"maximum ([A-Za-z0-9./-]{1,128}) usage per "),
    }
});

/// What is in a pod's way, by what somebody of the cluster says; `None` when nobody says anything.
pub fn words(text: &str) -> Option<Obstacle> {
    let text = text[..text.floor_char_boundary(MAX_INPUT)].trim();
    if text.is_empty() {
        return None;
    }
    // What follows is about making room, not about this pod.
    let about = text.split(" preemption: ").next().unwrap_or(text);
    let lower = about.to_lowercase();
    let mut fields: Vec<Field> = Vec::new();
    let mut resources: Vec<String> = Vec::new();
    if NODES_IN_TROUBLE.iter().any(|sign| lower.contains(sign)) {
        fields.push(Field::Outside);
    } else {
        let named = WORDS.iter().filter(|(words, _)| lower.contains(words));
        fields.extend(named.flat_map(|(_, fields)| fields.iter().copied()));
        scarce(about, &mut fields, &mut resources);
    }
    fields.sort();
    fields.dedup();
    Some(Obstacle { message: redact::text(text, MAX_MESSAGE), fields, resources, missing: missing(about) })
}

/// The same, where the words are understood.
pub fn obstacle(text: &str) -> Option<Obstacle> {
    words(text).filter(|found| !found.fields.is_empty() || found.missing.is_some())
}

/// Resources that no node has left, or that a quota or a range does not allow.
fn scarce(text: &str, fields: &mut Vec<Field>, resources: &mut Vec<String>) {
    let p = &*PATTERNS;
    // Too little, or nothing at all: any change of resources may be it.
    if p.unset.is_match(text) {
        fields.push(Field::Resources);
    }
    let first = |found: regex::Captures<'_>| found.get(1).map_or(0..0, |group| group.range());
    let mut named: Vec<&str> = Vec::new();
    for pattern in [&p.insufficient, &p.maximum] {
        named.extend(pattern.captures_iter(text).map(|found| &text[first(found)]));
    }
    let requested = p.quota.captures(text).map(|found| &text[first(found)]);
    named.extend(requested.iter().flat_map(|list| p.quantity.captures_iter(list).map(|found| &list[first(found)])));
    for name in named {
        let name = name.trim_start_matches("requests.").trim_start_matches("limits.").trim_end_matches(['.', ',']);
        // A number of objects is no resource that a template asks for.
        if name == "pods" || name.starts_with("count/") {
            fields.push(Field::Outside);
        } else if !name.is_empty() {
            fields.push(Field::Resources);
            if resources.len() < MAX_RESOURCES && !resources.iter().any(|known| known == name) {
                resources.push(name.to_owned());
            }
        }
    }
}

/// The object that the words say does not exist.
fn missing(text: &str) -> Option<Reference> {
    let p = &*PATTERNS;
    let kind = |word: &str| match word.to_lowercase().as_str() {
        "secret" => ReferenceKind::Secret,
        "configmap" => ReferenceKind::ConfigMap,
        "serviceaccount" => ReferenceKind::ServiceAccount,
        "persistentvolumeclaim" => ReferenceKind::PersistentVolumeClaim,
        _ => ReferenceKind::RuntimeClass,
    };
    let object = || {
        let found = p.missing.captures(text)?;
        Some(Reference { kind: kind(&found[1]), name: found[2].to_owned(), key: None })
    };
    let key = || {
        let found = p.key.captures(text)?;
        Some(Reference { kind: kind(&found[2]), name: found[3].to_owned(), key: Some(found[1].to_owned()) })
    };
    let class = || {
        let found = p.class.captures(text)?;
        Some(Reference { kind: ReferenceKind::PriorityClass, name: found[1].to_owned(), key: None })
    };
    // A template may name anything; what is no name of an object is text of a tenant.
    object().or_else(key).or_else(class).filter(|reference| is_subdomain(&reference.name))
}

#[cfg(test)]
#[path = "obstacle_tests.rs"]
mod tests;
