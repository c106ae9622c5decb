//! Names, and what refers to them.

use std::collections::BTreeMap;

use super::finding::{Fault, Findings};
use crate::api::v1alpha1::ModelRung;
use crate::core::{kube_name, rules};

/// Rungs have names of their own, and upstreams too, in the whole chain.
pub(super) fn unique(found: &mut Findings, rungs: &[ModelRung]) {
    let mut places = BTreeMap::new();
    for (index, rung) in rungs.iter().enumerate() {
        let field = format!("spec.rungs[{index}].name");
        label(found, &field, &rung.name);
        if rung.name == rules::NAME {
            found.refuse(
                &field,
                Fault::Invalid,
                "`rules` is taken: the embedded rules are the last rung of every chain",
            );
        }
        once(found, &mut places, &rung.name, field);
    }
    let mut places = BTreeMap::new();
    for (index, rung) in rungs.iter().enumerate() {
        for (number, upstream) in rung.upstreams.iter().enumerate() {
            let field = format!("spec.rungs[{index}].upstreams[{number}].name");
            label(found, &field, &upstream.name);
            once(found, &mut places, &upstream.name, field);
        }
    }
}

/// A DNS label.
pub(super) fn label(found: &mut Findings, field: &str, name: &str) {
    if !kube_name::is_label(name) {
        let message =
            "it has to be lower-case letters, digits and `-`, at most 63, with a letter or digit at both ends";
        found.refuse(field, Fault::Invalid, message);
    }
}

fn once<'a>(found: &mut Findings, places: &mut BTreeMap<&'a str, String>, name: &'a str, field: String) {
    if let Some(first) = places.get(name) {
        found.refuse(field, Fault::Duplicate, format!("the name is taken by {first}"));
    } else {
        places.insert(name, field);
    }
}

/// Name of a model: printable ASCII without spaces.
pub(super) fn model(found: &mut Findings, field: &str, name: &str, most: usize) {
    let length = name.chars().count();
    if length == 0 || length > most {
        found.refuse(field, Fault::OutOfRange, format!("it has to have 1 to {most} characters"));
    } else if !name.bytes().all(|byte| byte.is_ascii_graphic()) {
        found.refuse(field, Fault::Invalid, "it may have printable ASCII characters only, and no spaces");
    }
}

/// Other names of a model that answers.
pub(super) fn served_as(found: &mut Findings, field: &str, said: &[String]) {
    if said.len() > 16 {
        found.refuse(field, Fault::OutOfRange, format!("there are {}, and at most 16 may be", said.len()));
    }
    for (index, name) in said.iter().enumerate() {
        model(found, &format!("{field}[{index}]"), name, 128);
    }
}

/// For each rung the one that it names in `onUngrounded`.
pub(super) fn on_ungrounded(found: &mut Findings, rungs: &[ModelRung]) -> Vec<Option<usize>> {
    let mut next = Vec::with_capacity(rungs.len());
    for (index, rung) in rungs.iter().enumerate() {
        let named = rung.on_ungrounded.as_deref();
        let at = named.and_then(|named| position(rungs, named));
        if let (Some(named), None) = (named, at) {
            let message = format!("there is no rung `{}`; without the field the rules decide", quoted(named));
            found.refuse(format!("spec.rungs[{index}].onUngrounded"), Fault::Unknown, message);
        }
        next.push(at);
    }
    for index in 0..next.len() {
        if leads_back(&next, index) {
            let message = "it leads back to this rung; a stronger one is asked once, and then the rules decide";
            found.refuse(format!("spec.rungs[{index}].onUngrounded"), Fault::Cycle, message);
        }
    }
    next
}

fn leads_back(next: &[Option<usize>], from: usize) -> bool {
    let mut at = from;
    for _ in 0..next.len() {
        match next.get(at).copied().flatten() {
            Some(to) if to == from => return true,
            Some(to) => at = to,
            None => return false,
        }
    }
    // It runs into a cycle that this rung is not part of, which is refused there.
    false
}

/// The rung that may object.
pub(super) fn reviewer(found: &mut Findings, rungs: &[ModelRung], named: Option<&str>) -> Option<usize> {
    let named = named?;
    let at = position(rungs, named);
    if at.is_none() {
        found.refuse("spec.reviewer", Fault::Unknown, format!("there is no rung `{}`", quoted(named)));
    } else if rungs.len() == 1 {
        let message = "the chain has one rung, which would review itself; add another, or leave the field out";
        found.refuse("spec.reviewer", Fault::Impossible, message);
    }
    at
}

fn position(rungs: &[ModelRung], name: &str) -> Option<usize> {
    rungs.iter().position(|rung| rung.name == name)
}

/// What people wrote, short enough for a sentence.
fn quoted(name: &str) -> String {
    name.chars().filter(|character| !character.is_control()).take(63).collect()
}
