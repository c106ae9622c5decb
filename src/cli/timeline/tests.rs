use serde_json::json;

use super::story::{Rollout, Story, View};
use super::text::{Line, Stamp, Style, Tone};
use super::{choose, progress};
use crate::api::v1alpha1::{Incident, Investigation, Remediation, Time};
use crate::core::workload::Kind;

fn at(second: u32) -> Time {
    format!("2026-11-21T10:00:{second:02}Z").parse().unwrap()
}

fn incident(status: serde_json::Value) -> Incident {
    serde_json::from_value(json!({
        "apiVersion": "backstop.dev/v1alpha1", "kind": "Incident",
        "metadata": {"name": "0f3a", "namespace": "shop"},
        "spec": {
            "target": {"apiVersion": "apps/v1", "kind": "Deployment", "namespace": "shop", "name": "catalog"},
            "alerts": [], "severity": "critical", "requestId": "r1", "openedAt": at(0),
        },
        "status": status,
    }))
    .unwrap()
}

fn entry(second: u32, actor: &str, event: &str, message: &str) -> serde_json::Value {
    json!({"at": at(second), "actor": actor, "event": event, "message": message})
}

fn round(number: i32, texts: &[&str]) -> Investigation {
    let facts: Vec<_> = texts
        .iter()
        .enumerate()
        .map(|(index, text)| {
            json!({
                "id": format!("f{}", index + 1), "source": "Logs", "text": text, "seenAt": at(1),
                "object": {"kind": "Pod", "namespace": "shop", "name": "catalog-1"},
                "data": {"log": {"container": "catalog", "previous": true, "lines": 1, "truncated": false}},
            })
        })
        .collect();
    serde_json::from_value(json!({
        "apiVersion": "backstop.dev/v1alpha1", "kind": "Investigation",
        "metadata": {"name": format!("i{number}"), "namespace": "shop"},
        "spec": {
            "incident": "0f3a", "round": number, "sources": [], "chain": ["rules"],
            "deadlineSeconds": 20, "alertStartedAt": at(0), "requestId": "r1",
        },
        "status": {
            "phase": "Complete", "facts": facts,
            "diagnosis": {
                "diagnoser": "rules", "cause": "BadRollout", "hypothesis": "revision 2 broke it", "confidence": 95,
                "claims": [{"kind": "PodsFailing", "cites": ["f1"], "text": "pods crash"}],
                "proposal": {
                    "action": {"rolloutUndo": {"toRevision": 1}},
                    "target": {"kind": "Deployment", "namespace": "shop", "name": "catalog"},
                },
            },
        },
    }))
    .unwrap()
}

fn text(lines: &[Line]) -> String {
    let style = Style { colours: false };
    lines.iter().map(|line| style.render(line) + "\n").collect()
}

fn decided() -> serde_json::Value {
    json!({
        "outcome": "Act", "reason": "AllChecksPassed", "message": "every check passed", "decidedAt": at(2),
        "actionId": "aa", "digest": "dd",
        "diff": [{"path": "/spec/template/spec/containers/0/image", "before": "shop:v2", "after": "shop:v1"}],
        "checks": [
            {"check": "PodsFail", "verdict": "Passed", "reason": "Ok", "message": "2 of 2 pods fail"},
            {"check": "NoStorm", "verdict": "Refused", "reason": "Storm", "message": "12 targets have incidents"},
        ],
    })
}

#[test]
fn the_full_story_tells_facts_claims_every_check_and_the_diff() {
    let mut view = View::new(incident(json!({
        "decision": decided(),
        "timeline": [
            entry(1, "investigator", "Diagnosed", "summary"),
            entry(2, "controller", "Judged", "summary"),
            entry(2, "controller", "RemediationCreated", "summary"),
        ],
    })));
    view.investigation(round(1, &["fatal: cache size is negative", "an aside"]));
    let told = text(&Story::new(true).tell(&view));
    for part in [
        "Deployment shop/catalog, severity critical",
        "f1   Logs             fatal: cache size is negative",
        "f2   Logs             an aside",
        "diagnosis by rules: BadRollout, 95%",
        "claim [f1] pods crash",
        "proposes RolloutUndo to revision 1 of Deployment shop/catalog",
        "ok  PodsFail                       2 of 2 pods fail",
        "NO  NoStorm                        Storm: 12 targets have incidents",
        "- shop:v2",
        "+ shop:v1",
    ] {
        assert!(told.contains(part), "{part:?} is missing in:\n{told}");
    }
}

#[test]
fn the_short_story_folds_what_passed_and_what_nobody_cites_and_keeps_every_refusal_with_its_sentence() {
    let mut view = View::new(incident(json!({
        "decision": decided(),
        "timeline": [entry(1, "investigator", "Diagnosed", "summary"), entry(2, "controller", "Judged", "summary")],
    })));
    view.investigation(round(1, &["fatal: cache size is negative", "an aside", "another"]));
    let told = text(&Story::new(false).tell(&view));
    for part in [
        "f1   Logs             fatal: cache size is negative",
        "2 facts that the diagnosis does not cite (--full shows them)",
        "NO  NoStorm                        Storm: 12 targets have incidents",
        "1 of 2 checks passed, on the controller's own reading of the cluster: act",
    ] {
        assert!(told.contains(part), "{part:?} is missing in:\n{told}");
    }
    for part in ["an aside", "PodsFail "] {
        assert!(!told.contains(part), "{part:?} is told in:\n{told}");
    }
}

/// Thirty facts and thirty-eight verdicts are a screen, not a scroll.
#[test]
fn the_short_story_of_a_repair_fits_a_screen() {
    let facts: Vec<String> = (0..30).map(|n| format!("line {n}\n").repeat(20)).collect();
    let checks: Vec<_> = (0..38)
        .map(|n| json!({"check": format!("C{n}"), "verdict": "Passed", "reason": "Ok", "message": ""}))
        .collect();
    let mut decision = decided();
    decision["checks"] = json!(checks);
    let mut view = View::new(incident(json!({
        "decision": decision,
        "timeline": [
            entry(0, "alert", "AlertReceived", "PodsFail"), entry(0, "controller", "PlanWritten", "mode auto"),
            entry(1, "investigator", "Diagnosed", "summary"), entry(2, "controller", "Judged", "summary"),
            entry(2, "controller", "RemediationCreated", "summary"), entry(3, "controller", "GrantOpened", "for action"),
            entry(5, "controller", "Healthy", "2 of 2"), entry(9, "controller", "Resolved", "Recovered"),
        ],
    })));
    view.investigation(round(1, &facts.iter().map(String::as_str).collect::<Vec<_>>()));
    let told = Story::new(false).tell(&view);
    assert!(told.len() <= 30, "{} lines:\n{}", told.len(), text(&told));
}

#[test]
fn nothing_is_told_twice() {
    let mut story = Story::new(false);
    let mut view = View::new(incident(json!({"timeline": [entry(0, "alert", "AlertReceived", "PodsFail: catalog")]})));
    assert_eq!(story.tell(&view).len(), 3);
    assert!(story.tell(&view).is_empty());
    view.incident.metadata.resource_version = Some("2".into());
    assert!(story.tell(&view).is_empty());
}

#[test]
fn a_diagnosis_waits_for_its_facts_and_holds_back_what_follows() {
    let mut story = Story::new(false);
    let mut view = View::new(incident(json!({
        "timeline": [entry(1, "investigator", "Diagnosed", "summary"), entry(2, "controller", "Escalated", "why")],
        "phase": "Escalated",
    })));
    assert_eq!(story.tell(&view).len(), 2, "the title only");
    assert!(!story.is_over(&view));
    view.investigation(round(1, &["a line"]));
    let told = text(&story.tell(&view));
    assert!(told.contains("a line") && told.contains("handed over to the on-call: why"), "{told}");
    assert!(story.is_over(&view));
}

#[test]
fn a_story_whose_facts_were_deleted_is_told_with_what_is_there() {
    let mut view = View::new(incident(json!({"timeline": [entry(1, "investigator", "Diagnosed", "the summary")]})));
    view.complete = true;
    assert!(text(&Story::new(false).tell(&view)).contains("the summary"));
}

#[test]
fn a_hand_over_shows_the_diagnosis_of_the_incident_when_its_investigation_is_gone() {
    let mut view = View::new(incident(json!({
        "phase": "Escalated",
        "timeline": [entry(1, "investigator", "Diagnosed", "the summary"), entry(2, "controller", "Escalated", "why")],
        "diagnosis": {
            "diagnoser": "rules", "cause": "BadRollout", "confidence": 90, "hypothesis": "the image cannot be pulled",
            "advice": "check its name", "facts": [{"id": "f3", "text": "ErrImagePull"}],
            "difference": {"from": 1, "to": 2, "changes": [{"path": "/image", "before": "a", "after": "b"}]},
        },
    })));
    view.complete = true;
    let told = text(&Story::new(false).tell(&view));
    for line in [
        "f3   ErrImagePull",
        "the image cannot be pulled",
        "advice: check its name",
        "revision 1 to 2",
        "/image: a -> b",
    ] {
        assert!(told.contains(line), "no {line:?} in {told}");
    }
}

#[test]
fn a_later_round_shows_only_what_is_new() {
    let mut story = Story::new(true);
    let mut view = View::new(incident(json!({"timeline": [entry(1, "investigator", "Diagnosed", "one")]})));
    view.investigation(round(1, &["first", "second"]));
    story.tell(&view);
    let entries = [entry(1, "investigator", "Diagnosed", "one"), entry(5, "investigator", "Diagnosed", "two")];
    view.incident = incident(json!({"timeline": entries}));
    view.investigation(round(2, &["first", "third"]));
    let told = text(&story.tell(&view));
    assert!(told.contains("third") && !told.contains("first"), "{told}");
    assert!(told.contains("1 facts are as they were"), "{told}");
}

#[test]
fn a_fact_that_only_a_later_round_cites_is_told_then() {
    let mut story = Story::new(false);
    let mut view = View::new(incident(json!({"timeline": [entry(1, "investigator", "Diagnosed", "one")]})));
    view.investigation(round(1, &["first", "second"]));
    assert!(!text(&story.tell(&view)).contains("second"));
    let entries = [entry(1, "investigator", "Diagnosed", "one"), entry(5, "investigator", "Diagnosed", "two")];
    view.incident = incident(json!({"timeline": entries}));
    view.investigation(round(2, &["second", "first"]));
    let told = text(&story.tell(&view));
    assert!(told.contains("second") && !told.contains("as they were"), "{told}");
}

#[test]
fn long_facts_keep_their_beginning_and_their_end_unless_all_is_asked_for() {
    let log = (1..=40).map(|line| format!("line {line}")).collect::<Vec<_>>().join("\n");
    let mut view = View::new(incident(json!({"timeline": [entry(1, "investigator", "Diagnosed", "")]})));
    view.investigation(round(1, &[&log]));
    let short = text(&Story::new(false).tell(&view));
    assert!(
        short.contains("line 1 (… 38 more") && short.contains("line 40\n") && !short.contains("line 20\n"),
        "{short}"
    );
    let full = text(&Story::new(true).tell(&view));
    assert!(full.contains("line 20\n"), "{full}");
}

#[test]
fn the_steps_of_the_executor_are_told_in_their_order() {
    let remediation: Remediation = serde_json::from_value(json!({
        "apiVersion": "backstop.dev/v1alpha1", "kind": "Remediation",
        "metadata": {"name": "aa", "namespace": "shop"},
        "spec": {
            "incident": "0f3a", "actionId": "aa", "digest": "dd",
            "action": {"rolloutUndo": {"toRevision": 1}}, "provenance": {"kind": "ReplicaSet", "name": "catalog-1"},
            "target": {"kind": "Deployment", "name": "catalog"}, "write": {"field": {"path": "/spec/template", "before": {}, "after": {}}},
            "verify": {"settleSeconds": 5, "timeoutSeconds": 60}, "requestId": "r1",
            "undo": {"action": {"rolloutUndo": {"toRevision": 2}}, "provenance": {"kind": "ReplicaSet", "name": "catalog-2"}},
        },
        "status": {"phase": "Fired", "receipts": [
            {"step": "Armed", "at": at(3)}, {"step": "Fired", "at": at(4)}, {"step": "ReadBack", "at": at(5)},
        ]},
    }))
    .unwrap();
    let mut view = View::new(incident(json!({
        "timeline": [entry(4, "executor", "Fired", "0.4 s after the alert")],
        "times": {"fired": at(4)},
    })));
    view.remediation(remediation);
    view.rollout = Some(Rollout { at: at(6), seen: true, desired: 2, total: 3, updated: 1, held_back: 0, ready: 0 });
    let told = text(&Story::new(false).tell(&view));
    let places: Vec<_> = [
        "armed the target",
        "written: 0.4 s after the alert",
        "read back",
        "rollout: 1 of 2 pods updated, 0 ready, 2 old",
    ]
    .iter()
    .map(|part| told.find(part).unwrap_or_else(|| panic!("{part:?} is missing in:\n{told}")))
    .collect();
    assert!(places.is_sorted(), "{told}");
    assert_eq!(told.matches("written").count(), 1, "the write is told twice:\n{told}");
}

/// What the API server says of each kind while a rollout is half done, and how it is told.
#[test]
fn the_rollout_of_every_kind_is_told_in_the_same_words() {
    let scheduled = json!({
        "observedGeneration": 3, "desiredNumberScheduled": 3, "currentNumberScheduled": 3, "updatedNumberScheduled": 1,
        "numberReady": 2, "numberAvailable": 2,
    });
    let replicas =
        |total: i32| json!({"observedGeneration": 3, "replicas": total, "updatedReplicas": 1, "readyReplicas": 2});
    let partition = json!({"replicas": 3, "updateStrategy": {"rollingUpdate": {"partition": 1}}});
    let mut told = String::new();
    for (kind, spec, status) in [
        (Kind::Deployment, json!({"replicas": 3}), replicas(4)),
        (Kind::StatefulSet, json!({"replicas": 3}), replicas(3)),
        (Kind::StatefulSet, partition, replicas(3)),
        (Kind::DaemonSet, json!({}), scheduled),
    ] {
        let object = json!({"metadata": {"generation": 3}, "spec": spec, "status": status});
        let mut view = View::new(incident(json!({"timeline": [], "times": {"fired": at(4)}})));
        view.rollout = Some(progress(kind, &object, at(6)));
        let story = text(&Story::new(false).tell(&view));
        let line = story.lines().find(|line| line.contains("rollout:")).unwrap_or_else(|| panic!("{kind}:\n{story}"));
        told += &format!("{kind}: {line}\n");
    }
    let expected = "\
Deployment: 10:00:06.000     +6.0s  cluster       rollout: 1 of 3 pods updated, 2 ready, 3 old
StatefulSet: 10:00:06.000     +6.0s  cluster       rollout: 1 of 3 pods updated, 2 ready, 2 old
StatefulSet: 10:00:06.000     +6.0s  cluster       rollout: 1 of 2 pods updated, 2 ready, 2 old (1 kept by its update strategy)
DaemonSet: 10:00:06.000     +6.0s  cluster       rollout: 1 of 3 pods updated, 2 ready, 2 old
";
    assert_eq!(told, expected);
    let stale = json!({"metadata": {"generation": 4}, "spec": {}, "status": {"observedGeneration": 3}});
    for kind in Kind::ALL {
        assert!(!progress(kind, &stale, at(6)).seen, "{kind}: a rollout that its controller has not seen is not told");
    }
}

#[test]
fn control_characters_of_untrusted_text_never_reach_the_terminal() {
    let line = Line { stamp: None, text: "\u{1b}[2Jgone\r\u{7}".into(), tone: Tone::Plain };
    let shown = Style { colours: true }.render(&line);
    assert!(!shown.contains(['\u{1b}', '\r', '\u{7}']), "{shown:?}");
}

#[test]
fn colours_are_off_unless_asked_for() {
    let stamp = Some(Stamp { at: at(1), since: 1.0, actor: "executor" });
    let line = Line { stamp, text: "done".into(), tone: Tone::Good };
    assert_eq!(Style { colours: false }.render(&line), "10:00:01.000     +1.0s  executor      done");
    assert!(Style { colours: true }.render(&line).contains("\u{1b}[32mdone"));
}

#[test]
fn an_incident_is_found_by_the_beginning_of_its_name_and_without_one_the_newest_open_is() {
    let named = |name: &str, second, phase: &str| {
        let mut incident = incident(json!({"phase": phase}));
        incident.metadata.name = Some(name.into());
        incident.spec.opened_at = at(second);
        incident
    };
    let all = || vec![named("aa1", 1, "Verifying"), named("aa2", 2, "Judging"), named("bb", 9, "Resolved")];
    let name = |found: anyhow::Result<Option<Incident>>| found.unwrap().and_then(|incident| incident.metadata.name);
    assert_eq!(name(choose(all(), None)).as_deref(), Some("aa2"));
    assert_eq!(name(choose(all(), Some("b"))).as_deref(), Some("bb"));
    assert_eq!(name(choose(all(), Some("aa1"))).as_deref(), Some("aa1"));
    assert_eq!(name(choose(all(), Some("cc"))), None);
    assert!(choose(all(), Some("aa")).is_err(), "two begin so");
}
