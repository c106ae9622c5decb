//! CEL that cannot hurt: expressions that people write, evaluated within a fixed cost.
//!
//! The library parses, and knows what operators and functions mean; it has no limit of any kind, and a few hundred
//! characters are enough to take all memory or to go on for ever. So an expression is lowered to a tree of our own,
//! which holds only what has a known cost, and is walked by an evaluator that charges before it acts. Cost is counted
//! in units, not in time: the same expression on the same object gets the same answer on every machine.

mod evaluate;
mod functions;
mod lower;
mod meter;
mod patterns;
mod shape;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};

use kube_cel::cel::{Program, Value};

pub use evaluate::Branches;
pub(crate) use meter::clip;
pub use meter::{EXPRESSION_UNITS, JUDGEMENT_UNITS, Meter, Stop};

/// Longest expression, in characters.
pub const MAX_TEXT: usize = 2048;

/// An expression that can be evaluated.
#[derive(Debug)]
pub struct Expression {
    root: lower::Node,
}

/// Longest expression in bytes: the parser takes a time that grows with the square of what is not ASCII.
const MAX_BYTES: usize = 3072;

/// Opening brackets of an expression at most, those inside of strings included: the parser takes a time that grows with
/// the square of their depth, and its tokens are not known before.
const MAX_BRACKETS: usize = 200;

/// What an expression can ask about.
#[derive(Clone, Debug, Default)]
pub struct Variables(BTreeMap<String, Value>);

impl Variables {
    /// The members of a JSON object.
    pub fn of(object: &serde_json::Value) -> Variables {
        let members = object.as_object().into_iter().flatten();
        Variables(members.map(|(name, value)| (name.clone(), cel_value(value))).collect())
    }
}

impl Expression {
    /// Parses `text`.
    ///
    /// # Errors
    ///
    /// One sentence, if it is too long, not CEL, too large or too deep, or if it calls a function that does not exist.
    pub fn compile(text: &str) -> Result<Expression, String> {
        if text.chars().count() > MAX_TEXT {
            return Err(format!("more than {MAX_TEXT} characters"));
        }
        if text.len() > MAX_BYTES {
            return Err(format!("more than {MAX_BYTES} bytes; put long texts into `message`"));
        }
        if text.bytes().filter(|byte| b"([{".contains(byte)).count() > MAX_BRACKETS {
            return Err(format!("more than {MAX_BRACKETS} brackets; split it into several validations"));
        }
        if !shape::is_plausible(text) {
            return Err("not a CEL expression: operators or operands stand side by side in many places".to_string());
        }
        // The parser can panic on odd input; nobody's text may end the process.
        let parsed = catch_unwind(|| Program::compile(text)).map_err(|_| "not a CEL expression".to_string())?;
        let program = parsed.map_err(|error| {
            let sentence = error.to_string().lines().take(3).collect::<Vec<_>>().join(" ");
            clip(sentence, 256)
        })?;
        Ok(Expression { root: lower::lower(program.expression())? })
    }

    /// Its value, charged to `meter`.
    ///
    /// # Errors
    ///
    /// When it has no value, or when the meter has no units left.
    pub fn evaluate(&self, variables: &Variables, branches: Branches, meter: &mut Meter) -> Result<Value, Stop> {
        let patterns = patterns::Patterns::default();
        let mut evaluation = evaluate::Evaluation { variables: &variables.0, meter, branches, patterns };
        // Functions of the library can panic, on numbers out of their range for one.
        catch_unwind(AssertUnwindSafe(|| evaluation.value(&self.root, None)))
            .unwrap_or_else(|_| Err(Stop::failed("the evaluation failed")))
    }
}

/// As CEL reads JSON in Kubernetes: whole numbers are `int`. Left to itself the library makes them `uint`, which equals
/// no literal.
fn cel_value(value: &serde_json::Value) -> Value {
    use serde_json::Value as Json;
    match value {
        Json::Null => Value::Null,
        Json::Bool(value) => (*value).into(),
        Json::Number(number) => match number.as_i64() {
            Some(whole) => whole.into(),
            None => number.as_f64().unwrap_or(f64::NAN).into(),
        },
        Json::String(text) => text.as_str().into(),
        Json::Array(items) => items.iter().map(cel_value).collect::<Vec<Value>>().into(),
        Json::Object(fields) => {
            fields.iter().map(|(name, value)| (name.clone(), cel_value(value))).collect::<HashMap<_, _>>().into()
        }
    }
}
