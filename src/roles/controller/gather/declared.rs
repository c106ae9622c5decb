//! What people declared about a namespace: Policies, PolicyExceptions, Runbooks and ModelChains.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, Resource, ResourceExt as _, runtime::reflector::Store};

use crate::api::v1alpha1::{Incident, ModelChain, Policy, PolicyException, Runbook};
use crate::core::{
    incident::Rules,
    names::MODE,
    policy::{self, CompiledPolicy, MAX_EXCEPTIONS, MAX_RUNBOOKS, runbook_matches},
    workload::pod_security_changed,
};

use super::super::context::{Context, Error, call, wait_until_ready};
use super::lists::listed;

/// How long a plan waits for the first list of ModelChains, which is there long before unless it cannot be read.
const CHAINS: Duration = Duration::from_millis(100);

/// How fresh a reading of rules has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// A quorum read, for decisions. On kinds that seldom change the API server's own cache takes up to
    /// 100 ms to prove that it is current.
    Quorum,
    /// For what is only shown or asked, such as the plan: as the watches of this process last saw it.
    AtHand,
}

/// Reads what holds for the namespace of `incident`.
pub async fn rules(ctx: &Context, incident: &Incident, freshness: Freshness) -> Result<Rules, Error> {
    let namespace = incident.namespace().unwrap_or_default();
    let namespaces: Api<Namespace> = Api::all(ctx.client.clone());
    // What holds is declared in the namespace itself or in the system namespace.
    let chains = async {
        match freshness {
            // A decision asks no model.
            Freshness::Quorum => None,
            Freshness::AtHand => chains(ctx).await,
        }
    };
    let (object, (policies, Declared { policies: _, runbooks, exceptions, denying }), chains) = tokio::try_join!(
        call("read Namespace", namespaces.get_opt(&namespace)),
        async {
            match freshness {
                Freshness::Quorum => {
                    let mut declared = declared(ctx, &namespace).await?;
                    let policies = std::mem::take(&mut declared.policies);
                    Ok((ctx.compiled.bounded(&namespace, policies).await?, declared))
                }
                Freshness::AtHand => {
                    let declared = at_hand(ctx, &namespace).await?;
                    Ok((policy::bounded(&declared.policies, CompiledPolicy::of), declared))
                }
            }
        },
        async { Ok(chains.await) }
    )?;
    let names: Vec<&str> = incident.spec.alerts.iter().map(|alert| alert.alertname.as_str()).collect();
    let kind = incident.spec.target.as_ref().map(|target| target.kind.as_str());
    let runbooks: Vec<Runbook> = policy::bounded_runbooks(runbooks)
        .into_iter()
        .filter(|runbook| runbook_matches(&runbook.spec, &names, kind))
        .collect();
    let compiled = match freshness {
        Freshness::Quorum => ctx.compiled.runbooks(&namespace, &runbooks).await?,
        Freshness::AtHand => BTreeMap::new(),
    };
    Ok(Rules {
        enrolled: object
            .as_ref()
            .is_some_and(|object| ctx.settings.enrolment().holds(&namespace, object.labels(), &ctx.system)),
        pod_security_at: object
            .as_ref()
            .and_then(|object| pod_security_changed(&serde_json::to_value(object).unwrap_or_default())),
        mode: object.and_then(|object| object.labels().get(MODE).cloned()),
        policies: policies.into_iter().chain(denying).collect::<Vec<_>>().into(),
        runbooks,
        compiled,
        exceptions: policy::bounded_exceptions(exceptions),
        chains,
    })
}

/// The ModelChains, as the watch last saw them. An incident does not wait for them: without them the rules answer, and
/// the plan says so.
async fn chains(ctx: &Context) -> Option<Vec<ModelChain>> {
    match tokio::time::timeout(CHAINS, ctx.chains.wait_until_ready()).await {
        Ok(Ok(())) => Some(ctx.chains.state().iter().map(|chain| chain.as_ref().clone()).collect()),
        Ok(Err(_)) | Err(_) => None,
    }
}

/// What people declared about a namespace.
#[derive(Default)]
struct Declared {
    policies: Vec<Policy>,
    runbooks: Vec<Runbook>,
    exceptions: Vec<PolicyException>,
    /// What cannot be read may say anything, and so denies.
    denying: Vec<CompiledPolicy>,
}

/// Policies, Runbooks and PolicyExceptions by quorum.
async fn declared(ctx: &Context, namespace: &str) -> Result<Declared, Error> {
    let of = async |namespace: &str| {
        tokio::try_join!(
            listed("list Policies", ctx.api(namespace), policy::is_crowded),
            listed("list Runbooks", ctx.api(namespace), |books: &[Runbook]| books.len() > MAX_RUNBOOKS),
            listed("list PolicyExceptions", ctx.api(namespace), |all: &[PolicyException]| all.len() > MAX_EXCEPTIONS),
        )
    };
    let mut declared = Declared::default();
    let all = if namespace == ctx.system {
        vec![(namespace, of(namespace).await?)]
    } else {
        let (own, shared) = tokio::try_join!(of(namespace), of(&ctx.system))?;
        vec![(namespace, own), (ctx.system.as_str(), shared)]
    };
    for (namespace, (policies, runbooks, exceptions)) in all {
        declared.denying.extend(policies.denying(namespace, "Policies", ""));
        declared.denying.extend(runbooks.denying(namespace, "Runbooks", " (a Runbook)"));
        declared.policies.extend(policies.decoded);
        declared.runbooks.extend(runbooks.decoded);
        // One that cannot be read lifts nothing, and neither do too many.
        declared.exceptions.extend(exceptions.decoded.into_iter().filter(|_| !exceptions.too_many));
    }
    Ok(declared)
}

/// Policies and Runbooks by the watches of this process, in the order of the quorum read. The Policies are without
/// validations and windows, which only a decision asks.
async fn at_hand(ctx: &Context, namespace: &str) -> Result<Declared, Error> {
    tokio::try_join!(wait_until_ready(&ctx.policies), wait_until_ready(&ctx.runbooks))?;
    Ok(Declared {
        policies: chosen(&ctx.policies, namespace, &ctx.system),
        runbooks: chosen(&ctx.runbooks, namespace, &ctx.system),
        // What is only shown promises no more than the Policies do.
        exceptions: vec![],
        denying: vec![],
    })
}

fn chosen<K>(store: &Store<K>, namespace: &str, system: &str) -> Vec<K>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    let rank = |object: &K| match object.meta().namespace.as_deref() {
        Some(own) if own == namespace => Some(0),
        Some(shared) if shared == system => Some(1),
        _ => None,
    };
    let mut objects: Vec<K> =
        store.state().iter().filter(|object| rank(object).is_some()).map(|object| object.as_ref().clone()).collect();
    objects.sort_by_key(|object| (rank(object), object.name_any()));
    objects
}
