//! Text of somebody else in a prompt: it cannot leave its lines, and nothing in it looks like a mark of a chat template.

use crate::core::redact;

/// Begins each line that somebody else wrote.
pub const MARK: &str = "| ";

/// Text in lines that begin with [`MARK`], without secrets; at most about `limit` bytes, the beginning of it.
pub fn quoted(text: &str, limit: usize) -> String {
    lines(&redact::text(text, limit))
}

/// The same with the end of the text: what a log says last matters most.
pub fn quoted_end(text: &str, limit: usize) -> String {
    let clean = redact::text(text, redact::MAX_INPUT);
    if clean.len() <= limit {
        return lines(&clean);
    }
    let from = clean.ceil_char_boundary(clean.len() - limit);
    // A line that is not whole is left out, unless it is the only one.
    let whole = clean[from..].split_once('\n').map(|(_, rest)| rest).filter(|rest| !rest.trim().is_empty());
    lines(&format!("…\n{}", whole.unwrap_or(&clean[from..])))
}

/// One word or name of somebody else on a line of ours: letters, digits and what names are made of, else quoted.
pub fn word(text: &str, limit: usize) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@".contains(c);
    if !text.is_empty() && text.len() <= limit && text.chars().all(plain) {
        return text.to_owned();
    }
    let flat: String = text.chars().filter(|c| plain(*c) || *c == ' ').take(limit).collect();
    format!("\"{}\"", flat.trim())
}

fn lines(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    for line in text.split(['\n', '\u{2028}', '\u{2029}']).map(str::trim_end).filter(|line| !line.is_empty()) {
        out.push_str(MARK);
        out.push_str(&neutral(line));
        out.push('\n');
    }
    out
}

/// Without the marks that tokenizers and chat templates know: `<|…|>`, `</s>`, `<<SYS>>`, `[INST]`, fences.
fn neutral(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        let next = chars.peek().copied().unwrap_or(' ');
        match c {
            '<' if next.is_alphabetic() || "|/<!?▁_｜".contains(next) => out.push('‹'),
            '|' if next == '>' => out.push('¦'),
            '｜' => out.push('¦'),
            _ => out.push(c),
        }
    }
    out.replace("[INST]", "(INST)").replace("[/INST]", "(/INST)").replace("```", "'''")
}
