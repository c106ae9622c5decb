//! Operators on scalars of the same type. The library boxes each operand and looks its function up for each call, which
//! takes a hundred times as long as to compare two numbers; a rule over two hundred facts does so thousands of times.
//!
//! Only where the result is the library's, which a test holds for every pair of values: whatever else there is, an
//! overflow among it, is left to the library.

use std::cmp::Ordering;

use kube_cel::cel::{Value, common::ast::operators};

/// An operator or a function that is known here. All of them cost what it costs to read their operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scalar {
    Not,
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    StartsWith,
    EndsWith,
    Subtract,
    Multiply,
}

impl Scalar {
    /// The one with this name.
    pub(super) fn named(name: &str) -> Option<Scalar> {
        Some(match name {
            operators::LOGICAL_NOT => Scalar::Not,
            operators::EQUALS => Scalar::Equal,
            operators::NOT_EQUALS => Scalar::NotEqual,
            operators::LESS => Scalar::Less,
            operators::LESS_EQUALS => Scalar::LessOrEqual,
            operators::GREATER => Scalar::Greater,
            operators::GREATER_EQUALS => Scalar::GreaterOrEqual,
            operators::SUBSTRACT => Scalar::Subtract,
            operators::MULTIPLY => Scalar::Multiply,
            "startsWith" => Scalar::StartsWith,
            "endsWith" => Scalar::EndsWith,
            _ => return None,
        })
    }

    /// Its result; `None` where the library has to say.
    pub(super) fn apply(self, operands: &[&Value]) -> Option<Value> {
        let result = match (self, operands) {
            (Scalar::Not, [Value::Bool(value)]) => !value,
            (Scalar::Equal, [left, right]) => equal(left, right)?,
            (Scalar::NotEqual, [left, right]) => !equal(left, right)?,
            (Scalar::Less, [left, right]) => order(left, right)?.is_lt(),
            (Scalar::LessOrEqual, [left, right]) => order(left, right)?.is_le(),
            (Scalar::Greater, [left, right]) => order(left, right)?.is_gt(),
            (Scalar::GreaterOrEqual, [left, right]) => order(left, right)?.is_ge(),
            (Scalar::StartsWith, [Value::String(text), Value::String(part)]) => text.starts_with(part.as_str()),
            (Scalar::EndsWith, [Value::String(text), Value::String(part)]) => text.ends_with(part.as_str()),
            (Scalar::Subtract, [Value::Int(left), Value::Int(right)]) => {
                return left.checked_sub(*right).map(Value::Int);
            }
            (Scalar::Multiply, [Value::Int(left), Value::Int(right)]) => {
                return left.checked_mul(*right).map(Value::Int);
            }
            _ => return None,
        };
        Some(result.into())
    }
}

fn equal(left: &Value, right: &Value) -> Option<bool> {
    match (left, right) {
        (Value::Null, Value::Null) => Some(true),
        _ => order(left, right).map(Ordering::is_eq),
    }
}

fn order(left: &Value, right: &Value) -> Option<Ordering> {
    match (left, right) {
        (Value::String(left), Value::String(right)) => Some(left.cmp(right)),
        (Value::Int(left), Value::Int(right)) => Some(left.cmp(right)),
        (Value::Bool(left), Value::Bool(right)) => Some(left.cmp(right)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use kube_cel::{
        KubeCelExt as _,
        cel::{Context, Program},
    };

    use super::super::functions::{self, Cost};
    use super::*;

    const BINARY: [(&str, &str); 10] = [
        (operators::EQUALS, "a == b"),
        (operators::NOT_EQUALS, "a != b"),
        (operators::LESS, "a < b"),
        (operators::LESS_EQUALS, "a <= b"),
        (operators::GREATER, "a > b"),
        (operators::GREATER_EQUALS, "a >= b"),
        (operators::SUBSTRACT, "a - b"),
        (operators::MULTIPLY, "a * b"),
        ("startsWith", "a.startsWith(b)"),
        ("endsWith", "a.endsWith(b)"),
    ];

    #[test]
    fn whatever_is_done_here_gives_what_the_library_gives() {
        let mut values: Vec<Value> = vec![Value::Null, true.into(), false.into(), 1.5.into(), Value::UInt(1)];
        values.extend(["", "a", "ab", "b", "ä", "\u{10ffff}"].map(Value::from));
        values.extend([i64::MIN, -1, 0, 1, 2, i64::MAX].map(Value::from));
        values.extend([vec![Value::from("a"), Value::from(1)].into(), Vec::<Value>::new().into()]);
        let library = Context::default().with_all();
        let mut done = 0;
        for (name, text) in BINARY {
            let (scalar, program) = (Scalar::named(name).unwrap(), Program::compile(text).unwrap());
            for (left, right) in values.iter().flat_map(|left| values.iter().map(move |right| (left, right))) {
                let Some(ours) = scalar.apply(&[left, right]) else { continue };
                let mut context = library.new_inner_scope();
                context.add_variable_from_value("a", left.clone());
                context.add_variable_from_value("b", right.clone());
                let theirs = program.execute(&context).expect("it has a value");
                assert_eq!(format!("{ours:?}"), format!("{theirs:?}"), "{left:?} {name} {right:?}");
                done += 1;
            }
        }
        assert!(done > 500, "{done}");
        for value in [true, false] {
            assert_eq!(Scalar::Not.apply(&[&value.into()]), Some((!value).into()));
        }
        let (most, two) = (i64::MAX.into(), 2.into());
        assert_eq!(Scalar::Multiply.apply(&[&most, &two]), None, "an overflow is the library's to say");
    }

    #[test]
    fn all_of_them_cost_what_it_costs_to_read_their_operands() {
        for name in BINARY.map(|(name, _)| name).into_iter().chain([operators::LOGICAL_NOT]) {
            assert_eq!(functions::find(name).unwrap().cost, Cost::Linear, "{name}");
        }
    }
}
