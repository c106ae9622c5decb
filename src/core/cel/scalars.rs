//! Operators on scalars of the same type. The library boxes each operand and looks its function up for each call, which
//! takes a hundred times as long as to compare two numbers; a rule over two hundred facts does so thousands of times.
//!
//! Only where the result is the library's, which a test holds for every pair of values: whatever else there is, an
//! overflow among it, is left to the library.

use std::cmp::Ordering;

use kube_cel::cel::{Value, common::ast::operators};

/// The result of an operator or a function on scalars; `None` where the library has to say.
pub(super) fn apply(name: &str, operands: &[Value]) -> Option<Value> {
    let result = match (name, operands) {
        (operators::LOGICAL_NOT, [Value::Bool(value)]) => !value,
        (operators::EQUALS, [left, right]) => equal(left, right)?,
        (operators::NOT_EQUALS, [left, right]) => !equal(left, right)?,
        (operators::LESS, [left, right]) => order(left, right)?.is_lt(),
        (operators::LESS_EQUALS, [left, right]) => order(left, right)?.is_le(),
        (operators::GREATER, [left, right]) => order(left, right)?.is_gt(),
        (operators::GREATER_EQUALS, [left, right]) => order(left, right)?.is_ge(),
        (operators::IN, [Value::String(key), Value::List(items)]) => {
            let mut found = false;
            for item in items.iter() {
                let Value::String(item) = item else { return None };
                found |= item == key;
            }
            found
        }
        ("startsWith", [Value::String(text), Value::String(part)]) => text.starts_with(part.as_str()),
        ("endsWith", [Value::String(text), Value::String(part)]) => text.ends_with(part.as_str()),
        ("contains", [Value::String(text), Value::String(part)]) => text.contains(part.as_str()),
        (operators::ADD, [Value::Int(left), Value::Int(right)]) => return left.checked_add(*right).map(Value::Int),
        (operators::SUBSTRACT, [Value::Int(left), Value::Int(right)]) => {
            return left.checked_sub(*right).map(Value::Int);
        }
        (operators::MULTIPLY, [Value::Int(left), Value::Int(right)]) => {
            return left.checked_mul(*right).map(Value::Int);
        }
        _ => return None,
    };
    Some(result.into())
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
    use kube_cel::{KubeCelExt as _, cel::Context};

    use super::*;

    #[test]
    fn whatever_is_done_here_gives_what_the_library_gives() {
        let texts = ["", "a", "ab", "b", "ä", "\u{10ffff}"];
        let numbers = [i64::MIN, -1, 0, 1, 2, i64::MAX];
        let mut values: Vec<Value> = vec![Value::Null, true.into(), false.into(), 1.5.into(), Value::UInt(1)];
        values.extend(texts.iter().map(|text| Value::from(*text)));
        values.extend(numbers.iter().map(|number| Value::from(*number)));
        values.push(vec![Value::from("a"), Value::from("ab")].into());
        values.push(Vec::<Value>::new().into());
        values.push(vec![Value::from("a"), Value::from(1)].into());
        let library = Context::default().with_all();
        let program = |text: &str| kube_cel::cel::Program::compile(text).unwrap();
        let binary = ["==", "!=", "<", "<=", ">", ">=", "in", "+", "-", "*"];
        let names = [
            operators::EQUALS,
            operators::NOT_EQUALS,
            operators::LESS,
            operators::LESS_EQUALS,
            operators::GREATER,
            operators::GREATER_EQUALS,
            operators::IN,
            operators::ADD,
            operators::SUBSTRACT,
            operators::MULTIPLY,
        ];
        let methods = ["startsWith", "endsWith", "contains"];
        let calls: Vec<(&str, _)> = (names.into_iter().zip(binary.map(|it| program(&format!("a {it} b")))))
            .chain(methods.map(|it| (it, program(&format!("a.{it}(b)")))))
            .collect();
        let mut done = 0;
        for (left, right) in values.iter().flat_map(|left| values.iter().map(move |right| (left, right))) {
            for (name, program) in &calls {
                let Some(ours) = apply(name, &[left.clone(), right.clone()]) else { continue };
                let mut context = library.new_inner_scope();
                context.add_variable_from_value("a", left.clone());
                context.add_variable_from_value("b", right.clone());
                let theirs = program.execute(&context).expect("it has a value");
                assert_eq!(format!("{ours:?}"), format!("{theirs:?}"), "{left:?} {name} {right:?}");
                done += 1;
            }
        }
        assert!(done > 600, "{done}");
        for value in [true, false] {
            assert_eq!(apply(operators::LOGICAL_NOT, &[value.into()]), Some((!value).into()));
        }
        assert_eq!(apply(operators::ADD, &[i64::MAX.into(), 1.into()]), None, "an overflow is the library's to say");
    }
}
