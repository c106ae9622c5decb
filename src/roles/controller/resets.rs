//! Does what people say of cascade breakers in the spec of the Ledger of actions: closes them, with a record of who said so.

use std::{pin::pin, time::Duration};

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Api, Resource as _, ResourceExt as _,
    core::PartialObjectMeta,
    runtime::{WatchStreamExt as _, events::EventType, watcher},
};
use serde_json::{Map, Value};

use crate::api::v1alpha1::{BreakerReset, Ledger, LedgerStatus, Time};
use crate::audit::Record;
use crate::clock;
use crate::core::budget::breaker;
use crate::notify::Note;

use super::context::{Context, Error, Shared};
use super::ledgers;

/// The kind of the record, and the reason of the Event.
const RESET: &str = "BreakerReset";
/// Pause after a failure.
const PAUSE: Duration = Duration::from_secs(5);

/// Follows the spec of the Ledger of actions. Its status, which changes with every action, is not looked at.
pub async fn run(ctx: Shared) {
    let api: Api<PartialObjectMeta<Ledger>> = ctx.api(&ctx.system);
    let only = watcher::Config::default().fields(&format!("metadata.name={}", ledgers::ACTIONS));
    let mut events = pin!(watcher(api, only).default_backoff().applied_objects());
    let mut done = None;
    while let Some(event) = events.next().await {
        // The watch repairs itself.
        let Ok(ledger) = event else { continue };
        if done == ledger.metadata.generation {
            continue;
        }
        while let Err(error) = apply(&ctx).await {
            tracing::warn!(%error, "what people said of the cascade breakers could not be done; it is tried again");
            tokio::time::sleep(PAUSE).await;
        }
        done = ledger.metadata.generation;
    }
}

/// Does what is due: on record first, and never without.
async fn apply(ctx: &Context) -> Result<(), Error> {
    let ledger = ledgers::read(ctx, ledgers::ACTIONS).await?;
    let status = ledger.status.clone().unwrap_or_default();
    for reset in breaker::resets_due(&ledger.spec, &status) {
        ctx.audit.append(record(reset, &status, clock::now())).await.map_err(Error::Audit)?;
        let change = |old: &LedgerStatus| Ok::<_, ()>(breaker::reset(old, reset, &ctx.settings.budgets));
        let _ = ledgers::change(ctx, ledgers::ACTIONS, change).await?;
        let BreakerReset { namespace, by, why, .. } = reset;
        tracing::info!(namespace, by, why, "a person reset the cascade breaker");
        ctx.notifier.note(note(&ledger, reset), RESET).await;
    }
    Ok(())
}

fn record(reset: &BreakerReset, status: &LedgerStatus, now: Time) -> Record {
    let BreakerReset { namespace, up_to, by, why } = reset;
    let opened_by = breaker::of(status, namespace).map(|breaker| breaker.opened_by.as_str()).unwrap_or_default();
    let details = [
        ("namespace", Value::from(namespace.as_str())),
        ("upTo", Value::from(up_to.to_string())),
        ("by", Value::from(by.as_str())),
        ("why", Value::from(why.as_str())),
    ];
    Record {
        at: now,
        request_id: String::new(),
        kind: RESET.into(),
        incident: opened_by.to_owned(),
        action_id: String::new(),
        details: details.into_iter().map(|(key, value)| (key.to_owned(), value)).collect::<Map<_, _>>(),
    }
}

fn note(ledger: &Ledger, reset: &BreakerReset) -> Note {
    let BreakerReset { namespace, by, why, .. } = reset;
    let of = if namespace.is_empty() { "the cluster".to_owned() } else { format!("namespace {namespace}") };
    let regarding = ObjectReference {
        api_version: Some(Ledger::api_version(&()).into_owned()),
        kind: Some(Ledger::kind(&()).into_owned()),
        name: Some(ledger.name_any()),
        namespace: ledger.namespace(),
        uid: ledger.uid(),
        ..ObjectReference::default()
    };
    let text = format!("{by} reset the cascade breaker of {of}: {why}");
    Note { type_: EventType::Normal, regarding, related: None, text }
}
