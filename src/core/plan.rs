//! The plan: what will be asked, decided and allowed, written to the Incident before any of it happens.

use std::collections::BTreeMap;

use crate::api::v1alpha1::{ActionKind, Mode, ModelChain, ObjectRef, Plan, PlanBudget, PlanStep, SourceName};

use super::budget::Budgets;
use super::chain::choose::{self, Named};
use super::policy::{self, CompiledPolicy, Matching};
use super::sources::{self, Offered};
use super::workload::Kind;
use super::{actions, chain, gate};

/// Policies, and Runbooks, that a plan names; the rest is counted, and asked all the same. The schema of the status
/// allows no more.
const MAX_NAMES: usize = 32;

/// What the plan is made from. Nothing of it was read for a decision; what decides is read again.
pub struct Inputs<'a> {
    /// The object that the alert named, if it exists.
    pub target: Option<&'a ObjectRef>,
    /// Its labels, if they are known already.
    pub labels: Option<&'a BTreeMap<String, String>>,
    /// Value of the namespace's mode label.
    pub namespace_mode: Option<&'a str>,
    /// All Policies of this namespace and of the system namespace.
    pub policies: &'a [CompiledPolicy],
    /// Names of matching Runbooks with the sources that they ask for.
    pub runbooks: &'a [(String, Vec<SourceName>)],
    /// The operator's budgets.
    pub budgets: &'a Budgets,
    /// What bounds the loop of this incident, beside its rounds: a name, and how much.
    pub loops: &'a [(&'static str, i64)],
    /// There is a store of metrics to ask.
    pub metrics: bool,
    /// What the matching Runbooks name as chain of models.
    pub named: &'a [Named],
    /// The ModelChains of the system namespace; `None` when they could not be read.
    pub chains: Option<&'a [ModelChain]>,
    /// Namespace of the operator.
    pub system: &'a str,
}

/// Sources of the investigation: the default bundle and whatever a Runbook adds.
pub fn sources(inputs: &Inputs<'_>) -> Vec<SourceName> {
    let offered = Offered { metric_store: inputs.metrics };
    sources::bundle(offered, inputs.runbooks.iter().flat_map(|(_, more)| more.iter().copied()))
}

/// Makes the plan.
///
/// Its mode is the highest that may come of it: that of the namespace, lowered by the Policies that match. Policies
/// whose `objectSelector` cannot be asked yet are listed as possible, and can only lower the mode further.
pub fn make(inputs: &Inputs<'_>) -> Plan {
    let kind = inputs.target.map(|target| target.kind.as_str());
    let matching = policy::matching(inputs.policies, kind, inputs.labels);
    let named = [choose::by_policies(&matching, inputs.system), inputs.named.to_vec()].concat();
    // There are no facts about an object that nobody knows: a model could only guess, and would be paid for it.
    let model_chain = inputs.target.and_then(|_| choose::choose(named, inputs.chains, &matching, inputs.system));
    let rungs = model_chain.iter().flat_map(|chain| &chain.rungs).map(|rung| rung.name.clone());
    let rungs: Vec<String> = rungs.collect();
    let Matching { certain, possible } = matching;
    let mode = policy::mode(inputs.namespace_mode, &certain);
    let acting = if inputs.target.is_some() { mode } else { Mode::Observe };
    let step = |name: &str, mode| PlanStep { name: name.into(), mode };
    let budget = |name: &str, limit: i64| PlanBudget { name: name.into(), limit };
    let names = |policies: &[&CompiledPolicy]| listed(policies.iter().map(|policy| policy.name.as_str()));

    let mut steps = vec![step("investigate", Mode::Auto), step("diagnose", Mode::Auto), step("decide", Mode::Auto)];
    steps.extend(possible_actions(kind).map(|action| step(action.as_str(), acting)));
    steps.extend([step("verify", acting), step("undo", acting), step("escalate", Mode::Auto)]);
    Plan {
        sources: self::sources(inputs).into_iter().map(|source| source.as_str().to_string()).collect(),
        diagnosers: chain::names(&rungs),
        model_chain,
        gates: gate::check_names(),
        steps,
        budgets: [budget("investigations-per-incident", gate::MAX_ROUNDS.into())]
            .into_iter()
            .chain(inputs.loops.iter().map(|(name, limit)| budget(name, *limit)))
            .chain([
                budget("actions-per-incident", 1),
                budget("actions-per-day-on-target", inputs.budgets.actions_per_target_per_day.into()),
                budget("actions-per-hour-in-namespace", inputs.budgets.actions_per_namespace_per_hour.into()),
                budget("actions-per-hour-for-node", inputs.budgets.actions_per_node_per_hour.into()),
                budget("actions-per-hour-of-kind", inputs.budgets.actions_per_kind_per_hour.into()),
                budget("actions-per-hour-in-cluster", inputs.budgets.actions_per_hour.into()),
            ])
            .collect(),
        mode,
        runbooks: listed(inputs.runbooks.iter().map(|(name, _)| name.as_str())),
        policies: names(&certain),
        possible_policies: names(&possible),
    }
}

/// The first names, and how many there are beside them if there are too many.
fn listed<'a>(names: impl ExactSizeIterator<Item = &'a str>) -> Vec<String> {
    let count = names.len();
    let shown = if count > MAX_NAMES { MAX_NAMES - 1 } else { count };
    let mut listed: Vec<String> = names.take(shown).map(String::from).collect();
    if count > shown {
        listed.push(format!("and {} more", count - shown));
    }
    listed
}

/// Actions that are for this kind of object; without a target all of them, so that the plan says that none is taken.
fn possible_actions(kind: Option<&str>) -> impl Iterator<Item = ActionKind> {
    let kind = kind.map(Kind::named);
    ActionKind::ALL.iter().copied().filter(move |action| match kind {
        None => true,
        Some(kind) => kind.is_some_and(|kind| actions::of(*action).targets.contains(&kind)),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::v1alpha1::Policy;

    fn target(kind: &str) -> ObjectRef {
        ObjectRef { kind: kind.into(), namespace: "shop".into(), name: "api".into(), ..ObjectRef::default() }
    }

    fn policy(spec: serde_json::Value) -> CompiledPolicy {
        CompiledPolicy::of(&Policy::new("db", serde_json::from_value(spec).unwrap()))
    }

    fn inputs<'a>(target: Option<&'a ObjectRef>, policies: &'a [CompiledPolicy], budgets: &'a Budgets) -> Inputs<'a> {
        Inputs {
            target,
            labels: None,
            namespace_mode: Some("auto"),
            policies,
            runbooks: &[],
            budgets,
            loops: &[],
            metrics: false,
            named: &[],
            chains: Some(&[]),
            system: "backstop-system",
        }
    }

    fn mode_of(plan: &Plan, step: &str) -> Option<Mode> {
        plan.steps.iter().find(|found| found.name == step).map(|found| found.mode)
    }

    #[test]
    fn without_a_target_no_write_is_planned() {
        let budgets = Budgets::default();
        assert_eq!(mode_of(&make(&inputs(None, &[], &budgets)), "RolloutUndo"), Some(Mode::Observe));
    }

    #[test]
    fn only_actions_for_the_targets_kind_are_planned() {
        let budgets = Budgets::default();
        for (kind, planned) in [("Deployment", true), ("StatefulSet", true), ("DaemonSet", true), ("CronJob", false)] {
            let target = target(kind);
            let plan = make(&inputs(Some(&target), &[], &budgets));
            assert_eq!(mode_of(&plan, "RolloutUndo").is_some(), planned, "{kind}");
        }
    }

    #[test]
    fn metrics_are_asked_only_where_there_is_a_store() {
        let budgets = Budgets::default();
        let inputs = inputs(None, &[], &budgets);
        assert!(!sources(&inputs).contains(&SourceName::Metrics));
        assert!(sources(&Inputs { metrics: true, ..inputs }).contains(&SourceName::Metrics));
    }

    #[test]
    fn a_policy_whose_selector_cannot_be_asked_yet_is_listed_as_possible_and_lowers_nothing() {
        let (budgets, target) = (Budgets::default(), target("Deployment"));
        let selects = json!({"objectSelector": {"matchLabels": {"tier": "db"}}});
        let policies = [policy(json!({"mode": "observe", "matchConstraints": selects}))];
        let plan = make(&inputs(Some(&target), &policies, &budgets));
        assert_eq!((plan.mode, plan.policies.len(), plan.possible_policies.len()), (Mode::Auto, 0, 1));

        let db = BTreeMap::from([("tier".to_string(), "db".to_string())]);
        let plan = make(&Inputs { labels: Some(&db), ..inputs(Some(&target), &policies, &budgets) });
        assert_eq!((plan.mode, plan.policies.len(), plan.possible_policies.len()), (Mode::Observe, 1, 0));

        let other = BTreeMap::new();
        let plan = make(&Inputs { labels: Some(&other), ..inputs(Some(&target), &policies, &budgets) });
        assert_eq!((plan.mode, plan.policies.len(), plan.possible_policies.len()), (Mode::Auto, 0, 0));
    }

    #[test]
    fn a_plan_names_no_more_policies_and_runbooks_than_its_status_holds() {
        let budgets = Budgets::default();
        let policies: Vec<CompiledPolicy> = (0..40).map(|_| policy(json!({"mode": "observe"}))).collect();
        let runbooks: Vec<(String, Vec<SourceName>)> = (0..40).map(|n| (format!("r{n}"), vec![])).collect();
        let target = target("Deployment");
        let plan = make(&Inputs { runbooks: &runbooks, ..inputs(Some(&target), &policies, &budgets) });
        assert_eq!((plan.policies.len(), plan.runbooks.len()), (MAX_NAMES, MAX_NAMES));
        assert_eq!((plan.policies[31].as_str(), plan.runbooks[31].as_str()), ("and 9 more", "and 9 more"));
        let plan = make(&Inputs { runbooks: &runbooks[..32], ..inputs(Some(&target), &policies[..32], &budgets) });
        assert_eq!((plan.policies[31].as_str(), plan.runbooks[31].as_str()), ("/db", "r31"));
    }

    #[test]
    fn the_rungs_of_the_chain_are_the_diagnosers_before_the_rules() {
        let (budgets, target) = (Budgets::default(), target("Deployment"));
        let upstream = json!({"name": "own", "url": "http://vllm:8000/v1", "api": "OpenAiChat",
            "prices": {"input": "0", "output": "0"}});
        let spec = json!({"rungs": [{"name": "big", "model": "big-1", "upstreams": [upstream]}]});
        let chains = [ModelChain::new("default", serde_json::from_value(spec).unwrap())];
        let plan = make(&Inputs { chains: Some(&chains), ..inputs(Some(&target), &[], &budgets) });
        assert_eq!(plan.diagnosers, ["big", "rules"]);
        assert_eq!(plan.model_chain.unwrap().rungs[0].name, "big");

        let none = [policy(json!({"mode": "auto", "modelChain": "rules"}))];
        let plan = make(&Inputs { chains: Some(&chains), ..inputs(Some(&target), &none, &budgets) });
        assert_eq!(plan.diagnosers, ["rules"]);
        assert_eq!(make(&inputs(Some(&target), &[], &budgets)).model_chain, None);
        let plan = make(&Inputs { chains: Some(&chains), ..inputs(None, &[], &budgets) });
        assert_eq!((plan.model_chain, plan.diagnosers), (None, vec!["rules".to_owned()]), "no model without a target");
    }

    #[test]
    fn the_plan_names_every_check() {
        let budgets = Budgets::default();
        assert_eq!(make(&inputs(None, &[], &budgets)).gates, gate::check_names());
    }
}
