//! What platform teams say in Policies, exceptions and approvals, on the way through the real API server.

use anyhow::{Context as _, Result, ensure};
use backstop::api::v1alpha1::{Approval, Incident, IncidentPhase, Policy, PolicyException};
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::{Api, Client, ResourceExt as _};
use serde_json::{Value, json};

use crate::refusals::is_handed_over;
use crate::support::bench::{Bench, Release, phase};
use crate::support::{connect_as_one_of, until};

/// Who is on call, as the API server knows them by.
const ON_CALL: &str = "suite-on-call";

fn policy(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "backstop.dev/v1alpha1", "kind": "Policy", "metadata": {"name": name}, "spec": spec})
}

pub async fn a_policy_that_does_not_compile_says_where_and_denies(bench: Bench) -> Result<()> {
    let expression = "true &&\n  target.nmae == 'api'";
    let spec = json!({"mode": "auto", "validations": [{"expression": expression}]});
    bench.create::<Policy>(policy("misspelt", spec)).await?;
    let api: Api<Policy> = bench.api();
    let message = until("the Policy is not Ready", || async {
        let conditions = api.get("misspelt").await?.status.unwrap_or_default().conditions;
        let ready = conditions.into_iter().find(|condition| condition.type_ == "Ready");
        Ok(ready.filter(|ready| ready.status == "False").map(|ready| ready.message))
    })
    .await?;
    for part in ["validations[0].expression", "line 2", "column", "nmae"] {
        ensure!(message.contains(part), "the condition does not say {part}: {message}");
    }
    bench.healthy("api").await?;
    bench.broken("api", Release::CrashLoop).await?;
    bench.alert("api").await?;
    is_handed_over(&bench, "PolicyInvalid").await.map(drop)
}

pub async fn an_exception_lets_through_what_its_policy_denies(bench: Bench) -> Result<()> {
    let spec =
        json!({"mode": "auto", "validations": [{"expression": "target.name != 'api'", "message": "api is frozen"}]});
    bench.create::<Policy>(policy("frozen", spec)).await?;
    bench
        .create::<PolicyException>(json!({
            "apiVersion": "backstop.dev/v1alpha1", "kind": "PolicyException", "metadata": {"name": "release"},
            "spec": {
                "reason": "the release of this week", "policies": [{"name": "frozen"}], "lifts": ["Validations"],
                "expiresAt": backstop::clock::now() + jiff::SignedDuration::from_hours(1),
            },
        }))
        .await?;
    bench.healthy("api").await?;
    bench.broken("api", Release::CrashLoop).await?;
    bench.alert("api").await?;
    let incident = bench.recovered().await?;
    bench.fired_once_to_first_revision("api").await?;
    let decision = incident.status.and_then(|status| status.decision).context("there is no decision")?;
    let verdict = decision.checks.iter().find(|check| check.check == "PolicyAllows").context("no verdict")?;
    let named = verdict.message.contains("release") && verdict.message.contains("the release of this week");
    ensure!(named, "the exception is not named: {}", verdict.message);
    Ok(())
}

pub async fn a_limit_of_a_policy_refuses(bench: Bench) -> Result<()> {
    bench.create::<Policy>(policy("no-pods", json!({"mode": "auto", "limits": {"maxPods": 0}}))).await?;
    bench.healthy("api").await?;
    bench.broken("api", Release::CrashLoop).await?;
    bench.alert("api").await?;
    is_handed_over(&bench, "BlastRadius").await.map(drop)
}

/// A person of this group who may do in the namespace what `edit` allows.
async fn person(bench: &Bench, name: &str, group: &str) -> Result<Client> {
    let bindings: Api<RoleBinding> = bench.api();
    if bindings.get_opt(group).await?.is_none() {
        bench
            .create::<RoleBinding>(json!({
                "metadata": {"name": group},
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "edit"},
                "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": group}],
            }))
            .await?;
    }
    connect_as_one_of(name, group).await
}

/// The answer of a person; rights that were just given are waited for.
async fn answers(bench: &Bench, client: Client, name: &str, spec: Value) -> Result<Approval> {
    let approval: Approval = serde_json::from_value(json!({
        "apiVersion": "backstop.dev/v1alpha1", "kind": "Approval", "metadata": {"name": name}, "spec": spec,
    }))?;
    let api: Api<Approval> = Api::namespaced(client, &bench.ns);
    until("the person has the rights of `edit`", || async {
        match api.create(&Default::default(), &approval).await {
            Err(kube::Error::Api(status)) if status.code == 403 && status.message.contains("cannot create") => Ok(None),
            answer => Ok(Some(answer)),
        }
    })
    .await?
    .map_err(Into::into)
}

pub async fn where_two_people_have_to_approve_one_is_not_enough(bench: Bench) -> Result<()> {
    let spec = json!({"mode": "approve", "approvals": {"required": 2, "groups": [ON_CALL]}});
    bench.create::<Policy>(policy("two", spec)).await?;
    bench.healthy("api").await?;
    bench.broken("api", Release::CrashLoop).await?;
    bench.alert("api").await?;
    let waiting = bench.incident_in(IncidentPhase::AwaitingApproval).await?;
    let decision = waiting.status.as_ref().and_then(|status| status.decision.as_ref()).context("no decision")?;
    ensure!(decision.approvals.first().is_some_and(|terms| terms.required == 2), "{:?}", decision.approvals);
    let yes = |approver: &str, groups: &[&str]| {
        json!({
            "approver": approver, "groups": groups, "incident": waiting.name_any(), "digest": decision.digest,
            "expiresAt": backstop::clock::now() + jiff::SignedDuration::from_mins(20),
        })
    };
    let still = async |after: &str| -> Result<()> {
        tokio::time::sleep(std::time::Duration::from_secs(3)).await;
        let api: Api<Incident> = bench.api();
        let now = api.get(&waiting.name_any()).await?;
        ensure!(phase(&now) == IncidentPhase::AwaitingApproval, "after {after} it is in phase {:?}", phase(&now));
        bench.nothing_written().await
    };
    let (ann, bob) = (person(&bench, "suite-ann", ON_CALL).await?, person(&bench, "suite-bob", ON_CALL).await?);
    let eve = person(&bench, "suite-eve", "suite-developers").await?;
    answers(&bench, ann, "ann", yes("suite-ann", &[ON_CALL])).await?;
    still("one yes").await?;
    let forged = answers(&bench, eve.clone(), "forged", yes("suite-eve", &[ON_CALL])).await;
    let refused = forged.err().context("an Approval with a group of others was accepted")?.to_string();
    ensure!(refused.contains("suite-eve is not in all of them"), "{refused}");
    answers(&bench, eve, "eve", yes("suite-eve", &["suite-developers"])).await?;
    still("a yes of somebody else").await?;
    answers(&bench, bob, "bob", yes("suite-bob", &[ON_CALL])).await?;
    bench.recovered().await?;
    bench.fired_once_to_first_revision("api").await.map(drop)
}

pub async fn one_no_ends_it(bench: Bench) -> Result<()> {
    bench.mode("approve").await?;
    bench.healthy("api").await?;
    bench.broken("api", Release::CrashLoop).await?;
    bench.alert("api").await?;
    let waiting = bench.incident_in(IncidentPhase::AwaitingApproval).await?;
    let digest = waiting.status.as_ref().and_then(|status| status.decision.as_ref()?.digest.clone());
    let eve = person(&bench, "suite-eve", "suite-developers").await?;
    let no = json!({
        "approver": "suite-eve", "incident": waiting.name_any(), "digest": digest, "answer": "Deny",
        "expiresAt": backstop::clock::now() + jiff::SignedDuration::from_mins(20),
    });
    answers(&bench, eve, "no", no).await?;
    let incident = is_handed_over(&bench, "ApprovalDenied").await?;
    let message = incident.status.unwrap_or_default().message;
    ensure!(message.contains("suite-eve"), "nobody is told who said no: {message}");
    Ok(())
}
