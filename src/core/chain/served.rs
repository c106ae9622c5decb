//! Whether the model that answered is the one that was asked for, by their names. A provider adds a date, a version or the
//! path of its catalogue to a name; everything else behind or before it makes it the name of another model.

/// Whether a server that was asked for the model `asked` and says that `served` answered did what it was asked. `others`
/// are names that the administrator knows it by.
pub fn is_asked<'a>(served: &str, asked: &'a str, others: impl IntoIterator<Item = &'a str>) -> bool {
    let served = Name::of(served);
    [asked].into_iter().chain(others).any(|known| served.is(&Name::of(known)))
}

/// A name in its parts.
#[derive(Debug, PartialEq, Eq)]
struct Name {
    /// What the model is called: in lower case, without what providers put before it.
    words: Vec<String>,
    /// The release of it: a date or a version; empty when none is named, or the latest.
    release: Vec<String>,
}

impl Name {
    fn of(name: &str) -> Name {
        let name = name.to_ascii_lowercase();
        let last = name.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
        let mut words: Vec<String> = without_vendor(last)
            .split(['-', '_', ':', '@', ' '])
            .filter(|word| !word.is_empty())
            .map(str::to_owned)
            .collect();
        words.retain(|word| word != "latest");
        let mut release = Vec::new();
        while words.len() > 1 && words.last().is_some_and(|word| is_release(word, &release)) {
            release.extend(words.pop());
        }
        // A number alone belongs to the name: with a year before it it is a part of a date, and behind a version its minor.
        while release.last().is_some_and(|word| word.len() < 3 && !is_version(word)) {
            words.extend(release.pop());
        }
        release.reverse();
        Name { words, release }
    }

    /// Whether both are the same model. Where both name a release it has to be the same, as far as both name it.
    fn is(&self, other: &Name) -> bool {
        let same = self.release.iter().zip(&other.release).all(|(one, other)| one == other);
        self.words == other.words && same
    }
}

/// What Bedrock puts before a name: the regions of a profile, and who made the model.
const VENDORS: &[&str] = &[
    "us",
    "us-gov",
    "eu",
    "apac",
    "jp",
    "au",
    "ca",
    "sa",
    "global",
    "ai21",
    "amazon",
    "anthropic",
    "cohere",
    "deepseek",
    "google",
    "meta",
    "minimax",
    "mistral",
    "moonshot",
    "moonshotai",
    "nvidia",
    "openai",
    "qwen",
    "writer",
];

/// The name without region and vendor before it: of `eu.anthropic.claude-opus` the last.
fn without_vendor(name: &str) -> &str {
    let mut name = name;
    while let Some((first, rest)) = name.split_once('.') {
        if !VENDORS.contains(&first) || rest.is_empty() {
            break;
        }
        name = rest;
    }
    name
}

/// Whether a word at the end of a name belongs to its release. `behind` are the words behind it, the last first.
fn is_release(word: &str, behind: &[String]) -> bool {
    let digits = word.bytes().all(|byte| byte.is_ascii_digit());
    match word.len() {
        // A month, a day, or a minor version: what is before it decides.
        1 | 2 if digits => behind.len() < 2,
        3..=8 if digits => true,
        _ => is_version(word),
    }
}

/// `v` and a number.
fn is_version(word: &str) -> bool {
    word.strip_prefix('v').is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn same(asked: &str, served: &str) -> bool {
        is_asked(served, asked, [])
    }

    #[test]
    fn a_date_a_version_or_a_path_makes_no_other_model() {
        for (asked, served) in [
            ("claude-haiku-4-5", "claude-haiku-4-5-20251001"),
            ("claude-haiku-4-5-20251001", "claude-haiku-4-5"),
            ("claude-3-5-sonnet-latest", "claude-3-5-sonnet-20241022"),
            ("gpt-5", "gpt-5-2026-08-07"),
            ("gpt-4", "gpt-4-0613"),
            ("gpt-4.1", "gpt-4.1-2025-04-14"),
            ("GPT-5", "openai/gpt-5"),
            ("gemini-1.5-pro", "models/gemini-1.5-pro-002"),
            ("mistral-large", "mistral-large-2411"),
            ("llama3", "llama3:latest"),
            ("eu.anthropic.claude-opus-v1:0", "arn:aws:bedrock:eu-west-1::foundation-model/anthropic.claude-opus-v1:0"),
            ("claude-opus", "anthropic.claude-opus-v1:0"),
            ("claude-opus-4", "claude-opus-4@20250514"),
            ("meta-llama/Llama-3.3-70B-Instruct", "llama-3.3-70b-instruct"),
            ("m", "m"),
        ] {
            assert!(same(asked, served), "{asked}, {served}: {:?} {:?}", Name::of(asked), Name::of(served));
        }
    }

    #[test]
    fn everything_else_is_another_model() {
        for (asked, served) in [
            ("gpt-5", "gpt-5-mini"),
            ("gpt-5-mini", "gpt-5"),
            ("gpt-4", "gpt-4-1"),
            ("gpt-4", "gpt-4.1"),
            ("gpt-4", "gpt-4-1-2025-04-14"),
            ("claude-opus-4", "claude-opus-4-1-20250805"),
            ("claude-opus-4", "claude-sonnet-4"),
            ("claude-haiku-4-5-20251001", "claude-haiku-4-5-20260301"),
            ("gpt-5-2026-08-07", "gpt-5-2025-08-07"),
            ("claude-opus-v1:0", "claude-opus-v2:0"),
            ("o1", "o1-preview"),
            ("llama-3.3-70b", "llama-3.1-70b"),
            ("llama-3.3-70b", "llama-3.3-8b"),
            ("llama-3.3-70b-instruct", "70b-instruct"),
            ("opus", "not-opus"),
            ("opus", "evil.opus"),
            ("small.gguf", "large.gguf"),
            ("m", "another-model"),
            ("m", "withheld"),
            ("m", "2026"),
            ("prod-opus", "claude-opus"),
        ] {
            assert!(!same(asked, served), "{asked}, {served}: {:?} {:?}", Name::of(asked), Name::of(served));
        }
    }

    #[test]
    fn a_name_that_the_administrator_lists_is_the_model_with_its_releases_too() {
        assert!(is_asked("gpt-5-2026-08-07", "our-deployment", ["gpt-5"]));
        assert!(!is_asked("gpt-5-mini", "our-deployment", ["gpt-5", "gpt-4"]));
    }

    #[test]
    fn names_that_are_none_are_compared_too() {
        for name in ["", "/", "---", "....", "v", "2026-08-07", "é", "a.b.c.", "latest"] {
            assert!(same(name, name), "{name}");
        }
        assert!(!same("gpt-5", ""));
    }
}
