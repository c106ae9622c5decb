//! A format of unit tests: all that a new format needs is a file like this one, its variant of `AlertSource` and its
//! line in the registry.

use serde_json::{Value, json};

use super::format::Format;
use super::normal::{Batch, Reading, Sent};
use super::sender::{BadInput, RequestInfo, Sender};
use crate::api::v1alpha1::AlertSource;

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

fn parse<'a>(payload: &'a [u8], request: RequestInfo<'a>) -> Result<Batch<'a>, BadInput> {
    let names = SENDER.alerts(payload, "broken", &[], request)?.elements.enumerate();
    let alerts = names.map(move |(index, name)| {
        let name: Value = serde_json::from_slice(name).unwrap_or_default();
        let labels = json!({"alertname": "Broken", "namespace": "shop", "deployment": name});
        let sent = Sent { labels: Some(&labels), ..Sent::default() };
        Reading::new(&SENDER, format!("broken[{index}]")).normalise(sent, request)
    });
    Ok(Batch { alerts: Box::new(alerts), truncated: 0 })
}
