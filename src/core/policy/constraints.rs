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
    let mut found = findings("matchConstraints.objectSelector", constraints.object_selector.as_ref());
    found.extend(findings("protected.objectSelector", of_protected));
    found.into_iter().next()
}

/// What is wrong with the selector in a field.
pub(super) fn findings(named: &str, selector: Option<&LabelSelector>) -> Vec<Finding> {
    let Some(selector) = selector else { return vec![] };
    let mut findings = vec![];
    let mut parts = selector.match_labels.iter().flatten().count();
    for (index, requirement) in selector.match_expressions.iter().flatten().enumerate() {
        if !OPERATORS.contains(&requirement.operator.as_str()) {
            let field = format!("{named}.matchExpressions[{index}].operator");
            findings.push(Finding::invalid(field, format_args!("unknown operator `{}`", requirement.operator)));
        }
        parts += 1 + requirement.values.iter().flatten().count();
    }
    if parts > MAX_SELECTOR {
        findings.push(Finding::invalid(named, format_args!("{parts} labels and values, at most {MAX_SELECTOR}")));
    }
    findings
}

/// Whether a Policy with these constraints is for a target of this kind and with these labels; what is not known is
/// `None`. A selector that cannot be read matches, so that it can deny.
pub fn applies(constraints: &MatchConstraints, kind: Option<&str>, labels: Option<&BTreeMap<String, String>>) -> Match {
    let kind = match kind {
        _ if constraints.kinds.is_empty() => Match::Yes,
        Some(kind) if constraints.kinds.iter().any(|listed| listed == kind) => Match::Yes,
        Some(_) => Match::No,
        None => Match::Maybe,
    };
    let labels = match (&constraints.object_selector, labels) {
        (None, _) => Match::Yes,
        (Some(selector), Some(labels)) if selects(selector, labels) => Match::Yes,
        (Some(_), Some(_)) => Match::No,
        (Some(_), None) => Match::Maybe,
    };
    kind.min(labels)
}
