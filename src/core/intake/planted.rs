//! A format of unit tests: all that a new format needs is a file like this one, its variant of `AlertSource` and its
//! line in the registry.

use serde_json::json;

use super::format::Format;
use super::normal::{Batch, Request, Sent};
use super::sender::{BadInput, Sender};
use crate::api::v1alpha1::{AlertSource, AlertState};

/// Who sends it.
const SENDER: Sender = Sender {
    source: AlertSource::Planted,
    name: "Planted",
    resend: "send {\"broken\": [names]}",
    fewer: "send fewer names",
};

/// A list of names in the field `broken`, each of a Deployment in the namespace `shop`.
pub static FORMAT: Format = Format {
    sender: SENDER,
    label: "planted",
    path: "/v1/intake/planted",
    setup: "post a list of names to it",
    credentials: "plant the intake's token",
    parse,
};

fn parse(payload: &[u8], request: Request<'_>) -> Result<Batch, BadInput> {
    let value = SENDER.json(payload)?;
    let mut batch = Batch::default();
    for (index, name) in SENDER.alerts(SENDER.object(&value, "")?, "broken")?.iter().enumerate() {
        let sent = Sent {
            at: &format!("broken[{index}]"),
            labels: Some(&json!({"alertname": "Broken", "namespace": "shop", "deployment": name})),
            annotations: None,
            fingerprint: None,
            state: AlertState::Firing,
            starts_at: None,
            ends_at: None,
        };
        batch.push(sent.normalise(&SENDER, request)?, request);
    }
    Ok(batch)
}
