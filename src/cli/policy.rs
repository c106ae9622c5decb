//! `backstop policy explain`: what Policies, PolicyExceptions and Runbooks say of an object and an action, from the cluster
//! or from files, and why.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, Client, ResourceExt as _, api::ListParams};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::lint;
use crate::{
    api::v1alpha1::{ActionKind, GROUP, Mode, ObjectRef, Policy, PolicyException, Runbook, Time},
    clock, cluster,
    core::{
        names::MODE,
        object::{int, object_ref, string_map},
        policy::{
            Answer, CompiledPolicy, Explained, Question, bounded, bounded_exceptions, bounded_runbooks, explain,
            explain_runbook,
        },
        workload::Kind,
    },
};

/// Arguments of `backstop policy`.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Shows what holds for an object and an action, and why.
    Explain(Box<ExplainArgs>),
}

/// Arguments of `backstop policy explain`.
#[derive(clap::Args)]
struct ExplainArgs {
    /// The object as KIND/NAME, such as deployment/catalog, read from the cluster.
    #[arg(required_unless_present = "object")]
    target: Option<String>,
    /// Namespace of the object.
    #[arg(long, short, default_value = "default")]
    namespace: String,
    /// File with the object, as `kubectl get -o yaml` prints it. Nothing is read from a cluster then.
    #[arg(long, conflicts_with = "target")]
    object: Option<PathBuf>,
    /// Files and folders with Policies, PolicyExceptions and Runbooks. Needed with --object; else they take the place of
    /// those of the cluster.
    #[arg(long, num_args = 1.., required_unless_present = "target")]
    policies: Vec<PathBuf>,
    /// Value of the label backstop.dev/mode of the namespace, where it is not read from the cluster.
    #[arg(long)]
    mode: Option<String>,
    /// The action.
    #[arg(long, default_value = "RolloutUndo", value_parser = action)]
    action: ActionKind,
    /// Namespace of Backstop, whose Policies hold for all.
    #[arg(long, default_value = "backstop-system")]
    system: String,
    /// The time of the decision, such as 2026-12-24T20:00:00Z. Default: now.
    #[arg(long)]
    at: Option<Time>,
}

fn action(text: &str) -> Result<ActionKind, String> {
    ActionKind::ALL.iter().find(|kind| kind.as_str() == text).copied().ok_or_else(|| {
        let all: Vec<&str> = ActionKind::ALL.iter().map(|kind| kind.as_str()).collect();
        format!("there are {}", all.join(", "))
    })
}

/// Runs the subcommand.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let Command::Explain(args) = args.command;
    let now = args.at.unwrap_or_else(clock::now);
    let mut declared = Declared::default();
    for path in lint::all(&args.policies)? {
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        declared.add(&text).with_context(|| format!("{} cannot be used", path.display()))?;
    }
    let (object, mode) = match (&args.object, &args.target) {
        (Some(path), _) => (super::files::read::<Value>(path)?, args.mode.clone()),
        (None, Some(target)) => {
            let client = cluster::connect().await?;
            let (object, label) = read(&client, target, &args.namespace).await?;
            if args.policies.is_empty() {
                declared = Declared::of_cluster(&client, &args.namespace, &args.system).await?;
            }
            (object, args.mode.clone().or(label))
        }
        (None, None) => bail!("name an object as KIND/NAME, or give a file with --object"),
    };
    let mut target = object_ref(&object, Kind::API_VERSION, Kind::Deployment.as_str());
    if target.namespace.is_empty() {
        target.namespace = args.namespace.clone();
    }
    let question = Question {
        target: &target,
        labels: &string_map(&object, "/metadata/labels"),
        annotations: &string_map(&object, "/metadata/annotations"),
        replicas: int(&object, "/spec/replicas"),
        action: args.action,
        namespace_mode: mode.as_deref(),
        system: &args.system,
        now,
    };
    print!("{}", told(&question, declared));
    Ok(())
}

/// The object and the mode label of its namespace.
async fn read(client: &Client, target: &str, namespace: &str) -> anyhow::Result<(Value, Option<String>)> {
    let Some((kind, name)) = target.split_once('/') else { bail!("{target}: expected KIND/NAME") };
    let known = Kind::ALL.into_iter().find(|it| it.as_str().eq_ignore_ascii_case(kind));
    let Some(kind) = known else { bail!("{kind}: expected deployment, statefulset or daemonset") };
    let wanted = ObjectRef {
        api_version: Kind::API_VERSION.into(),
        kind: kind.as_str().into(),
        namespace: namespace.into(),
        name: name.into(),
        uid: String::new(),
    };
    let deadline = std::time::Duration::from_secs(10);
    let object = cluster::api::workloads(kind).get(client, namespace, name, deadline).await;
    let mut object = object.with_context(|| format!("cannot read {wanted}"))?;
    object["kind"] = kind.as_str().into();
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let found = namespaces.get(namespace).await.with_context(|| format!("cannot read namespace {namespace}"))?;
    Ok((object, found.labels().get(MODE).cloned()))
}

/// What people declared.
#[derive(Default)]
struct Declared {
    policies: Vec<Policy>,
    exceptions: Vec<PolicyException>,
    runbooks: Vec<Runbook>,
}

impl Declared {
    /// Adds the objects of a file.
    fn add(&mut self, text: &str) -> anyhow::Result<()> {
        for value in serde_saphyr::from_multiple::<Value>(text)? {
            let word = |field: &str| value[field].as_str().unwrap_or_default();
            if !word("apiVersion").starts_with(&format!("{GROUP}/")) {
                continue;
            }
            match word("kind") {
                "Policy" => self.policies.push(typed(&value)?),
                "PolicyException" => self.exceptions.push(typed(&value)?),
                "Runbook" => self.runbooks.push(typed(&value)?),
                _ => {}
            }
        }
        Ok(())
    }

    /// Those that hold for a namespace.
    async fn of_cluster(client: &Client, namespace: &str, system: &str) -> anyhow::Result<Declared> {
        let mut declared = Declared::default();
        let mut namespaces = vec![namespace];
        if namespace != system {
            namespaces.push(system);
        }
        for namespace in namespaces {
            declared.policies.extend(list(client, namespace).await?);
            declared.exceptions.extend(list(client, namespace).await?);
            declared.runbooks.extend(list(client, namespace).await?);
        }
        Ok(declared)
    }
}

fn typed<K: DeserializeOwned>(value: &Value) -> anyhow::Result<K> {
    let name = value.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
    let kind = value["kind"].as_str().unwrap_or_default();
    serde_json::from_value(value.clone()).with_context(|| format!("{kind} {name}"))
}

async fn list<K>(client: &Client, namespace: &str) -> anyhow::Result<Vec<K>>
where
    K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
    K: Clone + std::fmt::Debug + DeserializeOwned,
{
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    let kind = K::kind(&());
    let found = api.list(&ListParams::default()).await;
    Ok(found.with_context(|| format!("cannot list the {kind} objects of namespace {namespace}"))?.items)
}

/// All of it, for people.
fn told(question: &Question<'_>, declared: Declared) -> String {
    let Question { target, action, namespace_mode, system, now, .. } = question;
    let here = |namespace: Option<String>| namespace.is_none_or(|it| it == target.namespace || it == *system);
    let Declared { mut policies, exceptions, runbooks } = declared;
    policies.retain(|policy| here(policy.namespace()));
    policies.sort_by_key(|policy| policy.namespace());
    let exceptions: Vec<PolicyException> = exceptions.into_iter().filter(|it| here(it.namespace())).collect();
    let exceptions = bounded_exceptions(exceptions);
    let runbooks: Vec<Runbook> = runbooks.into_iter().filter(|it| here(it.namespace())).collect();
    let compiled = bounded(&policies, CompiledPolicy::of);
    let mut all: Vec<Explained> = compiled.iter().map(|policy| explain(question, policy, &exceptions)).collect();
    all.extend(bounded_runbooks(runbooks).iter().map(|runbook| explain_runbook(question, runbook)));

    let label = Mode::from_label(*namespace_mode);
    let matching = compiled
        .iter()
        .filter(|it| it.matches(Some(&target.kind), Some(question.labels)) != crate::core::policy::Match::No);
    let mode = matching.map(|policy| policy.spec.mode).fold(label, Ord::min);
    let mut text = format!("{target}, {action}, at {now}\n");
    let said = namespace_mode.map_or_else(|| "absent, which is observe".to_owned(), str::to_owned);
    text.push_str(&format!("label {MODE} of namespace {}: {said}\n", target.namespace));
    for Explained { name, not_for, lines } in &all {
        match not_for {
            Some(why) => text.push_str(&format!("\n{name}: does not apply ({why})\n")),
            None => text.push_str(&format!("\n{name}\n")),
        }
        for line in lines {
            let word = match line.answer {
                Answer::Allows => "allows",
                Answer::Later => "later",
                Answer::Forbids => "FORBIDS",
            };
            text.push_str(&format!("  {word:<8} {:<24} {}\n", line.field, line.why));
        }
    }
    let lines = all.iter().filter(|it| it.not_for.is_none()).flat_map(|it| it.lines.iter().map(move |line| (it, line)));
    let forbids: Vec<String> = lines
        .filter(|(_, line)| line.answer == Answer::Forbids)
        .map(|(it, line)| format!("{} ({})", it.name, line.field))
        .collect();
    text.push_str(&match (mode, forbids.as_slice()) {
        (mode, []) if mode >= Mode::Approve => format!(
            "\nNothing here forbids it; the mode is {mode}. What is marked `later`, and every other check, is asked of each incident.\n"
        ),
        (mode, []) => format!("\nNothing is written: the mode is {mode}.\n"),
        (mode, forbids) => format!("\nNothing is written; the mode is {mode}. Forbidden by {}\n", forbids.join(", ")),
    });
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const OBJECTS: &str = "apiVersion: backstop.dev/v1alpha1
kind: Policy
metadata: {name: hours, namespace: shop}
spec:
  mode: approve
  windows: [{kind: deny, schedule: '0 12 * * *', durationSeconds: 3600}]
---
apiVersion: backstop.dev/v1alpha1
kind: Policy
metadata: {name: databases, namespace: backstop-system}
spec: {mode: observe, matchConstraints: {kinds: [StatefulSet]}}
---
apiVersion: backstop.dev/v1alpha1
kind: Policy
metadata: {name: elsewhere, namespace: bank}
spec: {mode: observe}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: c}
---
apiVersion: backstop.dev/v1alpha1
kind: Runbook
metadata: {name: book, namespace: shop}
spec: {summary: s, match: {}, allowedActions: [RolloutUndo]}
";

    fn answer(now: &str, label: Option<&str>) -> String {
        let mut declared = Declared::default();
        declared.add(OBJECTS).unwrap();
        let target = ObjectRef {
            kind: "Deployment".into(),
            namespace: "shop".into(),
            name: "api".into(),
            ..ObjectRef::default()
        };
        let nothing = BTreeMap::new();
        let question = Question {
            target: &target,
            labels: &nothing,
            annotations: &nothing,
            replicas: None,
            action: ActionKind::RolloutUndo,
            namespace_mode: label,
            system: "backstop-system",
            now: now.parse().unwrap(),
        };
        told(&question, declared)
    }

    #[test]
    fn what_holds_and_why_is_told_without_a_cluster() {
        let text = answer("2026-11-28T12:30:00Z", Some("auto"));
        for part in [
            "Deployment shop/api, RolloutUndo, at 2026-11-28T12:30:00Z",
            "label backstop.dev/mode of namespace shop: auto",
            "Policy backstop-system/databases: does not apply (matchConstraints",
            "FORBIDS  windows[0]               deny window, open",
            "Runbook shop/book",
            "allows   allowedActions           lists RolloutUndo",
            "Nothing is written; the mode is approve. Forbidden by Policy shop/hours (windows[0])",
        ] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
        assert!(!text.contains("bank"), "what holds elsewhere is not told");
        assert!(answer("2026-11-28T14:30:00Z", Some("auto")).contains("Nothing here forbids it; the mode is approve"));
        assert!(answer("2026-11-28T14:30:00Z", None).contains("Nothing is written: the mode is observe"));
    }

    #[test]
    fn an_action_that_does_not_exist_is_refused_with_those_that_do() {
        assert!(action("DeleteEverything").unwrap_err().contains("RolloutUndo"));
        assert_eq!(action("RolloutUndo"), Ok(ActionKind::RolloutUndo));
    }
}
