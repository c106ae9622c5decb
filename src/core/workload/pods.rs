//! How a pod fails, from the statuses of its containers.
//!
//! Only hard evidence counts: a container that merely starts slowly is `Starting`, and a crash loop that happens to
//! be up for an instant, or that counts as Ready for want of a probe, is still a crash loop.

use serde_json::Value;

use crate::api::v1alpha1::{PodFact, PodFailure, Time};

use super::Pod;
use crate::core::object::{array, condition, controller, int, int32, object_ref, seconds, string, text, time};

/// A container that ran for this long without ending is not in a crash loop of fast ends.
pub const STABLE_SECONDS: i64 = 60;
/// An end after a run longer than this is an accident, not a loop, until the kubelet backs off.
const LONG_RUN_SECONDS: i64 = 600;
/// Probes that answer within moments still need a moment: no verdict on a probe before this.
const PROBE_FLOOR_SECONDS: i64 = 10;

/// Reasons of a waiting container whose image cannot be had.
const IMAGE: &[&str] = &[
    "ErrImagePull",
    "ImagePullBackOff",
    "InvalidImageName",
    "ErrImageNeverPull",
    "ImageInspectError",
    "RegistryUnavailable",
    "SignatureValidationFailed",
];
/// Reasons of a waiting or ended container that cannot be made or started from its configuration.
const CONFIG: &[&str] = &[
    "CreateContainerConfigError",
    "CreateContainerError",
    "RunContainerError",
    "PreCreateHookError",
    "PreStartHookError",
    "PostStartHookError",
    "StartError",
    "ContainerCannotRun",
];
const OOM_KILLED: &str = "OOMKilled";
const BACK_OFF: &str = "CrashLoopBackOff";

/// What one container shows.
struct Seen {
    failure: PodFailure,
    container: String,
    reason: String,
    exit_code: Option<i32>,
    restarts: i32,
    last_terminated_at: Option<Time>,
    ran_seconds: Option<i64>,
}

/// Reads a pod that runs the revision of this number; `None` when it is ending, has ended or has no identity.
pub fn read(pod: &Value, revision: Option<i64>, now: Time) -> Option<Pod> {
    let object = object_ref(pod, "v1", "Pod");
    let phase = text(pod, "/status/phase", 32);
    let ending = pod.pointer("/metadata/deletionTimestamp").is_some_and(|time| !time.is_null());
    if object.name.is_empty() || object.uid.is_empty() || ending || phase == "Failed" || phase == "Succeeded" {
        return None;
    }
    let owner = controller(pod);
    let ready = condition(pod, "Ready");
    let is_ready = ready.is_some_and(|condition| string(condition, "/status") == "True");

    let seen = containers(pod, now);
    let unschedulable = condition(pod, "PodScheduled")
        .filter(|scheduled| string(scheduled, "/status") == "False" && string(scheduled, "/reason") == "Unschedulable");
    let hard = seen.iter().find(|seen| seen.failure.is_hard());
    let starting = || seen.iter().find(|seen| seen.failure != PodFailure::None);
    let all_restarts = || seen.iter().fold(0i32, |sum, seen| sum.saturating_add(seen.restarts));
    let last_end = || seen.iter().filter(|seen| seen.last_terminated_at.is_some()).max_by_key(|s| s.last_terminated_at);

    let mut fact = PodFact {
        owner: owner.map(|owner| text(owner, "/name", 253)).unwrap_or_default(),
        revision,
        phase,
        ready: is_ready,
        ready_since: ready.and_then(|condition| time(condition, "/lastTransitionTime")),
        created_at: time(pod, "/metadata/creationTimestamp"),
        ..PodFact::default()
    };
    let (failure, shown) = match (hard, unschedulable) {
        (Some(hard), _) => (hard.failure, Some(hard)),
        (None, Some(_)) => (PodFailure::Unschedulable, None),
        (None, None) if is_ready => (PodFailure::None, None),
        (None, None) => (PodFailure::Starting, starting()),
    };
    fact.failure = failure;
    match shown {
        Some(seen) => {
            fact.container.clone_from(&seen.container);
            fact.reason.clone_from(&seen.reason);
            fact.restarts = seen.restarts;
        }
        None => {
            let reason = unschedulable.or(ready.filter(|_| !is_ready));
            fact.reason = reason.map(|condition| text(condition, "/reason", 128)).unwrap_or_default();
            fact.restarts = all_restarts();
        }
    }
    if let Some(ended) = shown.or_else(last_end) {
        fact.exit_code = ended.exit_code;
        fact.last_terminated_at = ended.last_terminated_at;
        fact.ran_seconds = ended.ran_seconds;
    }
    Some(Pod { object, fact })
}

fn containers(pod: &Value, now: Time) -> Vec<Seen> {
    let init = array(pod, "/status/initContainerStatuses").iter().map(|status| (status, "/spec/initContainers"));
    let main = array(pod, "/status/containerStatuses").iter().map(|status| (status, "/spec/containers"));
    init.chain(main)
        .map(|(status, list)| {
            let name = string(status, "/name");
            let spec = array(pod, list).iter().find(|container| string(container, "/name") == name);
            let is_init = list == "/spec/initContainers"
                && spec.is_none_or(|container| string(container, "/restartPolicy") != "Always");
            container(status, spec.unwrap_or(&Value::Null), is_init, now)
        })
        .collect()
}

fn container(status: &Value, spec: &Value, is_init: bool, now: Time) -> Seen {
    let waiting = string(status, "/state/waiting/reason");
    let ended_now = status.pointer("/state/terminated").filter(|ended| ended.is_object());
    let ended = ended_now.or_else(|| status.pointer("/lastState/terminated").filter(|ended| ended.is_object()));
    let started = time(status, "/state/running/startedAt");
    let restarts = int32(status, "/restartCount");

    let exit_code = ended.and_then(|ended| int(ended, "/exitCode")).and_then(|code| code.try_into().ok());
    let ended_reason = ended.map(|ended| string(ended, "/reason")).unwrap_or_default();
    let last_terminated_at = ended.and_then(|ended| time(ended, "/finishedAt"));
    let ran_seconds = ended.and_then(|ended| Some(seconds(time(ended, "/startedAt")?, time(ended, "/finishedAt")?)));

    let by_end = || match ended_reason {
        OOM_KILLED => PodFailure::OutOfMemory,
        reason if CONFIG.contains(&reason) => PodFailure::ConfigError,
        _ => PodFailure::CrashLoop,
    };
    let (failure, reason) = if waiting == BACK_OFF {
        (by_end(), if ended_reason == OOM_KILLED { ended_reason } else { waiting })
    } else if IMAGE.contains(&waiting) {
        (PodFailure::ImagePull, waiting)
    } else if CONFIG.contains(&waiting) {
        (PodFailure::ConfigError, waiting)
    } else if let Some(ended) = ended_now {
        let done = is_init && exit_code == Some(0);
        match ended_reason {
            _ if done => (PodFailure::None, ""),
            OOM_KILLED => (PodFailure::OutOfMemory, OOM_KILLED),
            reason if CONFIG.contains(&reason) => (PodFailure::ConfigError, reason),
            // The first end may be an accident; the second is a loop.
            _ if restarts == 0 => (PodFailure::Starting, string(ended, "/reason")),
            reason => (PodFailure::CrashLoop, reason),
        }
    } else if let Some(started) = started {
        let up = seconds(started, now);
        let loops = restarts > 0 && ended.is_some() && !stable(up, ran_seconds.unwrap_or(0));
        if loops && (ended_reason == OOM_KILLED || exit_code != Some(0)) {
            (by_end(), ended_reason)
        } else {
            running(status, spec, is_init, up)
        }
    } else {
        (PodFailure::Starting, waiting)
    };
    Seen {
        failure,
        container: text(status, "/name", 253),
        reason: reason[..reason.floor_char_boundary(128)].to_owned(),
        exit_code,
        restarts,
        last_terminated_at,
        ran_seconds,
    }
}

/// Whether a container that is up for `up` seconds has left the loop in which it last ran for `ran` seconds.
fn stable(up: i64, ran: i64) -> bool {
    ran > LONG_RUN_SECONDS || up >= STABLE_SECONDS.max(ran.saturating_mul(3) / 2)
}

/// A running container: fine, starting, or failing its probe for longer than the probe grants.
fn running<'a>(status: &Value, spec: &Value, is_init: bool, up: i64) -> (PodFailure, &'a str) {
    if status.get("ready").and_then(Value::as_bool) == Some(true) {
        return (PodFailure::None, "");
    }
    if is_init || status.get("started").and_then(Value::as_bool) == Some(false) {
        // A startup probe that fails for good ends the container, and that is seen as such.
        return (PodFailure::Starting, "");
    }
    let Some(probe) = spec.get("readinessProbe").filter(|probe| probe.is_object()) else {
        return (PodFailure::Starting, "");
    };
    // A startup probe comes first and may have taken all of its own time.
    let grace = spec.get("startupProbe").map_or(0, budget).saturating_add(budget(probe)).max(PROBE_FLOOR_SECONDS);
    if up > grace { (PodFailure::ProbeFailing, "ReadinessProbeFailing") } else { (PodFailure::Starting, "") }
}

/// Seconds that a probe grants before its failure counts.
fn budget(probe: &Value) -> i64 {
    let field = |name: &str, default: i64| int(probe, name).filter(|number| *number > 0).unwrap_or(default);
    field("/periodSeconds", 10)
        .saturating_mul(field("/failureThreshold", 3))
        .saturating_add(field("/initialDelaySeconds", 0))
        .saturating_add(field("/timeoutSeconds", 1))
}
