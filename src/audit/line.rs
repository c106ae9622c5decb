//! One line of the log.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use crate::{api::v1alpha1::Time, core::names};

/// What stands for the line before the first one.
pub const GENESIS: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// One record, as the caller knows it; number and hashes are added when it is written.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// When it happened.
    pub at: Time,
    /// Follows the alert from intake to page.
    pub request_id: String,
    /// A constant, such as `GrantOpening`.
    pub kind: String,
    /// Incident, as `namespace/name`.
    pub incident: String,
    /// Identity of the exact action; empty when the record is about none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub action_id: String,
    /// Whatever else belongs to this kind of record. Redacted by the caller.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub details: Map<String, Value>,
}

/// Where the chain stands: what the next line builds on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tip {
    /// Number of the next line.
    pub next: u64,
    /// Hash of the last line.
    pub hash: String,
}

impl Default for Tip {
    fn default() -> Tip {
        Tip { next: 1, hash: GENESIS.into() }
    }
}

impl Tip {
    /// The next line with its line break; the tip moves on.
    pub fn line(&mut self, record: &Record) -> Result<String, serde_json::Error> {
        let mut fields = match serde_json::to_value(record)? {
            Value::Object(fields) => fields,
            _ => Map::new(),
        };
        fields.insert("seq".into(), self.next.into());
        fields.insert("prev".into(), self.hash.clone().into());
        let hash = hash_of(&fields);
        fields.insert("sha256".into(), hash.clone().into());
        self.next += 1;
        self.hash = hash;
        let mut line = names::canonical(&Value::Object(fields));
        line.push('\n');
        Ok(line)
    }

    /// The tip after `line`, if the line is whole and its hash is right.
    pub fn after(line: &[u8]) -> Option<Tip> {
        let Value::Object(mut fields) = serde_json::from_slice(line).ok()? else { return None };
        let Value::String(hash) = fields.remove("sha256")? else { return None };
        let next = fields.get("seq")?.as_u64()?.checked_add(1)?;
        (hash == hash_of(&fields)).then_some(Tip { next, hash })
    }
}

/// SHA-256 over the canonical text of everything but `sha256` itself; `prev` is part of it.
fn hash_of(fields: &Map<String, Value>) -> String {
    hex::encode(Sha256::digest(names::canonical(&Value::Object(fields.clone())).as_bytes()))
}
