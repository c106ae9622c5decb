//! Secrets taken out of text, and text made fit for people: before it is stored, shown or sent anywhere.
//!
//! The expressions are linear in the length of the text (the crate `regex` has no backtracking), and texts are cut
//! before they are searched, so the time is bounded.

use std::borrow::Cow;
use std::sync::LazyLock;

use regex::{Captures, Regex};
use serde_json::Value;

/// Stands for what was taken out.
pub const REDACTED: &str = "<redacted>";
/// Text beyond this is not looked at: it is cut.
pub const MAX_INPUT: usize = 256 * 1024;

/// Parts of names that sound like secrets, in lower case without separators.
const SECRETISH: &[&str] = &[
    "password",
    "passwd",
    "passphrase",
    "pwd",
    "secret",
    "token",
    "apikey",
    "accesskey",
    "privatekey",
    "signingkey",
    "encryptionkey",
    "credential",
    "authorization",
    "bearer",
    "cookie",
    "sessionid",
    "connectionstring",
    "dsn",
];

/// Fields of Kubernetes objects that name a secret and do not hold it; the name is what people need to see.
const REFERENCES: &[&str] = &[
    "secretKeyRef",
    "secretRef",
    "secretName",
    "secret",
    "imagePullSecrets",
    "imagePullSecret",
    "secrets",
    "automountServiceAccountToken",
    "serviceAccountToken",
    "nodePublishSecretRef",
];

struct Patterns {
    pem: Regex,
    pem_open: Regex,
    jwt: Regex,
    bearer: Regex,
    url: Regex,
    known: Regex,
    pair: Regex,
}

#[expect(clippy::expect_used, reason = "constant expressions, compiled by a test")]
static PATTERNS: LazyLock<Patterns> = LazyLock::new(|| {
    let regex = |pattern: &str| Regex::new(pattern).expect("a constant expression compiles");
    Patterns {
        pem: regex(r"(?s)-----BEGIN [A-Z0-9 ]*PRIVATE KEY[A-Z ]*-----.*?-----END [A-Z0-9 ]*PRIVATE KEY[A-Z ]*-----"),
        // The end may lie beyond the cut.
        pem_open: regex(r"(?s)-----BEGIN [A-Z0-9 ]*PRIVATE KEY.*$"),
        jwt: regex(r"\beyJ[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]{5,}(?:\.[A-Za-z0-9_-]*)?"),
        bearer: regex(r"(?i)\b(bearer|basic|negotiate)\s+([A-Za-z0-9._~+/=-]{8,})"),
        url: regex(r"(?i)\b([a-z][a-z0-9+.-]{1,20}://)([^\s/:@]*):([^\s/@]+)@"),
        known: regex(concat!(
            r"\b(?:(?:AKIA|ASIA|AROA|AIDA)[A-Z0-9]{16}|gh[pousr]_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{20,}",
            r"|glpat-[A-Za-z0-9_-]{16,}|xox[abeoprs]-[A-Za-z0-9-]{8,}|sk-[A-Za-z0-9_-]{16,}|sk_live_[A-Za-z0-9]{8,}",
            r"|AIza[A-Za-z0-9_-]{30,}|npm_[A-Za-z0-9]{20,}|hvs\.[A-Za-z0-9_-]{16,})",
        )),
        pair: regex(concat!(
            r#"(?i)([A-Za-z0-9_.-]*(?:pass(?:word|wd|phrase)?|pwd|secret|token|api[_-]?key|access[_-]?key"#,
            r#"|private[_-]?key|signing[_-]?key|encryption[_-]?key|credentials?|authorization|cookie|session[_-]?id"#,
            r#"|dsn|connection[_-]?string)[A-Za-z0-9_.-]*)(["']?\s*[=:]\s*)("(?:[^"\\]|\\.)*"|'[^']*'|[^\s,;&"'][^\s,;&]*)"#,
        )),
    }
});

/// Whether a name sounds like that of a secret: `DB_PASSWORD`, `apiKey`, `X-Auth-Token`.
pub fn is_secretish(name: &str) -> bool {
    let flat: String =
        name.chars().take(256).filter(|c| c.is_ascii_alphanumeric()).map(|c| c.to_ascii_lowercase()).collect();
    SECRETISH.iter().any(|word| flat.contains(word))
}

/// Whether a key of a Kubernetes object holds a secret: fields that only refer to one do not.
pub fn is_secret_key(key: &str) -> bool {
    !REFERENCES.contains(&key) && is_secretish(key)
}

/// Text without secrets and control characters, of at most `limit` bytes.
pub fn text(text: &str, limit: usize) -> String {
    // Cut late: the part of a secret before the limit is one still.
    let input = &text[..text.floor_char_boundary(MAX_INPUT)];
    clip(&secrets(&clean(input)), limit)
}

/// A JSON value as text; values under names that sound like secrets are taken out.
pub fn json(value: &Value, limit: usize) -> String {
    text(&without_secrets(value, false, 0).to_string(), limit)
}

/// The same as JSON, of whatever size.
pub fn value(value: &Value) -> Value {
    without_secrets(value, false, 0)
}

/// Text without control characters but line ends and tabs; escape sequences of terminals go as a whole.
pub fn clean(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\n' | '\t' => out.push(c),
            '\u{1b}' => {
                if chars.next_if_eq(&'[').is_some() {
                    while chars.next_if(|c| matches!(c, '\u{20}'..='\u{3f}')).is_some() {}
                    chars.next_if(|c| matches!(c, '\u{40}'..='\u{7e}'));
                }
            }
            // Marks that turn the direction of text or hide characters: they make text lie to its reader.
            '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' => {}
            '\u{e0000}'..='\u{e007f}' => {}
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
    out
}

/// At most `limit` bytes, cut at a character; a cut is marked where there is room for the mark.
pub fn clip(text: &str, limit: usize) -> String {
    const MARK: &str = "…";
    if text.len() <= limit {
        return text.to_owned();
    }
    if limit < MARK.len() {
        return text[..text.floor_char_boundary(limit)].to_owned();
    }
    format!("{}{MARK}", &text[..text.floor_char_boundary(limit - MARK.len())])
}

/// Text of somebody else, so that it cannot be taken for ours: on one line, cut, between marks that it cannot contain.
pub fn quoted(text: &str, limit: usize) -> String {
    let flat: String = text
        .chars()
        .map(|c| match c {
            '\u{ab}' | '\u{bb}' => '"',
            c if c.is_whitespace() || c.is_control() => ' ',
            c => c,
        })
        .collect();
    let flat = flat.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
    let cut: String = flat.chars().take(limit).collect();
    let mark = if flat.chars().nth(limit).is_some() { "…" } else { "" };
    format!("(quoted: \u{ab}{cut}{mark}\u{bb})")
}

/// The path of a field for a sentence of ours: quoted where it is more than letters, digits and `/-_.~`, for names of
/// variables can be any text.
pub fn path(path: &str) -> String {
    const MAX_PATH: usize = 160;
    let plain = path.len() <= MAX_PATH && path.bytes().all(|c| c.is_ascii_alphanumeric() || b"/-_.~".contains(&c));
    if plain { path.to_owned() } else { quoted(path, MAX_PATH) }
}

fn secrets(text: &str) -> String {
    let p = &*PATTERNS;
    let mut text = Cow::Borrowed(text);
    let mut step = |pattern: &Regex, replacement: &dyn Fn(&Captures<'_>) -> String| {
        if pattern.is_match(&text) {
            text = Cow::Owned(pattern.replace_all(&text, replacement).into_owned());
        }
    };
    let whole = |_: &Captures<'_>| REDACTED.to_owned();
    step(&p.pem, &whole);
    step(&p.pem_open, &whole);
    step(&p.jwt, &whole);
    step(&p.known, &whole);
    step(&p.url, &|found| format!("{}{}:{REDACTED}@", &found[1], &found[2]));
    step(&p.bearer, &|found| format!("{} {REDACTED}", &found[1]));
    step(&p.pair, &|found| {
        // `Authorization: Bearer <redacted>` is done; a word like "bearer" is not the secret.
        let value = &found[3];
        if value == REDACTED || ["bearer", "basic", "negotiate"].contains(&value.to_lowercase().as_str()) {
            return found[0].to_owned();
        }
        format!("{}{}{REDACTED}", &found[1], &found[2])
    });
    text.into_owned()
}

fn without_secrets(value: &Value, secret: bool, depth: usize) -> Value {
    if depth > 64 {
        return Value::String("…".into());
    }
    match value {
        Value::Object(map) => {
            // `{"name": "DB_PASSWORD", "value": "…"}` is how a variable looks.
            let named = map.get("name").and_then(Value::as_str).is_some_and(is_secretish);
            let inner = |key: &str| secret || is_secret_key(key) || (named && key == "value");
            Value::Object(
                map.iter().map(|(key, value)| (key.clone(), without_secrets(value, inner(key), depth + 1))).collect(),
            )
        }
        Value::Array(list) => Value::Array(list.iter().map(|v| without_secrets(v, secret, depth + 1)).collect()),
        // References to Secrets are names, and are booleans and numbers beside them: only text can be one.
        Value::String(_) if secret => Value::String(REDACTED.into()),
        Value::String(text) => Value::String(secrets(&clean(text))),
        other => other.clone(),
    }
}

#[cfg(test)]
#[path = "redact_tests.rs"]
mod tests;
