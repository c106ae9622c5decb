//! From the library's syntax tree to ours: only what the evaluator knows, of bounded size and depth, with its calls
//! already looked up.

use std::collections::HashMap;
use std::sync::Arc;

use kube_cel::cel::{
    IdedExpr, Value,
    common::ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr, LiteralValue, operators},
};

use super::functions::{self, Function};
use super::known::DECLARED;
use super::scalars::Scalar;

/// Parts of an expression at most.
const MAX_NODES: usize = 1_000;
/// Parts within parts at most. An evaluation takes its stack from the thread that it runs on.
const MAX_DEPTH: usize = 64;
/// Operands of a call at most.
pub(super) const MAX_OPERANDS: usize = 16;

/// Names of the variables through which a call gets its operands. No expression can write them.
pub(super) const OPERANDS: [&str; MAX_OPERANDS] =
    ["@0", "@1", "@2", "@3", "@4", "@5", "@6", "@7", "@8", "@9", "@10", "@11", "@12", "@13", "@14", "@15"];

/// Part of an expression.
#[derive(Debug)]
pub(super) enum Node {
    Literal(Value),
    Variable(String),
    Select {
        operand: Box<Node>,
        field: String,
        test: bool,
    },
    And(Box<[Node; 2]>),
    Or(Box<[Node; 2]>),
    If(Box<[Node; 3]>),
    /// What was declared under this number before.
    Declared(usize),
    /// False if it is false, true if it is anything else or fails.
    NotStrictlyFalse(Box<Node>),
    List(Vec<Node>),
    Map(Vec<(Node, Node)>),
    Call(Box<Call>),
    Loop(Box<Loop>),
}

/// A call of the library.
#[derive(Debug)]
pub(super) struct Call {
    pub function: &'static Function,
    /// The one in front of the dot first.
    pub operands: Vec<Node>,
    /// The same as an operator on scalars, if it is one.
    pub scalar: Option<Scalar>,
    /// The same call with variables for operands; one for all calls of its kind in the expression.
    pub leaf: Arc<IdedExpr>,
}

/// What the macros `all`, `exists`, `exists_one`, `map` and `filter` are made of.
#[derive(Debug)]
pub(super) struct Loop {
    pub range: Node,
    pub item: String,
    pub accumulator: String,
    pub init: Node,
    pub condition: Node,
    pub step: Node,
    pub result: Node,
}

/// Functions whose result holds an operand: each call of one can nest a value once more.
const WRAPPING: &[&str] = &["optional.of", "optional.ofNonZeroValue", "first", "last", "_[?_]", "_?._"];

/// How far the evaluation of an expression goes into itself, and what it makes into each other.
#[derive(Clone, Debug, Default)]
pub(super) struct Reach {
    /// Levels of parts within parts.
    pub levels: usize,
    /// Lists, maps and optionals that it makes: the most that can be inside of each other.
    pub nests: usize,
    /// The declared variables that it names by their numbers, each with the level at which it does.
    pub names: Vec<(usize, usize)>,
}

/// Why an expression cannot be evaluated.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unsupported {
    /// The function that does not exist, if it is that.
    pub function: Option<String>,
    /// One sentence.
    pub message: String,
}

impl<T: Into<String>> From<T> for Unsupported {
    fn from(message: T) -> Unsupported {
        Unsupported { function: None, message: message.into() }
    }
}

/// Counts what it lowers, and keeps the calls that it made.
struct Lowering<'a> {
    /// Names that were declared before.
    declared: &'a [&'a str],
    nodes: usize,
    reach: Reach,
    leaves: HashMap<(&'static str, usize, bool), Arc<IdedExpr>>,
}

/// Lowers `expression`, which may use what was `declared` before, or says why it cannot be.
pub(super) fn lower(expression: &IdedExpr, declared: &[&str]) -> Result<(Node, Reach), Unsupported> {
    let mut lowering = Lowering { declared, nodes: 0, reach: Reach::default(), leaves: HashMap::new() };
    let node = lowering.lower(expression, 0)?;
    Ok((node, lowering.reach))
}

impl Lowering<'_> {
    fn lower(&mut self, expression: &IdedExpr, depth: usize) -> Result<Node, Unsupported> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return Err(format!("more than {MAX_NODES} parts; split it into several validations").into());
        }
        if depth > MAX_DEPTH {
            return Err(format!("more than {MAX_DEPTH} levels deep; split it into several validations").into());
        }
        let depth = depth + 1;
        self.reach.levels = self.reach.levels.max(depth);
        Ok(match &expression.expr {
            Expr::Literal(literal) => Node::Literal(value(literal)),
            Expr::Ident(name) => Node::Variable(name.clone()),
            Expr::Select(select) if self.position(&select.operand, &select.field).is_some() => {
                match self.position(&select.operand, &select.field) {
                    Some(number) if !select.test => {
                        self.reach.names.push((number, depth));
                        Node::Declared(number)
                    }
                    _ => Node::Literal(true.into()),
                }
            }
            Expr::Select(select) => Node::Select {
                operand: Box::new(self.lower(&select.operand, depth)?),
                field: select.field.clone(),
                test: select.test,
            },
            Expr::Call(call) => self.call(call, depth)?,
            Expr::List(list) => {
                if !list.optional_indices.is_empty() {
                    return Err("optional elements in a list are not supported".into());
                }
                self.reach.nests += 1;
                Node::List(self.all(&list.elements, depth)?)
            }
            Expr::Map(map) => {
                self.reach.nests += 1;
                let mut entries = Vec::with_capacity(map.entries.len());
                for entry in &map.entries {
                    match &entry.expr {
                        EntryExpr::MapEntry(entry) if !entry.optional => {
                            entries.push((self.lower(&entry.key, depth)?, self.lower(&entry.value, depth)?));
                        }
                        EntryExpr::MapEntry(_) | EntryExpr::StructField(_) => {
                            return Err("optional entries in a map are not supported".into());
                        }
                    }
                }
                Node::Map(entries)
            }
            Expr::Comprehension(comprehension) => self.comprehension(comprehension, depth)?,
            Expr::Struct(message) => return Err(format!("there is no type `{}`", message.type_name).into()),
            Expr::Unspecified => return Err("not a CEL expression".into()),
        })
    }

    /// The number under which `variables.NAME` was declared.
    fn position(&self, operand: &IdedExpr, field: &str) -> Option<usize> {
        match &operand.expr {
            Expr::Ident(name) if name == DECLARED => self.declared.iter().position(|declared| *declared == field),
            _ => None,
        }
    }

    fn all(&mut self, expressions: &[IdedExpr], depth: usize) -> Result<Vec<Node>, Unsupported> {
        expressions.iter().map(|expression| self.lower(expression, depth)).collect()
    }

    fn array<const N: usize>(&mut self, expressions: &[IdedExpr], depth: usize) -> Result<Box<[Node; N]>, Unsupported> {
        let nodes: Result<[Node; N], _> = self.all(expressions, depth)?.try_into();
        nodes.map(Box::new).map_err(|_| "not a CEL expression".into())
    }

    fn call(&mut self, call: &CallExpr, depth: usize) -> Result<Node, Unsupported> {
        match (call.func_name.as_str(), call.args.as_slice()) {
            (operators::CONDITIONAL, args) => return Ok(Node::If(self.array(args, depth)?)),
            (operators::LOGICAL_AND, args) => return Ok(Node::And(self.array(args, depth)?)),
            (operators::LOGICAL_OR, args) => return Ok(Node::Or(self.array(args, depth)?)),
            (operators::NOT_STRICTLY_FALSE, [arg]) => {
                return Ok(Node::NotStrictlyFalse(Box::new(self.lower(arg, depth)?)));
            }
            _ => {}
        }
        // As the library reads it: `math.abs(x)` is a function with a prefix, whatever variables there are.
        let prefixed = call.target.as_ref().and_then(|target| match &target.expr {
            Expr::Ident(prefix) => functions::find(&format!("{prefix}.{}", call.func_name)),
            _ => None,
        });
        let target = call.target.as_deref().filter(|_| prefixed.is_none());
        let function = prefixed.or_else(|| functions::find(&call.func_name)).ok_or_else(|| Unsupported {
            function: Some(call.func_name.clone()),
            message: format!("there is no function `{}`", call.func_name),
        })?;
        let mut operands = self.all(target.map(std::slice::from_ref).unwrap_or_default(), depth)?;
        operands.extend(self.all(&call.args, depth)?);
        if operands.len() > MAX_OPERANDS {
            return Err(format!("`{}` with more than {MAX_OPERANDS} operands", function.name).into());
        }
        self.reach.nests += usize::from(WRAPPING.contains(&function.name));
        let shape = (function.name, operands.len(), target.is_some());
        let leaf = Arc::clone(self.leaves.entry(shape).or_insert_with(|| Arc::new(leaf(shape))));
        Ok(Node::Call(Box::new(Call { function, operands, scalar: Scalar::named(function.name), leaf })))
    }

    fn comprehension(&mut self, comprehension: &ComprehensionExpr, depth: usize) -> Result<Node, Unsupported> {
        let ComprehensionExpr { iter_range, iter_var, iter_var2, accu_var, accu_init, loop_cond, loop_step, result } =
            comprehension;
        if iter_var == DECLARED {
            return Err(format!("a macro cannot bind the name `{DECLARED}`").into());
        }
        if iter_var2.is_some() {
            return Err("macros with two variables are not supported".into());
        }
        Ok(Node::Loop(Box::new(Loop {
            range: self.lower(iter_range, depth)?,
            item: iter_var.clone(),
            accumulator: accu_var.clone(),
            init: self.lower(accu_init, depth)?,
            condition: self.lower(loop_cond, depth)?,
            step: self.lower(loop_step, depth)?,
            result: self.lower(result, depth)?,
        })))
    }
}

/// A call of a function with so many operands, the first of them in front of a dot or not.
fn leaf((name, operands, method): (&str, usize, bool)) -> IdedExpr {
    let mut names = OPERANDS.iter().take(operands).map(|name| ident(name));
    let target = if method { names.next().map(Box::new) } else { None };
    IdedExpr { id: 0, expr: Expr::Call(CallExpr { func_name: name.into(), target, args: names.collect() }) }
}

fn ident(name: &str) -> IdedExpr {
    IdedExpr { id: 0, expr: Expr::Ident(name.into()) }
}

fn value(literal: &LiteralValue) -> Value {
    match literal {
        LiteralValue::Boolean(value) => (*value.inner()).into(),
        LiteralValue::Bytes(value) => value.inner().to_vec().into(),
        LiteralValue::Double(value) => (*value.inner()).into(),
        LiteralValue::Int(value) => (*value.inner()).into(),
        LiteralValue::Null => Value::Null,
        LiteralValue::String(value) => value.inner().into(),
        LiteralValue::UInt(value) => (*value.inner()).into(),
    }
}
