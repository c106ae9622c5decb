//! The enrolled namespaces, as they are now.

use std::collections::BTreeSet;

use futures::{Stream, StreamExt as _};
use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, Client, ResourceExt as _, runtime::watcher};
use tokio::sync::watch;

use crate::core::enrolment::Enrolment;

use super::Lean;

/// Tells which namespaces are enrolled, without end. Those that are enrolled by name are told once, whether they exist or
/// not; by labels, as a watch shows them, those that are being deleted left out.
pub async fn follow(client: Client, enrolment: Enrolment, system: String, tell: watch::Sender<BTreeSet<String>>) {
    match &enrolment {
        Enrolment::Named(names) => {
            tell.send_replace(names.clone());
        }
        Enrolment::Labelled(_) => {
            let api: Api<Lean<Namespace>> = Api::all(client);
            let config = watcher::Config::default().labels(&enrolment.selector().unwrap_or_default());
            gather(super::watch(api, config), &enrolment, &system, &tell).await;
        }
    }
    // Whoever waits for the next change waits for it as long as the process runs.
    std::future::pending().await
}

async fn gather(
    events: impl Stream<Item = watcher::Event<Namespace>>,
    enrolment: &Enrolment,
    system: &str,
    tell: &watch::Sender<BTreeSet<String>>,
) {
    let mut events = std::pin::pin!(events);
    let (mut known, mut listed, mut silent) = (BTreeSet::new(), None, true);
    while let Some(event) = events.next().await {
        match event {
            watcher::Event::Init => listed = Some(BTreeSet::new()),
            watcher::Event::InitApply(namespace) => {
                if let (Some(listed), Some(name)) = (&mut listed, enrolled(&namespace, enrolment, system)) {
                    listed.insert(name);
                }
            }
            watcher::Event::InitDone => known = listed.take().unwrap_or_default(),
            watcher::Event::Apply(namespace) => match enrolled(&namespace, enrolment, system) {
                Some(name) => _ = known.insert(name),
                None => _ = known.remove(&namespace.name_any()),
            },
            watcher::Event::Delete(namespace) => _ = known.remove(&namespace.name_any()),
        }
        // While a new list comes in, the old one holds. That there is none is told too.
        if listed.is_none() {
            tell.send_if_modified(|told| {
                let changed = silent || *told != known;
                told.clone_from(&known);
                changed
            });
            silent = false;
        }
    }
}

fn enrolled(namespace: &Namespace, enrolment: &Enrolment, system: &str) -> Option<String> {
    let name = namespace.name_any();
    let stays = namespace.metadata.deletion_timestamp.is_none();
    (stays && enrolment.holds(&name, namespace.labels(), system)).then_some(name)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[tokio::test]
    async fn namespaces_come_and_go_with_their_label_and_a_new_list_replaces_the_old_one_when_it_is_whole() {
        use watcher::Event::{Apply, Delete, Init, InitApply, InitDone};
        let enrolment = Enrolment::Labelled([("enrol".to_owned(), "true".to_owned())].into());
        let named = |name: &str, label: &str, ending: bool| -> Namespace {
            let mut raw = json!({"metadata": {"name": name, "labels": {"enrol": label}}});
            if ending {
                raw["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
            }
            serde_json::from_value(raw).unwrap()
        };
        let on = |name: &str| named(name, "true", false);
        let (tell, told) = watch::channel(BTreeSet::new());
        let begin = [Init, InitApply(on("a")), InitApply(on("kube-system")), InitApply(on("system")), InitDone];
        for (events, expected) in [
            (begin.to_vec(), vec!["a"]),
            ([&begin[..], &[Apply(on("b"))]].concat(), vec!["a", "b"]),
            ([&begin[..], &[Apply(named("a", "false", false))]].concat(), vec![]),
            ([&begin[..], &[Apply(named("a", "true", true))]].concat(), vec![]),
            ([&begin[..], &[Delete(on("a"))]].concat(), vec![]),
            ([&begin[..], &[Init, InitApply(on("c"))]].concat(), vec!["a"]),
            ([&begin[..], &[Init, InitApply(on("c")), InitDone]].concat(), vec!["c"]),
        ] {
            gather(futures::stream::iter(events), &enrolment, "system", &tell).await;
            assert_eq!(told.borrow().iter().collect::<Vec<_>>(), expected);
        }
    }
}
