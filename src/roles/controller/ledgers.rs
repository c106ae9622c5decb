//! The Ledgers: read, change by a pure function, store by compare-and-swap.

use kube::{Api, api::ObjectMeta};

use crate::api::v1alpha1::{Ledger, LedgerPurpose, LedgerSpec, LedgerStatus};
use crate::core::{fit::fitted, names};

use super::context::{Context, Error, call};

/// Name of the Ledger of actions, in the system namespace.
pub const ACTIONS: &str = "actions";

/// Name of the Ledger of known-good revisions of `namespace`, in the system namespace.
pub fn known_good(namespace: &str) -> String {
    names::known_good_ledger(namespace)
}

/// Reads the Ledger `name`, making it when it does not exist.
pub async fn read(ctx: &Context, name: &str) -> Result<Ledger, Error> {
    let ledger = read_or_make(ctx, name).await?;
    show(ctx, name, ledger.status.as_ref().unwrap_or(&LedgerStatus::default()));
    Ok(ledger)
}

/// Whoever reads the Ledger of actions, or changes it, shows the state of the breakers.
fn show(ctx: &Context, name: &str, status: &LedgerStatus) {
    if name == ACTIONS {
        ctx.metrics.show_breakers(status);
    }
}

async fn read_or_make(ctx: &Context, name: &str) -> Result<Ledger, Error> {
    let api: Api<Ledger> = ctx.api(&ctx.system);
    if let Some(ledger) = call("read Ledger", api.get_opt(name)).await? {
        return Ok(ledger);
    }
    let namespace = name.strip_prefix("known-good.").unwrap_or_default().to_string();
    let purpose = if namespace.is_empty() { LedgerPurpose::Actions } else { LedgerPurpose::KnownGood };
    let mut ledger = Ledger::new(name, LedgerSpec { purpose, namespace, ..LedgerSpec::default() });
    ledger.metadata =
        ObjectMeta { name: Some(name.into()), namespace: Some(ctx.system.clone()), ..ObjectMeta::default() };
    call("create Ledger", api.create(&ctx.create_params(), &ledger)).await
}

/// Changes the Ledger `name`: `change` may be called again when somebody else was faster. Nothing is written when it
/// changes nothing.
pub async fn change<E>(
    ctx: &Context,
    name: &str,
    mut change: impl FnMut(&LedgerStatus) -> Result<LedgerStatus, E>,
) -> Result<Result<LedgerStatus, E>, Error> {
    let api: Api<Ledger> = ctx.api(&ctx.system);
    let mut attempts = 0;
    loop {
        let mut ledger = read(ctx, name).await?;
        let old = ledger.status.clone().unwrap_or_default();
        let new = match change(&old) {
            Ok(new) => fitted(new),
            Err(refusal) => return Ok(Err(refusal)),
        };
        if ledger.status.as_ref() == Some(&new) {
            return Ok(Ok(new));
        }
        ledger.status = Some(new.clone());
        attempts += 1;
        match call("write Ledger", api.replace_status(name, &ctx.create_params(), &ledger)).await {
            Ok(_) => {
                show(ctx, name, &new);
                return Ok(Ok(new));
            }
            Err(error) if error.category() == "Conflict" && attempts < 10 => {}
            Err(error) => return Err(error),
        }
    }
}
