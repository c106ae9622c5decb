//! What the parser is spared. It looks for sense after each error and prints the text with each: the time that it takes for
//! two thousand operators in a row grows with their square. So errors that show in two neighbours are counted before it, in
//! one pass, and a text that has more than a few is not parsed at all.

use std::ops::Range;

/// Errors in the text that the parser may meet. An expression that compiles has none; one with a slip has one or two, and the
/// parser's own words about it are better than ours.
const MAX_ERRORS: usize = 8;

/// What a token can stand next to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// A name, a number, a string: it can end an operand, and it can begin one.
    Operand,
    /// `)`, `]`, `}`.
    Close,
    /// `(`, `[`, `{`.
    Open,
    /// `-` and `!`: before an operand, the first between two as well.
    Unary,
    /// `.` and `?`: between two operands, before one, and next to each other.
    Dot,
    /// Between two operands.
    Binary,
    /// Part of no expression.
    Stray,
}

/// Whether the parser may see `text`.
pub(super) fn is_plausible(text: &str) -> bool {
    let mut errors = 0;
    let mut before = Token::Open;
    for (_, token) in Tokens::of(text) {
        errors += usize::from(!follows(before, token));
        if errors > MAX_ERRORS {
            return false;
        }
        before = token;
    }
    true
}

/// Whether `token` can stand after `before`.
fn follows(before: Token, token: Token) -> bool {
    use Token::{Binary, Close, Dot, Open, Operand, Stray, Unary};
    !matches!(
        (before, token),
        (_, Stray) | (Operand | Close, Operand) | (Open | Unary | Binary | Dot, Binary) | (Dot, Close)
    )
}

/// The tokens of a text, each with where it is in bytes.
pub(super) struct Tokens<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Tokens<'a> {
    pub(super) fn of(text: &'a str) -> Tokens<'a> {
        Tokens { text, at: 0 }
    }

    /// Takes so many bytes.
    fn take(&mut self, bytes: usize, token: Token) -> Option<(Range<usize>, Token)> {
        let from = self.at;
        self.at += bytes;
        Some((from..self.at, token))
    }

    /// Goes on to what begins a token, past spaces and comments.
    fn skip(&mut self) -> &'a str {
        loop {
            let rest = &self.text[self.at..];
            let trimmed = rest.trim_start();
            self.at += rest.len() - trimmed.len();
            if !trimmed.starts_with("//") {
                return trimmed;
            }
            self.at += run(trimmed, |c| c != '\n');
        }
    }
}

impl Iterator for Tokens<'_> {
    type Item = (Range<usize>, Token);

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.skip();
        let first = rest.chars().next()?;
        if let Some(bytes) = string(rest) {
            return self.take(bytes, Token::Operand);
        }
        if first.is_ascii_alphabetic() || first == '_' {
            let bytes = run(rest, |c| c.is_ascii_alphanumeric() || c == '_');
            return self.take(bytes, if &rest[..bytes] == "in" { Token::Binary } else { Token::Operand });
        }
        if first.is_ascii_digit() {
            return self.take(number(rest), Token::Operand);
        }
        if let Some(two) = rest.get(..2)
            && ["==", "!=", "<=", ">=", "&&", "||"].contains(&two)
        {
            return self.take(2, Token::Binary);
        }
        let token = match first {
            '(' | '[' | '{' => Token::Open,
            ')' | ']' | '}' => Token::Close,
            '-' | '!' => Token::Unary,
            '.' | '?' => Token::Dot,
            '+' | '*' | '/' | '%' | '<' | '>' | ':' | ',' => Token::Binary,
            _ => Token::Stray,
        };
        self.take(first.len_utf8(), token)
    }
}

/// How many bytes `text` begins with that `part` takes.
fn run(text: &str, part: impl Fn(char) -> bool) -> usize {
    text.find(|c| !part(c)).unwrap_or(text.len())
}

/// Bytes of the number at the start: with a fraction and an exponent, or hexadecimal, or unsigned.
fn number(text: &str) -> usize {
    let mut bytes = run(text, |c| c.is_ascii_alphanumeric() || c == '.');
    if text[..bytes].ends_with(['e', 'E']) && text[bytes..].starts_with(['+', '-']) && !text.starts_with("0x") {
        bytes += 1 + run(&text[bytes + 1..], |c| c.is_ascii_digit());
    }
    bytes
}

/// Bytes of the string at the start, with its prefix; `None` if there is none, or none that ends.
fn string(text: &str) -> Option<usize> {
    let prefix = run(text, |c| "rRbB".contains(c));
    let quoted = &text[prefix..];
    let quote = ["\"\"\"", "'''", "\"", "'"].into_iter().find(|quote| quoted.starts_with(quote))?;
    if prefix > 2 {
        return None;
    }
    let raw = text[..prefix].contains(['r', 'R']);
    let mut at = quote.len();
    while !quoted[at..].starts_with(quote) {
        let mut chars = quoted[at..].chars();
        let c = chars.next()?;
        if c == '\n' && quote.len() == 1 {
            return None;
        }
        at += c.len_utf8();
        if c == '\\' && !raw {
            at += chars.next()?.len_utf8();
        }
    }
    Some(prefix + at + quote.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_compiles_is_plausible_without_a_single_error() {
        let expressions = [
            "!('criticality' in target.labels) || target.labels['criticality'] != 'high'",
            "diagnosis.claims.all(c, size(c.cites) > 0) && -1 < - 2 && !!true && !-1.0e-3 == 0x1F",
            r#"r'\d' + "\"" + b'a' + '''it's''' + """a "b" c""" + rb'\' == '\\'"#,
            "target.?labels[?'a'].orValue('b') in ['b', 'c',] ? {'a': [1u, 2.5], ?'b': target.?x} : {}",
            ".target.revision > 1e+3 // the rest is said\n && true ? -1 : -(2)",
            "[1, 2][0] % 3 * 4 / 5 + 6 - -7 <= 8 && [].size() == 0 && {}.size() == 0 && (1) != (2)",
            "a.b.c(1)(2)",
        ];
        for text in expressions {
            let mut before = Token::Open;
            for (_, token) in Tokens::of(text) {
                assert!(follows(before, token), "{text}: {token:?} after {before:?}");
                before = token;
            }
        }
    }

    #[test]
    fn a_slip_is_left_to_the_words_of_the_parser() {
        for text in ["a == == b", "a b", "'open", "a # b", "a = b"] {
            assert!(is_plausible(text), "{text}");
        }
    }

    #[test]
    fn rubbish_without_end_is_not_parsed() {
        for part in ["%", "% ", "a ", "1 ", "'a' ", ", ", "#", "=", "& ", "? : ", "a % % ", "ä", "in ", "'%\n", ") a "]
        {
            assert!(!is_plausible(&part.repeat(500)), "{part}");
        }
    }
}
