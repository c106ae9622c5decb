//! The admission policies in short. `conformance` holds them to the API server, which has the real ones.

use serde_json::Value;

use super::Model;
use crate::{
    api::v1alpha1::{ActionKind, EvictWrite, Grant, Write},
    core::{
        actions,
        execution::{PolicyName, Request, Resource},
        names, object,
        workload::{Kind, recorded_template},
    },
};

type Refusal = (&'static str, String);

fn label<'a>(object: &'a Value, key: &str) -> &'a str {
    object::label(object, key).unwrap_or_default()
}

fn annotation<'a>(object: &'a Value, key: &str) -> &'a str {
    object::annotation(object, key).unwrap_or_default()
}

fn is_id(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|c| c.is_ascii_hexdigit())
}

/// Whether the policy that compares with revisions is about this label: of an action that writes a recorded value, or
/// its own self-test.
fn compares(label: &str) -> bool {
    label == "self-test-provenance" || actions::all().any(|it| it.provenance && it.armed_label == label)
}

fn labels_of(kind: Kind) -> Vec<&'static str> {
    actions::all().filter(|it| it.targets.contains(&kind)).map(|it| it.armed_label).collect()
}

/// All of the object but its metadata.
fn body(object: &Value) -> Value {
    let mut body = object.clone();
    if let Some(fields) = body.as_object_mut() {
        fields.remove("metadata");
    }
    body
}

/// Everything in metadata but what the executor's writes may change.
fn other_metadata(object: &Value, label: &str) -> Value {
    let mut metadata = object["metadata"].clone();
    for (map, keys) in [("labels", vec![label]), ("annotations", vec![names::ACTION, names::LAST_ACTION])] {
        if let Some(Value::Object(entries)) = metadata.get_mut(map) {
            keys.iter().for_each(|key| drop(entries.remove(*key)));
        }
        if metadata.get(map).and_then(Value::as_object).is_some_and(serde_json::Map::is_empty) {
            metadata.as_object_mut().unwrap().remove(map);
        }
    }
    for server in ["resourceVersion", "generation"] {
        metadata.as_object_mut().unwrap().remove(server);
    }
    metadata
}

/// Whether nothing but the time of a restart changes, and it is one.
fn is_restart(old: &Value, new: &Value) -> bool {
    let time = |object: &Value| {
        let annotations = object.pointer("/spec/template/metadata/annotations");
        annotations.and_then(|all| all.get(names::RESTARTED_AT)).cloned()
    };
    let other = |object: &Value| {
        let mut body = body(object);
        if let Some(metadata) = body.pointer_mut("/spec/template/metadata").and_then(Value::as_object_mut) {
            let mut annotations = metadata.remove("annotations").unwrap_or_default();
            if let Some(entries) = annotations.as_object_mut() {
                entries.remove(names::RESTARTED_AT);
            }
            if annotations.as_object().is_some_and(|entries| !entries.is_empty()) {
                metadata.insert("annotations".into(), annotations);
            }
        }
        body
    };
    let is_time = |text: &str| {
        let shape = |c: char| if c.is_ascii_digit() { '0' } else { c };
        text.chars().map(shape).collect::<String>() == "0000-00-00T00:00:00Z"
    };
    let new_time = time(new);
    other(old) == other(new) && time(old) != new_time && new_time.as_ref().and_then(Value::as_str).is_some_and(is_time)
}

/// Which write on a target it is, if it is one.
struct Write3 {
    arm: bool,
    fire: bool,
    disarm: bool,
    self_test: bool,
}

fn write_of(kind: Kind, request: &Request, old: &Value, new: &Value) -> Write3 {
    let (was, is) = (label(old, names::ARMED), label(new, names::ARMED));
    let same = body(old) == body(new);
    let (old_id, new_id) = (annotation(old, names::ACTION), annotation(new, names::ACTION));
    let (old_receipt, new_receipt) = (annotation(old, names::LAST_ACTION), annotation(new, names::LAST_ACTION));
    let known = labels_of(kind);
    let armed = actions::all().find(|it| it.armed_label == was);
    let path = armed.map_or("", |it| it.path);
    let delta = if armed.is_some_and(|it| it.kind == ActionKind::RolloutRestart) {
        is_restart(old, new)
    } else {
        let mut reverted = new.clone();
        if let (Some(slot), Some(value)) = (reverted.pointer_mut(path), old.pointer(path)) {
            *slot = value.clone();
        }
        !same && !path.is_empty() && body(&reverted) == body(old)
    };
    Write3 {
        arm: was.is_empty()
            && known.contains(&is)
            && same
            && is_id(new_id)
            && new_receipt == old_receipt
            && !object::is_ending(new),
        fire: known.contains(&was)
            && is.is_empty()
            && delta
            && is_id(old_id)
            && new_id.is_empty()
            && new_receipt == old_id
            && old_receipt != old_id,
        disarm: !was.is_empty()
            && is.is_empty()
            && same
            && (new_id.is_empty() || new_id == old_id)
            && new_receipt == old_receipt,
        self_test: request.dry_run && was.is_empty() && same && is.starts_with("self-test-"),
    }
}

/// Who refuses the request, and what they say.
pub(super) fn refusal(model: &Model, request: &Request, old: &Value, new: &Value) -> Option<Refusal> {
    match request.resource {
        Resource::RemediationStatus => None,
        Resource::PodEviction => eviction(model, request),
        Resource::Revision(_) => {
            let (was, is) = (label(old, names::UNDO_TO), label(new, names::UNDO_TO));
            let same =
                body(old) == body(new) && other_metadata(old, names::UNDO_TO) == other_metadata(new, names::UNDO_TO);
            let fits = same && (is == "true" || (is.is_empty() && !was.is_empty()));
            (model.on(PolicyName::STATIC) && !fits).then(|| {
                (PolicyName::STATIC, "on a revision (any) only label backstop.dev/undo-to may change".to_owned())
            })
        }
        Resource::Target(kind) => target(model, kind, request, old, new),
    }
}

fn mode(model: &Model) -> Option<Refusal> {
    (!["approve", "auto"].contains(&model.mode))
        .then(|| (PolicyName::STATIC, format!("mode of namespace shop is {}: nothing is written", model.mode)))
}

fn target(model: &Model, kind: Kind, request: &Request, old: &Value, new: &Value) -> Option<Refusal> {
    let write = write_of(kind, request, old, new);
    if model.on(PolicyName::STATIC) {
        let one = write.arm || write.fire || write.disarm || write.self_test;
        if !one || other_metadata(old, names::ARMED) != other_metadata(new, names::ARMED) {
            return Some((PolicyName::STATIC, "neither arm, fire nor disarm".into()));
        }
        if !write.disarm
            && !write.self_test
            && let Some(refusal) = mode(model)
        {
            return Some(refusal);
        }
    }
    let (was, is) = (label(old, names::ARMED), label(new, names::ARMED));
    if was.is_empty() && is.is_empty() {
        return None;
    }
    if model.now < model.settled_at {
        return Some((PolicyName::GRANT, "failed to configure policy: failed to find resource".into()));
    }
    let (seen, any_mark) = model.lagging();
    let provenance = PolicyName::provenance(kind);
    let compared = model.on(provenance) && (compares(was) || compares(is));
    if compared {
        if !any_mark {
            return Some((provenance, "failed to configure binding: no params found".into()));
        }
        if is == "self-test-provenance" {
            return Some((provenance, "self-test: in force".into()));
        }
    }
    if model.on(PolicyName::GRANT)
        && !write.disarm
        && is != "self-test-provenance"
        && let Some(message) = not_granted(&seen, model, old, new)
    {
        return Some((PolicyName::GRANT, message));
    }
    if compared && body(old) != body(new) {
        let fits =
            model.marked().iter().all(|it| recorded_template(kind, it).as_ref() == new.pointer("/spec/template"));
        if !fits {
            return Some((provenance, "the template is not that of the recorded revision".into()));
        }
    }
    None
}

fn version(grant: &Grant) -> String {
    format!("(grant resourceVersion {})", grant.metadata.resource_version.as_deref().unwrap_or_default())
}

fn not_granted(grant: &Grant, model: &Model, old: &Value, new: &Value) -> Option<String> {
    let seen = version(grant);
    let Some((open, Write::Field(field))) = grant.spec.open.as_ref().map(|open| (open, &open.write)) else {
        return Some(format!("not granted {seen}"));
    };
    let is = label(new, names::ARMED);
    let fits = if is.is_empty() {
        annotation(new, names::LAST_ACTION) == open.action_id
            && annotation(old, names::ACTION) == open.action_id
            && new.pointer(&field.path) == Some(&field.after)
    } else {
        is == open.action && annotation(new, names::ACTION) == open.action_id && body(old) == body(new)
    };
    if !fits || old.pointer(&field.path) != Some(&field.before) || object::meta(new, "uid") != open.uid {
        return Some(format!("another value is granted {seen}"));
    }
    (model.now > open.not_after).then(|| format!("the grant has expired {seen}"))
}

fn eviction(model: &Model, request: &Request) -> Option<Refusal> {
    let eviction = &request.body;
    let armed = label(eviction, names::ARMED);
    let id = annotation(eviction, names::ACTION);
    let uid = object::string(eviction, "/deleteOptions/preconditions/uid");
    if model.on(PolicyName::STATIC) {
        let count = |map: &str| eviction["metadata"][map].as_object().map_or(0, serde_json::Map::len);
        let evicting = actions::all().any(|it| !it.evicts.is_empty() && it.armed_label == armed);
        let options = eviction["deleteOptions"].as_object().map_or(0, serde_json::Map::len);
        if !evicting
            || count("labels") != 1
            || count("annotations") != 1
            || !is_id(id)
            || uid.is_empty()
            || options != 1
        {
            return Some((PolicyName::STATIC, "an Eviction must carry label, annotation and uid".into()));
        }
        if let Some(refusal) = mode(model) {
            return Some(refusal);
        }
    }
    if !model.on(PolicyName::GRANT) || armed.is_empty() {
        return None;
    }
    if model.now < model.settled_at {
        return Some((PolicyName::GRANT, "failed to configure policy: failed to find resource".into()));
    }
    let (grant, _) = model.lagging();
    let seen = version(&grant);
    let refuse = |message: &str| Some((PolicyName::GRANT, format!("{message} {seen}")));
    let Some((open, Write::Evict(EvictWrite { pod }))) = grant.spec.open.as_ref().map(|open| (open, &open.write))
    else {
        return refuse("not granted");
    };
    if pod.name != request.name || pod.uid != uid {
        return refuse("another object is granted");
    }
    if armed != open.action || id != open.action_id {
        return refuse("another action is granted");
    }
    if model.now > open.not_after { refuse("the grant has expired") } else { None }
}
