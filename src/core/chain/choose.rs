//! Which chain an incident asks: what its Policies name, else what its Runbooks name, else the one called `default`.
//!
//! Nothing falls back in silence: a chain that is named and cannot be used leaves the rules alone, and the plan says why.
//! Whoever names a chain may do so because of where its models run.

use crate::api::v1alpha1::{ModelChain, PlannedChain, PlannedRung, Runbook};
use crate::core::{
    chain::spec::{ValidChain, ValidRung},
    policy::{self, CompiledPolicy, Matching, runbook_name},
    redact::clip,
    rules,
};

use super::validate::{self, Finding};

/// The chain that is asked where nothing else is named.
pub const DEFAULT: &str = "default";
/// Bytes of a sentence about why no model is asked.
const MAX_PROBLEM: usize = 900;

/// What somebody named as chain.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Named {
    /// Who goes first.
    rank: Rank,
    /// The name.
    chain: String,
    /// Who named it, such as `Policy shop/limits`.
    by: String,
}

/// A Policy goes before a Runbook, and one of the system namespace before one of the target's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    SharedPolicy,
    OwnPolicy,
    SharedRunbook,
    OwnRunbook,
}

/// What matching Policies name. One that may match names too: what is asked cannot be taken back.
pub fn by_policies(matching: &Matching<'_>, system: &str) -> Vec<Named> {
    let all = matching.certain.iter().chain(&matching.possible);
    let named = all.filter_map(|policy| {
        let CompiledPolicy { name, spec, .. } = *policy;
        let shared = name.split_once('/').is_some_and(|(namespace, _)| namespace == system);
        let rank = if shared { Rank::SharedPolicy } else { Rank::OwnPolicy };
        Some(Named { rank, chain: spec.model_chain.clone()?, by: format!("Policy {name}") })
    });
    named.collect()
}

/// What matching Runbooks name.
pub fn by_runbooks(runbooks: &[Runbook], system: &str) -> Vec<Named> {
    let named = runbooks.iter().filter_map(|runbook| {
        let shared = runbook.metadata.namespace.as_deref() == Some(system);
        let rank = if shared { Rank::SharedRunbook } else { Rank::OwnRunbook };
        let by = format!("Runbook {}", runbook_name(runbook));
        Some(Named { rank, chain: runbook.spec.model_chain.clone()?, by })
    });
    named.collect()
}

/// The chain for an incident; `None` when nothing is named and there is no default one. `chains` are those of the system
/// namespace, `None` when they could not be read.
pub fn choose(
    named: Vec<Named>,
    chains: Option<&[ModelChain]>,
    matching: &Matching<'_>,
    system: &str,
) -> Option<PlannedChain> {
    let model_mode = policy::model_mode(&matching.certain);
    let planned = |choice: &Choice| PlannedChain {
        name: choice.name.clone(),
        chosen_by: choice.by.clone(),
        model_mode,
        ..PlannedChain::default()
    };
    let without = |choice: &Choice, problem: String| {
        Some(PlannedChain { problem: clip(&problem, MAX_PROBLEM), ..planned(choice) })
    };
    let choice = match select(named) {
        Ok(choice) => choice,
        Err((choice, problem)) => return without(&choice, problem),
    };
    let Some(chains) = chains else {
        return without(&choice, "the ModelChains could not be read; the rules answer alone".into());
    };
    let found = chains.iter().find(|chain| chain.metadata.name.as_deref() == Some(&choice.name));
    let full = format!("ModelChain {system}/{}", choice.name);
    let Some(found) = found else {
        if choice.by == DEFAULT {
            return None;
        }
        return without(&choice, format!("{full} does not exist; the rules answer alone"));
    };
    match validate::of(found) {
        Ok(checked) => {
            let ValidChain { name: _, generation, rungs, deadline, caps, probe: _, breaker: _, reviewer: _ } =
                checked.chain;
            Some(PlannedChain {
                generation,
                deadline_seconds: deadline.as_secs().try_into().unwrap_or(i32::MAX),
                per_incident: caps.per_incident.to_string(),
                rungs: rungs.iter().map(|rung| planned_rung(&rungs, rung)).collect(),
                ..planned(&choice)
            })
        }
        Err(findings) => {
            let first = findings.first().map(Finding::to_string).unwrap_or_default();
            let generation = found.metadata.generation.unwrap_or_default();
            let problem = format!("{full} is not valid: {first}; the rules answer alone");
            without(&choice, problem).map(|planned| PlannedChain { generation, ..planned })
        }
    }
}

fn planned_rung(rungs: &[ValidRung], rung: &ValidRung) -> PlannedRung {
    PlannedRung {
        name: rung.name.clone(),
        model: rung.model.clone(),
        ceiling: rung.ceiling,
        on_ungrounded: rung.on_ungrounded.and_then(|index| rungs.get(index)).map(|rung| rung.name.clone()),
    }
}

/// A chain, and who chose it.
struct Choice {
    name: String,
    by: String,
}

/// The name that counts; or who asks for no model, and why none is asked.
fn select(mut named: Vec<Named>) -> Result<Choice, (Choice, String)> {
    named.sort();
    if let Some(Named { by, .. }) = named.iter().find(|named| named.chain == rules::NAME) {
        let problem = format!("{by} asks for no model");
        return Err((Choice { name: rules::NAME.to_owned(), by: by.clone() }, problem));
    }
    let Some(first) = named.first() else {
        return Ok(Choice { name: DEFAULT.to_owned(), by: DEFAULT.to_owned() });
    };
    let choice = Choice { name: first.chain.clone(), by: first.by.clone() };
    match named.iter().find(|other| other.rank == first.rank && other.chain != first.chain) {
        None => Ok(choice),
        Some(other) => {
            let problem = format!(
                "{} names ModelChain {}, and {} names {}; the rules answer alone",
                first.by, first.chain, other.by, other.chain
            );
            Err((choice, problem))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::v1alpha1::{Mode, Policy};

    const SYSTEM: &str = "backstop-system";

    fn chain(name: &str) -> ModelChain {
        let spec = json!({"rungs": [
            {"name": "big", "model": "big-1", "ceiling": "approve",
             "upstreams": [{"name": "own", "url": "http://vllm:8000/v1", "api": "OpenAiChat",
            "prices": {"input": "0", "output": "0"}}]},
            {"name": "small", "model": "small-1", "onUngrounded": "big",
             "upstreams": [{"name": "other", "url": "http://vllm:8001/v1", "api": "OpenAiChat",
            "prices": {"input": "0", "output": "0"}}]},
        ]});
        let mut chain = ModelChain::new(name, serde_json::from_value(spec).unwrap());
        chain.metadata.generation = Some(3);
        chain
    }

    fn policy(namespace: &str, name: &str, spec: serde_json::Value) -> CompiledPolicy {
        let mut policy = Policy::new(name, serde_json::from_value(spec).unwrap());
        policy.metadata.namespace = Some(namespace.into());
        CompiledPolicy::of(&policy)
    }

    fn runbook(namespace: &str, chain: &str) -> Runbook {
        let spec = json!({"summary": "", "match": {}, "modelChain": chain});
        let mut runbook = Runbook::new("book", serde_json::from_value(spec).unwrap());
        runbook.metadata.namespace = Some(namespace.into());
        runbook
    }

    fn chosen(policies: &[CompiledPolicy], runbooks: &[Runbook], chains: &[ModelChain]) -> Option<PlannedChain> {
        let matching = policy::matching(policies, Some("Deployment"), None);
        let named = [by_policies(&matching, SYSTEM), by_runbooks(runbooks, SYSTEM)].concat();
        choose(named, Some(chains), &matching, SYSTEM)
    }

    #[test]
    fn the_default_chain_is_asked_where_nothing_else_is_named_and_none_at_all_means_rules_only() {
        assert_eq!(chosen(&[], &[], &[chain("other")]), None);
        let planned = chosen(&[], &[], &[chain("other"), chain("default")]).unwrap();
        assert_eq!((planned.name.as_str(), planned.generation, planned.chosen_by.as_str()), ("default", 3, "default"));
        assert_eq!((planned.model_mode, planned.deadline_seconds), (Mode::Suggest, 45));
        assert_eq!((planned.per_incident.as_str(), planned.problem.as_str()), ("$1.00", ""));
        let small = &planned.rungs[1];
        assert_eq!((small.name.as_str(), small.model.as_str(), small.ceiling), ("small", "small-1", Mode::Suggest));
        assert_eq!(small.on_ungrounded.as_deref(), Some("big"));
        assert_eq!(planned.asked().unwrap().generation, 3);
    }

    #[test]
    fn a_policy_goes_before_a_runbook_and_one_of_the_system_namespace_before_a_tenants() {
        let chains = ["default", "a", "b", "c", "d"].map(chain);
        let shared = policy(SYSTEM, "p", json!({"mode": "auto", "modelChain": "a"}));
        let own = policy("shop", "p", json!({"mode": "auto", "modelChain": "b"}));
        let runbooks = [runbook("shop", "d"), runbook(SYSTEM, "c")];
        let name = |policies: &[CompiledPolicy], runbooks: &[Runbook]| {
            let planned = chosen(policies, runbooks, &chains).unwrap();
            assert_eq!(planned.problem, "");
            (planned.name, planned.chosen_by)
        };
        let pair = |name: &str, by: &str| (name.to_owned(), by.to_owned());
        assert_eq!(name(&[own.clone(), shared], &runbooks), pair("a", "Policy backstop-system/p"));
        assert_eq!(name(&[own], &runbooks), pair("b", "Policy shop/p"));
        assert_eq!(name(&[], &runbooks), pair("c", "Runbook backstop-system/book"));
        assert_eq!(name(&[], &runbooks[..1]), pair("d", "Runbook shop/book"));
    }

    #[test]
    fn whoever_says_rules_keeps_every_model_out() {
        let shared = policy(SYSTEM, "p", json!({"mode": "auto", "modelChain": "default"}));
        let planned = chosen(&[shared], &[runbook("shop", "rules")], &[chain("default")]).unwrap();
        assert_eq!((planned.name.as_str(), planned.asked()), ("rules", None));
        assert_eq!(planned.problem, "Runbook shop/book asks for no model");
    }

    #[test]
    fn a_chain_that_is_missing_wrong_or_not_agreed_on_leaves_the_rules_alone_and_never_falls_back() {
        let names = |chain| policy("shop", "p", json!({"mode": "auto", "modelChain": chain}));
        let mut bad = chain("bad");
        bad.spec.rungs[0].upstreams[0].url = "http://example.com/v1".into();
        let chains = [chain("default"), bad];
        for (policies, expected) in [
            (vec![names("gone")], "ModelChain backstop-system/gone does not exist"),
            (
                vec![names("bad")],
                "ModelChain backstop-system/bad is not valid: spec.rungs[0].upstreams[0].url: plain http",
            ),
            (
                vec![names("bad"), policy("shop", "q", json!({"mode": "auto", "modelChain": "default"}))],
                "and Policy shop/q",
            ),
        ] {
            let planned = chosen(&policies, &[], &chains).unwrap();
            assert_eq!((planned.rungs.len(), planned.asked()), (0, None));
            assert!(planned.problem.contains(expected), "{}", planned.problem);
            assert!(planned.problem.ends_with("the rules answer alone"), "{}", planned.problem);
        }
    }

    #[test]
    fn policies_that_cannot_be_read_may_keep_models_out_and_so_they_do() {
        let planned = chosen(&[CompiledPolicy::too_many("shop")], &[], &[chain("default")]).unwrap();
        assert_eq!((planned.asked(), planned.model_mode), (None, Mode::Observe));
    }

    #[test]
    fn chains_that_could_not_be_read_are_not_taken_for_none() {
        let planned = choose(vec![], None, &Matching::default(), SYSTEM).unwrap();
        assert!(planned.problem.contains("could not be read"), "{}", planned.problem);
    }

    #[test]
    fn the_lowest_model_mode_of_all_policies_counts_and_it_is_never_auto() {
        let mode = |modes: &[&str]| {
            let policies: Vec<CompiledPolicy> =
                modes.iter().map(|mode| policy("shop", mode, json!({"mode": "auto", "modelMode": mode}))).collect();
            policy::model_mode(&policies.iter().collect::<Vec<_>>())
        };
        assert_eq!(mode(&[]), Mode::Suggest);
        assert_eq!(mode(&["approve"]), Mode::Approve);
        assert_eq!(mode(&["approve", "observe", "suggest"]), Mode::Observe);
        assert_eq!(mode(&["auto"]), Mode::Approve);
        let silent = policy("shop", "p", json!({"mode": "auto"}));
        assert_eq!(policy::model_mode(&[&silent]), Mode::Suggest);
    }
}
