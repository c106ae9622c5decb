//! Reading an answer: bounded in everything, and whatever is wrong with it is said in one sentence that can be sent back
//! to the model.

use std::fmt;

use serde::de::DeserializeOwned;

use super::{Answer, AnswerAction, AnswerClaim, MAX_CITES, MAX_CLAIMS, MAX_REVISION};
use crate::core::redact;

/// Bytes of an answer at most.
pub const MAX_BYTES: usize = 256 * 1024;
/// Brackets inside each other at most; an answer needs four.
const MAX_DEPTH: usize = 16;
/// Bytes of a sentence about what is wrong.
const MAX_SENTENCE: usize = 300;

/// Kinds of what can be wrong with an answer, for counting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Problem {
    /// It is larger than is read.
    TooLarge,
    /// It is no JSON object: prose, HTML, nothing, or cut off.
    NotJson,
    /// Its brackets are nested too deeply.
    TooDeep,
    /// A field is missing, unknown, there twice, or of another type.
    NotOfSchema,
    /// A list is too long, or a number is out of its range.
    OutOfBounds,
}

impl Problem {
    /// The constant, as it stands in logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Problem::TooLarge => "TooLarge",
            Problem::NotJson => "NotJson",
            Problem::TooDeep => "TooDeep",
            Problem::NotOfSchema => "NotOfSchema",
            Problem::OutOfBounds => "OutOfBounds",
        }
    }
}

/// Why something is not an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// What kind of problem it is.
    pub problem: Problem,
    /// What is wrong, in one sentence, for the model that wrote it. It may quote a word of the answer.
    pub sentence: String,
}

impl Malformed {
    fn new(problem: Problem, sentence: impl AsRef<str>) -> Malformed {
        let flat: Vec<&str> = sentence.as_ref().split_whitespace().collect();
        Malformed { problem, sentence: redact::text(&flat.join(" "), MAX_SENTENCE) }
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence)
    }
}

/// Reads the answer of a model.
pub fn parse(bytes: &[u8]) -> Result<Answer, Malformed> {
    let answer: Answer = read(bytes)?;
    bounds(&answer)?;
    Ok(answer)
}

/// Reads one JSON object of a type. What is not UTF-8 is replaced; a fence around the object, and thoughts before it, are
/// left out.
pub(super) fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Malformed> {
    if bytes.len() > MAX_BYTES {
        let sentence = format!("the answer has {} bytes, at most {MAX_BYTES} are read", bytes.len());
        return Err(Malformed::new(Problem::TooLarge, sentence));
    }
    let text = String::from_utf8_lossy(bytes);
    let object = object(&text);
    if !object.starts_with('{') {
        return Err(Malformed::new(Problem::NotJson, "the answer is not one JSON object and nothing else"));
    }
    if depth(object) > MAX_DEPTH {
        let sentence = format!("the answer nests more than {MAX_DEPTH} objects and lists");
        return Err(Malformed::new(Problem::TooDeep, sentence));
    }
    serde_json::from_str(object).map_err(|error| {
        let problem = match error.classify() {
            serde_json::error::Category::Data => Problem::NotOfSchema,
            _ => Problem::NotJson,
        };
        Malformed::new(problem, format!("the answer does not fit the schema: {error}"))
    })
}

/// The part of the text that should be the object.
fn object(text: &str) -> &str {
    let mut text = text.trim_start_matches('\u{feff}').trim();
    if let Some((_, rest)) = text.strip_prefix("<think>").and_then(|rest| rest.split_once("</think>")) {
        text = rest.trim();
    }
    let fenced = text.strip_prefix("```").and_then(|rest| rest.strip_suffix("```"));
    // The rest of the line of the fence names a language.
    fenced.and_then(|inner| inner.split_once('\n')).map_or(text, |(_, inner)| inner.trim())
}

/// How many brackets are open at once at most. Text inside of strings does not count.
fn depth(text: &str) -> usize {
    let (mut open, mut deepest, mut quoted, mut escaped) = (0_usize, 0, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'{' | b'[' if !quoted => {
                open += 1;
                deepest = deepest.max(open);
            }
            b'}' | b']' if !quoted => open = open.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

fn bounds(answer: &Answer) -> Result<(), Malformed> {
    let out = |sentence: String| Err(Malformed::new(Problem::OutOfBounds, sentence));
    let Answer { claims, confidence, proposal, suspect, .. } = answer;
    if claims.len() > MAX_CLAIMS {
        return out(format!("claims has {} entries, at most {MAX_CLAIMS} are taken", claims.len()));
    }
    if !(0..=100).contains(confidence) {
        return out(format!("confidence is {confidence}, it has to be 0 to 100"));
    }
    let revision = |field: &str, number: i64| {
        if (0..=MAX_REVISION).contains(&number) {
            return Ok(());
        }
        let sentence = format!("{field} is {number}, it has to be the number of a revision, or 0 for none");
        Err(Malformed::new(Problem::OutOfBounds, sentence))
    };
    for (index, AnswerClaim { cites, revision: number, .. }) in claims.iter().enumerate() {
        if cites.len() > MAX_CITES {
            return out(format!("claims[{index}].cites has {} entries, at most {MAX_CITES} are taken", cites.len()));
        }
        revision(&format!("claims[{index}].revision"), *number)?;
    }
    revision("suspect.revision", suspect.revision)?;
    revision("proposal.toRevision", proposal.to_revision)?;
    match proposal.action {
        AnswerAction::RolloutUndo if proposal.to_revision == 0 => {
            out("proposal.toRevision is 0: a RolloutUndo names the revision to return to".to_owned())
        }
        AnswerAction::RolloutUndo | AnswerAction::RolloutRestart | AnswerAction::HandOver => Ok(()),
    }
}
