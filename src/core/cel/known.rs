//! The names that an expression may use: the variables with their fields, and what its author declared. A name that
//! nothing will ever have is told when the expression is compiled, with its place, and not when it is needed.

use std::collections::{BTreeMap, BTreeSet};

use kube_cel::cel::{
    IdedExpr,
    common::ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr},
};
use serde_json::Value as Json;

use super::functions;
use super::place::{Fault, Names};

/// The variable whose fields are what the author of the expressions declared.
pub(super) const DECLARED: &str = "variables";

/// What a variable or a field of one can be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Nobody knows: it may have any fields.
    Any,
    /// A text, a number, a list: it has no fields.
    Plain,
    /// It has these fields and no others.
    Fields(BTreeMap<String, Shape>),
}

impl Shape {
    /// The shape of an example. What stands at one of the paths of `open`, such as `target.labels`, may have any fields,
    /// and so may whatever is null or a list.
    pub fn of(example: &Json, open: &[&str]) -> Shape {
        fn at(path: &str, value: &Json, open: &[&str]) -> Shape {
            match value {
                _ if open.contains(&path) => Shape::Any,
                Json::Null | Json::Array(_) => Shape::Any,
                Json::Bool(_) | Json::Number(_) | Json::String(_) => Shape::Plain,
                Json::Object(fields) => {
                    let name = |field: &str| if path.is_empty() { field.into() } else { format!("{path}.{field}") };
                    Shape::Fields(
                        fields.iter().map(|(key, value)| (key.clone(), at(&name(key), value, open))).collect(),
                    )
                }
            }
        }
        at("", example, open)
    }
}

/// What an expression may use.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    /// The variables, as fields; `Any` where nothing is checked.
    pub variables: &'a Shape,
    /// Names that were declared before it, as `variables.NAME`; `None` where there is no such variable.
    pub declared: Option<&'a [&'a str]>,
}

impl Known<'_> {
    /// Nothing is checked.
    pub const ANYTHING: Known<'static> = Known { variables: &Shape::Any, declared: None };
}

/// What is wrong, by the position of the variable among those of the text, and how many dots after it.
struct Wrong {
    variable: usize,
    dots: Option<usize>,
    message: String,
}

/// The variables that `expression`, which is not deep, names, if all of them are known; one that was declared as
/// `variables.NAME`.
pub(super) fn check(expression: &IdedExpr, text: &str, known: Known<'_>) -> Result<BTreeSet<String>, Fault> {
    let mut walk = Walk { known, bound: vec![], seen: 0, uses: BTreeSet::new() };
    let walked = walk.expression(expression);
    walked.map(|()| walk.uses).map_err(|Wrong { variable, dots, message }| {
        let names = Names::of(text);
        let place = dots.map_or_else(|| names.variable(variable), |dots| names.field(variable, dots));
        Fault { place, message }
    })
}

/// A walk through the tree in the order of the text.
struct Walk<'a> {
    known: Known<'a>,
    /// What the macros around bind.
    bound: Vec<&'a str>,
    /// Variables so far.
    seen: usize,
    /// Their names.
    uses: BTreeSet<String>,
}

impl<'a> Walk<'a> {
    fn expression(&mut self, expression: &'a IdedExpr) -> Result<(), Wrong> {
        match &expression.expr {
            Expr::Unspecified | Expr::Literal(_) => Ok(()),
            Expr::Ident(name) => self.variable(name, &[]),
            Expr::Select(select) => match chain(expression) {
                Some((name, path)) => self.variable(name, &path),
                None => self.expression(&select.operand),
            },
            Expr::Call(call) => self.call(call),
            Expr::List(list) => list.elements.iter().try_for_each(|element| self.expression(element)),
            Expr::Map(map) => map.entries.iter().try_for_each(|entry| self.entry(&entry.expr)),
            Expr::Struct(message) => message.entries.iter().try_for_each(|entry| self.entry(&entry.expr)),
            Expr::Comprehension(comprehension) => self.comprehension(comprehension),
        }
    }

    fn entry(&mut self, entry: &'a EntryExpr) -> Result<(), Wrong> {
        match entry {
            EntryExpr::MapEntry(entry) => {
                self.expression(&entry.key)?;
                self.expression(&entry.value)
            }
            EntryExpr::StructField(field) => self.expression(&field.value),
        }
    }

    fn call(&mut self, call: &'a CallExpr) -> Result<(), Wrong> {
        match call.target.as_deref() {
            // `math.abs(x)` is a function with a prefix.
            Some(IdedExpr { expr: Expr::Ident(prefix), .. })
                if functions::find(&format!("{prefix}.{}", call.func_name)).is_some() =>
            {
                self.seen += 1;
            }
            Some(target) => self.expression(target)?,
            None => {}
        }
        call.args.iter().try_for_each(|arg| self.expression(arg))
    }

    fn comprehension(&mut self, comprehension: &'a ComprehensionExpr) -> Result<(), Wrong> {
        let ComprehensionExpr { iter_range, iter_var, accu_init, loop_cond, loop_step, result, .. } = comprehension;
        self.expression(iter_range)?;
        // The name that the macro binds stands in the text and not in the tree.
        self.seen += 1;
        self.bound.push(iter_var);
        [accu_init, loop_cond, loop_step, result].into_iter().try_for_each(|part| self.expression(part))?;
        self.bound.pop();
        Ok(())
    }

    /// A variable with the fields that are asked of it.
    fn variable(&mut self, name: &str, path: &[&str]) -> Result<(), Wrong> {
        // What macros are made of stands in no text.
        if name.starts_with('@') {
            return Ok(());
        }
        let variable = self.seen;
        self.seen += 1;
        if self.bound.contains(&name) {
            return Ok(());
        }
        self.uses.insert(match path.first() {
            Some(field) if name == DECLARED => format!("{DECLARED}.{field}"),
            _ => name.to_owned(),
        });
        let wrong = |dots, message| Err(Wrong { variable, dots, message });
        if name == DECLARED
            && let Some(declared) = self.known.declared
        {
            return match path.first() {
                None => wrong(None, format!("`{DECLARED}` can only be used as `{DECLARED}.NAME`")),
                Some(field) if declared.contains(field) => Ok(()),
                Some(field) => {
                    wrong(Some(0), format!("there is no `{DECLARED}.{field}` {}", among(declared.iter().copied())))
                }
            };
        }
        let Shape::Fields(variables) = self.known.variables else { return Ok(()) };
        let Some(mut shape) = variables.get(name) else {
            let names = variables.keys().map(String::as_str);
            return wrong(None, format!("there is no variable `{name}` {}", among(names)));
        };
        let mut so_far = name.to_owned();
        for (dots, field) in path.iter().enumerate() {
            match shape {
                Shape::Any => return Ok(()),
                Shape::Plain => return wrong(Some(dots), format!("`{so_far}` has no fields, so no `{field}`")),
                Shape::Fields(fields) => match fields.get(*field) {
                    Some(found) => shape = found,
                    None => {
                        let names = fields.keys().map(String::as_str);
                        return wrong(Some(dots), format!("`{so_far}` has no field `{field}` {}", among(names)));
                    }
                },
            }
            so_far = format!("{so_far}.{field}");
        }
        Ok(())
    }
}

fn among<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.collect();
    if names.is_empty() { "(there are none)".into() } else { format!("(there are {})", names.join(", ")) }
}

/// A variable with the fields that are selected of it, such as `a.b.c`.
fn chain(expression: &IdedExpr) -> Option<(&str, Vec<&str>)> {
    match &expression.expr {
        Expr::Ident(name) => Some((name, vec![])),
        Expr::Select(select) => {
            let (name, mut path) = chain(&select.operand)?;
            path.push(&select.field);
            Some((name, path))
        }
        _ => None,
    }
}
