//! Where something is in the text of an expression. The library keeps no places of what it parsed, so they are found again:
//! names stand in the tree in the same order as in the text.

use std::fmt::{self, Display};
use std::ops::Range;

use super::shape::{Token, Tokens};

/// A place in a text, counted from 1; the column in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Line.
    pub line: usize,
    /// Character of the line.
    pub column: usize,
}

/// What keeps an expression from being compiled, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Where it is in the text of the expression.
    pub place: Place,
    /// One sentence.
    pub message: String,
}

impl Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Fault { place: Place { line, column }, message } = self;
        write!(f, "line {line}, column {column}: {message}")
    }
}

impl Place {
    /// The beginning.
    pub const START: Place = Place { line: 1, column: 1 };

    /// That of a byte of `text`.
    pub(super) fn of(text: &str, byte: usize) -> Place {
        let before = &text[..byte];
        let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        Place { line, column }
    }
}

/// What a name is in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// A variable, or what a macro binds.
    Variable,
    /// What comes after a dot.
    Field,
    /// What comes before an opening bracket.
    Function,
}

/// The names in the text of an expression that was parsed.
pub(super) struct Names<'a> {
    text: &'a str,
    names: Vec<(Range<usize>, Role)>,
}

impl<'a> Names<'a> {
    pub(super) fn of(text: &'a str) -> Names<'a> {
        let tokens: Vec<(Range<usize>, Token)> = Tokens::of(text).collect();
        let says = |at: usize, what: &str| tokens.get(at).is_some_and(|(range, _)| &text[range.clone()] == what);
        let ends = |at: usize| matches!(tokens.get(at), Some((_, Token::Operand | Token::Close)));
        // `a.b`, `a.?b`; but `.a` is a variable, and so is the `b` of `a ? b : c`.
        let after_dot = |at: usize| match at.checked_sub(1) {
            Some(dot) if says(dot, ".") => dot.checked_sub(1).is_some_and(&ends),
            Some(mark) if says(mark, "?") => mark.checked_sub(1).is_some_and(|dot| says(dot, ".")),
            _ => false,
        };
        let names = tokens.iter().enumerate().filter(|(_, (range, _))| is_name(&text[range.clone()]));
        let names = names.map(|(at, (range, _))| {
            let role = match (says(at + 1, "("), after_dot(at)) {
                (true, _) => Role::Function,
                (false, true) => Role::Field,
                (false, false) => Role::Variable,
            };
            (range.clone(), role)
        });
        Names { text, names: names.collect() }
    }

    /// The place of the variable that stands at this position among all of the text.
    pub(super) fn variable(&self, position: usize) -> Place {
        let of_variables = self.names.iter().filter(|(_, role)| *role == Role::Variable);
        self.place(of_variables.map(|(range, _)| range).nth(position))
    }

    /// The place of this field, so many dots after that variable.
    pub(super) fn field(&self, variable: usize, dots: usize) -> Place {
        let positions = self.names.iter().enumerate().filter(|(_, (_, role))| *role == Role::Variable);
        let variable = positions.map(|(at, _)| at).nth(variable);
        let fields = self.names.iter().skip(variable.unwrap_or_default()).filter(|(_, role)| *role == Role::Field);
        self.place(fields.map(|(range, _)| range).nth(dots))
    }

    /// The place of the first call of a function with this name.
    pub(super) fn function(&self, name: &str) -> Place {
        let is_it =
            |(range, role): &&(Range<usize>, Role)| *role == Role::Function && &self.text[range.clone()] == name;
        self.place(self.names.iter().find(is_it).map(|(range, _)| range))
    }

    fn place(&self, range: Option<&Range<usize>>) -> Place {
        range.map_or(Place::START, |range| Place::of(self.text, range.start))
    }
}

/// Neither a string, nor a number, nor a word of the language.
fn is_name(token: &str) -> bool {
    let word = token.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && token.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    word && !["true", "false", "null", "in"].contains(&token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_counted_in_lines_and_characters() {
        let text = "'ä' == a &&\n  b.c";
        assert_eq!(Place::of(text, 0), Place::START);
        assert_eq!(Place::of(text, text.find("a &&").unwrap()), Place { line: 1, column: 8 });
        assert_eq!(Place::of(text, text.find("b.c").unwrap()), Place { line: 2, column: 3 });
    }

    #[test]
    fn variables_fields_and_functions_are_told_apart() {
        let text = "a.b(c) ? d : .e.f[?g].?h + [i].all(j, j.k) == {'l': m} && 'n.o' in rb'p'";
        let names = Names::of(text);
        let of = |role| {
            let names = names.names.iter().filter(move |(_, it)| *it == role);
            names.map(|(range, _)| &text[range.clone()]).collect::<Vec<_>>()
        };
        assert_eq!(of(Role::Variable), ["a", "c", "d", "e", "g", "i", "j", "j", "m"]);
        assert_eq!(of(Role::Field), ["f", "h", "k"]);
        assert_eq!(of(Role::Function), ["b", "all"]);
    }
}
