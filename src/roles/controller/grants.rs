//! Grants: one per enrolled namespace, closed unless exactly one write is open.

use jiff::SignedDuration;
use kube::{Api, ResourceExt as _, api::ObjectMeta};

use crate::api::v1alpha1::{Grant, GrantSpec, OpenGrant, Remediation, Time};
use crate::clock;
use crate::core::{actions, names::GRANT, reason::Reason};

use super::context::{Context, Error, Shared, call, exists};

/// What came of opening a Grant.
#[derive(Debug, PartialEq, Eq)]
pub enum Opening {
    /// It is open for this Remediation and epoch.
    Open,
    /// Another write is open; there is one at a time in a namespace.
    Busy,
}

/// Makes sure that every enrolled namespace has its Grant, for ever. A missing one is made closed; one that nobody
/// needs any more is closed. Nobody of ours deletes one.
pub async fn keep(ctx: Shared) {
    let mut every = tokio::time::interval(std::time::Duration::from_secs(5));
    loop {
        every.tick().await;
        for namespace in &ctx.settings.namespaces {
            if let Err(error) = keep_one(&ctx, namespace).await {
                tracing::warn!(%namespace, %error, "cannot keep the Grant, will retry");
            }
        }
    }
}

async fn keep_one(ctx: &Context, namespace: &str) -> Result<(), Error> {
    let api: Api<Grant> = ctx.api(namespace);
    let why = if ctx.settings.audit_durable && ctx.audit.is_durable().is_ok() {
        None
    } else {
        Some(Reason::AuditNotDurable.as_str().to_owned())
    };
    let Some(grant) = call("read Grant", api.get_opt(GRANT)).await? else {
        let closed = GrantSpec { open: None, closed_because: why };
        let mut grant = Grant::new(GRANT, closed);
        grant.metadata =
            ObjectMeta { name: Some(GRANT.into()), namespace: Some(namespace.into()), ..Default::default() };
        return exists(call("create Grant", api.create(&ctx.create_params(), &grant)).await);
    };
    // One that is long past its end belongs to nobody: its incident was closed while this process was away.
    let over = grant
        .spec
        .open
        .as_ref()
        .is_some_and(|open| clock::now().duration_since(open.not_after) > SignedDuration::from_secs(60));
    if over || (grant.spec.open.is_none() && grant.spec.closed_because != why) {
        write(ctx, &api, grant, GrantSpec { open: None, closed_because: why }).await?;
    }
    Ok(())
}

/// Opens the Grant of the namespace for exactly one write, under the epoch of the claim.
pub async fn open(ctx: &Context, remediation: &Remediation, epoch: i64, now: Time) -> Result<Opening, Error> {
    let namespace = remediation.namespace().unwrap_or_default();
    let name = remediation.name_any();
    let api: Api<Grant> = ctx.api(&namespace);
    let grant = call("read Grant", api.get(GRANT)).await?;
    if let Some(open) = &grant.spec.open {
        if open.remediation == name && open.epoch == epoch {
            return Ok(Opening::Open);
        }
        if open.remediation != name && open.not_after > now {
            return Ok(Opening::Busy);
        }
    }
    let spec = &remediation.spec;
    let end = now + SignedDuration::from_secs(ctx.settings.timings.grant_seconds.into());
    let open = OpenGrant {
        action_id: spec.action_id.clone(),
        action: actions::of(spec.action.kind()).armed_label.into(),
        remediation: name,
        epoch,
        uid: spec.target.uid.clone(),
        write: spec.write.clone(),
        // Whole seconds, because managedFields carry whole seconds.
        not_after: Time::from_second(end.as_second()).unwrap_or(end),
    };
    if !ctx.leading.is_current() {
        return Err(Error::NotLeading);
    }
    write(ctx, &api, grant, GrantSpec { open: Some(open), closed_because: None }).await?;
    ctx.metrics.grants.inc();
    Ok(Opening::Open)
}

/// Closes the Grant if it is open for `remediation`. In a namespace that is not enrolled any more there is no right to:
/// what the Grant allows has ended with its time, a minute at most, and the incident goes on without.
pub async fn close(ctx: &Context, namespace: &str, remediation: &str) -> Result<(), Error> {
    let api: Api<Grant> = ctx.api(namespace);
    let Some(grant) = call("read Grant", api.get_opt(GRANT)).await? else { return Ok(()) };
    if grant.spec.open.as_ref().is_some_and(|open| open.remediation == remediation) {
        match write(ctx, &api, grant, GrantSpec::closed()).await {
            Err(error) if error.word() == "Forbidden" => {
                tracing::warn!(%error, namespace, "the Grant cannot be closed: is the namespace still enrolled?");
            }
            closed => closed?,
        }
    }
    Ok(())
}

impl GrantSpec {
    fn closed() -> GrantSpec {
        GrantSpec { open: None, closed_because: None }
    }
}

async fn write(ctx: &Context, api: &Api<Grant>, mut grant: Grant, spec: GrantSpec) -> Result<(), Error> {
    grant.spec = spec;
    call("write Grant", api.replace(GRANT, &ctx.create_params(), &grant)).await.map(drop)
}
