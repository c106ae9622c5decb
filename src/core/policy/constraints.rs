//! Which targets a Policy is for, by kind and labels.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use crate::api::v1alpha1::{MatchConstraints, Protected};
use crate::core::selector::{OPERATORS, selects};

use super::denial::Finding;

/// Labels, keys and values of one Policy's `objectSelector` at most.
const MAX_SELECTOR: usize = 256;

/// Whether a Policy is for a target. Ordered: a weaker answer is less.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Match {
    /// It is not.
    No,
    /// What is not known yet decides: the kind, or the labels.
    Maybe,
    /// It is.
    Yes,
}

/// What is too large, or cannot be read, in the selectors of a Policy: whoever does not compile it asks this, so that such a
/// one denies wherever it is read.
pub fn too_large(constraints: &MatchConstraints, protected: Option<&Protected>) -> Option<Finding> {
    let of_protected = protected.and_then(|protected| protected.object_selector.as_ref());
    findings("matchConstraints.objectSelector", constraints.object_selector.as_ref())
        .chain(findings("protected.objectSelector", of_protected))
        .next()
}

/// Labels, keys and values of a selector, counted no further than it takes to know that they are too many: whoever writes
/// it chooses how many there are.
pub(super) fn parts(selector: &LabelSelector) -> usize {
    let mut parts = selector.match_labels.as_ref().map_or(0, BTreeMap::len);
    for requirement in selector.match_expressions.iter().flatten() {
        if parts > MAX_SELECTOR {
            break;
        }
        parts += 1 + requirement.values.as_ref().map_or(0, Vec::len);
    }
    parts
}

/// Whether a selector has more parts than are held against labels.
pub(super) fn is_large(selector: &LabelSelector) -> bool {
    parts(selector) > MAX_SELECTOR
}

/// What is wrong with the selector in a field, found one by one.
pub(super) fn findings(named: &str, selector: Option<&LabelSelector>) -> impl Iterator<Item = Finding> {
    let large = selector.filter(|selector| is_large(selector)).map(|selector| {
        let all = |selector: &LabelSelector| -> usize {
            let values = selector.match_expressions.iter().flatten();
            let values = values.map(|requirement| 1 + requirement.values.as_ref().map_or(0, Vec::len));
            selector.match_labels.as_ref().map_or(0, BTreeMap::len) + values.sum::<usize>()
        };
        let message = format_args!("{} labels and values, at most {MAX_SELECTOR}", all(selector)).to_string();
        Finding::invalid(named, message)
    });
    // Of what is too large, nobody wants to read all that is wrong.
    let read = selector.filter(|_| large.is_none());
    let operators = read.into_iter().flat_map(|selector| selector.match_expressions.iter().flatten()).enumerate();
    let unknown = operators.filter(|(_, requirement)| !OPERATORS.contains(&requirement.operator.as_str()));
    unknown
        .map(move |(index, requirement)| {
            let field = format!("{named}.matchExpressions[{index}].operator");
            Finding::invalid(field, format_args!("unknown operator `{}`", requirement.operator))
        })
        .chain(large)
}

/// Whether a Policy with these constraints is for a target of this kind and with these labels; what is not known is
/// `None`. A selector that cannot be read matches, so that it can deny; so does one that is too large, and nobody reads it.
pub fn applies(constraints: &MatchConstraints, kind: Option<&str>, labels: Option<&BTreeMap<String, String>>) -> Match {
    let kind = match kind {
        _ if constraints.kinds.is_empty() => Match::Yes,
        Some(kind) if constraints.kinds.iter().any(|listed| listed == kind) => Match::Yes,
        Some(_) => Match::No,
        None => Match::Maybe,
    };
    let labels = match (&constraints.object_selector, labels) {
        (None, _) => Match::Yes,
        (Some(selector), _) if is_large(selector) => Match::Yes,
        (Some(selector), Some(labels)) if selects(selector, labels) => Match::Yes,
        (Some(_), Some(_)) => Match::No,
        (Some(_), None) => Match::Maybe,
    };
    kind.min(labels)
}
