//! What is known of a Remediation that has ended, and what is booked and recorded of it.

use serde_json::{Map, Value, json};

use crate::api::v1alpha1::{LedgerState, ReceiptStep, Remediation, RemediationPhase, RemediationStatus, Time, Write};

use super::{Effect, Entry, remediation, unsettled};

/// Closes the Grant, records the outcome in audit log and Ledger, and marks the Approval as used. A write is verified
/// even when the log is broken; without a log no further Grant opens.
pub(super) fn settle(remediation: &Remediation, state: &RemediationStatus, book: LedgerState) -> Vec<Effect> {
    let spec = &remediation.spec;
    let details = json!({
        "phase": state.phase, "reason": state.reason, "receipts": state.receipts, "proven": is_proven(state),
        "purpose": spec.purpose, "digest": spec.digest, "booked": book,
    });
    vec![
        Effect::CloseGrant { remediation: remediation::name_of(remediation).to_owned() },
        Effect::AuditAfter(entry(unsettled::ENDED, remediation, details)),
        Effect::Settle { action_id: spec.action_id.clone(), state: book },
        Effect::UseApproval { digest: spec.digest.clone(), remediation: remediation::name_of(remediation).to_owned() },
    ]
}

/// A record about a Remediation.
pub(super) fn entry(kind: &'static str, remediation: &Remediation, details: Value) -> Entry {
    let details = match details {
        Value::Object(details) => details,
        _ => Map::new(),
    };
    Entry { kind, action_id: Some(remediation.spec.action_id.clone()), details }
}

/// When the executor says that the write was accepted.
pub(super) fn fired_at(state: &RemediationStatus) -> Option<Time> {
    state.receipts.iter().find(|receipt| receipt.step == ReceiptStep::Fired).map(|receipt| receipt.at)
}

/// Whether the executor read back what it wrote.
pub(super) fn is_proven(state: &RemediationStatus) -> bool {
    let has = |step| state.receipts.iter().any(|receipt| receipt.step == step);
    state.phase == RemediationPhase::Fired && has(ReceiptStep::Fired) && has(ReceiptStep::ReadBack)
}

pub(super) fn pod_of(remediation: &Remediation) -> String {
    match &remediation.spec.write {
        Write::Evict(evict) => evict.pod.to_string(),
        Write::Field(_) => remediation.spec.target.to_string(),
    }
}
