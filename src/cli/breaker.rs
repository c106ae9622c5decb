//! `backstop breaker`: shows the cascade breakers and the targets that are held, and resets them in a person's name.

use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use kube::{
    Api, Client,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::json;

use crate::{
    api::v1alpha1::{Breaker, BreakerReset, BreakerState, Ledger, LedgerStatus, Time},
    cluster,
    core::budget::breaker,
};

/// Name of the Ledger of actions.
const ACTIONS: &str = "actions";
/// Resets that the Ledger keeps: the oldest make room.
const KEPT: usize = 50;
/// How long the controller is waited for.
const PATIENCE: Duration = Duration::from_secs(15);
const LOOK: Duration = Duration::from_millis(250);
/// How often a write is tried again that somebody else's was faster than.
const TRIES: u32 = 5;

/// Arguments of `backstop breaker`.
#[derive(clap::Args)]
pub struct Args {
    /// Namespace of Backstop, which has the Ledger.
    #[arg(long, global = true, default_value = "backstop-system")]
    system: String,
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Shows the breakers that are not closed, what opened them, and the targets that are held.
    Show,
    /// Closes a breaker in your name, and releases the targets that are held. The audit log says who did it, and why.
    Reset(ResetArgs),
}

#[derive(clap::Args)]
struct ResetArgs {
    /// The namespace. Without: the breaker of the cluster, and the targets of every namespace.
    #[arg(short, long)]
    namespace: Option<String>,
    /// Why it is safe to go on, at most 500 characters.
    #[arg(long)]
    why: String,
}

/// Runs the subcommand.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let client = cluster::connect().await?;
    let api: Api<Ledger> = Api::namespaced(client.clone(), &args.system);
    let ledger = read(&api, &args.system).await?;
    match args.command {
        Command::Show => {
            print!("{}", shown(&ledger.status.unwrap_or_default()));
            Ok(())
        }
        Command::Reset(asked) => {
            let (namespace, why) = (asked.namespace.unwrap_or_default(), asked.why);
            if let Some(up_to) = write(&client, &api, &args.system, ledger, &namespace, &why).await? {
                done(&api, &namespace, up_to).await?;
            }
            Ok(())
        }
    }
}

async fn read(api: &Api<Ledger>, system: &str) -> anyhow::Result<Ledger> {
    let found = api.get_opt(ACTIONS).await.map_err(|error| failed(error, "read", system))?;
    found.with_context(|| {
        format!("there is no Ledger {ACTIONS} in namespace {system}: nothing was ever counted; or Backstop is in another one, see --system")
    })
}

/// What kept the Ledger from being read or changed, with the right that it takes where that is missing.
fn failed(error: kube::Error, verb: &str, system: &str) -> anyhow::Error {
    match error {
        kube::Error::Api(status) if status.code == 403 => anyhow!(
            "you may not {verb} Ledger {ACTIONS} in namespace {system}: that needs the Role `backstop-breaker` there, which is \
             bound to nobody by itself (kubectl -n {system} create rolebinding oncall-breaker --role backstop-breaker --user \
             YOU): {}",
            status.message
        ),
        error => anyhow::Error::new(error).context(format!("cannot {verb} Ledger {ACTIONS} in namespace {system}")),
    }
}

/// Writes that `namespace`, or the cluster where it is empty, is reset, of what `ledger` shows now; `None` where there is
/// nothing at all that could be. The Ledger changes with each action: a write that another one was faster than is tried
/// again, as long as it is about the same.
async fn write(
    client: &Client,
    api: &Api<Ledger>,
    system: &str,
    mut ledger: Ledger,
    namespace: &str,
    why: &str,
) -> anyhow::Result<Option<Time>> {
    let status = ledger.status.take().unwrap_or_default();
    let Some(up_to) = breaker::resettable(&status, namespace) else {
        return nothing(&status, namespace).map(|()| None);
    };
    let by = username(client).await?;
    let mut tries = TRIES;
    loop {
        let reset = BreakerReset { namespace: namespace.into(), up_to, by: by.clone(), why: why.into() };
        let mut resets = ledger.spec.resets;
        resets.push(reset);
        resets.drain(..resets.len().saturating_sub(KEPT));
        // Under the version that was read: nobody else's word is lost.
        let version = ledger.metadata.resource_version;
        let patch = json!({"metadata": {"resourceVersion": version}, "spec": {"resets": resets}});
        let params = PatchParams { field_manager: Some("backstop-cli".into()), ..PatchParams::default() };
        match api.patch(ACTIONS, &params, &Patch::Merge(patch)).await {
            Ok(_) => return Ok(Some(up_to)),
            Err(kube::Error::Api(status)) if status.code == 409 && tries > 0 => tries -= 1,
            Err(error) => return Err(failed(error, "change", system)),
        }
        tokio::time::sleep(LOOK).await;
        ledger = read(api, system).await?;
        let status = ledger.status.take().unwrap_or_default();
        if breaker::resettable(&status, namespace) != Some(up_to) {
            bail!(
                "nothing was reset: the Ledger is about something else by now. Look at it again:\n{}",
                shown(&status)
            );
        }
    }
}

/// That there is nothing to reset, which is a fault where something else is not closed.
fn nothing(status: &LedgerStatus, namespace: &str) -> anyhow::Result<()> {
    let asked = match namespace {
        "" => "of the cluster".to_owned(),
        namespace => format!("of namespace {namespace}"),
    };
    let others = open(status);
    if others.is_empty() {
        println!("nothing to reset: the breaker {asked} is closed, and no target of it is held");
        return Ok(());
    }
    bail!(
        "nothing was reset: the breaker {asked} is closed, and no target of it is held. What is not closed is reset with \
         --namespace NAME, or without it for the cluster:\n{}",
        others.join("\n")
    )
}

/// Waits until the controller has done it.
async fn done(api: &Api<Ledger>, namespace: &str, up_to: Time) -> anyhow::Result<()> {
    let wait = async {
        loop {
            let status = api.get(ACTIONS).await?.status.unwrap_or_default();
            if !breaker::stands(&status, namespace, up_to) {
                return anyhow::Ok(status);
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    let Ok(status) = tokio::time::timeout(PATIENCE, wait).await else {
        bail!(
            "it is written, and the controller has not done it within {} s: it does so once it leads and its audit log can \
             be written",
            PATIENCE.as_secs()
        );
    };
    let status = status?;
    match breaker::resettable(&status, namespace) {
        None if open(&status).is_empty() => println!("reset"),
        None => println!("reset; these are others, and are not:\n{}", open(&status).join("\n")),
        Some(_) => println!("something else went wrong meanwhile, which is not reset:\n{}", shown(&status)),
    }
    Ok(())
}

/// Who asks, as the API server knows them.
async fn username(client: &Client) -> anyhow::Result<String> {
    let api: Api<SelfSubjectReview> = Api::all(client.clone());
    let review = api.create(&PostParams::default(), &SelfSubjectReview::default()).await;
    let review = review.context("the API server does not say who you are (SelfSubjectReview)")?;
    let user = review.status.and_then(|status| status.user_info).and_then(|user| user.username);
    user.context("the API server knows no name of yours")
}

/// The breakers that are not closed, with what opened them, what was counted, and the targets that are held.
fn shown(status: &LedgerStatus) -> String {
    let mut lines = open(status);
    for anomaly in &status.anomalies {
        lines.push(format!("  {} {} of Incident {}", anomaly.at, anomaly.kind, anomaly.incident));
    }
    if lines.is_empty() {
        lines.push("every cascade breaker is closed, and no target is held".to_owned());
    }
    lines.join("\n") + "\n"
}

/// The breakers that are not closed, and the targets that are held.
fn open(status: &LedgerStatus) -> Vec<String> {
    let mut lines = vec![];
    let all = [("of the cluster".to_owned(), &status.breaker)].into_iter();
    let own = status.breakers.iter().map(|own| (format!("of namespace {}", own.namespace), &own.breaker));
    for (name, Breaker { state, opened_at, reason, opened_by, .. }) in all.chain(own) {
        if *state != BreakerState::Closed {
            let at = opened_at.map(|at| at.to_string()).unwrap_or_default();
            let word = if *state == BreakerState::Open { "open" } else { "half-open" };
            lines.push(format!("the cascade breaker {name} is {word} since {at}: {reason} of Incident {opened_by}"));
        }
    }
    for entry in status.entries.iter().filter(|entry| !entry.failed.is_empty()) {
        lines.push(format!(
            "{} in namespace {} is held: the write of Incident {} at {} did not hold ({})",
            entry.target, entry.namespace, entry.incident, entry.at, entry.failed
        ));
    }
    lines
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use serde_json::Value;

    use super::*;
    use crate::cluster::testing::{Asked, Reply, client, failure};

    const AT: &str = "2026-11-28T08:00:00Z";

    fn ledger(version: &str, status: &Value) -> Value {
        json!({"apiVersion": "backstop.dev/v1alpha1", "kind": "Ledger", "spec": {"purpose": "Actions"}, "status": status,
            "metadata": {"name": ACTIONS, "namespace": "backstop-system", "resourceVersion": version}})
    }

    /// With the breaker of namespace `shop` open since `at`, and that of the cluster closed.
    fn shop(at: &str) -> Value {
        json!({"breakers": [{"namespace": "shop", "breaker":
            {"state": "Open", "openedAt": at, "reason": "VerifyFailed", "openedBy": "shop/api-1"}}]})
    }

    fn status(json: &Value) -> LedgerStatus {
        serde_json::from_value(json.clone()).unwrap()
    }

    /// What comes of a reset of `shop`, where the first writes are answered so and the Ledger shows `later` after them.
    async fn reset(codes: Vec<u16>, later: Value) -> (anyhow::Result<Option<Time>>, Arc<Mutex<Vec<Asked>>>) {
        let codes = Mutex::new(codes.into_iter());
        let (client, log) =
            client(move |asked| match (asked.method.as_str(), asked.path.contains("selfsubjectreviews")) {
                (_, true) => Reply::Json(201, json!({"status": {"userInfo": {"username": "ann"}}})),
                ("PATCH", _) => match codes.lock().unwrap().next().unwrap_or(200) {
                    200 => Reply::Json(200, ledger("9", &later)),
                    code => failure(code, "Refused"),
                },
                _ => Reply::Json(200, ledger("8", &later)),
            });
        let api: Api<Ledger> = Api::namespaced(client.clone(), "backstop-system");
        let first = serde_json::from_value(ledger("7", &shop(AT))).unwrap();
        (write(&client, &api, "backstop-system", first, "shop", "mended").await, log)
    }

    #[tokio::test(start_paused = true)]
    async fn a_reset_that_an_action_was_faster_than_is_tried_again_on_what_is_there_now() {
        let (done, log) = reset(vec![409, 409], shop(AT)).await;
        assert_eq!(done.unwrap(), Some(AT.parse().unwrap()));
        let log = log.lock().unwrap();
        let versions: Vec<&Value> = log
            .iter()
            .filter(|asked| asked.method == "PATCH")
            .map(|asked| &asked.body["metadata"]["resourceVersion"])
            .collect();
        assert_eq!(versions, ["7", "8", "8"]);
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_not_tried_for_ever_and_not_about_something_else() {
        let (done, log) = reset(vec![409; 100], shop(AT)).await;
        assert!(done.is_err());
        assert!(log.lock().unwrap().len() < 20);
        let (done, _) = reset(vec![409], shop("2026-11-28T08:00:09Z")).await;
        let error = done.unwrap_err().to_string();
        assert!(error.contains("something else by now") && error.contains("08:00:09"), "{error}");
    }

    #[tokio::test]
    async fn a_missing_right_names_the_role() {
        let (done, _) = reset(vec![403], shop(AT)).await;
        let error = done.unwrap_err().to_string();
        assert!(error.contains("Role `backstop-breaker`") && error.contains("create rolebinding"), "{error}");
        let (client, _) = client(|_| failure(403, "Forbidden"));
        let error = read(&Api::namespaced(client, "ops"), "ops").await.unwrap_err().to_string();
        assert!(
            error.contains("read Ledger actions in namespace ops") && error.contains("`backstop-breaker`"),
            "{error}"
        );
    }

    #[test]
    fn whoever_resets_a_breaker_that_is_closed_reads_which_are_not() {
        let open = status(&shop(AT));
        let error = nothing(&open, "").unwrap_err().to_string();
        assert!(error.contains("of the cluster is closed") && error.contains("of namespace shop is open"), "{error}");
        assert!(nothing(&LedgerStatus::default(), "").is_ok());
    }
}
