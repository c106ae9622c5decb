//! What a Policy or a Runbook says in CEL, compiled once: match conditions, variables and validations, with the meaning
//! that a ValidatingAdmissionPolicy gives these words.
//!
//! Two things are stricter. What does not compile denies, and so does what costs too much, whatever `failurePolicy` says:
//! nobody knows what its author wanted.

use std::collections::BTreeSet;

use kube_cel::cel::Value as CelValue;

use crate::api::v1alpha1::{FailurePolicy, MatchCondition, PolicySpec, RunbookSpec, Validation, Variable};
use crate::core::cel::{
    self, Branches, Depth, EXPRESSION_UNITS, Expression, JUDGEMENT_UNITS, Known, Meter, Place, Session, Stop, Variables,
};
use crate::core::reason::Reason;

use super::denial::{Denial, Finding, MAX_QUOTED, non_empty};
use super::example::{EXAMPLE, VARIABLES};

/// Characters of all expressions of one object at most.
const MAX_EXPRESSIONS: usize = 16_384;

/// What is wrong with what brings a decision over its bound, after the name of the field.
pub(super) fn over_together() -> String {
    format!(
        "brings the Policies of one decision over {JUDGEMENT_UNITS} units, their bound together; delete what is not needed"
    )
}

/// The part of a Policy or a Runbook that is CEL.
#[derive(Clone, Copy, Debug)]
pub struct Said<'a> {
    match_conditions: &'a [MatchCondition],
    variables: &'a [Variable],
    validations: &'a [Validation],
    failure_policy: FailurePolicy,
}

impl<'a> From<&'a PolicySpec> for Said<'a> {
    fn from(spec: &'a PolicySpec) -> Self {
        let PolicySpec { match_conditions, variables, validations, failure_policy, .. } = spec;
        Said { match_conditions, variables, validations, failure_policy: *failure_policy }
    }
}

impl<'a> From<&'a RunbookSpec> for Said<'a> {
    fn from(spec: &'a RunbookSpec) -> Self {
        let RunbookSpec { match_conditions, variables, validations, failure_policy, .. } = spec;
        Said { match_conditions, variables, validations, failure_policy: *failure_policy }
    }
}

impl Said<'_> {
    /// Characters of the expressions.
    fn expressions(&self) -> usize {
        let conditions = self.match_conditions.iter().map(|condition| &condition.expression);
        let variables = self.variables.iter().map(|variable| &variable.expression);
        let validations = self.validations.iter().flat_map(|said| [&said.expression, &said.message_expression]);
        conditions.chain(variables).chain(validations).map(|text| text.chars().count()).sum()
    }

    /// Characters of everything that its author wrote.
    pub(super) fn characters(&self) -> usize {
        let words = self.validations.iter().flat_map(|said| [&said.message, &said.reason]);
        let names = self.match_conditions.iter().map(|it| &it.name).chain(self.variables.iter().map(|it| &it.name));
        self.expressions() + words.chain(names).map(|text| text.chars().count()).sum::<usize>()
    }
}

/// What was compiled.
#[derive(Debug)]
pub struct Program {
    /// The object, such as `Policy shop/web`.
    whose: String,
    failure_policy: FailurePolicy,
    conditions: Vec<(MatchCondition, Expression)>,
    variables: Vec<(String, Expression)>,
    validations: Vec<Rule>,
    /// What all expressions name.
    uses: BTreeSet<String>,
    /// What the most expensive expression costs on the example.
    pub(super) cost: u64,
    /// What all of them cost there.
    pub(super) total: u64,
}

/// A validation that compiled.
#[derive(Debug)]
struct Rule {
    said: Validation,
    expression: Expression,
    message: Option<Expression>,
}

/// What an expression has to evaluate to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Boolean,
    Text,
    Anything,
}

/// Compiles expression after expression, and keeps what is wrong and what they cost on the example.
struct Compiling<'a> {
    declared: Vec<&'a str>,
    /// How deep each of them is.
    depths: Vec<Depth>,
    findings: Vec<Finding>,
    uses: BTreeSet<String>,
    meter: Meter,
    cost: u64,
}

impl<'a> Compiling<'a> {
    fn parse(&mut self, field: &str, text: &str, declared: bool) -> Option<Expression> {
        // Before the list of variables is evaluated there is no `variables`.
        let names = if declared { self.declared.as_slice() } else { &[] };
        match Expression::compile_with(text, Known { variables: &VARIABLES, declared: Some(names) }) {
            Ok(expression) => {
                self.uses.extend(expression.uses().iter().cloned());
                // Before anything is evaluated: what is too deep takes more stack than there is.
                if let Some(excess) = expression.depth(&self.depths).excess() {
                    self.findings.push(Finding::invalid(field, excess).at(Place::START));
                }
                Some(expression)
            }
            Err(cel::Fault { place, message }) => {
                self.findings.push(Finding::invalid(field, message).at(place));
                None
            }
        }
    }

    /// Evaluates it on the example: that it has no value there is no error, for the example may lack what it asks for.
    fn try_out(&mut self, session: &mut Session<'_>, field: &str, expression: &Expression, wanted: Wanted) {
        let before = self.meter.spent();
        match evaluate(session, expression, Branches::All, &mut self.meter) {
            Ok(value) if wanted == Wanted::Boolean && !matches!(value, CelValue::Bool(_)) => {
                let message = format!("it gives a {}, expected a boolean", value.type_of());
                self.findings.push(Finding::invalid(field, message).at(Place::START));
            }
            Ok(value) if wanted == Wanted::Text && !matches!(value, CelValue::String(_)) => {
                let message = format!("it gives a {}, expected a string", value.type_of());
                self.findings.push(Finding::invalid(field, message).at(Place::START));
            }
            Ok(_) | Err(Over::Failed(_)) => {}
            Err(over) => {
                let (reason, message) = (Reason::PolicyTooExpensive, format!("it {}", over.sentence()));
                self.findings.push(Finding { reason, field: field.into(), place: None, message });
            }
        }
        self.cost = self.cost.max(self.meter.spent() - before);
    }
}

impl Program {
    /// Compiles what `whose` says; it is what its messages call it.
    ///
    /// # Errors
    ///
    /// Everything that is wrong, in the order of the fields.
    pub fn compile(whose: &str, said: Said<'_>) -> Result<Program, Vec<Finding>> {
        let characters = said.expressions();
        if characters > MAX_EXPRESSIONS {
            let message = format!(
                "its expressions have {characters} characters, at most {MAX_EXPRESSIONS}; split it into several"
            );
            let field = "validations".into();
            return Err(vec![Finding { reason: Reason::PolicyTooExpensive, field, place: None, message }]);
        }
        let meter = Meter::new(JUDGEMENT_UNITS);
        let mut it =
            Compiling { declared: vec![], depths: vec![], findings: vec![], uses: BTreeSet::new(), meter, cost: 0 };
        let (mut conditions, mut variables, mut validations) = (vec![], vec![], vec![]);
        for (index, condition) in said.match_conditions.iter().enumerate() {
            let field = format!("matchConditions[{index}].expression");
            let expression = it.parse(&field, &condition.expression, false);
            conditions.extend(expression.map(|expression| (field, condition.clone(), expression)));
        }
        for (index, variable) in said.variables.iter().enumerate() {
            let field = format!("variables[{index}].expression");
            if it.declared.contains(&variable.name.as_str()) {
                let message = format!("`{}` is declared twice", variable.name);
                it.findings.push(Finding::invalid(format!("variables[{index}].name"), message));
            }
            let expression = it.parse(&field, &variable.expression, true);
            // The others are told apart from it even if it does not compile.
            it.declared.push(&variable.name);
            it.depths.push(expression.as_ref().map(|expression| expression.depth(&it.depths)).unwrap_or_default());
            variables.extend(expression.map(|expression| (field, expression)));
        }
        for (index, said) in said.validations.iter().enumerate() {
            let field = format!("validations[{index}].expression");
            let expression = it.parse(&field, &said.expression, true);
            let named = format!("validations[{index}].messageExpression");
            let message = non_empty(&said.message_expression).and_then(|text| it.parse(&named, text, true));
            let rule = expression.map(|expression| Rule { said: said.clone(), expression, message });
            validations.extend(rule.map(|rule| (field, named, rule)));
        }
        if it.findings.is_empty() {
            let mut session = Session::new(&EXAMPLE, variables.iter().map(|(_, expression)| expression));
            for (field, _, expression) in &conditions {
                it.try_out(&mut session, field, expression, Wanted::Boolean);
            }
            for (field, expression) in &variables {
                it.try_out(&mut session, field, expression, Wanted::Anything);
            }
            for (field, named, Rule { expression, message, said: _ }) in &validations {
                it.try_out(&mut session, field, expression, Wanted::Boolean);
                if let Some(message) = message {
                    it.try_out(&mut session, named, message, Wanted::Text);
                }
            }
        }
        let Compiling { findings, uses, meter, cost, declared: _, depths: _ } = it;
        if !findings.is_empty() {
            return Err(findings);
        }
        Ok(Program {
            whose: whose.into(),
            failure_policy: said.failure_policy,
            conditions: conditions.into_iter().map(|(_, said, expression)| (said, expression)).collect(),
            variables: said
                .variables
                .iter()
                .map(|said| said.name.clone())
                .zip(variables.into_iter().map(|(_, it)| it))
                .collect(),
            validations: validations.into_iter().map(|(_, _, rule)| rule).collect(),
            uses,
            cost,
            total: meter.spent(),
        })
    }

    /// Nothing of it needs variables.
    pub fn is_empty(&self) -> bool {
        self.conditions.is_empty() && self.validations.is_empty()
    }

    /// Whether an expression of it names this variable.
    pub fn asks(&self, variable: &str) -> bool {
        self.uses.contains(variable)
    }

    /// Whether its match conditions hold. `meter` counts what all expressions of one decision cost.
    ///
    /// # Errors
    ///
    /// When that cannot be told, and so it denies.
    pub fn applies(&self, variables: &Variables, meter: &mut Meter) -> Result<bool, Denial> {
        let mut session = Session::new(variables, []);
        let mut failed = None;
        for (MatchCondition { name, expression: text }, expression) in &self.conditions {
            let why = match evaluate(&mut session, expression, Branches::Needed, meter) {
                Ok(CelValue::Bool(true)) => continue,
                // One that is false decides, whatever is wrong with the others.
                Ok(CelValue::Bool(false)) => return Ok(false),
                Ok(other) => format!("gives a {}, expected a boolean", other.type_of()),
                Err(Over::Failed(error)) => format!("cannot be evaluated: {error}"),
                Err(over) => return Err(self.too_expensive(text, &over)),
            };
            failed.get_or_insert_with(|| {
                let text = cel::clip(text, MAX_QUOTED);
                format!("{}: match condition {name}: `{text}` {why}", self.whose)
            });
        }
        match (failed, self.failure_policy) {
            (None, _) => Ok(true),
            (Some(_), FailurePolicy::Ignore) => Ok(false),
            (Some(message), FailurePolicy::Fail) => Err(Denial { reason: Reason::PolicyValidationFailed, message }),
        }
    }

    /// Evaluates the validations. `meter` counts what all expressions of one decision cost.
    ///
    /// # Errors
    ///
    /// The first that is not true, or has no value unless that is to be ignored, or costs too much.
    pub fn validate(&self, variables: &Variables, meter: &mut Meter) -> Result<(), Denial> {
        let mut session = self.session(variables);
        for Rule { said: Validation { expression: text, message, reason: word, .. }, expression, message: own } in
            &self.validations
        {
            let denied = |detail: String| {
                let (whose, detail) = (&self.whose, cel::clip(detail, MAX_QUOTED));
                let message = match non_empty(word) {
                    Some(word) => format!("{whose}: {word}: {detail}"),
                    None => format!("{whose}: {detail}"),
                };
                Err(Denial { reason: Reason::PolicyValidationFailed, message })
            };
            let text = cel::clip(text, MAX_QUOTED);
            let failed = match evaluate(&mut session, expression, Branches::Needed, meter) {
                Ok(CelValue::Bool(true)) => continue,
                Ok(CelValue::Bool(false)) => {
                    let own = own.as_ref().map(|own| evaluate(&mut session, own, Branches::Needed, meter));
                    let own = match own {
                        Some(Ok(CelValue::String(own))) => Some(cel::clip(own, MAX_QUOTED)),
                        _ => None,
                    };
                    let own = own.filter(|own| !own.trim().is_empty() && !own.contains(['\n', '\r']));
                    let said = own.or_else(|| non_empty(message).map(String::from));
                    return denied(said.unwrap_or_else(|| format!("`{text}` is not true")));
                }
                Ok(other) => format!("`{text}` gives a {}, expected a boolean", other.type_of()),
                Err(Over::Failed(error)) => format!("`{text}` cannot be evaluated: {error}"),
                Err(over) => return Err(self.too_expensive(&text, &over)),
            };
            if self.failure_policy == FailurePolicy::Fail {
                return denied(failed);
            }
        }
        Ok(())
    }

    fn session<'a>(&'a self, variables: &'a Variables) -> Session<'a> {
        Session::new(variables, self.variables.iter().map(|(_, expression)| expression))
    }

    /// What each expression says where only some variables are `known`: for people, before there is an incident.
    pub fn told(&self, variables: &Variables, known: &BTreeSet<&str>) -> Vec<Told> {
        let mut meter = Meter::new(JUDGEMENT_UNITS);
        let mut session = self.session(variables);
        let mut told = Vec::new();
        let conditions = self.conditions.iter().enumerate().map(|(index, (said, expression))| {
            (format!("matchConditions[{index}] {}", said.name), &said.expression, expression)
        });
        let validations = self
            .validations
            .iter()
            .enumerate()
            .map(|(index, rule)| (format!("validations[{index}]"), &rule.said.expression, &rule.expression));
        for (field, text, expression) in conditions.chain(validations) {
            let missing = self.missing(expression, known);
            let value = match evaluate(&mut session, expression, Branches::Needed, &mut meter) {
                Ok(CelValue::Bool(value)) => Some(value),
                Ok(_) | Err(_) => None,
            };
            told.push(Told { field, text: cel::clip(text, MAX_QUOTED), value, missing });
        }
        told
    }

    /// Variables that an expression names, be it through what was declared, and that are not known.
    fn missing(&self, expression: &Expression, known: &BTreeSet<&str>) -> BTreeSet<String> {
        let (mut missing, mut looked_at) = (BTreeSet::new(), BTreeSet::new());
        let mut open: Vec<&String> = expression.uses().iter().collect();
        while let Some(name) = open.pop() {
            // Once each: variables that all build on all before them have more paths than anybody can walk.
            if !looked_at.insert(name) {
                continue;
            }
            let declared = name.strip_prefix("variables.");
            match declared.and_then(|name| self.variables.iter().find(|(declared, _)| declared == name)) {
                Some((_, declared)) => open.extend(declared.uses()),
                None if known.contains(name.as_str()) => {}
                None => {
                    missing.insert(name.clone());
                }
            }
        }
        missing
    }

    fn too_expensive(&self, text: &str, over: &Over) -> Denial {
        let text = cel::clip(text, MAX_QUOTED);
        let message = format!("{} is too expensive and so denies: `{text}` {}", self.whose, over.sentence());
        Denial { reason: Reason::PolicyTooExpensive, message }
    }
}

/// What an expression says where only some variables are known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// Its field.
    pub field: String,
    /// Its text.
    pub text: String,
    /// Its value, if it has one by what is known.
    pub value: Option<bool>,
    /// The variables that it names and that are not known.
    pub missing: BTreeSet<String>,
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
            Over::Judgement => over_together(),
        }
    }
}

/// Evaluates one expression. What it costs is taken from `meter`.
fn evaluate(
    session: &mut Session<'_>,
    expression: &Expression,
    branches: Branches,
    meter: &mut Meter,
) -> Result<CelValue, Over> {
    let together = meter.left() < EXPRESSION_UNITS;
    let mut own = Meter::new(meter.left().min(EXPRESSION_UNITS));
    let result = session.evaluate(expression, branches, &mut own);
    meter.take(&own);
    result.map_err(|stop| match stop {
        Stop::Failed(error) => Over::Failed(error),
        Stop::Spent if together => Over::Judgement,
        Stop::Spent => Over::Expression,
    })
}
