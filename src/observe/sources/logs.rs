//! The last lines of failing containers, of the current run and of the one before.

use std::time::Duration;

use futures::{FutureExt as _, future::BoxFuture};
use kube::{Client, api::LogParams};

use super::source::{Answer, Failure, Question, Source};
use crate::{
    api::v1alpha1::{FactData, LogFact, PodFailure, SourceName},
    clock,
    cluster::api::{PODS, ReadError, within},
    core::{
        kube_name, redact,
        workload::{Draft, MAX_TEXT, Pod, Workload},
    },
};

/// Pods that are asked.
const MAX_PODS: usize = 3;
/// Lines of each log.
const LINES: i64 = 50;
/// Bytes of each log.
const BYTES: i64 = 32 * 1024;

/// Logs of failing containers.
pub struct Logs;

impl Source for Logs {
    fn name(&self) -> SourceName {
        SourceName::Logs
    }

    fn ask<'a>(&'a self, question: &'a Question<'_>) -> BoxFuture<'a, Answer> {
        Box::pin(async {
            let workload = question.workload().await?;
            question.request(|budget| read(question.client, &workload, budget)).await
        })
    }
}

/// Reads the logs of the first failing pods.
async fn read(client: &Client, reading: &Workload, budget: Duration) -> Answer {
    let pods: Vec<&Pod> = reading.failing_pods().filter(|pod| has_run(pod)).take(MAX_PODS).collect();
    let reads = pods.iter().flat_map(|pod| {
        let runs: &[bool] = if pod.fact.restarts > 0 { &[false, true] } else { &[false] };
        runs.iter().map(|previous| one(client, pod, *previous, budget))
    });
    let mut drafts: Vec<Draft> = Vec::new();
    let mut first_failure = None;
    for answer in futures::future::join_all(reads).await {
        match answer {
            // While a container backs off, its current log is that of the run before.
            Ok(Some(draft)) if !drafts.iter().any(|d| d.object == draft.object && d.text == draft.text) => {
                drafts.push(draft);
            }
            Ok(_) => {}
            Err(error) => first_failure = first_failure.or(Some(error)),
        }
    }
    match first_failure {
        Some(error) if drafts.is_empty() => Err(Failure::from(error)),
        _ => Ok(drafts),
    }
}

/// A container without an image or a configuration never wrote a line.
fn has_run(pod: &Pod) -> bool {
    let never = matches!(pod.fact.failure, PodFailure::ImagePull | PodFailure::ConfigError | PodFailure::StartError);
    !pod.fact.container.is_empty() && kube_name::is_subdomain(&pod.object.name) && (!never || pod.fact.restarts > 0)
}

async fn one(client: &Client, pod: &Pod, previous: bool, budget: Duration) -> Result<Option<Draft>, ReadError> {
    let container = pod.fact.container.clone();
    let params = LogParams {
        container: Some(container.clone()),
        previous,
        tail_lines: Some(LINES),
        limit_bytes: Some(BYTES),
        ..LogParams::default()
    };
    let object = format!("the log of container {container} of {}", pod.object);
    let request = PODS
        .request(&pod.object.namespace)?
        .logs(&pod.object.name, &params)
        .map_err(|e| ReadError::Unavailable { object: object.clone(), message: e.to_string() })?;
    let answer = client.request_text(request).map(|answer| match answer {
        // A run that has no log is no fault: the kubelet answers 400 for one that never began or is gone.
        Err(kube::Error::Api(status)) if status.code == 400 => Ok(None),
        answer => answer.map(Some),
    });
    let text = match within(budget, object, answer).await? {
        Some(text) if !text.trim().is_empty() => text,
        _ => return Ok(None),
    };
    let (text, lines, truncated) = tail(&text);
    let data = FactData::Log(LogFact { container, previous, lines, truncated });
    Ok(Some(Draft { source: SourceName::Logs, object: pod.object.clone(), seen_at: clock::now(), data, text }))
}

/// The end of a log as a fact holds it: redacted first, so that no secret is cut in two and stays half.
fn tail(log: &str) -> (String, i32, bool) {
    let text = redact::text(log, redact::MAX_INPUT);
    let text = text.trim_end();
    let lines: Vec<&str> = text.lines().collect();
    let mut kept = 0;
    let mut bytes = 0;
    for line in lines.iter().rev() {
        if bytes + line.len() + 1 > MAX_TEXT {
            break;
        }
        bytes += line.len() + 1;
        kept += 1;
    }
    let truncated = kept < lines.len() || i64::try_from(lines.len()).is_ok_and(|count| count >= LINES);
    if kept == 0 {
        // One line alone is too long: its beginning says most.
        let last = lines.last().copied().unwrap_or_default();
        return (redact::clip(last, MAX_TEXT), 1, true);
    }
    (lines[lines.len() - kept..].join("\n"), i32::try_from(kept).unwrap_or_default(), truncated)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_log_is_kept_redacted_and_within_bounds() {
        let (text, lines, truncated) = tail("starting\npassword=hunter2hunter2\nfatal: no route\n");
        assert_eq!((lines, truncated), (3, false));
        assert!(text.ends_with("fatal: no route") && !text.contains("hunter2"), "{text}");

        let long: String = (0..400).map(|n| format!("line {n} {}\n", "x".repeat(40))).collect();
        let (text, lines, truncated) = tail(&long);
        assert!(text.len() <= MAX_TEXT && lines > 50 && truncated);
        assert!(text.contains("line 399") && !text.contains("line 1 "));

        let (text, lines, truncated) = tail(&"y".repeat(20_000));
        assert!(text.len() <= MAX_TEXT && lines == 1 && truncated);
    }
}
