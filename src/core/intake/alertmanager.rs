//! The webhook payload of Alertmanager, version 4.

use serde_json::{Map, Value};

use super::format::Format;
use super::normal::{Batch, Normalised, Request, Sent};
use super::sender::{BadInput, Sender};
use crate::api::v1alpha1::{AlertSource, AlertState};

/// Who sends it.
const SENDER: Sender = Sender {
    source: AlertSource::Alertmanager,
    name: "Alertmanager",
    resend: "send Alertmanager's webhook payload as it is, without a template of your own",
    fewer: "set max_alerts in the webhook_config, or group by more labels",
};

/// The format.
pub static FORMAT: Format = Format {
    sender: SENDER,
    label: "alertmanager",
    path: "/v1/intake/alertmanager",
    setup: "set it as the url of a webhook_config",
    credentials: "set http_config.authorization.credentials in the webhook_config to the intake's token",
    parse,
};

/// Reads a payload. Unknown fields are ignored and missing ones defaulted.
fn parse(payload: &[u8], request: Request<'_>) -> Result<Batch, BadInput> {
    let value = SENDER.json(payload)?;
    let envelope = SENDER.object(&value, "")?;
    version(envelope)?;
    let alerts = SENDER.alerts(envelope, "alerts")?;
    let group = status(envelope, "status")?.unwrap_or_default();
    let mut batch = Batch { truncated: truncated(envelope)?, ..Batch::default() };
    for (index, alert) in alerts.iter().enumerate() {
        let at = format!("alerts[{index}]");
        let fields = SENDER.object(alert, &at)?;
        batch.push(read(fields, &at, group, request)?, request);
    }
    Ok(batch)
}

fn version(envelope: &Map<String, Value>) -> Result<(), BadInput> {
    let expected = "\"4\", the version of Alertmanager's webhook";
    match envelope.get("version") {
        Some(Value::String(version)) if version == "4" => Ok(()),
        Some(version @ Value::String(text)) if text == "1" => Err(BadInput {
            next_step: "Grafana sends version \"1\", which is not supported yet: route its alerts through an Alertmanager",
            ..SENDER.wrong("version", version, expected)
        }),
        Some(other) => Err(SENDER.wrong("version", other, expected)),
        None => Err(SENDER.missing("version", expected)),
    }
}

fn truncated(envelope: &Map<String, Value>) -> Result<u64, BadInput> {
    match envelope.get("truncatedAlerts") {
        None | Some(Value::Null) => Ok(0),
        Some(value) => value.as_u64().ok_or_else(|| SENDER.wrong("truncatedAlerts", value, "a number from 0")),
    }
}

fn status(fields: &Map<String, Value>, at: &str) -> Result<Option<AlertState>, BadInput> {
    match fields.get("status") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text == "firing" => Ok(Some(AlertState::Firing)),
        Some(Value::String(text)) if text == "resolved" => Ok(Some(AlertState::Resolved)),
        Some(other) => Err(SENDER.wrong(at, other, "\"firing\" or \"resolved\"")),
    }
}

fn read(
    fields: &Map<String, Value>,
    at: &str,
    group: AlertState,
    request: Request<'_>,
) -> Result<Normalised, BadInput> {
    let state = status(fields, &format!("{at}.status"))?.unwrap_or(group);
    let ends_at = match state {
        // Alertmanager sends a firing alert's planned end of validity as `endsAt`: it has not ended.
        AlertState::Firing => None,
        AlertState::Resolved => SENDER.time(fields, "endsAt", at)?,
    };
    let sent = Sent {
        at,
        labels: fields.get("labels"),
        annotations: fields.get("annotations"),
        fingerprint: SENDER.text(fields, "fingerprint", at)?,
        state,
        starts_at: SENDER.time(fields, "startsAt", at)?,
        ends_at,
    };
    sent.normalise(&SENDER, request)
}
