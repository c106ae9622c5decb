//! Grants: one per enrolled namespace, closed unless exactly one write is open.

use kube::{Api, ResourceExt as _, api::ObjectMeta};

use crate::api::v1alpha1::{Grant, GrantSpec, OpenGrant};
use crate::clock;
use crate::core::{
    grant,
    names::{CLOSED_FOR, GRANT},
    reason::Reason,
};

use super::context::{Context, Error, Shared, call, ignore_exists};

/// Makes sure that every enrolled namespace has its Grant: a missing one is recreated, closed; one that nobody needs
/// any more is closed. Backstop never deletes one.
pub async fn run(ctx: Shared) {
    let mut every = tokio::time::interval(std::time::Duration::from_secs(5));
    loop {
        every.tick().await;
        for namespace in &ctx.settings.namespaces {
            if let Err(error) = keep_one(&ctx, namespace).await {
                tracing::warn!(%namespace, %error, "the Grant cannot be checked, will retry");
            }
        }
    }
}

async fn keep_one(ctx: &Context, namespace: &str) -> Result<(), Error> {
    let api: Api<Grant> = ctx.api(namespace);
    let keep_closed = (!ctx.audit_is_durable()).then_some(Reason::AuditNotDurable);
    let grant = call("read Grant", api.get_opt(GRANT)).await?;
    let Some(spec) = grant::kept(grant.as_ref().map(|grant| &grant.spec), keep_closed, clock::now()) else {
        return Ok(());
    };
    match grant {
        Some(grant) => write(ctx, &api, grant, spec).await,
        None => {
            let mut grant = Grant::new(GRANT, spec);
            grant.metadata =
                ObjectMeta { name: Some(GRANT.into()), namespace: Some(namespace.into()), ..Default::default() };
            ignore_exists(call("create Grant", api.create(&ctx.create_params(), &grant)).await)
        }
    }
}

/// Opens the Grant of the namespace for exactly one write, if it still is as it was read.
pub async fn open(ctx: &Context, namespace: &str, version: &str, open: &OpenGrant) -> Result<(), Error> {
    let api: Api<Grant> = ctx.api(namespace);
    let mut grant = call("read Grant", api.get(GRANT)).await?;
    // The write is refused when it changed since the decision; what was read now only carries its metadata.
    grant.metadata.resource_version = Some(version.to_owned());
    if !ctx.leading.is_current() {
        return Err(Error::NotLeading);
    }
    write(ctx, &api, grant, GrantSpec { open: Some(open.clone()), closed_because: None }).await?;
    ctx.metrics.grants.inc();
    Ok(())
}

/// Closes the Grant, unless it is open for another Remediation. One that is closed is written too: a request to open it
/// whose answer was lost may still be on its way, and no longer fits the version that it was sent for. In a namespace that is not enrolled any more there is no right to:
/// what the Grant allows has ended with its time, a minute at most, and the incident goes on without.
pub async fn close(ctx: &Context, namespace: &str, remediation: &str) -> Result<(), Error> {
    let api: Api<Grant> = ctx.api(namespace);
    let Some(mut grant) = call("read Grant", api.get_opt(GRANT)).await? else { return Ok(()) };
    let now = clock::now();
    if grant.spec.open.as_ref().is_some_and(|open| open.remediation != remediation && open.not_after > now) {
        return Ok(());
    }
    grant.annotations_mut().insert(CLOSED_FOR.into(), format!("{remediation} {now}"));
    let closed_because = grant.spec.closed_because.take();
    match write(ctx, &api, grant, GrantSpec { open: None, closed_because }).await {
        Err(error) if error.category() == "Forbidden" => {
            tracing::warn!(%error, namespace, "the Grant cannot be closed: is the namespace still enrolled?");
            Ok(())
        }
        closed => closed,
    }
}

async fn write(ctx: &Context, api: &Api<Grant>, mut grant: Grant, spec: GrantSpec) -> Result<(), Error> {
    grant.spec = spec;
    call("write Grant", api.replace(GRANT, &ctx.create_params(), &grant)).await.map(drop)
}
