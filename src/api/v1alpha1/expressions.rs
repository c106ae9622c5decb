//! What people write in CEL, with the words of a ValidatingAdmissionPolicy: a Policy and a Runbook share them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A condition under which the rest is asked, with the field names of a ValidatingAdmissionPolicy. One that is false
/// decides that it is not; else one that has no value is a failure, see `failurePolicy`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MatchCondition {
    /// Name of the condition, for messages; at most 63 characters.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// CEL expression that must evaluate to true, at most 2048 characters. It cannot use `variables`.
    #[schemars(length(min = 1, max = 2048))]
    pub expression: String,
}

/// A named expression that validations use as `variables.NAME`. It is evaluated at most once for each decision, and only
/// if it is needed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Variable {
    /// Name, a CEL identifier of at most 63 characters.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-zA-Z_][a-zA-Z0-9_]*$"))]
    pub name: String,
    /// CEL expression, at most 2048 characters. It can use the variables before it in the list.
    #[schemars(length(min = 1, max = 2048))]
    pub expression: String,
}

/// One CEL rule, with the field names of a ValidatingAdmissionPolicy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Validation {
    /// CEL expression that must evaluate to true, at most 2048 characters. False denies the action, and so does a cost of
    /// more than 50000 units; an error, or a value that is not a boolean, is a failure, see `failurePolicy`.
    #[schemars(length(min = 1, max = 2048))]
    pub expression: String,
    /// Message for people when the expression is not true, at most 512 characters.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 512))]
    pub message: String,
    /// CEL expression that evaluates to the message, at most 2048 characters. Takes precedence over `message`, unless it
    /// fails, or its value is blank or has line breaks.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 2048))]
    pub message_expression: String,
    /// Word that is shown in front of the message, at most 64 characters. The reason of the verdict is always
    /// `PolicyValidationFailed`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 64))]
    pub reason: String,
}

/// What follows when an expression has no value. What does not compile, or costs too much, denies whatever this says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum FailurePolicy {
    /// The action is denied.
    #[default]
    Fail,
    /// A validation that fails is passed over. If a match condition fails and none is false, nothing of the object is asked.
    Ignore,
}

impl FailurePolicy {
    /// For `skip_serializing_if`.
    pub(super) fn is_fail(&self) -> bool {
        *self == FailurePolicy::Fail
    }
}
