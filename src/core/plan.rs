//! The plan: what will be asked, judged and allowed, written to the Incident before any of it happens.

use crate::api::v1alpha1::{Mode, Plan, PlanBudget, PlanStep, SourceName};
use crate::settings::Settings;

use super::gate;

/// The default bundle of sources.
pub const SOURCES: &[SourceName] = &[
    SourceName::Workload,
    SourceName::Pods,
    SourceName::RolloutHistory,
    SourceName::Events,
    SourceName::Logs,
    SourceName::ConfigReferences,
];

/// What the plan is made from.
pub struct Inputs<'a> {
    /// The alert named an object that exists.
    pub has_target: bool,
    /// The mode that namespace and Policies leave.
    pub mode: Mode,
    /// Names of matching Runbooks with the sources that they ask for.
    pub runbooks: &'a [(String, Vec<SourceName>)],
    /// Names of matching Policies.
    pub policies: Vec<String>,
    /// The operator's settings.
    pub settings: &'a Settings,
}

/// Sources of the investigation: the default bundle and whatever a Runbook adds; metrics only where there is a store.
pub fn sources(inputs: &Inputs<'_>) -> Vec<SourceName> {
    let mut sources: Vec<SourceName> = SOURCES.to_vec();
    sources.extend(inputs.runbooks.iter().flat_map(|(_, more)| more.iter().copied()));
    if !inputs.settings.prometheus_url.is_empty() {
        sources.push(SourceName::Metrics);
    }
    sources.sort();
    sources.dedup();
    sources
}

/// Makes the plan.
pub fn make(inputs: &Inputs<'_>) -> Plan {
    let acting = if inputs.has_target { inputs.mode } else { Mode::Observe };
    let step = |name: &str, mode| PlanStep { name: name.into(), mode };
    let budgets = &inputs.settings.budgets;
    let budget = |name: &str, limit: i64| PlanBudget { name: name.into(), limit };
    Plan {
        sources: sources(inputs).into_iter().map(|source| source.as_str().to_string()).collect(),
        diagnosers: vec!["rules".into()],
        gates: gate::check_names(),
        steps: vec![
            step("investigate", Mode::Auto),
            step("diagnose", Mode::Auto),
            step("judge", Mode::Auto),
            step("RolloutUndo", acting),
            step("verify", acting),
            step("undo", acting),
            step("escalate", Mode::Auto),
        ],
        budgets: vec![
            budget("investigations-per-incident", gate::MAX_ROUNDS.into()),
            budget("actions-per-incident", 1),
            budget("actions-per-hour-in-namespace", budgets.actions_per_namespace_per_hour.into()),
            budget("actions-per-hour-in-cluster", budgets.actions_per_hour.into()),
        ],
        mode: inputs.mode,
        runbooks: inputs.runbooks.iter().map(|(name, _)| name.clone()).collect(),
        policies: inputs.policies.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inputs(settings: &Settings) -> Inputs<'_> {
        Inputs { has_target: true, mode: Mode::Auto, runbooks: &[], policies: vec![], settings }
    }

    #[test]
    fn without_a_target_no_write_is_planned() {
        let settings = Settings::default();
        let plan = make(&Inputs { has_target: false, ..inputs(&settings) });
        let action = plan.steps.iter().find(|step| step.name == "RolloutUndo").unwrap();
        assert_eq!(action.mode, Mode::Observe);
    }

    #[test]
    fn metrics_are_asked_only_where_there_is_a_store() {
        let settings = Settings::default();
        assert!(!sources(&inputs(&settings)).contains(&SourceName::Metrics));
        let settings = Settings { prometheus_url: "http://prometheus:9090".into(), ..Settings::default() };
        assert!(sources(&inputs(&settings)).contains(&SourceName::Metrics));
    }

    #[test]
    fn the_plan_names_every_check() {
        let settings = Settings::default();
        assert_eq!(make(&inputs(&settings)).gates, gate::check_names());
    }
}
