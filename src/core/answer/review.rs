//! The answer of a reviewer: it objects, or it does not. There is no field for anything else.

use std::sync::LazyLock;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Malformed, line, parse::read, schema::strict_schema};
use crate::api::v1alpha1::Review;

/// Name of the schema, where an API wants one.
pub const REVIEW_NAME: &str = "review";

/// What a reviewer answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ReviewAnswer {
    /// Why the proposal would not help or would do harm, in one sentence with the numbers of facts. Empty if you do not
    /// object.
    pub because: String,
    /// True if you object to the proposal.
    pub objects: bool,
}

static SCHEMA: LazyLock<Value> = LazyLock::new(strict_schema::<ReviewAnswer>);

/// The schema of a review.
pub fn review_schema() -> &'static Value {
    &SCHEMA
}

/// Reads the answer of a reviewer.
pub fn parse_review(bytes: &[u8]) -> Result<ReviewAnswer, Malformed> {
    read(bytes)
}

impl ReviewAnswer {
    /// The review in the name of a rung.
    pub fn review(&self, rung: &str) -> Review {
        Review { rung: line(rung, 64), objects: self.objects, reason: line(&self.because, 1024) }
    }
}
