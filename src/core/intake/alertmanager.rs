//! The webhook payload of Alertmanager, version 4.

use serde_json::{Map, Value};

use super::format::Format;
use super::normal::{Batch, Normalised, Reading, Sent, object};
use super::sender::{BadInput, RequestInfo, Sender, excerpt};
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

/// Reads a payload. Unknown fields are ignored and missing ones defaulted; a mark of the byte order, as some proxies put in
/// front, is none of it.
fn parse<'a>(payload: &'a [u8], request: RequestInfo<'a>) -> Result<Batch<'a>, BadInput> {
    let payload = payload.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(payload);
    let list = SENDER.alerts(payload, "alerts", &["status", "version", "truncatedAlerts"], request)?;
    version(&list.envelope, request)?;
    // Neither of these may cost the alerts.
    let group = status(&list.envelope, "status").ok().flatten().unwrap_or_default();
    let truncated = list.envelope.get("truncatedAlerts").and_then(Value::as_u64).unwrap_or(0);
    let alerts = list.elements.enumerate();
    let alerts = alerts.map(move |(index, element)| read(element, format!("alerts[{index}]"), group, request));
    Ok(Batch { alerts: Box::new(alerts), truncated })
}

/// Alertmanager writes it after the alerts, so that a payload that was cut off has none.
fn version(envelope: &Map<String, Value>, request: RequestInfo<'_>) -> Result<(), BadInput> {
    let expected = "\"4\", the version of Alertmanager's webhook";
    match envelope.get("version") {
        Some(Value::String(version)) if version == "4" => Ok(()),
        Some(version @ Value::String(text)) if text == "1" => Err(BadInput {
            next_step: "Grafana sends version \"1\", which is not supported yet: route its alerts through an Alertmanager",
            ..SENDER.wrong("version", version, expected)
        }),
        Some(other) => Err(SENDER.wrong("version", other, expected)),
        None if request.cut_off => Ok(()),
        None => Err(SENDER.missing("version", expected)),
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

fn read(element: &[u8], at: String, group: AlertState, request: RequestInfo<'_>) -> Normalised {
    let mut reading = Reading::new(&SENDER, at);
    let Some(fields) = reading.lenient(|sender, at| object(sender, at, element)) else {
        return reading.normalise(Sent::default(), request);
    };
    let state = reading.lenient(|_, at| status(&fields, &format!("{at}.status"))).flatten().unwrap_or(group);
    let ends_at = match state {
        // Alertmanager sends a firing alert's planned end of validity as `endsAt`: it has not ended.
        AlertState::Firing => None,
        AlertState::Resolved => reading.lenient(|sender, at| sender.time(&fields, "endsAt", at)).flatten(),
    };
    let starts_at = reading.lenient(|sender, at| sender.time(&fields, "startsAt", at));
    let sent = Sent {
        labels: fields.get("labels"),
        annotations: fields.get("annotations"),
        fingerprint: reading.lenient(|sender, at| sender.text(&fields, "fingerprint", at)).flatten(),
        state,
        start_text: starts_at
            .is_none()
            .then(|| fields.get("startsAt").map(|text| excerpt(&text.to_string())))
            .flatten(),
        starts_at: starts_at.flatten(),
        ends_at,
    };
    reading.normalise(sent, request)
}
