//! Grants: one per enrolled namespace, closed unless exactly one write is open.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kube::{
    Api, ResourceExt as _,
    api::ObjectMeta,
    runtime::reflector::{ObjectRef, Store},
};
use tokio::{sync::watch, time::Instant};

use crate::api::v1alpha1::{Grant, GrantSpec, OpenGrant};
use crate::clock;
use crate::core::{
    enrolment,
    fit::fitted,
    grant,
    names::{CLOSED_FOR, GRANT},
    reason::Reason,
};

use super::context::{Context, Error, Shared, call, ignore_exists};

/// Between two looks at what the watch of Grants has shown: no request is made for one that may stay as it is.
const LOOK: Duration = Duration::from_secs(5);

/// Namespaces whose Grant could not be kept: how often in a row, what was said, and when it is tried again.
type Failed = BTreeMap<String, (u32, String, Instant)>;

/// Makes sure that every enrolled namespace has its Grant: a missing one is recreated, closed; one that nobody needs
/// any more is closed. Backstop never deletes one.
pub async fn run(ctx: Shared, grants: Store<Grant>, enrolled: watch::Receiver<BTreeSet<String>>) {
    let mut every = tokio::time::interval(LOOK);
    let mut failed = Failed::new();
    if grants.wait_until_ready().await.is_err() {
        tracing::warn!("the watch of Grants has ended: none is looked at any more");
        return std::future::pending().await;
    }
    loop {
        every.tick().await;
        let enrolled = enrolled.borrow().clone();
        failed.retain(|namespace, _| enrolled.contains(namespace));
        let keep_closed = keep_closed(&ctx);
        for namespace in &enrolled {
            let known = grants.get(&ObjectRef::new(GRANT).within(namespace));
            let wanted = grant::kept(known.as_ref().map(|grant| &grant.spec), keep_closed, clock::now());
            let waits = failed.get(namespace).is_some_and(|(.., until)| *until > Instant::now());
            if wanted.is_none() || waits {
                continue;
            }
            match keep_one(&ctx, namespace).await {
                Ok(()) => _ = failed.remove(namespace),
                Err(error) => failure(&mut failed, namespace, &error.to_string()),
            }
        }
    }
}

/// Said once: a namespace that was deleted has no Grant for as long as it is gone.
fn failure(failed: &mut Failed, namespace: &str, error: &str) {
    let entry = failed.entry(namespace.to_owned()).or_insert_with(|| (0, String::new(), Instant::now()));
    if entry.1 != error {
        tracing::warn!(namespace, error, "the Grant cannot be kept, will retry less and less often");
    }
    entry.0 = entry.0.saturating_add(1);
    entry.1 = error.to_owned();
    entry.2 = Instant::now() + enrolment::retry(entry.0);
}

fn keep_closed(ctx: &Context) -> Option<Reason> {
    (!ctx.audit_is_durable()).then_some(Reason::AuditNotDurable)
}

async fn keep_one(ctx: &Context, namespace: &str) -> Result<(), Error> {
    let api: Api<Grant> = ctx.api(namespace);
    let grant = call("read Grant", api.get_opt(GRANT)).await?;
    let Some(spec) = grant::kept(grant.as_ref().map(|grant| &grant.spec), keep_closed(ctx), clock::now()) else {
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
    ctx.leads()?;
    write(ctx, &api, grant, GrantSpec { open: Some(open.clone()), closed_because: None }).await?;
    ctx.metrics.grants.inc();
    Ok(())
}

/// Closes the Grant, unless it is open for another Remediation. One that is closed is written too: a request to open it
/// whose answer was lost may still be on its way, and no longer fits the version that it was sent for. In a namespace
/// that is not enrolled any more there is no right to: what the Grant allows has ended with its time, a minute at most,
/// and the incident goes on without.
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
    grant.spec = fitted(spec);
    call("write Grant", api.replace(GRANT, &ctx.create_params(), &grant)).await.map(drop)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::tests::context;
    use super::*;
    use crate::cluster::testing::{Asked, Reply, failure};

    fn grant(spec: &Value) -> Value {
        json!({"apiVersion": "backstop.dev/v1alpha1", "kind": "Grant", "spec": spec,
            "metadata": {"name": GRANT, "namespace": "shop", "resourceVersion": "7"}})
    }

    /// The Grant open for the Remediation `api-1`, until long after now.
    fn opened() -> Value {
        let write = json!({"field": {"path": "/spec/template", "before": {}, "after": {}}});
        json!({"open": {"actionId": "a".repeat(32), "action": "RolloutUndo", "remediation": "api-1", "epoch": 1,
            "uid": "u", "write": write, "notAfter": "2199-01-01T00:00:00Z"}})
    }

    /// What closing for `remediation` writes, if anything, where the Grant is as `spec` says.
    async fn written(spec: Value, remediation: &str, code: u16) -> Option<Value> {
        let (ctx, log, _folder) = context(vec![], move |asked: &Asked| match (asked.method.as_str(), code) {
            ("GET", _) => Reply::Json(200, grant(&spec)),
            (_, 200) => Reply::Json(200, asked.body.clone()),
            (_, code) => failure(code, "Forbidden"),
        });
        close(&ctx, "shop", remediation).await.unwrap();
        let log = log.lock().unwrap();
        log.iter().find(|asked| asked.method == "PUT").map(|asked| asked.body.clone())
    }

    #[tokio::test]
    async fn a_grant_that_is_closed_is_written_once_more_so_that_a_late_opening_meets_another_version() {
        for spec in [json!({}), opened()] {
            let put = written(spec, "api-1", 200).await.expect("nothing was written");
            assert_eq!(put["metadata"]["resourceVersion"], "7", "by compare-and-swap");
            assert_eq!(put["spec"].get("open").filter(|open| !open.is_null()), None);
            let note = put["metadata"]["annotations"][CLOSED_FOR].as_str().unwrap_or_default();
            assert!(note.starts_with("api-1 "), "an update that changes nothing has no new version: {put}");
        }
    }

    #[tokio::test]
    async fn a_grant_that_is_open_for_another_write_stays_open() {
        assert_eq!(written(opened(), "web-2", 200).await, None);
    }

    #[tokio::test]
    async fn where_the_right_to_close_is_gone_the_incident_goes_on() {
        assert!(written(opened(), "api-1", 403).await.is_some());
    }
}
