//! `backstop approve INCIDENT` and `backstop deny INCIDENT`: a person's answer to the exact write that an incident waits
//! for. It creates the Approval that `kubectl create` would, with the name and the groups that the API server knows the
//! caller by.

use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::time::Duration;

use anyhow::{Context as _, bail};
use jiff::SignedDuration;
use k8s_openapi::{
    api::authentication::v1::{SelfSubjectReview, UserInfo},
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use kube::{Api, Client, Resource as _, ResourceExt as _, api::PostParams};

use crate::{
    api::v1alpha1::{
        Approval, ApprovalAnswer, ApprovalSpec, ApprovalTerms, Decision, Incident, IncidentPhase, Mode, Time,
    },
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
    let decision = asked(&incident, answer)?;
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
    let mut approval = Approval::new(&name(&incident, &spec), spec);
    approval.metadata.namespace = Some(namespace.clone());
    approval.metadata.owner_references = owner(&incident);
    println!("{}", given_to(&client, approval, clock::now()).await?);
    if let Some(warning) = not_asked(&incident, answer) {
        println!("{warning}");
    }
    Ok(())
}

/// Stores an answer, and says what came of it. One that the same person gave before and that still counts is the answer; one
/// that has expired or was used is given anew, under a name of its own.
async fn given_to(client: &Client, mut approval: Approval, now: Time) -> anyhow::Result<String> {
    let namespace = approval.metadata.namespace.clone().unwrap_or_default();
    let api: Api<Approval> = Api::namespaced(client.clone(), &namespace);
    let Some(earlier) = create(&api, &approval).await? else { return Ok(said(&approval, "")) };
    let used = earlier.status.as_ref().is_some_and(|status| !status.used_by.is_empty());
    // Nobody else can have written it, but for whoever may write in another's name.
    let same = (&earlier.spec.approver, &earlier.spec.digest, earlier.spec.answer)
        == (&approval.spec.approver, &approval.spec.digest, approval.spec.answer);
    if same && !used && earlier.spec.expires_at > now {
        return Ok(said(&earlier, " already"));
    }
    // The second: whoever answers twice within one has answered.
    approval.metadata.name = Some(format!("{}-{}", approval.name_any(), now.as_second()));
    match create(&api, &approval).await? {
        None => Ok(said(&approval, " again")),
        Some(_) => bail!("Approval {namespace}/{} exists; try again in a second", approval.name_any()),
    }
}

/// Creates it. `Some` is what has its name already.
async fn create(api: &Api<Approval>, approval: &Approval) -> anyhow::Result<Option<Approval>> {
    let (namespace, name) = (approval.metadata.namespace.clone().unwrap_or_default(), approval.name_any());
    let answer = tokio::time::timeout(CALL, api.create(&PostParams::default(), approval)).await;
    match answer.context("the API server does not answer")? {
        Ok(_) => Ok(None),
        Err(kube::Error::Api(status)) if status.code == 409 => {
            let earlier = bounded(api.get(&name)).await;
            earlier.map(Some).with_context(|| format!("Approval {namespace}/{name} exists and cannot be read"))
        }
        Err(kube::Error::Api(status)) if status.code == 403 => bail!(
            "you may not create Approvals in namespace {namespace}: that needs the ClusterRole `edit` there, or \
             `backstop-edit`, which it contains ({})",
            status.message
        ),
        Err(error) => Err(error).context(format!("Approval {namespace}/{name} was not created")),
    }
}

/// What the person has said, and until when it counts.
fn said(approval: &Approval, again: &str) -> String {
    let ApprovalSpec { approver, answer, expires_at, .. } = &approval.spec;
    let word = match answer {
        ApprovalAnswer::Approve => "approved",
        ApprovalAnswer::Deny => "denied",
    };
    let namespace = approval.metadata.namespace.as_deref().unwrap_or_default();
    format!("{approver} has {word} it{again}, until {expires_at}: Approval {namespace}/{}", approval.name_any())
}

/// The Approval goes with its Incident.
fn owner(incident: &Incident) -> Option<Vec<OwnerReference>> {
    let uid = incident.uid()?;
    let (api_version, kind) = (Incident::api_version(&()).into(), Incident::kind(&()).into());
    Some(vec![OwnerReference { api_version, kind, name: incident.name_any(), uid, ..OwnerReference::default() }])
}

/// What a no does not do: where nobody is asked, nobody is heard.
fn not_asked(incident: &Incident, answer: ApprovalAnswer) -> Option<String> {
    let status = incident.status.as_ref()?;
    let auto = status.plan.as_ref().is_some_and(|plan| plan.mode == Mode::Auto);
    let unasked = answer == ApprovalAnswer::Deny && auto && status.phase != IncidentPhase::AwaitingApproval;
    unasked.then(|| format!("the mode is auto: a no stops only what needs an approval. {}", stop(incident)))
}

/// What stops every write, whatever is asked.
fn stop(incident: &Incident) -> String {
    let namespace = incident.namespace().unwrap_or_default();
    format!("To stop every write: kubectl label namespace {namespace} {}=observe --overwrite", names::MODE)
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

/// What people are asked. A no counts until the write is made: also while the checks are evaluated again, and while the
/// executor has not written yet.
fn asked(incident: &Incident, answer: ApprovalAnswer) -> anyhow::Result<&Decision> {
    let status = incident.status.as_ref();
    let phase = status.map(|status| status.phase).unwrap_or_default();
    let is_under_way =
        matches!(phase, IncidentPhase::Investigating | IncidentPhase::Judging | IncidentPhase::Remediating);
    let takes = phase == IncidentPhase::AwaitingApproval || (is_under_way && answer == ApprovalAnswer::Deny);
    let decision = status.filter(|_| takes).and_then(|status| status.decision.as_deref());
    let decision = decision.filter(|decision| decision.digest.is_some());
    let (name, phase) = (incident.name_any(), phase.as_str());
    match answer {
        ApprovalAnswer::Approve => {
            decision.with_context(|| format!("{name} waits for no approval: it is in phase {phase}"))
        }
        ApprovalAnswer::Deny => decision.with_context(|| {
            format!("{name} has no write that could be denied: it is in phase {phase}. {}", stop(incident))
        }),
    }
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

/// The same for the same answer: whoever answers twice has answered, as long as the first counts.
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
    use std::{
        collections::BTreeMap,
        sync::{Arc, Mutex},
    };

    use serde_json::json;

    use super::*;
    use crate::{
        api::v1alpha1::{ApprovalStatus, Plan},
        cluster::testing::{Asked, Reply, client, failure},
    };

    type Log = Arc<Mutex<Vec<Asked>>>;

    fn incident(phase: &str) -> Incident {
        serde_json::from_value(json!({
            "apiVersion": "backstop.dev/v1alpha1", "kind": "Incident", "metadata": {"name": "api-1", "namespace": "shop", "uid": "u-1"},
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
        given(&incident, asked(&incident, answer).unwrap(), who, answer, Time::UNIX_EPOCH)
    }

    #[test]
    fn what_is_asked_is_shown_with_the_change_and_who_has_to_approve() {
        let incident = incident("AwaitingApproval");
        let shown = shown(&incident, asked(&incident, ApprovalAnswer::Approve).unwrap());
        for part in ["RolloutUndo", "- api:2", "+ api:1", "people who have to approve: 2, of sre", "digest dddd"] {
            assert!(shown.contains(part), "{part}: {shown}");
        }
    }

    #[test]
    fn an_incident_that_waits_for_nobody_takes_no_approval() {
        let error = asked(&self::incident("Judging"), ApprovalAnswer::Approve).unwrap_err().to_string();
        assert!(error.contains("phase Judging"), "{error}");
    }

    #[test]
    fn a_no_is_taken_until_the_write_is_made_and_after_that_the_next_step_is_named() {
        for phase in ["AwaitingApproval", "Investigating", "Judging", "Remediating"] {
            assert!(asked(&self::incident(phase), ApprovalAnswer::Deny).is_ok(), "{phase}");
        }
        let mut undecided = self::incident("Judging");
        undecided.status.as_mut().unwrap().decision = None;
        for (incident, phase) in [
            (self::incident("Verifying"), "Verifying"),
            (self::incident("Escalated"), "Escalated"),
            (undecided, "Judging"),
        ] {
            let error = asked(&incident, ApprovalAnswer::Deny).unwrap_err().to_string();
            let next = "kubectl label namespace shop backstop.dev/mode=observe --overwrite";
            assert!(error.contains(phase) && error.contains(next), "{error}");
        }
    }

    #[test]
    fn where_nobody_is_asked_a_no_says_what_it_does_not_stop() {
        let in_mode = |mode: &str, phase: &str| {
            let mut incident = incident(phase);
            incident.status.as_mut().unwrap().plan =
                Some(Plan { mode: Mode::from_label(Some(mode)), ..Plan::default() }.into());
            not_asked(&incident, ApprovalAnswer::Deny)
        };
        assert!(in_mode("auto", "Remediating").unwrap().contains("backstop.dev/mode=observe"));
        assert_eq!((in_mode("auto", "AwaitingApproval"), in_mode("approve", "Remediating")), (None, None));
    }

    /// An API server that has these Approvals by name; what is created is added.
    fn serve(code: u16, had: Vec<Approval>) -> (Client, Log) {
        let stored = Mutex::new(had.into_iter().map(|one| (one.name_any(), json!(one))).collect::<BTreeMap<_, _>>());
        client(move |asked| {
            let mut stored = stored.lock().unwrap();
            let name = asked.path.rsplit('/').next().unwrap_or_default().to_owned();
            match asked.method.as_str() {
                "POST" if code != 201 => failure(code, "Forbidden"),
                "POST" => {
                    let name = asked.body["metadata"]["name"].as_str().unwrap().to_owned();
                    if stored.contains_key(&name) {
                        return failure(409, "AlreadyExists");
                    }
                    stored.insert(name, asked.body.clone());
                    Reply::Json(201, asked.body.clone())
                }
                _ => stored.get(&name).map_or_else(|| failure(404, "NotFound"), |one| Reply::Json(200, one.clone())),
            }
        })
    }

    /// Ann's yes, which counts until `until` and was used by a Remediation of this name.
    fn yes(until: i64, used_by: &str) -> Approval {
        let incident = incident("AwaitingApproval");
        let spec = answered(&person("ann", &[]), ApprovalAnswer::Approve).unwrap();
        let mut approval = Approval::new(&name(&incident, &spec), ApprovalSpec { expires_at: at(until), ..spec });
        approval.metadata.namespace = Some("shop".into());
        approval.metadata.owner_references = owner(&incident);
        approval.status = Some(ApprovalStatus { used_by: used_by.into(), conditions: vec![] });
        approval
    }

    fn at(second: i64) -> Time {
        Time::from_second(1_800_000_000 + second).unwrap()
    }

    #[tokio::test]
    async fn an_answer_that_still_counts_is_the_answer() {
        let (client, log) = serve(201, vec![yes(60, "")]);
        let told = given_to(&client, yes(3600, ""), at(0)).await.unwrap();
        assert!(told.contains("ann has approved it already, until ") && told.contains(&at(60).to_string()), "{told}");
        assert_eq!(log.lock().unwrap().iter().filter(|asked| asked.method == "POST").count(), 1);
    }

    #[tokio::test]
    async fn an_answer_that_expired_or_was_used_is_given_anew() {
        for earlier in [yes(0, ""), yes(60, "api-1-repair")] {
            let (client, log) = serve(201, vec![earlier.clone()]);
            let told = given_to(&client, yes(3600, ""), at(0)).await.unwrap();
            assert!(told.contains("again, until ") && told.contains(&at(3600).to_string()), "{told}");
            let log = log.lock().unwrap();
            let body = &log.last().unwrap().body;
            assert_eq!(body["metadata"]["name"], format!("{}-1800000000", earlier.name_any()));
            assert_eq!(body["spec"]["expiresAt"], at(3600).to_string());
        }
    }

    #[tokio::test]
    async fn only_a_missing_right_tells_of_the_role() {
        for (code, role) in [(403, true), (422, false), (500, false)] {
            let (client, _) = serve(code, vec![]);
            let error = format!("{:#}", given_to(&client, yes(60, ""), at(0)).await.unwrap_err());
            assert_eq!(error.contains("ClusterRole `edit`"), role, "{code}: {error}");
            assert!(error.contains("shop") && error.contains("Forbidden it is"), "{code}: {error}");
        }
    }

    #[tokio::test]
    async fn the_approval_goes_with_its_incident() {
        let (client, log) = serve(201, vec![]);
        given_to(&client, yes(60, ""), at(0)).await.unwrap();
        let owner = log.lock().unwrap()[0].body["metadata"]["ownerReferences"][0].clone();
        assert_eq!((owner["kind"].as_str(), owner["uid"].as_str()), (Some("Incident"), Some("u-1")));
        assert_eq!(owner.get("blockOwnerDeletion"), None, "that would need a right on Incidents");
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
