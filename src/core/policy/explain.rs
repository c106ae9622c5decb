//! What Policies, PolicyExceptions and Runbooks say of an object and an action, for people: before there is an incident, so
//! that only what is known of the object counts. A decision asks the same things, and more.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use crate::api::v1alpha1::{
    ActionKind, ApprovalTerms, Lift, Limits, Mode, ObjectRef, PolicyException, Runbook, Time, WindowKind,
};
use crate::core::cel::{JUDGEMENT_UNITS, Meter, Variables};

use super::compiled::CompiledPolicy;
use super::constraints::Match;
use super::exceptions::{InForce, Lifted, exception_name};
use super::program::Program;
use super::runbooks::{CompiledRunbook, runbook_name};

/// What is asked.
#[derive(Clone, Debug)]
pub struct Question<'a> {
    /// The object.
    pub target: &'a ObjectRef,
    /// Its labels.
    pub labels: &'a BTreeMap<String, String>,
    /// Its annotations.
    pub annotations: &'a BTreeMap<String, String>,
    /// Replicas that it wants; absent where that is not known.
    pub replicas: Option<i64>,
    /// The action.
    pub action: ActionKind,
    /// Value of the namespace's mode label.
    pub namespace_mode: Option<&'a str>,
    /// The system namespace.
    pub system: &'a str,
    /// The time.
    pub now: Time,
}

/// What one field says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Answer {
    /// It lets the action through.
    Allows,
    /// Only a decision can tell.
    Later,
    /// It does not let it through.
    Forbids,
}

/// One field with what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// What it says.
    pub answer: Answer,
    /// The field.
    pub field: String,
    /// Why, for people.
    pub why: String,
}

/// What one object says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explained {
    /// Such as `Policy shop/office-hours`.
    pub name: String,
    /// Why it is not for this; `None` where it is, or may be.
    pub not_for: Option<String>,
    /// Its fields.
    pub lines: Vec<Line>,
}

impl Question<'_> {
    /// What an expression can know by now.
    fn variables(&self) -> (Variables, BTreeSet<&'static str>) {
        let ObjectRef { kind, namespace, name, .. } = self.target;
        let mut target = json!({
            "kind": kind, "namespace": namespace, "name": name,
            "labels": self.labels, "annotations": self.annotations,
        });
        if let Some(replicas) = self.replicas {
            target["replicas"] = replicas.into();
        }
        let variables = Variables::of(&json!({
            "target": target,
            "action": {"kind": self.action.as_str()},
            "namespaceObject": {"name": namespace, "mode": self.namespace_mode.unwrap_or_default()},
        }));
        let variables = variables.clone().with_time("now", self.now).unwrap_or(variables);
        (variables, ["target", "action", "namespaceObject", "now"].into())
    }
}

/// What a Policy says.
pub fn explain(question: &Question<'_>, policy: &CompiledPolicy, exceptions: &[PolicyException]) -> Explained {
    let Question { target, labels, action, system, now, .. } = question;
    let mut it = Explained { name: format!("Policy {}", policy.name), not_for: None, lines: vec![] };
    if policy.matches(Some(&target.kind), Some(labels)) == Match::No {
        it.not_for = Some("matchConstraints: another kind, or other labels".into());
        return it;
    }
    if let Some(denial) = policy.error() {
        it.say(Answer::Forbids, "Ready", denial.message.clone());
        return it;
    }
    let spec = &policy.spec;
    let mode = match spec.mode {
        Mode::Auto | Mode::Approve => Answer::Allows,
        Mode::Suggest | Mode::Observe => Answer::Forbids,
    };
    it.say(mode, "mode", spec.mode.to_string());
    if let Err(denial) = policy.spares(target, labels) {
        it.say(Answer::Forbids, "protected", denial.message);
    }
    if let Some(ApprovalTerms { required, groups }) = &spec.approvals {
        let of = if groups.is_empty() { String::new() } else { format!(" of {}", groups.join(" or ")) };
        let people = if *required == 1 { "person has" } else { "people have" };
        it.say(Answer::Later, "approvals", format!("{required} {people} to approve{of}, where one has to"));
    }
    let mut meter = Meter::new(JUDGEMENT_UNITS);
    let lifted = InForce::of(exceptions, target, labels, system, *now, &mut meter).lift(policy);
    if let Some(program) = policy.program()
        && it.conditions(question, program)
    {
        return it;
    }
    if let Some(allowed) = &spec.allowed_actions {
        let lists = allowed.contains(action);
        let answer = if lists { Answer::Allows } else { Answer::Forbids };
        let why = if lists { format!("lists {action}") } else { format!("does not list {action}") };
        it.part(&lifted, Lift::AllowedActions, answer, "allowedActions", why);
    }
    for (index, (kind, open)) in policy.windows(*now).into_iter().enumerate() {
        // Another allow window may be open: whether any is, stands below.
        let (answer, what) = match (kind, open) {
            (WindowKind::Deny, Some(true)) => (Answer::Forbids, "deny window, open"),
            (WindowKind::Deny, Some(false)) => (Answer::Allows, "deny window, closed"),
            (WindowKind::Allow, Some(true)) => (Answer::Allows, "allow window, open"),
            (WindowKind::Allow, Some(false)) => (Answer::Later, "allow window, closed"),
            (_, None) => (Answer::Forbids, "cannot be told"),
        };
        it.part(&lifted, Lift::Windows, answer, &format!("windows[{index}]"), what.into());
    }
    let allows = policy.windows(*now).into_iter().filter(|(kind, _)| *kind == WindowKind::Allow);
    let allows: Vec<Option<bool>> = allows.map(|(_, open)| open).collect();
    if !allows.is_empty() && !allows.contains(&Some(true)) {
        it.part(&lifted, Lift::Windows, Answer::Forbids, "windows", "no allow window is open".into());
    }
    for (field, bound) in limits(&spec.limits) {
        let answer = if bound == "0" { Answer::Forbids } else { Answer::Later };
        it.part(&lifted, Lift::Limits, answer, &format!("limits.{field}"), bound);
    }
    if spec.confidence_floor > 0 {
        let floor = format!("the diagnosis has to be at least {}% sure", spec.confidence_floor);
        it.part(&lifted, Lift::ConfidenceFloor, Answer::Later, "confidenceFloor", floor);
    }
    if let Some(program) = policy.program() {
        it.validations(question, program, Some(&lifted));
    }
    it
}

/// What a Runbook says, of an alert that it matches.
pub fn explain_runbook(question: &Question<'_>, runbook: &Runbook) -> Explained {
    let mut it = Explained { name: format!("Runbook {}", runbook_name(runbook)), not_for: None, lines: vec![] };
    let (kinds, names) = (&runbook.spec.matches.target_kinds, &runbook.spec.matches.alert_names);
    if !kinds.is_empty() && !kinds.contains(&question.target.kind) {
        it.not_for = Some("match.targetKinds: another kind".into());
        return it;
    }
    if !names.is_empty() {
        it.say(Answer::Later, "match.alertNames", format!("only for {}", names.join(", ")));
    }
    let compiled = CompiledRunbook::of(runbook);
    let program = match compiled.program() {
        Ok(program) => program,
        Err(denial) => {
            it.say(Answer::Forbids, "Ready", denial.message);
            return it;
        }
    };
    if it.conditions(question, program) {
        return it;
    }
    let lists = runbook.spec.allowed_actions.contains(&question.action);
    let (answer, word) = if lists { (Answer::Allows, "lists") } else { (Answer::Forbids, "does not list") };
    // Of one that is for some alerts only, this holds for those.
    let answer = if names.is_empty() { answer } else { Answer::Later.min(answer) };
    it.say(answer, "allowedActions", format!("{word} {}", question.action));
    it.validations(question, program, None);
    it
}

impl Explained {
    fn say(&mut self, answer: Answer, field: &str, why: String) {
        self.lines.push(Line { answer, field: field.into(), why });
    }

    /// A part that exceptions can lift.
    fn part(&mut self, lifted: &Lifted<'_>, part: Lift, answer: Answer, field: &str, why: String) {
        if !lifted.has(part) {
            return self.say(answer, field, why);
        }
        let by: Vec<String> =
            lifted.by().iter().map(|it| format!("{}: {}", exception_name(it), it.spec.reason)).collect();
        self.say(Answer::Allows, field, format!("{why}; lifted by PolicyException {}", by.join(", ")));
    }

    /// The match conditions; whether one of them says that the rest is not asked.
    fn conditions(&mut self, question: &Question<'_>, program: &Program) -> bool {
        let (variables, known) = question.variables();
        for told in program.told(&variables, &known).into_iter().filter(|told| told.field.starts_with("match")) {
            match told.value {
                Some(false) => {
                    self.not_for = Some(format!("{}: `{}` is false", told.field, told.text));
                    return true;
                }
                Some(true) => {}
                None => self.say(Answer::Later, &told.field, unknown(&told.text, &told.missing)),
            }
        }
        false
    }

    fn validations(&mut self, question: &Question<'_>, program: &Program, lifted: Option<&Lifted<'_>>) {
        let (variables, known) = question.variables();
        for told in program.told(&variables, &known).into_iter().filter(|told| told.field.starts_with("valid")) {
            let (answer, why) = match told.value {
                Some(true) => (Answer::Allows, format!("`{}` is true", told.text)),
                Some(false) => (Answer::Forbids, format!("`{}` is false", told.text)),
                None => (Answer::Later, unknown(&told.text, &told.missing)),
            };
            match lifted {
                Some(lifted) => self.part(lifted, Lift::Validations, answer, &told.field, why),
                None => self.say(answer, &told.field, why),
            }
        }
    }
}

fn unknown(text: &str, missing: &BTreeSet<String>) -> String {
    let missing: Vec<&str> = missing.iter().map(String::as_str).collect();
    match missing.as_slice() {
        // A label that is not there, or a parameter of the action.
        [] => format!("`{text}` has no value by what is known of the object"),
        names => format!("`{text}` depends on {}", names.join(", ")),
    }
}

/// The limits that are set, by field.
fn limits(limits: &Limits) -> Vec<(&'static str, String)> {
    let Limits { actions_per_hour, cooldown_seconds, max_pods, max_percent, max_replicas, concurrent, caps } = limits;
    let numbers = [
        ("actionsPerHour", actions_per_hour),
        ("concurrent", concurrent),
        ("cooldownSeconds", cooldown_seconds),
        ("maxPods", max_pods),
        ("maxPercent", max_percent),
        ("maxReplicas", max_replicas),
    ];
    let numbers = numbers.into_iter().filter_map(|(field, bound)| Some((field, bound.as_ref()?.to_string())));
    numbers.chain(caps.iter().map(|cap| ("caps", format!("{}: at most {}", cap.path, cap.max)))).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::api::v1alpha1::Policy;

    fn explained(spec: Value, exceptions: &[PolicyException]) -> Explained {
        let mut policy = Policy::new("p", serde_json::from_value(spec).unwrap());
        policy.metadata.namespace = Some("shop".into());
        let target = ObjectRef {
            kind: "Deployment".into(),
            namespace: "shop".into(),
            name: "api".into(),
            ..ObjectRef::default()
        };
        let labels = [("tier".to_owned(), "web".to_owned())].into();
        let question = Question {
            target: &target,
            labels: &labels,
            annotations: &BTreeMap::new(),
            replicas: Some(3),
            action: ActionKind::RolloutUndo,
            namespace_mode: Some("auto"),
            system: "system",
            // A Saturday.
            now: "2026-11-28T12:30:00Z".parse().unwrap(),
        };
        explain(&question, &CompiledPolicy::of(&policy), exceptions)
    }

    fn said(it: &Explained) -> Vec<(Answer, &str)> {
        it.lines.iter().map(|line| (line.answer, line.field.as_str())).collect()
    }

    #[test]
    fn each_field_says_what_it_says_now_and_what_only_a_decision_can_tell() {
        use Answer::{Allows, Forbids, Later};
        let it = explained(
            json!({
                "mode": "approve", "allowedActions": ["RolloutUndo"], "confidenceFloor": 80,
                "limits": {"maxPods": 9, "concurrent": 0},
                "windows": [
                    {"kind": "allow", "schedule": "0 9 * * 1-5", "durationSeconds": 3600},
                    {"kind": "deny", "schedule": "0 12 * * *", "durationSeconds": 3600},
                ],
                "variables": [{"name": "sure", "expression": "diagnosis.confidence > 90"}],
                "validations": [
                    {"expression": "target.replicas == 3 && now > timestamp('2026-01-01T00:00:00Z')"},
                    {"expression": "target.labels.tier == 'db'"},
                    {"expression": "variables.sure && blast.percent < 5"},
                    {"expression": "target.labels.team == 'shop'"},
                ],
            }),
            &[],
        );
        assert_eq!(it.not_for, None);
        assert_eq!(
            said(&it),
            [
                (Allows, "mode"),
                (Allows, "allowedActions"),
                (Later, "windows[0]"),
                (Forbids, "windows[1]"),
                (Forbids, "windows"),
                (Forbids, "limits.concurrent"),
                (Later, "limits.maxPods"),
                (Later, "confidenceFloor"),
                (Allows, "validations[0]"),
                (Forbids, "validations[1]"),
                (Later, "validations[2]"),
                (Later, "validations[3]"),
            ]
        );
        let why = |field: &str| &it.lines.iter().find(|line| line.field == field).unwrap().why;
        assert!(why("validations[2]").ends_with("depends on blast, diagnosis"), "{}", why("validations[2]"));
        assert!(why("validations[3]").contains("has no value"), "{}", why("validations[3]"));
    }

    #[test]
    fn what_is_not_for_the_object_says_why() {
        let it = explained(json!({"mode": "auto", "matchConstraints": {"kinds": ["StatefulSet"]}}), &[]);
        assert!(it.not_for.unwrap().contains("matchConstraints"));
        let conditions = json!([{"name": "many", "expression": "target.replicas > 3"}]);
        let it = explained(json!({"mode": "auto", "matchConditions": conditions}), &[]);
        assert!(it.not_for.unwrap().contains("matchConditions[0] many: `target.replicas > 3` is false"));
        let it = explained(json!({"mode": "auto", "validations": [{"expression": "1 +"}]}), &[]);
        assert_eq!(said(&it), [(Answer::Forbids, "Ready")]);
        let it = explained(json!({"mode": "auto", "protected": {"kinds": ["Deployment"]}}), &[]);
        assert!(said(&it).contains(&(Answer::Forbids, "protected")));
    }

    #[test]
    fn an_exception_is_told_with_its_reason() {
        let spec = json!({"reason": "a release", "expiresAt": "2026-11-28T18:00:00Z", "policies": [{"name": "p"}],
            "lifts": ["AllowedActions"]});
        let mut exception = PolicyException::new("e", serde_json::from_value(spec).unwrap());
        exception.metadata.namespace = Some("shop".into());
        let made = "2026-11-28T00:00:00Z".parse().unwrap();
        exception.metadata.creation_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(made));
        let it = explained(json!({"mode": "auto", "allowedActions": []}), &[exception]);
        assert_eq!(said(&it), [(Answer::Allows, "mode"), (Answer::Allows, "allowedActions")]);
        assert!(it.lines[1].why.contains("shop/e: a release"), "{}", it.lines[1].why);
    }
}
