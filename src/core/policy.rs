//! Policies and Runbooks, parsed once. A Policy that does not compile denies; a match can only tighten,
//! but for `allowHelm`, which any of them may give.

use std::collections::{BTreeMap, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};

use croner::{Cron, parser::CronParser};
use jiff::{SignedDuration, tz::TimeZone};
use kube_cel::{
    KubeCelExt as _,
    cel::{Context, Program, Value as CelValue},
};
use serde_json::Value;

use crate::api::v1alpha1::{
    ActionKind, MatchConstraints, Mode, Policy, PolicySpec, Runbook, RunbookSpec, Time, Validation, WindowKind,
};

use super::reason::Reason;

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
    windows: Vec<Window>,
}

#[derive(Debug)]
struct Window {
    kind: WindowKind,
    cron: Cron,
    zone: TimeZone,
    length: SignedDuration,
}

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

/// The Policies that concern a target.
#[derive(Debug, Default)]
pub struct Matching<'a> {
    /// Those that match.
    pub certain: Vec<&'a CompiledPolicy>,
    /// Those that may match once the target's kind and labels are known; empty when they are.
    pub possible: Vec<&'a CompiledPolicy>,
}

impl<'a> Matching<'a> {
    /// All of them, for whoever decides: what may forbid, forbids.
    pub fn all(self) -> Vec<&'a CompiledPolicy> {
        let Matching { mut certain, possible } = self;
        certain.extend(possible);
        certain
    }
}

/// The Policies that concern a target of this kind and with these labels; what is not known is `None`.
pub fn matching<'a>(
    policies: &'a [CompiledPolicy],
    kind: Option<&str>,
    labels: Option<&BTreeMap<String, String>>,
) -> Matching<'a> {
    let mut matching = Matching::default();
    for policy in policies {
        match policy.matches(kind, labels) {
            Match::Yes => matching.certain.push(policy),
            Match::Maybe => matching.possible.push(policy),
            Match::No => {}
        }
    }
    matching
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

    /// Whether it is for a target of this kind and with these labels; what is not known is `None`.
    pub fn matches(&self, kind: Option<&str>, labels: Option<&BTreeMap<String, String>>) -> Match {
        applies(&self.spec.match_constraints, kind, labels)
    }

    /// Whether the windows and the list of actions leave `action` now.
    pub fn admits(&self, action: ActionKind, now: Time) -> Result<(), Denial> {
        let rules = self.lists(action)?;
        self.outside_deny_windows(rules, now)?;
        self.inside_an_allow_window(rules, now)
    }

    /// Whether a write of `action` may be taken back or completed now. An allow window is not asked for: the write
    /// began inside of one, and what follows belongs to it.
    pub fn admits_following(&self, action: ActionKind, now: Time) -> Result<(), Denial> {
        let rules = self.lists(action)?;
        self.outside_deny_windows(rules, now)
    }

    /// The compiled rules, if the Policy lists `action`.
    fn lists(&self, action: ActionKind) -> Result<&Rules, Denial> {
        let rules = self.rules.as_ref().map_err(|error| self.invalid(error))?;
        if let Some(allowed) = &self.spec.allowed_actions
            && !allowed.contains(&action)
        {
            let message = format!("Policy {} does not list {action} in allowedActions", self.name);
            return Err(Denial { reason: Reason::ActionNotAllowed, message });
        }
        Ok(rules)
    }

    fn outside_deny_windows(&self, rules: &Rules, now: Time) -> Result<(), Denial> {
        if self.open(rules, WindowKind::Deny, now)?.contains(&true) {
            return Err(self.window("a deny window is open", now));
        }
        Ok(())
    }

    fn inside_an_allow_window(&self, rules: &Rules, now: Time) -> Result<(), Denial> {
        let open = self.open(rules, WindowKind::Allow, now)?;
        if !open.is_empty() && !open.contains(&true) {
            return Err(self.window("no allow window is open", now));
        }
        Ok(())
    }

    /// For each window of this kind whether it is open at `now`.
    fn open(&self, rules: &Rules, kind: WindowKind, now: Time) -> Result<Vec<bool>, Denial> {
        let windows = rules.windows.iter().filter(|window| window.kind == kind);
        windows
            .map(|Window { cron, zone, length, .. }| {
                let here = now.to_zoned(zone.clone());
                cron.find_previous_occurrence(&here, true)
                    .map(|start| now.duration_since(start.timestamp()) < *length)
                    .map_err(|error| self.invalid(&format!("window: {error}")))
            })
            .collect()
    }

    fn window(&self, what: &str, now: Time) -> Denial {
        Denial { reason: Reason::OutsideWindow, message: format!("Policy {}: {what} at {now}", self.name) }
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
            context.add_variable_from_value(name.as_str(), cel_value(value));
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
        let length = SignedDuration::from_secs(window.duration_seconds.into());
        windows.push(Window { kind: window.kind, cron, zone, length });
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

/// As CEL reads JSON in Kubernetes: whole numbers are `int`. Left to itself the library makes them `uint`, which equals
/// no literal.
fn cel_value(value: &Value) -> CelValue {
    match value {
        Value::Null => CelValue::Null,
        Value::Bool(value) => (*value).into(),
        Value::Number(number) => match number.as_i64() {
            Some(whole) => whole.into(),
            None => number.as_f64().unwrap_or(f64::NAN).into(),
        },
        Value::String(text) => text.as_str().into(),
        Value::Array(items) => items.iter().map(cel_value).collect::<Vec<CelValue>>().into(),
        Value::Object(fields) => {
            fields.iter().map(|(name, value)| (name.clone(), cel_value(value))).collect::<HashMap<_, _>>().into()
        }
    }
}

fn run(program: &Program, context: &Context<'_>) -> Result<CelValue, String> {
    catch_unwind(AssertUnwindSafe(|| program.execute(context)))
        .map_err(|_| "evaluation failed".to_string())?
        .map_err(|error| error.to_string())
}

fn non_empty(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
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

fn selects(
    selector: &k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector,
    labels: &BTreeMap<String, String>,
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
    fn whole_numbers_equal_the_literals_of_an_expression() {
        for expression in ["target.replicas == 3", "target.replicas - 4 < 0", "target.list[0] == 3"] {
            let policy = policy(json!({"mode": "auto", "validations": [{"expression": expression}]}));
            assert_eq!(policy.validate(&json!({"target": {"replicas": 3, "list": [3]}})), Ok(()), "{expression}");
        }
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
    fn what_the_author_calls_a_rule_is_text_and_never_a_reason() {
        for word in [Reason::AlertResolved.as_str().to_string(), Reason::Storm.as_str().into(), "x".repeat(64)] {
            let policy = policy(
                json!({"mode": "auto", "validations": [{"expression": "false", "reason": word, "message": "no"}]}),
            );
            let denial = policy.validate(&json!({})).unwrap_err();
            assert_eq!(denial.reason, Reason::PolicyValidationFailed);
            assert_eq!(denial.message, format!("Policy shop/web: {word}: no"));
        }
    }

    #[test]
    fn a_target_whose_labels_are_not_known_may_match() {
        let labels = |value: &str| BTreeMap::from([("tier".to_string(), value.to_string())]);
        let all = [
            policy(json!({"mode": "auto", "matchConstraints": {"kinds": ["Deployment"]}})),
            policy(json!({"mode": "auto", "matchConstraints": {"objectSelector": {"matchLabels": {"tier": "db"}}}})),
            policy(json!({"mode": "auto", "matchConstraints": {"kinds": ["DaemonSet"]}})),
        ];
        let counts = |kind, labels: Option<&BTreeMap<_, _>>| {
            let Matching { certain, possible } = matching(&all, kind, labels);
            (certain.len(), possible.len())
        };
        assert_eq!(counts(Some("Deployment"), None), (1, 1));
        assert_eq!(counts(Some("Deployment"), Some(&labels("db"))), (2, 0));
        assert_eq!(counts(Some("Deployment"), Some(&labels("web"))), (1, 0));
        assert_eq!(counts(None, None), (0, 3));
    }

    #[test]
    fn what_follows_a_write_needs_no_allow_window_and_no_deny_window() {
        let now = at("2026-11-20T12:00:00Z");
        let window = |kind: &str, schedule: &str| {
            policy(json!({"mode": "auto", "windows": [{"kind": kind, "schedule": schedule, "durationSeconds": 3600}]}))
        };
        assert_eq!(window("allow", "0 9 * * *").admits_following(ActionKind::RolloutUndo, now), Ok(()));
        let denial = window("deny", "0 12 * * *").admits_following(ActionKind::RolloutUndo, now).unwrap_err();
        assert_eq!(denial.reason, Reason::OutsideWindow);
        let none = policy(json!({"mode": "auto", "allowedActions": []}));
        assert!(none.admits_following(ActionKind::RolloutUndo, now).is_err());
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
