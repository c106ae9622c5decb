use serde_json::json;

use super::*;
use crate::core::rules::{self, FactBundle};

const UID_OF_API: &str = "3f1c7f0e-6a51-4a39-9b6e-0d2f4c1b7a10";
const UID_OF_POD: &str = "9b2d6c44-1111-4e0a-8f2d-7c5a9d3e2b01";

fn investigation() -> Investigation {
    let at = "2026-03-01T12:00:00Z";
    let object = |kind: &str, name: &str, uid: &str| json!({"apiVersion": "apps/v1", "kind": kind, "namespace": "shop-7f3a", "name": name, "uid": uid});
    serde_json::from_value(json!({
        "apiVersion": "backstop.dev/v1alpha1", "kind": "Investigation",
        "metadata": {
            "name": "inv-4f2a", "namespace": "shop-7f3a", "uid": "8c0f7f0e-6a51-4a39-9b6e-0d2f4c1b7a10",
            "resourceVersion": "8812", "managedFields": [{"manager": "backstop"}],
        },
        "spec": {
            "incident": "inc-91c2", "key": "0".repeat(64), "round": 2, "target": object("Deployment", "api", UID_OF_API),
            "sources": ["Workload", "Pods"], "chain": ["small", "rules"], "deadlineSeconds": 60, "alertStartedAt": at,
            "requestId": "req-1",
        },
        "status": {
            "phase": "Complete", "tokens": 900, "costNanoDollars": 12,
            "diagnosis": {"diagnoser": "small", "cause": "Unknown", "hypothesis": "h", "confidence": 1, "claims": []},
            "attempts": [{"rung": "small", "outcome": "Answered", "milliseconds": 3}],
            "facts": [
                {"id": "f1", "source": "Workload", "object": object("Deployment", "api", UID_OF_API), "seenAt": at,
                    "data": {"workload": {"generation": 1, "observedGeneration": 1, "desired": 1, "updated": 1,
                        "ready": 1, "available": 1, "revision": 1}},
                    "text": "api of shop-7f3a, not of shop-7f3a-b: 1 ready; DB_PASSWORD=hunter2 yes"},
                {"id": "f2", "source": "Pods", "object": object("Pod", "api-0", UID_OF_POD), "seenAt": at,
                    "data": {"pod": {"owner": "1234567890123456", "phase": "Running", "ready": true, "revision": 1}},
                    "text": format!("- no: of {UID_OF_API}\n  /pods/{UID_OF_POD}/volumes, inc-91c2\t\"'#")},
            ],
        },
    }))
    .unwrap()
}

#[test]
fn a_bundle_has_the_facts_and_nothing_that_differs_in_every_cluster() {
    let bundle = of(&investigation(), Some("shop")).unwrap();
    let text = text(&bundle).unwrap();
    for gone in [
        UID_OF_API,
        UID_OF_POD,
        "shop-7f3a/",
        "inc-91c2",
        "inv-4f2a",
        "8812",
        "managedFields",
        "hunter2",
        "req-1",
        "small",
        "diagnosis",
    ] {
        assert!(!text.contains(gone), "{gone} is left:\n{text}");
    }
    let target = bundle.spec.target.clone().unwrap();
    let facts = bundle.status.as_ref().unwrap().facts.clone();
    assert_eq!((target.namespace.as_str(), target.uid.as_str()), ("shop", "00000000-0000-0000-0000-000000000001"));
    assert_eq!(facts[0].object, target, "the same object is the same in every fact");
    assert_ne!(facts[1].object.uid, target.uid);
    assert!(facts[0].text.starts_with("api of shop, not of shop-7f3a-b: 1 ready"), "{}", facts[0].text);
    assert!(facts[1].text.contains(&format!("of {}\n", target.uid)), "{}", facts[1].text);
}

#[test]
fn what_is_written_reads_back_and_gives_the_same_diagnosis() {
    let investigation = investigation();
    let bundle = of(&investigation, None).unwrap();
    let back: Investigation = serde_saphyr::from_str(&text(&bundle).unwrap()).unwrap();
    assert_eq!(back, bundle);
    assert_eq!(of(&back, None).unwrap(), back, "a bundle of a bundle is that bundle");
    let diagnosed = |of: &Investigation| {
        let facts = &of.status.as_ref().unwrap().facts;
        let case = FactBundle { target: of.spec.target.as_ref(), alert_started_at: of.spec.alert_started_at, facts };
        rules::diagnose(case)
    };
    assert_eq!(diagnosed(&back), diagnosed(&investigation));
}

#[test]
fn without_facts_there_is_no_bundle() {
    let mut running = investigation();
    running.status.as_mut().unwrap().phase = InvestigationPhase::Running;
    let mut blind = investigation();
    blind.status.as_mut().unwrap().facts.clear();
    let mut new = investigation();
    new.status = None;
    for none in [running, blind, new] {
        assert_eq!(of(&none, None), Err(NoBundle::NoFacts));
    }
}
