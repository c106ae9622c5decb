//! The evaluator. It walks the expression itself, so that every step is charged before it is taken; what an operator
//! or a function does is the library's, on operands whose size was charged. What rules do most, to hold a scalar against
//! another, is done here, with the same result.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, LazyLock};

use kube_cel::{
    KubeCelExt as _,
    cel::{
        Context, IdedExpr, Value,
        common::ast::operators,
        objects::{Key, Map},
    },
};

use super::functions::{self, Cost};
use super::lower::{Call, Loop, Node, OPERANDS};
use super::meter::{Meter, Stop};
use super::patterns::Patterns;

/// The functions of the library, without variables.
static LIBRARY: LazyLock<Context<'static>> = LazyLock::new(|| Context::default().with_all());

/// Whether what need not be evaluated is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Branches {
    /// As CEL says: only what the result depends on.
    Needed,
    /// All of them: what it would cost at most.
    All,
}

/// One evaluation.
pub(super) struct Evaluation<'a> {
    pub variables: &'a BTreeMap<String, Value>,
    /// What was declared, by number, and what was found of it so far.
    pub declared: &'a [&'a Node],
    pub found: &'a mut [Option<Result<Value, String>>],
    pub meter: &'a mut Meter,
    pub branches: Branches,
    pub patterns: Patterns,
}

/// The variables of a macro, inside those of the macros around it.
pub(super) struct Scope<'a> {
    around: Option<&'a Scope<'a>>,
    item: (&'a str, Value),
    /// Why it has no value, where a step of the macro failed: a later step may decide all the same.
    accumulator: (&'a str, Result<Value, String>),
}

impl Scope<'_> {
    fn find(&self, name: &str) -> Option<Result<&Value, Stop>> {
        let mut scope = Some(self);
        while let Some(Scope { around, item, accumulator }) = scope {
            if item.0 == name {
                return Some(Ok(&item.1));
            }
            if accumulator.0 == name {
                return Some(accumulator.1.as_ref().map_err(|error| Stop::Failed(error.clone())));
            }
            scope = *around;
        }
        None
    }
}

impl<'a> Evaluation<'a> {
    /// The value of `node`.
    pub(super) fn value(&mut self, node: &Node, scope: Option<&Scope<'_>>) -> Result<Value, Stop> {
        self.meter.charge(1)?;
        match node {
            Node::Literal(value) => Ok(value.clone()),
            Node::Variable(name) => {
                let found = scope.and_then(|scope| scope.find(name)).or_else(|| self.variables.get(name).map(Ok));
                found.unwrap_or_else(|| Err(Stop::failed(format_args!("there is no variable `{name}`")))).cloned()
            }
            Node::Select { operand, field, test } if is_place(operand) => {
                selected(self.place(operand, scope)?, field, *test)
            }
            Node::Select { operand, field, test } => selected(&self.value(operand, scope)?, field, *test),
            Node::And(sides) => self.logical(sides, false, scope),
            Node::Or(sides) => self.logical(sides, true, scope),
            Node::If(parts) => {
                let [condition, yes, no] = parts.as_ref();
                let (taken, other) = if self.boolean(condition, scope)? { (yes, no) } else { (no, yes) };
                self.besides(other, scope)?;
                self.value(taken, scope)
            }
            Node::Declared(number) => self.declared(*number),
            Node::NotStrictlyFalse(operand) => match self.boolean(operand, scope) {
                Ok(value) => Ok(value.into()),
                Err(Stop::Failed(_)) => Ok(true.into()),
                Err(Stop::Spent) => Err(Stop::Spent),
            },
            Node::List(items) => {
                let items: Result<Vec<Value>, Stop> = items.iter().map(|item| self.value(item, scope)).collect();
                Ok(items?.into())
            }
            Node::Map(entries) => {
                let mut map = HashMap::with_capacity(entries.len());
                for (key, value) in entries {
                    let key: Key = self
                        .value(key, scope)?
                        .try_into()
                        .map_err(|key: Value| Stop::failed(format_args!("{} is no key of a map", key.type_of())))?;
                    map.insert(key, self.value(value, scope)?);
                }
                Ok(Value::Map(Map { map: Arc::new(map) }))
            }
            Node::Call(call) => self.call(call, scope),
            Node::Loop(each) => self.each(each, scope),
        }
    }

    /// The value of what was declared under this number; evaluated once.
    fn declared(&mut self, number: usize) -> Result<Value, Stop> {
        if let Some(Some(found)) = self.found.get(number) {
            return found.clone().map_err(Stop::Failed);
        }
        let Some(node) = self.declared.get(number) else { return Err(Stop::failed("it was not declared")) };
        let found = match self.value(node, None) {
            Ok(value) => Ok(value),
            Err(Stop::Spent) => return Err(Stop::Spent),
            Err(Stop::Failed(error)) => Err(error),
        };
        if let Some(place) = self.found.get_mut(number) {
            *place = Some(found.clone());
        }
        found.map_err(Stop::Failed)
    }

    fn boolean(&mut self, node: &Node, scope: Option<&Scope<'_>>) -> Result<bool, Stop> {
        match self.value(node, scope)? {
            Value::Bool(value) => Ok(value),
            other => Err(Stop::failed(format_args!("expected a boolean, got {}", other.type_of()))),
        }
    }

    /// What the result does not depend on: only its cost counts.
    fn besides(&mut self, node: &Node, scope: Option<&Scope<'_>>) -> Result<(), Stop> {
        if self.branches == Branches::All && self.value(node, scope) == Err(Stop::Spent) {
            return Err(Stop::Spent);
        }
        Ok(())
    }

    /// `&&` and `||`: the side that decides alone hides what is wrong with the other.
    fn logical(&mut self, sides: &[Node; 2], decides: bool, scope: Option<&Scope<'_>>) -> Result<Value, Stop> {
        let [left, right] = sides;
        let left = match self.boolean(left, scope) {
            Ok(left) if left == decides => {
                self.besides(right, scope)?;
                return Ok(decides.into());
            }
            Err(Stop::Spent) => return Err(Stop::Spent),
            left => left,
        };
        match (left, self.boolean(right, scope)?) {
            (_, right) if right == decides => Ok(decides.into()),
            (left, _) => left.map(Value::from),
        }
    }

    /// Where a value is that is reached by variables and fields alone: nothing on the way to it is copied.
    fn place<'x>(&mut self, node: &Node, scope: Option<&'x Scope<'x>>) -> Result<&'x Value, Stop>
    where
        'a: 'x,
    {
        self.meter.charge(1)?;
        match node {
            Node::Variable(name) => {
                let variables: &'a BTreeMap<String, Value> = self.variables;
                let found = scope.and_then(|scope| scope.find(name)).or_else(|| variables.get(name).map(Ok));
                found.unwrap_or_else(|| Err(Stop::failed(format_args!("there is no variable `{name}`"))))
            }
            Node::Select { operand, field, test: _ } => field_of(self.place(operand, scope)?, field),
            _ => Err(Stop::failed("it is not reached by fields alone")),
        }
    }

    /// An operand that is only read: what is there already is not copied.
    fn operand<'x>(&mut self, node: &'x Node, scope: Option<&'x Scope<'x>>) -> Result<Operand<'x>, Stop>
    where
        'a: 'x,
    {
        match node {
            Node::Literal(value) => {
                self.meter.charge(1)?;
                Ok(Operand::There(value))
            }
            node if is_place(node) => self.place(node, scope).map(Operand::There),
            node => self.value(node, scope).map(Operand::Made),
        }
    }

    fn call(&mut self, call: &Call, scope: Option<&Scope<'_>>) -> Result<Value, Stop> {
        let Call { function, operands, scalar, leaf } = call;
        match (scalar, operands.as_slice()) {
            (Some(scalar), [left, right]) => {
                let (left, right) = (self.operand(left, scope)?, self.operand(right, scope)?);
                functions::charge_reading(&[left.get(), right.get()], self.meter)?;
                return match scalar.apply(&[left.get(), right.get()]) {
                    Some(value) => Ok(value),
                    None => library(leaf, [left.own(), right.own()]),
                };
            }
            (Some(scalar), [only]) => {
                let only = self.operand(only, scope)?;
                functions::charge_reading(&[only.get()], self.meter)?;
                return match scalar.apply(&[only.get()]) {
                    Some(value) => Ok(value),
                    None => library(leaf, [only.own()]),
                };
            }
            _ => {}
        }
        let mut values = Vec::with_capacity(operands.len());
        for operand in operands {
            values.push(self.value(operand, scope)?);
        }
        if let Some(value) = self.shared(function.name, &values)? {
            return Ok(value);
        }
        functions::charge(function.cost, &values, self.meter)?;
        if let Cost::Pattern(search) = function.cost {
            let [Value::String(text), Value::String(pattern), rest @ ..] = values.as_slice() else {
                return Err(Stop::failed(format_args!("{} searches a string for a pattern", function.name)));
            };
            return self.patterns.search(search, text, pattern, rest.first(), self.meter);
        }
        library(leaf, values)
    }

    /// What needs no copy of its operands. The library would make one, and of all the labels to look one up.
    fn shared(&mut self, name: &str, operands: &[Value]) -> Result<Option<Value>, Stop> {
        Ok(match (name, operands) {
            (operators::INDEX, [Value::Map(map), Value::String(key)]) => {
                self.meter.charge_bytes(key.len())?;
                let found = member(map, key).cloned();
                Some(found.ok_or_else(|| Stop::failed(format_args!("there is no key `{key}`")))?)
            }
            (operators::INDEX, [Value::List(items), Value::Int(index)]) => {
                let found = usize::try_from(*index).ok().and_then(|index| items.get(index)).cloned();
                Some(found.ok_or_else(|| Stop::failed(format_args!("there is no item {index}")))?)
            }
            (operators::IN, [Value::String(key), Value::Map(map)]) => {
                self.meter.charge_bytes(key.len())?;
                Some(member(map, key).is_some().into())
            }
            (operators::ADD, [Value::String(left), Value::String(right)]) => {
                self.meter.charge_bytes(left.len() + right.len())?;
                Some(format!("{left}{right}").into())
            }
            (operators::ADD, [Value::List(left), Value::List(right)]) => {
                self.meter.charge(((left.len() + right.len()) / 4) as u64)?;
                Some(Value::List(Arc::new(left.iter().chain(right.iter()).cloned().collect())))
            }
            ("size", [Value::List(items)]) => Some((items.len() as i64).into()),
            ("size", [Value::Map(map)]) => Some((map.map.len() as i64).into()),
            ("size", [Value::String(text)]) => Some((text.len() as i64).into()),
            _ => None,
        })
    }

    /// A macro. A step of `all` or `exists` that fails leaves the answer to a later one that decides, as a side of `&&` or
    /// `||` does; whether an item fails must not hide that another is false.
    fn each(&mut self, each: &Loop, around: Option<&Scope<'_>>) -> Result<Value, Stop> {
        let Loop { range, item, accumulator, init, condition, step, result } = each;
        let init = self.value(init, around)?;
        let items: Vec<Value> = match self.value(range, around)? {
            Value::List(items) => {
                self.meter.charge((items.len() / 4) as u64)?;
                items.iter().cloned().collect()
            }
            Value::Map(map) => {
                self.meter.charge((map.map.len() / 4) as u64)?;
                map.map.keys().map(Value::from).collect()
            }
            other => return Err(Stop::failed(format_args!("{} has no items", other.type_of()))),
        };
        let mut scope = Scope { around, item: (item, Value::Null), accumulator: (accumulator, Ok(init)) };
        for value in items {
            self.meter.charge(1)?;
            let more = self.boolean(condition, Some(&scope))?;
            if !more && self.branches == Branches::Needed {
                break;
            }
            scope.item.1 = value;
            scope.accumulator.1 = match self.value(step, Some(&scope)) {
                Ok(value) => Ok(value),
                // Of `map`, `filter` and `exists_one` nothing that follows brings a value back.
                Err(Stop::Failed(error)) if matches!(condition, Node::NotStrictlyFalse(_)) => Err(error),
                Err(stop) => return Err(stop),
            };
        }
        self.value(result, Some(&scope))
    }
}

/// An operand of an operator.
enum Operand<'x> {
    /// It is there already.
    There(&'x Value),
    /// It was made for this.
    Made(Value),
}

impl Operand<'_> {
    fn get(&self) -> &Value {
        match self {
            Operand::There(value) => value,
            Operand::Made(value) => value,
        }
    }

    fn own(self) -> Value {
        match self {
            Operand::There(value) => value.clone(),
            Operand::Made(value) => value,
        }
    }
}

/// What the library makes of a call with these operands.
fn library(leaf: &IdedExpr, operands: impl IntoIterator<Item = Value>) -> Result<Value, Stop> {
    let mut variables = LIBRARY.new_inner_scope();
    for (name, value) in OPERANDS.iter().zip(operands) {
        variables.add_variable_from_value(*name, value);
    }
    variables.resolve(leaf).map_err(Stop::failed)
}

/// Whether a node is only variables and fields of them.
fn is_place(node: &Node) -> bool {
    match node {
        Node::Variable(_) => true,
        Node::Select { operand, field: _, test } => !test && is_place(operand),
        _ => false,
    }
}

/// A field, or whether there is one.
fn selected(operand: &Value, field: &str, test: bool) -> Result<Value, Stop> {
    if test { Ok(member(map_of(operand, field)?, field).is_some().into()) } else { field_of(operand, field).cloned() }
}

fn field_of<'v>(operand: &'v Value, field: &str) -> Result<&'v Value, Stop> {
    member(map_of(operand, field)?, field).ok_or_else(|| Stop::failed(format_args!("there is no key `{field}`")))
}

fn map_of<'v>(operand: &'v Value, field: &str) -> Result<&'v Map, Stop> {
    match operand {
        Value::Map(map) => Ok(map),
        other => Err(Stop::failed(format_args!("{} has no field `{field}`", other.type_of()))),
    }
}

fn member<'a>(map: &'a Map, key: &str) -> Option<&'a Value> {
    map.map.get(&kube_cel::cel::objects::KeyRef::String(key) as &dyn kube_cel::cel::objects::AsKeyRef)
}
