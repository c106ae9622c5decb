//! Whether an alert of the incident fires.

use std::collections::{BTreeMap, BTreeSet};

use kube::{Api, ResourceExt as _, api::ListParams};

use crate::api::v1alpha1::{Alert, Incident};
use crate::cluster::Lean;
use crate::core::grouping::{self, MAX_ALERTS};

use super::super::context::{Context, Error, call};

/// Alerts of an incident that are read at a time.
const ALERTS_A_PAGE: u32 = 10;

/// Labels of an alert.
pub type Labels = BTreeMap<String, String>;

/// Whether any of the incident's alerts is firing, also of those that it has no room to list, with the labels of the
/// newest that is; those of one that is not listed, or cannot be decoded, are not told. An Alert that was deleted has
/// ended; one that cannot be decoded fires, because nobody can say that it ended.
pub async fn firing(ctx: &Context, incident: &Incident) -> Result<Option<Labels>, Error> {
    for reference in incident.spec.alerts.iter().rev() {
        if let Some(labels) = alert_fires(ctx, &reference.namespace, &reference.name).await? {
            return Ok(Some(labels));
        }
    }
    if incident.spec.alerts.len() < MAX_ALERTS {
        return Ok(None);
    }
    let mut namespaces: BTreeSet<String> = incident.spec.alerts.iter().map(|alert| alert.namespace.clone()).collect();
    let known = ctx.alerts.state();
    let unlisted = known.iter().filter(|alert| grouping::belongs_to(alert, incident));
    namespaces.extend(unlisted.filter_map(|alert| alert.namespace()));
    for namespace in namespaces {
        if unlisted_fires(ctx, incident, &namespace).await? {
            return Ok(Some(Labels::new()));
        }
    }
    Ok(None)
}

async fn alert_fires(ctx: &Context, namespace: &str, name: &str) -> Result<Option<Labels>, Error> {
    let api: Api<Lean<Alert>> = ctx.api(namespace);
    Ok(match call("read Alert", api.get_opt(name)).await? {
        None => None,
        Some(Lean(Ok(alert))) => alert.spec.ends_at.is_none().then_some(alert.spec.labels),
        Some(Lean(Err(error))) => {
            tracing::warn!(namespace, name, error = error.error, "an Alert cannot be decoded, and counts as firing");
            Some(Labels::new())
        }
    })
}

/// Whether an Alert of this namespace fires that names the incident. One that cannot be decoded counts as firing.
async fn unlisted_fires(ctx: &Context, incident: &Incident, namespace: &str) -> Result<bool, Error> {
    let api: Api<Lean<Alert>> = ctx.api(namespace);
    let fields = format!("status.incident={}", incident.name_any());
    let mut params = ListParams::default().fields(&fields).limit(ALERTS_A_PAGE);
    loop {
        let page = call("list Alerts of an Incident", api.list(&params)).await?;
        let home = incident.namespace().unwrap_or_default();
        let fires = |alert: &Alert| {
            let of_it = alert.status.as_ref().is_some_and(|status| status.incident_namespace == home);
            of_it && alert.spec.ends_at.is_none()
        };
        if page.items.iter().any(|alert| alert.0.as_ref().map_or(true, fires)) {
            return Ok(true);
        }
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(false),
        }
    }
}
