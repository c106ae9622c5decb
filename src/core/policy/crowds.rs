//! How many Policies and Runbooks a namespace may have, and how large they may be together. Where there are more, nothing
//! is done in it: which of them were left out, nobody could tell.

use std::collections::{BTreeMap, BTreeSet};

use crate::api::v1alpha1::{FailurePolicy, Policy, Runbook, RunbookDocs, RunbookMatch, RunbookSpec};
use crate::core::cel::JUDGEMENT_UNITS;
use crate::core::rules;

use super::compiled::{CompiledPolicy, MAX_POLICIES, characters};
use super::program::Said;

/// Characters of the texts in all Policies of one namespace at most, and of what its Runbooks say in CEL.
pub const MAX_CHARACTERS: usize = 50_000;

/// Units that all Policies of one namespace may cost together on the example. Not all of them match the same object.
const NAMESPACE_UNITS: u64 = 5 * JUDGEMENT_UNITS;

/// Runbooks of one namespace at most. Where there are more, nothing is done in it.
pub const MAX_RUNBOOKS: usize = 100;

/// Whether these Policies of one namespace are more than may be: no more of them need be read.
pub fn is_crowded(policies: &[Policy]) -> bool {
    policies.len() > MAX_POLICIES
        || policies.iter().map(|policy| characters(&policy.spec)).sum::<usize>() > MAX_CHARACTERS
}

/// The Policies that are asked: all of them, or what denies for a namespace whose Policies are too many or too much.
/// Those of one namespace stand together. `compile` compiles one.
pub fn bounded(policies: &[Policy], compile: impl Fn(&Policy) -> CompiledPolicy) -> Vec<CompiledPolicy> {
    let namespace = |policy: &Policy| policy.metadata.namespace.clone().unwrap_or_default();
    let groups = policies.chunk_by(|one, next| one.metadata.namespace == next.metadata.namespace);
    let each = groups.flat_map(|group| {
        let namespace = group.first().map(namespace).unwrap_or_default();
        compiled(&namespace, group, &compile).unwrap_or_else(|denies| vec![denies])
    });
    each.collect()
}

/// The Policies of one namespace, or what denies in their place.
fn compiled(
    namespace: &str,
    policies: &[Policy],
    compile: impl Fn(&Policy) -> CompiledPolicy,
) -> Result<Vec<CompiledPolicy>, CompiledPolicy> {
    if policies.len() > MAX_POLICIES {
        return Err(CompiledPolicy::too_many(namespace));
    }
    if is_crowded(policies) {
        let why = format_args!("has Policies of more than {MAX_CHARACTERS} characters together");
        return Err(CompiledPolicy::crowded(namespace, why));
    }
    let (mut all, mut cost) = (Vec::with_capacity(policies.len()), 0);
    for policy in policies {
        let compiled = compile(policy);
        cost += compiled.total();
        all.push(compiled);
        if cost > NAMESPACE_UNITS {
            let why = format_args!("has Policies that cost more than {NAMESPACE_UNITS} units together on an example");
            return Err(CompiledPolicy::crowded(namespace, why));
        }
    }
    Ok(all)
}

/// The Runbooks that are asked: all of them, or one that allows nothing for a namespace that has too many, or whose
/// Runbooks say too much in CEL.
pub fn bounded_runbooks(runbooks: Vec<Runbook>) -> Vec<Runbook> {
    let mut counts: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for runbook in &runbooks {
        let (count, characters) = counts.entry(runbook.metadata.namespace.as_deref().unwrap_or_default()).or_default();
        *count += 1;
        *characters += Said::from(&runbook.spec).characters();
    }
    let crowded =
        |(_, (count, characters)): &(&str, (usize, usize))| *count > MAX_RUNBOOKS || *characters > MAX_CHARACTERS;
    let over: BTreeSet<String> =
        counts.into_iter().filter(crowded).map(|(namespace, _)| namespace.to_owned()).collect();
    let none = over.iter().map(|namespace| {
        let spec = RunbookSpec {
            summary: format!(
                "namespace {namespace} has more than {MAX_RUNBOOKS} Runbooks, or more than {MAX_CHARACTERS} characters \
                 of CEL in them, so nothing is done"
            ),
            matches: RunbookMatch::default(),
            gather: vec![],
            allowed_actions: vec![],
            match_conditions: vec![],
            variables: vec![],
            validations: vec![],
            failure_policy: FailurePolicy::Fail,
            escalate_to: vec![],
            model_chain: Some(rules::NAME.into()),
            docs: RunbookDocs::default(),
        };
        let mut runbook = Runbook::new(&format!("more-than-{MAX_RUNBOOKS}-runbooks"), spec);
        runbook.metadata.namespace = Some(namespace.clone());
        runbook
    });
    let mut asked: Vec<Runbook> = none.collect();
    let kept = |book: &Runbook| !over.contains(book.metadata.namespace.as_deref().unwrap_or_default());
    asked.extend(runbooks.into_iter().filter(kept));
    asked
}
