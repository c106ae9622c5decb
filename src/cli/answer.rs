//! `backstop approve INCIDENT` and `backstop deny INCIDENT`: a person's answer to the exact write that an incident waits
//! for. It creates the Approval that `kubectl create` would, with the name and the groups that the API server knows the
//! caller by.

use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::time::Duration;

use anyhow::{Context as _, bail};
use jiff::SignedDuration;
use k8s_openapi::api::authentication::v1::{SelfSubjectReview, UserInfo};
use kube::{Api, Client, ResourceExt as _, api::PostParams};

use crate::{
    api::v1alpha1::{Approval, ApprovalAnswer, ApprovalSpec, ApprovalTerms, Decision, Incident, IncidentPhase, Time},
    clock, cluster,
    core::names,
};

/// One request to the API server takes at most this long.
const CALL: Duration = Duration::from_secs(15);
/// Groups that an Approval names at most.
const MAX_GROUPS: usize = 64;

/// Arguments of `backstop approve` and `backstop deny`.
#[derive(clap::Args)]
pub struct Args {
    /// Name of the Incident, or the beginning of it.
    incident: String,
    /// Namespace of the Incident. Without: that of the kubeconfig context.
    #[arg(short, long)]
    namespace: Option<String>,
    /// Answer to this digest only: what is asked by then may be something else than what you looked at.
    #[arg(long)]
    digest: Option<String>,
    /// Do not ask on the terminal.
    #[arg(long)]
    yes: bool,
    /// Minutes after which the answer expires, 1 to 1440.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u16).range(1..=1440))]
    minutes: u16,
}

/// Creates the Approval.
pub async fn run(args: Args, answer: ApprovalAnswer) -> anyhow::Result<()> {
    let client = cluster::connect().await?;
    let namespace = args.namespace.clone().unwrap_or_else(|| client.default_namespace().to_string());
    let incident = found(&client, &namespace, &args.incident).await?;
    let decision = asked(&incident)?;
    let digest = decision.digest.clone().unwrap_or_default();
    if let Some(known) = args.digest.as_ref().filter(|known| **known != digest) {
        bail!("{} waits for digest {digest}, not for {known}: look at it again", incident.name_any());
    }
    print!("{}", shown(&incident, decision));
    if !args.yes && args.digest.is_none() && !confirmed(answer)? {
        bail!("nothing was answered");
    }
    let who = whoami(&client).await?;
    let spec = given(&incident, decision, &who, answer, clock::now() + SignedDuration::from_mins(args.minutes.into()))?;
    let approver = spec.approver.clone();
    let mut approval = Approval::new(&name(&incident, &spec), spec);
    approval.metadata.namespace = Some(namespace.clone());
    let api: Api<Approval> = Api::namespaced(client, &namespace);
    let created = bounded(api.create(&PostParams::default(), &approval)).await;
    let created =
        created.context("the Approval cannot be created: it needs the ClusterRole `edit` in the namespace")?;
    let word = match answer {
        ApprovalAnswer::Approve => "approved",
        ApprovalAnswer::Deny => "denied",
    };
    println!("{approver} {word} it: Approval {namespace}/{}", created.name_any());
    Ok(())
}

async fn bounded<T>(request: impl Future<Output = Result<T, kube::Error>>) -> anyhow::Result<T> {
    Ok(tokio::time::timeout(CALL, request).await.context("the API server does not answer")??)
}

/// The one Incident whose name begins so.
async fn found(client: &Client, namespace: &str, name: &str) -> anyhow::Result<Incident> {
    let api: Api<Incident> = Api::namespaced(client.clone(), namespace);
    if let Some(incident) = bounded(api.get_opt(name)).await? {
        return Ok(incident);
    }
    let all = bounded(api.list(&Default::default())).await?;
    let mut those: Vec<Incident> = all.items.into_iter().filter(|it| it.name_any().starts_with(name)).collect();
    match (those.pop(), those.is_empty()) {
        (Some(incident), true) => Ok(incident),
        (None, _) => bail!("there is no Incident {name} in namespace {namespace}"),
        (Some(_), false) => bail!("several Incidents of namespace {namespace} begin with {name}"),
    }
}

/// What people are asked.
fn asked(incident: &Incident) -> anyhow::Result<&Decision> {
    let status = incident.status.as_ref();
    let waits = status.filter(|status| status.phase == IncidentPhase::AwaitingApproval);
    let decision = waits.and_then(|status| status.decision.as_ref()).filter(|decision| decision.digest.is_some());
    let phase = status.map(|status| status.phase).unwrap_or_default();
    decision
        .with_context(|| format!("{} waits for no approval: it is in phase {}", incident.name_any(), phase.as_str()))
}

/// What would be written, and who has to approve it.
fn shown(incident: &Incident, decision: &Decision) -> String {
    let target = incident.spec.target.as_ref().map(ToString::to_string).unwrap_or_default();
    let action = decision.action.as_ref().map(|action| action.kind().as_str()).unwrap_or_default();
    let mut text = format!("{action} of {target}\n  {}\n", decision.message);
    for change in &decision.diff {
        text.push_str(&format!("  {}\n    - {}\n    + {}\n", change.path, change.before, change.after));
    }
    for ApprovalTerms { required, groups } in &decision.approvals {
        let of = if groups.is_empty() { String::new() } else { format!(", of {}", groups.join(" or ")) };
        text.push_str(&format!("  people who have to approve: {required}{of}\n"));
    }
    text.push_str(&format!("  digest {}\n", decision.digest.as_deref().unwrap_or_default()));
    text
}

/// Asks on the terminal.
fn confirmed(answer: ApprovalAnswer) -> anyhow::Result<bool> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        bail!("there is no terminal to ask on: give --digest, or --yes");
    }
    let verb = match answer {
        ApprovalAnswer::Approve => "Approve",
        ApprovalAnswer::Deny => "Deny",
    };
    print!("{verb} exactly this? [y/N] ");
    std::io::stdout().flush()?;
    let mut line = String::new();
    stdin.lock().read_line(&mut line)?;
    Ok(matches!(line.trim(), "y" | "Y" | "yes"))
}

/// Who the caller is, as the API server sees it.
async fn whoami(client: &Client) -> anyhow::Result<UserInfo> {
    let api: Api<SelfSubjectReview> = Api::all(client.clone());
    let review = bounded(api.create(&PostParams::default(), &SelfSubjectReview::default())).await;
    let review = review.context("the API server does not say who you are")?;
    review.status.and_then(|status| status.user_info).context("the API server does not say who you are")
}

/// The answer. Of the caller's groups it names those that somebody asks for, and no others.
fn given(
    incident: &Incident,
    decision: &Decision,
    who: &UserInfo,
    answer: ApprovalAnswer,
    expires_at: Time,
) -> anyhow::Result<ApprovalSpec> {
    let approver = who.username.clone().unwrap_or_default();
    if approver.is_empty() || approver.starts_with("system:") {
        bail!("an Approval is given by a person; you are {approver:?}, an account of the cluster itself");
    }
    let asked = |group: &&String| decision.approvals.iter().any(|terms| terms.groups.contains(group));
    let groups: Vec<String> = who.groups.iter().flatten().filter(asked).take(MAX_GROUPS).cloned().collect();
    Ok(ApprovalSpec {
        approver,
        groups,
        incident: incident.name_any(),
        digest: decision.digest.clone().unwrap_or_default(),
        answer,
        expires_at,
    })
}

/// The same for the same answer: whoever answers twice has answered.
fn name(incident: &Incident, spec: &ApprovalSpec) -> String {
    let word = match spec.answer {
        ApprovalAnswer::Approve => "approve",
        ApprovalAnswer::Deny => "deny",
    };
    let hash = names::short_digest(&["answer", word, &spec.incident, &spec.approver, &spec.digest]);
    let begin: String = incident.name_any().chars().take(200).collect();
    format!("{begin}-{word}-{}", &hash[..10.min(hash.len())])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn incident(phase: &str) -> Incident {
        serde_json::from_value(json!({
            "apiVersion": "backstop.dev/v1alpha1", "kind": "Incident", "metadata": {"name": "api-1", "namespace": "shop"},
            "spec": {"alerts": [], "requestId": "r", "openedAt": "2026-11-21T10:00:00Z"},
            "status": {"phase": phase, "decision": {
                "outcome": "AwaitApproval", "reason": "ApprovalMissing", "message": "approved by 0 of 2 people of sre",
                "action": {"rolloutUndo": {"toRevision": 1}}, "digest": "d".repeat(64),
                "diff": [{"path": "/spec/template", "before": "api:2", "after": "api:1"}],
                "approvals": [{"required": 2, "groups": ["sre"]}], "checks": [], "decidedAt": "2026-11-21T10:00:00Z",
            }},
        }))
        .unwrap()
    }

    fn person(name: &str, groups: &[&str]) -> UserInfo {
        let groups = groups.iter().map(ToString::to_string).collect();
        UserInfo { username: Some(name.into()), groups: Some(groups), ..UserInfo::default() }
    }

    fn answered(who: &UserInfo, answer: ApprovalAnswer) -> anyhow::Result<ApprovalSpec> {
        let incident = incident("AwaitingApproval");
        given(&incident, asked(&incident).unwrap(), who, answer, Time::UNIX_EPOCH)
    }

    #[test]
    fn what_is_asked_is_shown_with_the_change_and_who_has_to_approve() {
        let incident = incident("AwaitingApproval");
        let shown = shown(&incident, asked(&incident).unwrap());
        for part in ["RolloutUndo", "- api:2", "+ api:1", "people who have to approve: 2, of sre", "digest dddd"] {
            assert!(shown.contains(part), "{part}: {shown}");
        }
    }

    #[test]
    fn an_incident_that_waits_for_nobody_takes_no_answer() {
        let error = asked(&self::incident("Judging")).unwrap_err().to_string();
        assert!(error.contains("phase Judging"), "{error}");
    }

    #[test]
    fn it_names_the_caller_and_of_their_groups_those_that_are_asked_for() {
        let spec = answered(&person("ann", &["dev", "sre", "system:authenticated"]), ApprovalAnswer::Deny).unwrap();
        assert_eq!((spec.approver.as_str(), spec.groups), ("ann", vec!["sre".to_owned()]));
        assert_eq!((spec.incident.as_str(), spec.answer), ("api-1", ApprovalAnswer::Deny));
        for account in ["system:serviceaccount:shop:default", ""] {
            assert!(answered(&person(account, &["sre"]), ApprovalAnswer::Approve).is_err(), "{account}");
        }
    }

    #[test]
    fn the_same_answer_has_the_same_name_and_another_one_another() {
        let incident = incident("AwaitingApproval");
        let of = |who: &str, answer| name(&incident, &answered(&person(who, &[]), answer).unwrap());
        let ann = of("ann", ApprovalAnswer::Approve);
        assert_eq!(ann, of("ann", ApprovalAnswer::Approve));
        assert!(ann.starts_with("api-1-approve-"), "{ann}");
        assert!(ann != of("bob", ApprovalAnswer::Approve) && ann != of("ann", ApprovalAnswer::Deny));
    }
}
