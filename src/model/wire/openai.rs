//! What both APIs of OpenAI have in common: the key in its header, and how tokens are counted.

use serde::Deserialize;

use super::shape::{NotBuilt, Request};
use crate::{core::money::Usage, model::credentials::Keys};

/// Tokens of the input that came from or went to the cache.
#[derive(Deserialize, Default)]
pub struct InputDetails {
    #[serde(default)]
    cached_tokens: Option<u64>,
    #[serde(default)]
    cache_write_tokens: Option<u64>,
}

/// Tokens of the output that are not of the answer itself.
#[derive(Deserialize, Default)]
pub struct OutputDetails {
    #[serde(default)]
    reasoning_tokens: Option<u64>,
}

/// What was used. `input` includes what the cache read and wrote, and `output` the reasoning.
pub fn usage(
    (input, of_input): (u64, Option<InputDetails>),
    (output, of_output): (u64, Option<OutputDetails>),
) -> Usage {
    let InputDetails { cached_tokens, cache_write_tokens } = of_input.unwrap_or_default();
    let (cache_read, cache_write) = (cached_tokens.unwrap_or_default(), cache_write_tokens.unwrap_or_default());
    Usage {
        input: input.saturating_sub(cache_read).saturating_sub(cache_write),
        cache_write,
        cache_read,
        output,
        reasoning: of_output.unwrap_or_default().reasoning_tokens.unwrap_or_default(),
    }
}

/// Adds the key.
pub fn authorize(request: &mut Request, keys: &Keys) -> Result<(), NotBuilt> {
    match keys {
        Keys::None => Ok(()),
        Keys::Token(token) => request.bearer(token.reveal()),
        Keys::Aws { .. } => Err(NotBuilt),
    }
}
