//! Bounded schemas of what Kubernetes' own types leave open.

use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

/// Labels of a selector at most.
const MAX_LABELS: u32 = 64;
/// Expressions of a selector at most.
const MAX_EXPRESSIONS: u32 = 16;
/// Values of one expression at most.
const MAX_VALUES: u32 = 128;
/// Characters of a label's key: 253 of a prefix, a slash, and 63 of a name.
const MAX_KEY: u32 = 317;
/// Characters of a label's value.
const MAX_VALUE: u32 = 63;

/// A label selector, with the bounds that Kubernetes has for labels: its own type has none, and whoever may write a Policy
/// could fill the memory of everybody's controller.
pub(super) fn label_selector(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "nullable": true,
        "properties": {
            "matchLabels": {
                "description": "Labels that all have to be there, with these values.",
                "type": "object",
                "maxProperties": MAX_LABELS,
                "additionalProperties": {"type": "string", "maxLength": MAX_VALUE},
                "x-kubernetes-validations": bounded_keys(MAX_KEY),
            },
            "matchExpressions": {
                "description": "Conditions on labels that all have to hold.",
                "type": "array",
                "maxItems": MAX_EXPRESSIONS,
                "items": {
                    "description": "A condition on one label.",
                    "type": "object",
                    "required": ["key", "operator"],
                    "properties": {
                        "key": {"description": "Key of the label.", "type": "string", "maxLength": MAX_KEY},
                        "operator": {
                            "description": "`In`, `NotIn`, `Exists` or `DoesNotExist`.",
                            "type": "string",
                            "maxLength": 16,
                        },
                        "values": {
                            "description": "Values for `In` and `NotIn`.",
                            "type": "array",
                            "maxItems": MAX_VALUES,
                            "items": {"type": "string", "maxLength": MAX_VALUE},
                        },
                    },
                },
            },
        },
    })
}

/// The rule that holds the keys of a map to a length, for which a schema has no other word.
pub(super) fn bounded_keys(most: u32) -> Value {
    json!([{
        "rule": format!("self.all(key, size(key) <= {most})"),
        "message": format!("a key has at most {most} characters"),
    }])
}
