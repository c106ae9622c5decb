//! Wire APIs of models: one file each, and [`of`] lists them. [`shape`] says what each has to do.

mod anthropic;
mod bedrock;
mod openai;
mod openai_chat;
mod openai_responses;
pub mod shape;
#[cfg(test)]
pub mod testing;

pub use shape::{Question, Wire};

use crate::api::v1alpha1::ModelApi;

/// The wire of an API.
pub fn of(api: ModelApi) -> &'static dyn Wire {
    match api {
        ModelApi::AnthropicMessages => &anthropic::Anthropic,
        ModelApi::OpenAiChat => &openai_chat::OpenAiChat,
        ModelApi::OpenAiResponses => &openai_responses::OpenAiResponses,
        ModelApi::BedrockConverse => &bedrock::Bedrock,
    }
}

#[cfg(test)]
mod tests;
