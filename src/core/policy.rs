//! Policies and Runbooks, parsed once. A Policy that does not compile denies; a match can only tighten,
//! but for `allowHelm`, which any of them may give.

use std::panic::{AssertUnwindSafe, catch_unwind};

use croner::{Cron, parser::CronParser};
use jiff::{SignedDuration, tz::TimeZone};
use kube_cel::{
    KubeCelExt as _,
    cel::{Context, Program, Value as CelValue},
};
use serde_json::Value;

use crate::api::v1alpha1::{ActionKind, Mode, Policy, PolicySpec, Runbook, RunbookSpec, Time, Validation, WindowKind};

use super::{reason::Reason, workload::Workload};

/// A Policy that was compiled, or the reason why it was not.
#[derive(Debug)]
pub struct CompiledPolicy {
    /// `namespace/name`.
    pub name: String,
    /// Its spec.
    pub spec: PolicySpec,
    rules: Result<Rules, String>,
}

#[derive(Debug)]
struct Rules {
    validations: Vec<(Validation, Program, Option<Program>)>,
    windows: Vec<(WindowKind, Cron, TimeZone, SignedDuration)>,
}

/// Why a Policy refuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    /// The constant; what the Policy's author calls it is in the message.
    pub reason: Reason,
    /// One sentence.
    pub message: String,
}

impl CompiledPolicy {
    /// Compiles `policy`.
    pub fn of(policy: &Policy) -> CompiledPolicy {
        let name = format!(
            "{}/{}",
            policy.metadata.namespace.as_deref().unwrap_or_default(),
            policy.metadata.name.as_deref().unwrap_or_default()
        );
        CompiledPolicy { name, spec: policy.spec.clone(), rules: compile(&policy.spec) }
    }

    /// What keeps it from compiling, with the place.
    pub fn error(&self) -> Option<&str> {
        self.rules.as_ref().err().map(String::as_str)
    }

    /// Whether it is for this target. A selector that cannot be read matches, so that it can deny.
    pub fn matches(&self, reading: &Workload) -> bool {
        let constraints = &self.spec.match_constraints;
        let kind = constraints.kinds.is_empty() || constraints.kinds.contains(&reading.object.kind);
        let labels = constraints.object_selector.as_ref().is_none_or(|selector| selects(selector, &reading.labels));
        kind && labels
    }

    /// Whether the windows and the list of actions leave `action` now.
    pub fn admits(&self, action: ActionKind, now: Time) -> Result<(), Denial> {
        let rules = self.rules.as_ref().map_err(|error| self.invalid(error))?;
        if let Some(allowed) = &self.spec.allowed_actions
            && !allowed.contains(&action)
        {
            let message = format!("Policy {} does not list {action} in allowedActions", self.name);
            return Err(Denial { reason: Reason::ActionNotAllowed, message });
        }
        self.inside_windows(rules, now)
    }

    fn inside_windows(&self, rules: &Rules, now: Time) -> Result<(), Denial> {
        let inside = |cron: &Cron, zone: &TimeZone, length: &SignedDuration| {
            let here = now.to_zoned(zone.clone());
            cron.find_previous_occurrence(&here, true)
                .map(|start| now.duration_since(start.timestamp()) < *length)
                .map_err(|error| self.invalid(&format!("window: {error}")))
        };
        let outside = |what: &str| Denial {
            reason: Reason::OutsideWindow,
            message: format!("Policy {}: {what} at {now}", self.name),
        };
        let mut allow_windows = 0;
        let mut allowed = false;
        for (kind, cron, zone, length) in &rules.windows {
            let inside = inside(cron, zone, length)?;
            match kind {
                WindowKind::Deny if inside => return Err(outside("a deny window is open")),
                WindowKind::Deny => {}
                WindowKind::Allow => {
                    allow_windows += 1;
                    allowed |= inside;
                }
            }
        }
        if allow_windows > 0 && !allowed { Err(outside("no allow window is open")) } else { Ok(()) }
    }

    /// Evaluates the validations over `variables`, a JSON object whose members become CEL variables.
    pub fn validate(&self, variables: &Value) -> Result<(), Denial> {
        let rules = self.rules.as_ref().map_err(|error| self.invalid(error))?;
        if rules.validations.is_empty() {
            return Ok(());
        }
        let mut context = Context::default();
        context.register_all();
        for (name, value) in variables.as_object().into_iter().flatten() {
            context.add_variable(name.as_str(), value.clone()).map_err(|error| self.invalid(&error.to_string()))?;
        }
        for (validation, program, message) in &rules.validations {
            let failed = |detail: String| Denial {
                reason: Reason::PolicyValidationFailed,
                message: match non_empty(&validation.reason) {
                    Some(word) => format!("Policy {}: {word}: {detail}", self.name),
                    None => format!("Policy {}: {detail}", self.name),
                },
            };
            match run(program, &context) {
                Ok(CelValue::Bool(true)) => {}
                Ok(CelValue::Bool(false)) => {
                    let said = message.as_ref().and_then(|m| match run(m, &context) {
                        Ok(CelValue::String(text)) => Some(text.to_string()),
                        _ => None,
                    });
                    let said = said.or_else(|| non_empty(&validation.message).map(String::from));
                    return Err(failed(said.unwrap_or_else(|| format!("`{}` is not true", validation.expression))));
                }
                Ok(other) => {
                    return Err(failed(format!("`{}` gives {other:?}, expected a boolean", validation.expression)));
                }
                Err(error) => return Err(failed(format!("`{}` cannot be evaluated: {error}", validation.expression))),
            }
        }
        Ok(())
    }

    fn invalid(&self, error: &str) -> Denial {
        Denial {
            reason: Reason::PolicyInvalid,
            message: format!("Policy {} does not compile and so denies: {error}", self.name),
        }
    }
}

fn compile(spec: &PolicySpec) -> Result<Rules, String> {
    let mut validations = Vec::new();
    for (index, validation) in spec.validations.iter().enumerate() {
        let program = program(&validation.expression).map_err(|e| format!("validations[{index}].expression: {e}"))?;
        let message = non_empty(&validation.message_expression)
            .map(|text| self::program(text).map_err(|e| format!("validations[{index}].messageExpression: {e}")))
            .transpose()?;
        validations.push((validation.clone(), program, message));
    }
    let mut windows = Vec::new();
    for (index, window) in spec.windows.iter().enumerate() {
        let cron = CronParser::new()
            .parse(&window.schedule)
            .map_err(|e| format!("windows[{index}].schedule `{}`: {e}", window.schedule))?;
        let zone = non_empty(&window.time_zone).unwrap_or("UTC");
        let zone = TimeZone::get(zone).map_err(|e| format!("windows[{index}].timeZone `{zone}`: {e}"))?;
        windows.push((window.kind, cron, zone, SignedDuration::from_secs(window.duration_seconds.into())));
    }
    if let Some(selector) = &spec.match_constraints.object_selector {
        for requirement in selector.match_expressions.iter().flatten() {
            if !["In", "NotIn", "Exists", "DoesNotExist"].contains(&requirement.operator.as_str()) {
                return Err(format!("matchConstraints.objectSelector: unknown operator `{}`", requirement.operator));
            }
        }
    }
    Ok(Rules { validations, windows })
}

/// The parser of the CEL library can panic on odd input; a Policy must not be able to end the controller.
fn program(text: &str) -> Result<Program, String> {
    catch_unwind(|| Program::compile(text))
        .map_err(|_| "not a CEL expression".to_string())?
        .map_err(|error| error.to_string().lines().take(3).collect::<Vec<_>>().join(" "))
}

fn run(program: &Program, context: &Context<'_>) -> Result<CelValue, String> {
    catch_unwind(AssertUnwindSafe(|| program.execute(context)))
        .map_err(|_| "evaluation failed".to_string())?
        .map_err(|error| error.to_string())
}

fn non_empty(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

fn selects(
    selector: &k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector,
    labels: &std::collections::BTreeMap<String, String>,
) -> bool {
    let equal = selector.match_labels.iter().flatten().all(|(key, value)| labels.get(key) == Some(value));
    let expressions = selector.match_expressions.iter().flatten().all(|requirement| {
        let value = labels.get(&requirement.key);
        let listed = value.is_some_and(|v| requirement.values.iter().flatten().any(|x| x == v));
        match requirement.operator.as_str() {
            "In" => listed,
            "NotIn" => !listed,
            "Exists" => value.is_some(),
            "DoesNotExist" => value.is_none(),
            _ => true,
        }
    });
    equal && expressions
}

/// The mode that namespace label, Policies and Runbooks leave: the lowest of all.
pub fn mode(namespace_label: Option<&str>, policies: &[&CompiledPolicy]) -> Mode {
    policies.iter().map(|policy| policy.spec.mode).fold(Mode::from_label(namespace_label), Ord::min)
}

/// Whether a Runbook is for an incident with these alert names and this kind of target.
pub fn runbook_matches(spec: &RunbookSpec, alert_names: &[&str], target_kind: Option<&str>) -> bool {
    let names = &spec.matches.alert_names;
    let kinds = &spec.matches.target_kinds;
    (names.is_empty() || alert_names.iter().any(|name| names.iter().any(|n| n == name)))
        && (kinds.is_empty() || target_kind.is_some_and(|kind| kinds.iter().any(|k| k == kind)))
}

/// `namespace/name` of a Runbook.
pub fn runbook_name(runbook: &Runbook) -> String {
    format!(
        "{}/{}",
        runbook.metadata.namespace.as_deref().unwrap_or_default(),
        runbook.metadata.name.as_deref().unwrap_or_default()
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn policy(spec: Value) -> CompiledPolicy {
        let mut policy = Policy::new("web", serde_json::from_value(spec).unwrap());
        policy.metadata.namespace = Some("shop".into());
        CompiledPolicy::of(&policy)
    }

    fn at(text: &str) -> Time {
        text.parse().unwrap()
    }

    #[test]
    fn a_policy_that_does_not_compile_denies_and_says_where() {
        for spec in [
            json!({"mode": "auto", "validations": [{"expression": "1 +"}]}),
            json!({"mode": "auto", "windows": [{"kind": "deny", "schedule": "not cron", "durationSeconds": 60}]}),
            json!({"mode": "auto", "windows": [{"kind": "deny", "schedule": "0 0 * * *", "durationSeconds": 60, "timeZone": "Mars/Base"}]}),
        ] {
            let policy = policy(spec);
            let denial = policy.admits(ActionKind::RolloutUndo, at("2026-01-01T00:00:00Z")).unwrap_err();
            assert_eq!(denial.reason, Reason::PolicyInvalid);
            assert!(denial.message.contains("shop/web"), "{}", denial.message);
            assert_eq!(policy.validate(&json!({})).unwrap_err().reason, Reason::PolicyInvalid);
        }
    }

    #[test]
    fn validations_see_their_variables_and_speak_with_the_authors_words() {
        let policy = policy(json!({"mode": "auto", "validations": [{
            "expression": "target.replicas <= 3",
            "messageExpression": "'too many: ' + string(target.replicas)",
            "reason": "TooWide",
        }]}));
        assert_eq!(policy.validate(&json!({"target": {"replicas": 2}})), Ok(()));
        let denial = policy.validate(&json!({"target": {"replicas": 9}})).unwrap_err();
        assert_eq!(denial.reason, Reason::PolicyValidationFailed);
        assert_eq!(denial.message, "Policy shop/web: TooWide: too many: 9");
    }

    #[test]
    fn an_unknown_variable_and_a_value_that_is_no_boolean_deny() {
        for expression in ["nobody.knows == 1", "1 + 1", "'yes'"] {
            let policy = policy(json!({"mode": "auto", "validations": [{"expression": expression}]}));
            assert_eq!(policy.validate(&json!({})).unwrap_err().reason, Reason::PolicyValidationFailed, "{expression}");
        }
    }

    #[test]
    fn an_empty_list_of_allowed_actions_allows_none() {
        let policy = policy(json!({"mode": "auto", "allowedActions": []}));
        let denial = policy.admits(ActionKind::RolloutUndo, at("2026-01-01T00:00:00Z")).unwrap_err();
        assert_eq!(denial.reason, Reason::ActionNotAllowed);
    }

    #[test]
    fn a_deny_window_wins_over_an_allow_window() {
        let policy = policy(json!({"mode": "auto", "windows": [
            {"kind": "allow", "schedule": "0 0 * * *", "durationSeconds": 86400},
            {"kind": "deny", "schedule": "0 17 * * 5", "durationSeconds": 3600, "timeZone": "Europe/Amsterdam"},
        ]}));
        let action = ActionKind::RolloutUndo;
        // Friday 2026-11-20, 17:30 in Amsterdam is 16:30 UTC.
        assert_eq!(policy.admits(action, at("2026-11-20T16:30:00Z")).unwrap_err().reason, Reason::OutsideWindow);
        assert_eq!(policy.admits(action, at("2026-11-20T15:30:00Z")), Ok(()));
        assert_eq!(policy.admits(action, at("2026-11-20T17:00:00Z")), Ok(()));
    }

    #[test]
    fn outside_of_every_allow_window_nothing_is_allowed() {
        let policy = policy(
            json!({"mode": "auto", "windows": [{"kind": "allow", "schedule": "0 9 * * *", "durationSeconds": 3600}]}),
        );
        assert!(policy.admits(ActionKind::RolloutUndo, at("2026-11-20T08:59:59Z")).is_err());
        assert!(policy.admits(ActionKind::RolloutUndo, at("2026-11-20T09:00:00Z")).is_ok());
        assert!(policy.admits(ActionKind::RolloutUndo, at("2026-11-20T10:00:00Z")).is_err());
    }

    #[test]
    fn the_lowest_mode_wins_and_no_label_is_observe() {
        let auto = policy(json!({"mode": "auto"}));
        let suggest = policy(json!({"mode": "suggest"}));
        assert_eq!(mode(Some("auto"), &[&auto]), Mode::Auto);
        assert_eq!(mode(Some("auto"), &[&auto, &suggest]), Mode::Suggest);
        assert_eq!(mode(None, &[&auto]), Mode::Observe);
        assert_eq!(mode(Some("AUTO"), &[]), Mode::Observe);
    }
}
