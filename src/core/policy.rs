//! Policies and Runbooks, parsed once. A Policy that does not compile denies; a match can only tighten,
//! but for `allowHelm`, which any of them may give, and `modelMode`, which all of them have to.
//!
//! What a Policy may cost is bounded: its text, its size, and what its expressions cost when they are evaluated. One
//! that is over a bound denies, by its name. Bounds are checked when it is compiled, on the [`example`] of an incident,
//! so that its author is told at once, and again with each decision.

mod windows;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::sync::{Arc, LazyLock};

use kube_cel::cel::Value as CelValue;
use serde_json::{Value, json};

use crate::api::v1alpha1::{
    ActionKind, DEFAULT_MODEL_MODE, Limits, MatchConstraints, Mode, Policy, PolicySpec, Runbook, RunbookDocs,
    RunbookMatch, RunbookSpec, Time, Validation, WindowKind,
};

use super::cel::{self, Branches, EXPRESSION_UNITS, Expression, JUDGEMENT_UNITS, Meter, Stop, Variables};
use super::{reason::Reason, redact, rules};

/// Bytes kept of what keeps a Policy from being read.
const MAX_ERROR: usize = 300;

use windows::Window;

/// Policies of one namespace at most. Where there are more, nothing is done in it.
pub const MAX_POLICIES: usize = 100;

/// Characters of the texts in all Policies of one namespace at most.
pub const MAX_CHARACTERS: usize = 50_000;

/// Units that all Policies of one namespace may cost together on the example. Not all of them match the same object.
const NAMESPACE_UNITS: u64 = 5 * JUDGEMENT_UNITS;

/// Runbooks of one namespace at most. Where there are more, nothing is done in it.
pub const MAX_RUNBOOKS: usize = 100;

/// Characters of all expressions of one Policy at most.
const MAX_EXPRESSIONS: usize = 16_384;

/// Labels, keys and values of one Policy's `objectSelector` at most.
const MAX_SELECTOR: usize = 256;

/// Bytes of a sentence that a Policy's author wrote, or of an expression, as they are shown to people.
const MAX_QUOTED: usize = 512;

/// A Policy that was compiled, or the reason why it was not. Cheap to clone.
#[derive(Clone, Debug)]
pub struct CompiledPolicy {
    /// `namespace/name`.
    pub name: String,
    /// Its spec.
    pub spec: Arc<PolicySpec>,
    rules: Arc<Result<Rules, Denial>>,
}

#[derive(Debug)]
struct Rules {
    validations: Vec<Rule>,
    windows: Vec<Window>,
    /// What the most expensive expression costs on the example.
    cost: u64,
    /// What all of them cost there.
    total: u64,
}

/// A validation that compiled.
#[derive(Debug)]
struct Rule {
    said: Validation,
    expression: Expression,
    message: Option<Expression>,
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
        let name = full_name(policy.metadata.namespace.as_deref(), policy.metadata.name.as_deref());
        let rules = compile(&policy.spec).map_err(|Invalid { reason, message }| {
            let what = match reason {
                Reason::PolicyTooExpensive => "is too expensive",
                _ => "does not compile",
            };
            Denial { reason, message: format!("Policy {name} {what} and so denies: {message}") }
        });
        CompiledPolicy { name, spec: Arc::new(policy.spec.clone()), rules: Arc::new(rules) }
    }

    /// What stands for the Policies of a namespace that has more than [`MAX_POLICIES`]: they deny.
    pub fn too_many(namespace: &str) -> CompiledPolicy {
        CompiledPolicy::crowded(namespace, format_args!("has more than {MAX_POLICIES} Policies"))
    }

    /// What stands for the Policies of a namespace that are too much together, with the reason.
    fn crowded(namespace: &str, why: impl Display) -> CompiledPolicy {
        let message = format!(
            "namespace {namespace} {why}, so nothing is done; merge or delete some: \
             kubectl -n {namespace} get policies.backstop.dev"
        );
        CompiledPolicy::denying(format!("{namespace}/*"), Denial { reason: Reason::TooManyPolicies, message })
    }

    /// One that cannot be read, because a newer release or a changed definition wrote it, and so concerns every target
    /// and denies every action: it may say anything, its selector included. `name` is `namespace/name`.
    pub fn unreadable(name: String, why: &str) -> CompiledPolicy {
        let message = format!("Policy {name} cannot be read and so denies: {}", redact::clip(why, MAX_ERROR));
        CompiledPolicy::denying(name, Denial { reason: Reason::PolicyInvalid, message })
    }

    /// One that concerns every target and denies every action.
    fn denying(name: String, denial: Denial) -> CompiledPolicy {
        let spec = PolicySpec {
            mode: Mode::Observe,
            match_constraints: MatchConstraints::default(),
            allowed_actions: None,
            validations: vec![],
            limits: Limits::default(),
            windows: vec![],
            allow_helm: false,
            confidence_floor: 0,
            model_mode: Mode::Observe,
            // It may say that no model is to see what is going on here.
            model_chain: Some(rules::NAME.into()),
        };
        CompiledPolicy { name, spec: Arc::new(spec), rules: Arc::new(Err(denial)) }
    }

    /// Why it denies everything that it matches, whatever is asked.
    pub fn error(&self) -> Option<&Denial> {
        self.rules.as_ref().as_ref().err()
    }

    /// Characters of its texts: what it takes to keep it, in memory, follows from it.
    pub fn size(&self) -> usize {
        texts(&self.spec)
    }

    /// Units that all its expressions cost on the [`example`].
    fn total(&self) -> u64 {
        self.rules.as_ref().as_ref().map_or(0, |rules| rules.total)
    }

    /// Units that its most expensive expression costs on the [`example`]; `None` if it does not compile.
    pub fn cost(&self) -> Option<u64> {
        self.rules.as_ref().as_ref().ok().map(|rules| rules.cost)
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

    /// The compiled rules.
    fn rules(&self) -> Result<&Rules, Denial> {
        self.rules.as_ref().as_ref().map_err(Clone::clone)
    }

    /// The compiled rules, if the Policy lists `action`.
    fn lists(&self, action: ActionKind) -> Result<&Rules, Denial> {
        let rules = self.rules()?;
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
        let unclear = |error: String| Denial {
            reason: Reason::PolicyInvalid,
            message: format!("Policy {} has a window that cannot be told and so denies: {error}", self.name),
        };
        windows.map(|window| window.is_open(now).map_err(unclear)).collect()
    }

    fn window(&self, what: &str, now: Time) -> Denial {
        Denial { reason: Reason::OutsideWindow, message: format!("Policy {}: {what} at {now}", self.name) }
    }

    /// Evaluates the validations over `variables`. `meter` counts what all Policies of one decision cost.
    pub fn validate(&self, variables: &Variables, meter: &mut Meter) -> Result<(), Denial> {
        for rule in &self.rules()?.validations {
            let Validation { expression: text, message, reason: word, .. } = &rule.said;
            let text = cel::clip(text, MAX_QUOTED);
            let failed = |detail: String| {
                let (name, detail) = (&self.name, cel::clip(detail, MAX_QUOTED));
                let message = match non_empty(word) {
                    Some(word) => format!("Policy {name}: {word}: {detail}"),
                    None => format!("Policy {name}: {detail}"),
                };
                Denial { reason: Reason::PolicyValidationFailed, message }
            };
            match evaluate(&rule.expression, variables, Branches::Needed, meter) {
                Ok(CelValue::Bool(true)) => {}
                Ok(CelValue::Bool(false)) => {
                    let said = rule.message.as_ref().map(|m| evaluate(m, variables, Branches::Needed, meter));
                    let said = match said {
                        Some(Ok(CelValue::String(said))) => Some(cel::clip(said, MAX_QUOTED)),
                        _ => non_empty(message).map(String::from),
                    };
                    return Err(failed(said.unwrap_or_else(|| format!("`{text}` is not true"))));
                }
                Ok(other) => {
                    return Err(failed(format!("`{text}` gives a {}, expected a boolean", other.type_of())));
                }
                Err(Over::Failed(error)) => return Err(failed(format!("`{text}` cannot be evaluated: {error}"))),
                Err(over) => {
                    let message =
                        format!("Policy {} is too expensive and so denies: `{text}` {}", self.name, over.sentence());
                    return Err(Denial { reason: Reason::PolicyTooExpensive, message });
                }
            }
        }
        Ok(())
    }
}

/// Why an expression has no value.
#[derive(Debug)]
enum Over {
    /// It has none.
    Failed(String),
    /// It costs more than one expression may.
    Expression,
    /// With what was evaluated before, it costs more than one decision may.
    Judgement,
}

impl Over {
    /// What it is, after the expression.
    fn sentence(&self) -> String {
        match self {
            Over::Failed(error) => format!("cannot be evaluated: {error}"),
            Over::Expression => format!(
                "costs more than {EXPRESSION_UNITS} units, the bound for one expression; ask for less, with fewer \
                 macros inside of each other and fewer long texts"
            ),
            Over::Judgement => format!(
                "brings the Policies of one decision over {JUDGEMENT_UNITS} units, their bound together; delete what \
                 is not needed"
            ),
        }
    }
}

/// Evaluates one expression. What it costs is taken from `meter`.
fn evaluate(
    expression: &Expression,
    variables: &Variables,
    branches: Branches,
    meter: &mut Meter,
) -> Result<CelValue, Over> {
    let together = meter.left() < EXPRESSION_UNITS;
    let mut own = Meter::new(meter.left().min(EXPRESSION_UNITS));
    let result = expression.evaluate(variables, branches, &mut own);
    meter.take(&own);
    result.map_err(|stop| match stop {
        Stop::Failed(error) => Over::Failed(error),
        Stop::Spent if together => Over::Judgement,
        Stop::Spent => Over::Expression,
    })
}

/// Why a Policy does not compile.
#[derive(Debug)]
struct Invalid {
    reason: Reason,
    message: String,
}

impl From<String> for Invalid {
    fn from(message: String) -> Invalid {
        Invalid { reason: Reason::PolicyInvalid, message: cel::clip(message, MAX_QUOTED) }
    }
}

fn compile(spec: &PolicySpec) -> Result<Rules, Invalid> {
    selector(&spec.match_constraints)?;
    let characters = characters(spec);
    if characters > MAX_EXPRESSIONS {
        let message =
            format!("its expressions have {characters} characters, at most {MAX_EXPRESSIONS}; split it into several");
        return Err(Invalid { reason: Reason::PolicyTooExpensive, message });
    }
    let mut meter = Meter::new(JUDGEMENT_UNITS);
    let mut cost = 0;
    let mut compiled = |place: String, text: &str| -> Result<Expression, Invalid> {
        let expression = Expression::compile(text).map_err(|error| format!("{place}: {error}"))?;
        let before = meter.spent();
        // No value is no error here: the example may lack what the expression asks for.
        if let Err(over @ (Over::Expression | Over::Judgement)) =
            evaluate(&expression, &EXAMPLE, Branches::All, &mut meter)
        {
            return Err(Invalid {
                reason: Reason::PolicyTooExpensive,
                message: format!("{place} {}", over.sentence()),
            });
        }
        cost = cost.max(meter.spent() - before);
        Ok(expression)
    };
    let mut validations = Vec::new();
    for (index, said) in spec.validations.iter().enumerate() {
        let expression = compiled(format!("validations[{index}].expression"), &said.expression)?;
        let message = non_empty(&said.message_expression)
            .map(|text| compiled(format!("validations[{index}].messageExpression"), text))
            .transpose()?;
        validations.push(Rule { said: said.clone(), expression, message });
    }
    let windows = spec.windows.iter().enumerate();
    let windows = windows.map(|(index, window)| Window::of(window).map_err(|e| format!("windows[{index}].{e}")));
    Ok(Rules { validations, windows: windows.collect::<Result<_, _>>()?, cost, total: meter.spent() })
}

/// Characters of the expressions of a Policy.
fn characters(spec: &PolicySpec) -> usize {
    let texts = spec.validations.iter().flat_map(|said| [&said.expression, &said.message_expression]);
    texts.map(|text| text.chars().count()).sum()
}

/// Characters of everything that a Policy's author wrote, but for the selector.
fn texts(spec: &PolicySpec) -> usize {
    let words = spec.validations.iter().flat_map(|said| [&said.message, &said.reason]);
    let windows = spec.windows.iter().flat_map(|window| [&window.schedule, &window.time_zone]);
    let words: usize = words.chain(windows).map(|text| text.chars().count()).sum();
    words + characters(spec)
}

/// Whether these Policies of one namespace are more than may be: no more of them need be read.
pub fn is_crowded(policies: &[Policy]) -> bool {
    policies.len() > MAX_POLICIES || policies.iter().map(|policy| texts(&policy.spec)).sum::<usize>() > MAX_CHARACTERS
}

fn selector(constraints: &MatchConstraints) -> Result<(), String> {
    let Some(selector) = &constraints.object_selector else { return Ok(()) };
    let mut parts = selector.match_labels.iter().flatten().count();
    for requirement in selector.match_expressions.iter().flatten() {
        if !["In", "NotIn", "Exists", "DoesNotExist"].contains(&requirement.operator.as_str()) {
            return Err(format!("matchConstraints.objectSelector: unknown operator `{}`", requirement.operator));
        }
        parts += 1 + requirement.values.iter().flatten().count();
    }
    if parts > MAX_SELECTOR {
        return Err(format!("matchConstraints.objectSelector has {parts} labels and values, at most {MAX_SELECTOR}"));
    }
    Ok(())
}

/// The variables of validations as they are for a large incident: what a Policy may cost is bounded by what it costs
/// here, and by what it costs where it is asked.
pub fn example() -> Value {
    let map = |count: usize, bytes: usize| -> BTreeMap<String, String> {
        (0..count).map(|n| (format!("example.com/key-{n:03}"), "x".repeat(bytes))).collect()
    };
    json!({
        "incident": {
            "name": "api-0123456789",
            "rounds": 1,
            "alerts": (0..16).map(|n| format!("KubeExampleAlert{n}")).collect::<Vec<_>>(),
        },
        "target": {
            "kind": "Deployment", "namespace": "shop", "name": "api",
            "labels": map(32, 32), "annotations": map(32, 256),
            "replicas": 100, "revision": 100,
        },
        "diagnosis": {
            "cause": "BadRollout", "confidence": 90, "diagnoser": "rules",
            "claims": vec![json!({"kind": "PodsFailing", "cites": ["f1", "f2", "f3", "f4"]}); 16],
        },
        "action": {"kind": "RolloutUndo", "toRevision": 99, "fields": ["/spec/template"]},
        "namespaceObject": {"mode": "auto"},
    })
}

static EXAMPLE: LazyLock<Variables> = LazyLock::new(|| Variables::of(&example()));

fn full_name(namespace: Option<&str>, name: Option<&str>) -> String {
    format!("{}/{}", namespace.unwrap_or_default(), name.unwrap_or_default())
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

/// The highest mode in which an answer of a model may lead to an action when the rules do not confirm it: the lowest of
/// all Policies' `modelMode`, never above `approve`. The mode of the namespace, and the rung's own ceiling, count besides.
pub fn model_mode(policies: &[&CompiledPolicy]) -> Mode {
    let modes = policies.iter().map(|policy| policy.spec.model_mode);
    modes.min().unwrap_or(DEFAULT_MODEL_MODE).min(Mode::Approve)
}

/// Whether a Runbook is for an incident with these alert names and this kind of target.
pub fn runbook_matches(spec: &RunbookSpec, alert_names: &[&str], target_kind: Option<&str>) -> bool {
    let names = &spec.matches.alert_names;
    let kinds = &spec.matches.target_kinds;
    (names.is_empty() || alert_names.iter().any(|name| names.iter().any(|n| n == name)))
        && (kinds.is_empty() || target_kind.is_some_and(|kind| kinds.iter().any(|k| k == kind)))
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

/// The Runbooks that are asked: all of them, or one that allows nothing for a namespace that has too many.
pub fn bounded_runbooks(runbooks: Vec<Runbook>) -> Vec<Runbook> {
    let over: BTreeSet<String> = crowded(runbooks.iter().map(|book| book.metadata.namespace.as_deref()), MAX_RUNBOOKS)
        .into_iter()
        .map(String::from)
        .collect();
    let none = over.iter().map(|namespace| {
        let spec = RunbookSpec {
            summary: format!("namespace {namespace} has more than {MAX_RUNBOOKS} Runbooks, so nothing is done"),
            matches: RunbookMatch::default(),
            gather: vec![],
            allowed_actions: vec![],
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

/// The namespaces that are named more than `most` times.
fn crowded<'a>(namespaces: impl Iterator<Item = Option<&'a str>>, most: usize) -> BTreeSet<&'a str> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for namespace in namespaces {
        *counts.entry(namespace.unwrap_or_default()).or_default() += 1;
    }
    counts.into_iter().filter(|(_, count)| *count > most).map(|(namespace, _)| namespace).collect()
}

/// `namespace/name` of a Runbook.
pub fn runbook_name(runbook: &Runbook) -> String {
    full_name(runbook.metadata.namespace.as_deref(), runbook.metadata.name.as_deref())
}

#[cfg(test)]
mod tests;
