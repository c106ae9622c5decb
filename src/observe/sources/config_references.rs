//! When the ConfigMaps that the template names last changed: metadata only, their data is never read. Secrets are not
//! read at all.

use std::time::Duration;

use futures::future::BoxFuture;
use kube::Client;
use serde_json::Value;

use super::source::{Answer, Failure, Question, Source};
use crate::{
    api::v1alpha1::{ConfigFact, FactData, ObjectRef, ReferenceKind, SourceName, Time},
    clock,
    cluster::api::{CONFIG_MAPS, ReadError},
    core::{
        redact,
        workload::{Draft, Workload, data_changed, named},
    },
};

/// ConfigMaps that are looked at.
const MAX_CONFIG_MAPS: usize = 20;

/// ConfigMaps that the pod template names.
pub struct ConfigReferences;

impl Source for ConfigReferences {
    fn name(&self) -> SourceName {
        SourceName::ConfigReferences
    }

    fn ask<'a>(&'a self, question: &'a Question<'_>) -> BoxFuture<'a, Answer> {
        Box::pin(async {
            let workload = question.workload().await?;
            question.request(|budget| read(question.client, &workload, budget)).await
        })
    }
}

/// Reads the metadata of all ConfigMaps that the current template names.
async fn read(client: &Client, reading: &Workload, budget: Duration) -> Answer {
    let namespace = &reading.object.namespace;
    let names: Vec<(String, bool)> =
        named(&reading.template, ReferenceKind::ConfigMap).into_iter().take(MAX_CONFIG_MAPS).collect();
    let reads = names.iter().map(|(name, _)| CONFIG_MAPS.get_metadata(client, namespace, name, budget));
    let answers = futures::future::join_all(reads).await;
    let mut drafts = Vec::new();
    for ((name, optional), answer) in names.into_iter().zip(answers) {
        let fact = match answer {
            Ok(metadata) => changed(&metadata),
            Err(ReadError::NotFound { .. }) if optional => continue,
            Err(ReadError::NotFound { .. }) => ConfigFact::default(),
            // A name that no object can have is a ConfigMap that does not exist.
            Err(ReadError::InvalidName { .. }) => ConfigFact::default(),
            Err(error) => return Err(Failure::from(error)),
        };
        drafts.push(draft(reading, name, fact, clock::now()));
    }
    Ok(drafts)
}

fn draft(reading: &Workload, name: String, fact: ConfigFact, seen_at: Time) -> Draft {
    let text = match (&fact.exists, &fact.changed_at) {
        (false, _) => format!("ConfigMap {name} does not exist"),
        (true, None) => format!("ConfigMap {name}: when its data changed is not known"),
        (true, Some(at)) => {
            format!("ConfigMap {name}: data changed at {} by {}", at.strftime("%FT%TZ"), fact.changed_by)
        }
    };
    let object = ObjectRef {
        api_version: "v1".into(),
        kind: "ConfigMap".into(),
        namespace: reading.object.namespace.clone(),
        name: redact::clip(&redact::clean(&name), 253),
        uid: String::new(),
    };
    Draft { source: SourceName::ConfigReferences, object, seen_at, data: FactData::Config(fact), text }
}

/// The last change of data that managed fields tell of.
fn changed(metadata: &Value) -> ConfigFact {
    let last = data_changed(metadata);
    ConfigFact {
        exists: true,
        changed_at: last.map(|(time, _)| time),
        changed_by: last.map(|(_, manager)| redact::clip(&redact::clean(manager), 128)).unwrap_or_default(),
    }
}
