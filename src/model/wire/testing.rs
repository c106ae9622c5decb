//! What tests of the wire and of the sender share.

use std::time::Duration;

use serde_json::{Value, json};

use super::shape::Question;
use crate::{
    api::v1alpha1::{ModelApi, StructuredOutput, TargetClass},
    core::chain::spec::{Timers, Upstream},
};

pub const APIS: [ModelApi; 4] =
    [ModelApi::AnthropicMessages, ModelApi::OpenAiChat, ModelApi::OpenAiResponses, ModelApi::BedrockConverse];

pub fn upstream(api: ModelApi, structured_output: StructuredOutput, stream: bool) -> Upstream {
    let limit = Duration::from_secs(5);
    Upstream {
        name: "first".into(),
        url: "https://models.example".into(),
        api,
        model: "vendor.model-1:0".into(),
        class: TargetClass::Direct,
        weight: 100,
        credentials: None,
        region: (api == ModelApi::BedrockConverse).then(|| "us-east-1".into()),
        structured_output,
        stream,
        prices: None,
        served_as: vec![],
        quota_scope: "first".into(),
        timers: Timers { connect: limit, response_head: limit, first_event: limit, first_content: limit, idle: limit },
        extra_failover_statuses: Vec::new(),
    }
}

pub fn schema() -> Value {
    json!({"type": "object", "properties": {"cause": {"type": "string"}}, "required": ["cause"], "additionalProperties": false})
}

pub fn question(schema: &Value) -> Question<'_> {
    Question { system: "You diagnose.", user: "[1] a fact", schema, schema_name: "diagnosis", max_output_tokens: 512 }
}
