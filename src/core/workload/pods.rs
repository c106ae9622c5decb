//! How a pod fails, from the statuses of its containers.
//!
//! Only hard evidence counts: a container that merely starts slowly is `Starting`, and a crash loop that happens to
//! be up for an instant, or that counts as Ready for want of a probe, is still a crash loop.

use serde_json::Value;

use crate::api::v1alpha1::{Obstacle, PodFact, PodFailure, TemplateField, Time};

use super::{Pod, obstacle::words};
use crate::core::object::{array, condition, controller, int, int32, object_ref, seconds, string, text, time};
use crate::core::redact;

/// A container that ran for this long without ending is not in a crash loop of fast ends.
pub const STABLE_SECONDS: i64 = 60;
/// An end after a run longer than this is an accident, not a loop, until the kubelet backs off.
pub const LONG_RUN_SECONDS: i64 = 600;
/// Probes that answer within moments still need a moment: no verdict on a probe before this.
const PROBE_FLOOR_SECONDS: i64 = 10;
/// A pod that no node takes, or that a node cannot prepare, for this long will not start by itself: the scheduler has
/// tried again, and so has the kubelet.
const STUCK_SECONDS: i64 = 45;
/// An init container that runs for longer than this does not end. Whether the template is to blame is another question:
/// one that waits for something else was there before.
const INIT_SECONDS: i64 = 60;
/// What the kubelet may take on top of what a probe and the grace period grant.
const KILL_SLACK_SECONDS: i64 = 10;

/// By how much the first of two probes may be late and the second in time: a tick of a busy kubelet.
const PROBE_LATE_SECONDS: i64 = 2;

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
/// Reason of a waiting container whose configuration cannot be put together.
const CONFIG: &str = "CreateContainerConfigError";
/// Reasons of a waiting or ended container that the runtime cannot create or start.
const START: &[&str] = &[
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
    /// What kubelet or runtime say about it; not what the container itself left as its last words.
    message: String,
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
        node: text(pod, "/spec/nodeName", 253),
        proven_after_seconds: proven_after(pod),
        ..PodFact::default()
    };
    let (failure, shown) = match (hard, unschedulable) {
        (Some(hard), _) => (hard.failure, Some(hard)),
        // The scheduler makes room for a pod that it has nominated a node for.
        (None, Some(condition)) if string(pod, "/status/nominatedNodeName").is_empty() => {
            let since = time(condition, "/lastTransitionTime").or(fact.created_at);
            let stuck = since.is_some_and(|since| seconds(since, now) >= STUCK_SECONDS);
            (if stuck { PodFailure::Unschedulable } else { PodFailure::Starting }, None)
        }
        (None, _) if is_ready => (PodFailure::None, None),
        (None, None) if never_looked_at(pod, fact.created_at, now) => (PodFailure::Unschedulable, None),
        (None, None) if stuck_creating(pod, now) => (PodFailure::StuckCreating, None),
        (None, _) => (PodFailure::Starting, starting()),
    };
    fact.failure = failure;
    fact.obstacle = match (shown, unschedulable) {
        (Some(seen), _) => words(&seen.message),
        (None, Some(condition)) => words(string(condition, "/message")),
        (None, None) if failure == PodFailure::Unschedulable => Some(no_scheduler(pod)),
        (None, None) => None,
    };
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
            container(status, spec.unwrap_or(&Value::Null), is_init, grace(pod), now)
        })
        .collect()
}

/// Seconds that a container is given to end by itself.
fn grace(pod: &Value) -> i64 {
    int(pod, "/spec/terminationGracePeriodSeconds").filter(|seconds| *seconds >= 0).unwrap_or(30)
}

/// A pod without a node about which no scheduler has said anything for a while.
fn never_looked_at(pod: &Value, created: Option<Time>, now: Time) -> bool {
    let waits = string(pod, "/status/phase") == "Pending" && string(pod, "/spec/nodeName").is_empty();
    waits
        && condition(pod, "PodScheduled").is_none()
        && created.is_some_and(|created| seconds(created, now) >= STUCK_SECONDS)
}

/// Why: the scheduler that its template names does not run. Where that is the cluster's own, the template is not to blame.
fn no_scheduler(pod: &Value) -> Obstacle {
    let name = text(pod, "/spec/schedulerName", 63);
    let own = name.is_empty() || name == "default-scheduler";
    let field = if own { TemplateField::Outside } else { TemplateField::NodeSelection };
    let message = redact::clean(&format!("no scheduler has looked at it; its template names {name}"));
    Obstacle { message, fields: vec![field], ..Obstacle::default() }
}

/// A pod that has its node, and for which the kubelet has not been able to prepare volumes, network and sandbox for a
/// while. Images are pulled after that, so a large one does not count; where the kubelet does not say, nothing is known.
fn stuck_creating(pod: &Value, now: Time) -> bool {
    let since = |kind: &str, status: &str| {
        let condition = condition(pod, kind).filter(|condition| string(condition, "/status") == status)?;
        time(condition, "/lastTransitionTime")
    };
    let (Some(scheduled), Some(unprepared)) =
        (since("PodScheduled", "True"), since("PodReadyToStartContainers", "False"))
    else {
        return false;
    };
    let waits = |status: &Value| {
        ["ContainerCreating", "PodInitializing"].contains(&string(status, "/state/waiting/reason"))
            && status.pointer("/lastState/terminated").is_none_or(Value::is_null)
    };
    let all = || {
        let init = array(pod, "/status/initContainerStatuses").iter();
        init.chain(array(pod, "/status/containerStatuses"))
    };
    all().next().is_some() && all().all(waits) && seconds(scheduled.max(unprepared), now) >= STUCK_SECONDS
}

/// For how long a container has to run before it is believed to work: until its liveness probe would have ended it.
fn proven_after(pod: &Value) -> Option<i64> {
    let sidecars = array(pod, "/spec/initContainers").iter();
    let sidecars = sidecars.filter(|container| string(container, "/restartPolicy") == "Always");
    let probes = sidecars.chain(array(pod, "/spec/containers")).filter_map(|container| container.get("livenessProbe"));
    let ends = probes.filter(|probe| probe.is_object()).map(budget).max()?;
    Some(ends.saturating_add(grace(pod)).saturating_add(KILL_SLACK_SECONDS))
}

fn container(status: &Value, spec: &Value, is_init: bool, grace: i64, now: Time) -> Seen {
    let waiting = string(status, "/state/waiting/reason");
    let ended_now = status.pointer("/state/terminated").filter(|ended| ended.is_object());
    let ended = ended_now.or_else(|| status.pointer("/lastState/terminated").filter(|ended| ended.is_object()));
    let started = time(status, "/state/running/startedAt");
    let restarts = int32(status, "/restartCount");

    let exit_code = ended.and_then(|ended| int(ended, "/exitCode")).and_then(|code| code.try_into().ok());
    let ended_reason = ended.map(|ended| string(ended, "/reason")).unwrap_or_default();
    let last_terminated_at = ended.and_then(|ended| time(ended, "/finishedAt"));
    let ran_seconds = ended.and_then(|ended| Some(seconds(time(ended, "/startedAt")?, time(ended, "/finishedAt")?)));

    let by_probe = ran_seconds.is_some_and(|ran| ended_by_probe(spec, exit_code, ran, grace));
    let by_end = || match ended_reason {
        OOM_KILLED => PodFailure::OutOfMemory,
        reason if START.contains(&reason) => PodFailure::StartError,
        _ if by_probe => PodFailure::LivenessFailing,
        _ => PodFailure::CrashLoop,
    };
    let (failure, reason) = if waiting == BACK_OFF {
        (by_end(), if ended_reason == OOM_KILLED { ended_reason } else { waiting })
    } else if IMAGE.contains(&waiting) {
        (PodFailure::ImagePull, waiting)
    } else if waiting == CONFIG {
        (PodFailure::ConfigError, waiting)
    } else if START.contains(&waiting) {
        (PodFailure::StartError, waiting)
    } else if let Some(ended) = ended_now {
        let done = is_init && exit_code == Some(0);
        match ended_reason {
            _ if done => (PodFailure::None, ""),
            OOM_KILLED => (PodFailure::OutOfMemory, OOM_KILLED),
            reason if START.contains(&reason) => (PodFailure::StartError, reason),
            // The first end may be an accident; the second is a loop.
            _ if restarts == 0 => (PodFailure::Starting, string(ended, "/reason")),
            reason => (by_end(), reason),
        }
    } else if let Some(started) = started {
        let up = seconds(started, now);
        let loops = restarts > 0 && ended.is_some() && !stable(up, ran_seconds.unwrap_or(0));
        if loops && (ended_reason == OOM_KILLED || exit_code != Some(0) || by_probe) {
            (by_end(), ended_reason)
        } else {
            running(status, spec, is_init, up)
        }
    } else {
        (PodFailure::Starting, waiting)
    };
    let message = match failure {
        PodFailure::StartError if waiting == BACK_OFF || waiting.is_empty() => {
            ended.map(|ended| string(ended, "/message")).unwrap_or_default()
        }
        PodFailure::StartError | PodFailure::ConfigError | PodFailure::ImagePull => {
            string(status, "/state/waiting/message")
        }
        _ => "",
    };
    Seen {
        failure,
        message: message.to_owned(),
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
    if is_init && up > INIT_SECONDS {
        return (PodFailure::InitNotEnding, "");
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

/// Whether a container that ran for so long was ended by its liveness or startup probe: by a signal, or in good order
/// upon one, after no less than the probe takes to fail and no more than it grants. What ran for longer worked first.
fn ended_by_probe(spec: &Value, exit_code: Option<i32>, ran: i64, grace: i64) -> bool {
    const BY_SIGNAL: [i32; 3] = [0, 137, 143];
    let probe = |name: &str| spec.get(name).filter(|probe| probe.is_object());
    let (startup, liveness) = (probe("startupProbe"), probe("livenessProbe"));
    let Some(least) = startup.into_iter().chain(liveness).map(fastest).min() else { return false };
    let most = [startup, liveness].into_iter().flatten().map(budget).fold(grace, i64::saturating_add);
    exit_code.is_some_and(|code| BY_SIGNAL.contains(&code))
        && (least..=most.saturating_add(KILL_SLACK_SECONDS)).contains(&ran)
}

/// Seconds after which a probe that never succeeds ends its container at the earliest.
fn fastest(probe: &Value) -> i64 {
    let field = |name: &str, default: i64| int(probe, name).filter(|number| *number > 0).unwrap_or(default);
    // The kubelet begins at a random moment within the first period.
    let periods = field("/periodSeconds", 10).saturating_mul(field("/failureThreshold", 3) - 1);
    let exact = periods.saturating_add(field("/initialDelaySeconds", 0));
    exact.saturating_sub(PROBE_LATE_SECONDS).max(PROBE_FLOOR_SECONDS)
}

/// Seconds that a probe grants before its failure counts.
fn budget(probe: &Value) -> i64 {
    let field = |name: &str, default: i64| int(probe, name).filter(|number| *number > 0).unwrap_or(default);
    field("/periodSeconds", 10)
        .saturating_mul(field("/failureThreshold", 3))
        .saturating_add(field("/initialDelaySeconds", 0))
        .saturating_add(field("/timeoutSeconds", 1))
}
