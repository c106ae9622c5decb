//! CEL that cannot hurt: expressions that people write, evaluated within a fixed cost.
//!
//! The library parses, and knows what operators and functions mean; it has no limit of any kind, and a few hundred
//! characters are enough to take all memory or to go on for ever. So an expression is lowered to a tree of our own,
//! which holds only what has a known cost, and is walked by an evaluator that charges before it acts. Cost is counted
//! in units, not in time: the same expression on the same object gets the same answer on every machine.

mod evaluate;
mod functions;
mod known;
mod lower;
mod meter;
mod patterns;
mod place;
mod scalars;
mod shape;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, LazyLock};

use kube_cel::cel::{ParseErrors, Program, Value};
use serde::Serialize;

pub use evaluate::Branches;
pub use known::{Known, Shape};
pub(crate) use meter::clip;
pub use meter::{EXPRESSION_UNITS, JUDGEMENT_UNITS, Meter, Stop};
use place::Names;
pub use place::{Fault, Place};

/// Longest expression, in characters.
pub const MAX_TEXT: usize = 2048;

/// An expression that can be evaluated.
#[derive(Debug)]
pub struct Expression {
    root: lower::Node,
    reach: lower::Reach,
    uses: BTreeSet<String>,
}

/// How deep an evaluation goes, with that of the declared variables that it needs: it takes its stack from the thread that
/// it runs on, and a variable is evaluated where it is named.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Depth {
    levels: usize,
    nests: usize,
}

/// Levels of an expression and of the variables under it at most, and values inside of each other. A level takes some four
/// kilobytes of stack without optimisation; all of them fit into half of the smallest stack that a thread of ours has.
const MAX_TOGETHER: usize = 128;

impl Depth {
    /// Why it is too deep, in one sentence.
    pub fn excess(&self) -> Option<String> {
        if self.levels > MAX_TOGETHER {
            Some(format!(
                "with the variables that it needs it is {} levels deep, at most {MAX_TOGETHER}; let fewer variables build on \
                 each other",
                self.levels
            ))
        } else if self.nests > MAX_TOGETHER {
            Some(format!(
                "with the variables that it needs it makes {} lists and maps inside of each other, at most {MAX_TOGETHER}; \
                 let fewer variables build on each other",
                self.nests
            ))
        } else {
            None
        }
    }
}

/// Longest expression in bytes: the parser takes a time that grows with the square of what is not ASCII.
const MAX_BYTES: usize = 3072;

/// Opening brackets of an expression at most, those inside of strings included: the parser takes a time that grows with
/// the square of their depth, and its tokens are not known before.
const MAX_BRACKETS: usize = 200;

/// What an expression can ask about.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Variables(BTreeMap<String, Value>);

impl Variables {
    /// The members of a JSON object.
    pub fn of(object: &serde_json::Value) -> Variables {
        let members = object.as_object().into_iter().flatten();
        Variables(members.map(|(name, value)| (name.clone(), cel_value(value))).collect())
    }

    /// With something of ours besides, as it would be written as JSON.
    pub fn with(mut self, name: &str, value: &impl Serialize) -> Variables {
        let made = match kube_cel::cel::to_value(value) {
            Ok(mut made) => {
                whole_numbers(&mut made);
                made
            }
            // A key that is no text, which JSON can write and the library cannot.
            Err(_) => cel_value(&serde_json::to_value(value).unwrap_or_default()),
        };
        self.0.insert(name.to_owned(), made);
        self
    }

    /// With a point in time besides.
    ///
    /// # Errors
    ///
    /// When CEL cannot hold it.
    pub fn with_time(mut self, name: &str, time: crate::api::v1alpha1::Time) -> Result<Variables, String> {
        let text = Variables::of(&serde_json::json!({ "text": time.to_string() }));
        let value = TIMESTAMP.as_ref().map_err(ToString::to_string).and_then(|expression| {
            let value = expression.evaluate(&text, Branches::Needed, &mut Meter::new(EXPRESSION_UNITS));
            value.map_err(|stop| format!("{stop:?}"))
        })?;
        self.0.insert(name.to_owned(), value);
        Ok(self)
    }
}

/// How the library makes a point in time.
static TIMESTAMP: LazyLock<Result<Expression, Fault>> = LazyLock::new(|| Expression::compile("timestamp(text)"));

impl Expression {
    /// Parses `text`, whatever variables it names.
    ///
    /// # Errors
    ///
    /// What is wrong and where, if it is too long, not CEL, too large or too deep, or if it calls a function that does not
    /// exist.
    pub fn compile(text: &str) -> Result<Expression, Fault> {
        Expression::compile_with(text, Known::ANYTHING)
    }

    /// Parses `text`, which may use what is `known`.
    ///
    /// # Errors
    ///
    /// As [`Expression::compile`], and if it names a variable or a field that does not exist.
    pub fn compile_with(text: &str, known: Known<'_>) -> Result<Expression, Fault> {
        let whole = |message: String| Fault { place: Place::START, message };
        let too_large = if text.chars().count() > MAX_TEXT {
            Some(format!("more than {MAX_TEXT} characters"))
        } else if text.len() > MAX_BYTES {
            Some(format!("more than {MAX_BYTES} bytes; put long texts into `message`"))
        } else if text.bytes().filter(|byte| b"([{".contains(byte)).count() > MAX_BRACKETS {
            Some(format!("more than {MAX_BRACKETS} brackets; split it into several validations"))
        } else if !shape::is_plausible(text) {
            Some("not a CEL expression: operators or operands stand side by side in many places".to_string())
        } else {
            None
        };
        if let Some(message) = too_large {
            return Err(whole(message));
        }
        // The parser can panic on odd input; nobody's text may end the process.
        let parsed = catch_unwind(|| Program::compile(text)).map_err(|_| whole("not a CEL expression".to_string()))?;
        let program = parsed.map_err(|errors| syntax(text, &errors))?;
        let (root, reach) = lower::lower(program.expression(), known.declared.unwrap_or_default()).map_err(
            |lower::Unsupported { function, message }| {
                let place = function.map_or(Place::START, |name| Names::of(text).function(&name));
                Fault { place, message }
            },
        )?;
        let uses = known::check(program.expression(), text, known)?;
        Ok(Expression { root, reach, uses })
    }

    /// How deep its evaluation goes, where the names that were known are as deep as `declared` says, in their order.
    pub fn depth(&self, declared: &[Depth]) -> Depth {
        let lower::Reach { levels, nests, names } = &self.reach;
        let own = Depth { levels: *levels, nests: *nests };
        names.iter().fold(own, |depth, (number, at)| {
            let named = declared.get(*number).copied().unwrap_or_default();
            Depth { levels: depth.levels.max(at + named.levels), nests: depth.nests.max(nests + named.nests) }
        })
    }

    /// The variables that it names; what was declared before it as `variables.NAME`.
    pub fn uses(&self) -> &BTreeSet<String> {
        &self.uses
    }

    /// Its value, charged to `meter`.
    ///
    /// # Errors
    ///
    /// When it has no value, or when the meter has no units left.
    pub fn evaluate(&self, variables: &Variables, branches: Branches, meter: &mut Meter) -> Result<Value, Stop> {
        Session::new(variables, []).evaluate(self, branches, meter)
    }
}

/// The first error of the parser with its place.
fn syntax(text: &str, errors: &ParseErrors) -> Fault {
    let Some(first) = errors.errors.first() else {
        return Fault { place: Place::START, message: "not a CEL expression".into() };
    };
    let count = |number: isize| usize::try_from(number).unwrap_or(1).max(1);
    let (line, column) = (count(first.pos.0), count(first.pos.1));
    // Beyond the last line is the end of the text.
    let lines = text.split('\n').count();
    let place = if line > lines { Place::of(text, text.len()) } else { Place { line, column } };
    let sentence = first.msg.lines().take(3).collect::<Vec<_>>().join(" ");
    Fault { place, message: clip(sentence, 256) }
}

/// Evaluations about one set of variables: what an author declared is evaluated once for all of them.
pub struct Session<'a> {
    variables: &'a Variables,
    declared: Vec<&'a lower::Node>,
    found: Vec<Option<Result<Value, String>>>,
}

impl<'a> Session<'a> {
    /// `declared` are the expressions behind the names that were known, in their order.
    pub fn new(variables: &'a Variables, declared: impl IntoIterator<Item = &'a Expression>) -> Session<'a> {
        let declared: Vec<&lower::Node> = declared.into_iter().map(|expression| &expression.root).collect();
        Session { variables, found: vec![None; declared.len()], declared }
    }

    /// The value of an expression, charged to `meter`.
    ///
    /// # Errors
    ///
    /// When it has no value, or when the meter has no units left.
    pub fn evaluate(&mut self, expression: &Expression, branches: Branches, meter: &mut Meter) -> Result<Value, Stop> {
        let patterns = patterns::Patterns::default();
        let (variables, declared, found) = (&self.variables.0, self.declared.as_slice(), self.found.as_mut_slice());
        let mut evaluation = evaluate::Evaluation { variables, declared, found, meter, branches, patterns };
        // Functions of the library can panic, on numbers out of their range for one.
        catch_unwind(AssertUnwindSafe(|| evaluation.value(&expression.root, None)))
            .unwrap_or_else(|_| Err(Stop::failed("the evaluation failed")))
    }
}

/// Makes whole numbers `int`, as [`cel_value`] does. Nothing is shared yet, so nothing is copied.
fn whole_numbers(value: &mut Value) {
    match value {
        Value::UInt(number) => {
            *value = i64::try_from(*number).map_or_else(|_| (*number as f64).into(), Value::from);
        }
        Value::List(items) => {
            if let Some(items) = Arc::get_mut(items) {
                items.iter_mut().for_each(whole_numbers);
            }
        }
        Value::Map(map) => {
            if let Some(fields) = Arc::get_mut(&mut map.map) {
                fields.values_mut().for_each(whole_numbers);
            }
        }
        _ => {}
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
