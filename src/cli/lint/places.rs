//! Where the fields of an object stand in a file of YAML, or of JSON, which is YAML too.

use std::collections::BTreeMap;
use std::fmt;

use serde_saphyr::granit_parser::{Event, Marker, Parser, ScalarStyle, Span};

use crate::core::cel::Place;

/// A place in a file, counted from 1; the column in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    line: usize,
    column: usize,
}

impl Position {
    /// The beginning.
    pub const START: Position = Position { line: 1, column: 1 };

    /// A place that a parser told; 0 is nowhere.
    pub fn of(line: u64, column: u64) -> Position {
        let count = |number: u64| usize::try_from(number).unwrap_or(1).max(1);
        Position { line: count(line), column: count(column) }
    }

    fn at(marker: Marker) -> Position {
        Position { line: marker.line(), column: marker.col() + 1 }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// A text as it was written.
struct Scalar {
    style: ScalarStyle,
    span: Span,
}

/// The fields of one document, by paths such as `spec.validations[0].expression`.
pub struct Document<'a> {
    lines: Vec<&'a str>,
    keys: BTreeMap<String, Position>,
    values: BTreeMap<String, Position>,
    scalars: BTreeMap<String, Scalar>,
}

impl Document<'_> {
    /// Where a field is: its key, else the nearest that contains it.
    pub fn key(&self, path: &str) -> Position {
        self.keys.get(path).copied().unwrap_or_else(|| self.position(path))
    }

    /// Where the value of a field is, else that of the nearest that contains it.
    pub fn position(&self, path: &str) -> Position {
        let mut path = path;
        loop {
            if let Some(found) = self.values.get(path) {
                return *found;
            }
            match path.rfind(['.', '[']) {
                Some(end) => path = &path[..end],
                None if path.is_empty() => return Position::START,
                None => path = "",
            }
        }
    }

    /// Where a place of the text of a field is. Where line breaks were folded away that is not known: then it is the
    /// beginning of the text.
    pub fn inside(&self, path: &str, place: Place) -> Position {
        let Some(Scalar { style, span }) = self.scalars.get(path) else { return self.position(path) };
        let start = Position::at(span.start);
        let in_one_line = span.start.line() == span.end.line() && place.line == 1;
        match style {
            ScalarStyle::Literal => self.literal(start, place),
            ScalarStyle::Plain if in_one_line => Position { column: start.column + place.column - 1, ..start },
            ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted if in_one_line => {
                let line = self.lines.get(start.line - 1).copied().unwrap_or_default();
                let written = line.chars().skip(start.column);
                let quote = if *style == ScalarStyle::SingleQuoted { '\'' } else { '\\' };
                Position { column: start.column + 1 + escaped(written, quote, place.column - 1), ..start }
            }
            _ => start,
        }
    }

    /// A line of a literal block is a line of its text.
    fn literal(&self, start: Position, place: Place) -> Position {
        // What was told is the sign before the text, or its first line that is not blank.
        let line = |number: usize| self.lines.get(number - 1).copied().unwrap_or_default();
        let is_sign = line(start.line).chars().nth(start.column - 1) == Some('|');
        let mut first = start.line + usize::from(is_sign);
        while !is_sign && first > 1 && line(first - 1).trim().is_empty() {
            first -= 1;
        }
        let text = self.lines.iter().skip(first - 1).find(|line| !line.trim().is_empty());
        let indent = text.map_or(0, |line| line.len() - line.trim_start_matches(' ').len());
        Position { line: first + place.line - 1, column: indent + place.column }
    }
}

/// How many written characters stand for so many of the text: an escape is a backslash or a doubled quote with what
/// follows.
fn escaped(mut written: impl Iterator<Item = char>, sign: char, text: usize) -> usize {
    let mut count = 0;
    for _ in 0..text {
        match written.next() {
            None => break,
            Some(c) if c == sign => {
                written.next();
                count += 2;
            }
            Some(_) => count += 1,
        }
    }
    count
}

/// What is open around an event.
enum Around {
    /// A list, with the number of the next item.
    List(String, usize),
    /// An object; with a key, its value is next.
    Object(String, Option<String>),
}

/// The documents of a text that are not empty.
///
/// # Errors
///
/// What is no YAML, in a sentence.
pub fn documents(text: &str) -> Result<Vec<Document<'_>>, String> {
    let lines: Vec<&str> = text.lines().collect();
    let empty =
        || Document { lines: lines.clone(), keys: BTreeMap::new(), values: BTreeMap::new(), scalars: BTreeMap::new() };
    let (mut documents, mut document, mut around) = (Vec::new(), empty(), Vec::new());
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| error.to_string())?;
        match event {
            Event::DocumentStart(..) => (document, around) = (empty(), Vec::new()),
            Event::DocumentEnd => {
                let nothing = document.scalars.contains_key("") && document.values.len() == 1;
                if !nothing && !document.values.is_empty() {
                    documents.push(std::mem::replace(&mut document, empty()));
                }
            }
            Event::Scalar(value, style, ..) => {
                if let Some(Around::Object(path, key @ None)) = around.last_mut() {
                    let field = if path.is_empty() { value.to_string() } else { format!("{path}.{value}") };
                    document.keys.insert(field.clone(), Position::at(span.start));
                    *key = Some(field);
                    continue;
                }
                let path = next(&mut around);
                document.values.insert(path.clone(), Position::at(span.start));
                document.scalars.insert(path, Scalar { style, span });
            }
            Event::Alias(..) | Event::UnresolvedAlias(..) => {
                let path = next(&mut around);
                document.values.insert(path, Position::at(span.start));
            }
            Event::SequenceStart(..) => {
                let path = next(&mut around);
                document.values.insert(path.clone(), Position::at(span.start));
                around.push(Around::List(path, 0));
            }
            Event::MappingStart(..) => {
                let path = next(&mut around);
                document.values.insert(path.clone(), Position::at(span.start));
                around.push(Around::Object(path, None));
            }
            Event::SequenceEnd | Event::MappingEnd => {
                around.pop();
            }
            _ => {}
        }
    }
    Ok(documents)
}

/// The path of the value that begins here.
fn next(around: &mut [Around]) -> String {
    match around.last_mut() {
        None => String::new(),
        Some(Around::List(path, number)) => {
            let path = format!("{path}[{number}]");
            *number += 1;
            path
        }
        Some(Around::Object(_, key)) => key.take().unwrap_or_default(),
    }
}
