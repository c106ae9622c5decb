//! What the intake makes of payloads, good and hostile.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;
use crate::api::v1alpha1::AlertState;
use crate::core::kube_name;

fn normalise(payload: &[u8], request: Request<'_>) -> Result<Batch, BadInput> {
    (alertmanager::FORMAT.parse)(payload, request)
}

const AT: &str = "2026-11-21T10:00:00Z";

fn request() -> Request<'static> {
    Request { received_at: AT.parse().unwrap(), request_id: "r1", cluster_name: "" }
}

fn payload(alerts: Value) -> Vec<u8> {
    json!({"version": "4", "status": "firing", "alerts": alerts}).to_string().into_bytes()
}

fn read_one(alert: Value) -> Normalised {
    normalise(&payload(json!([alert])), request()).unwrap().alerts.remove(0)
}

#[test]
fn a_payload_of_a_real_alertmanager_is_read() {
    let body = json!({
        "receiver": "backstop", "status": "firing", "version": "4", "groupKey": "{}:{alertname=\"KubePodCrashLooping\"}",
        "truncatedAlerts": 0, "groupLabels": {"alertname": "KubePodCrashLooping"}, "commonLabels": {},
        "commonAnnotations": {}, "externalURL": "http://alertmanager:9093", "notification_reason": "first", "routeLabels": {},
        "alerts": [{
            "status": "firing",
            "labels": {"alertname": "KubePodCrashLooping", "namespace": "shop", "pod": "cart-7d9-x", "severity": "warning"},
            "annotations": {"summary": "Pod is crash looping."},
            "startsAt": "2026-11-21T09:59:30.123456789Z", "endsAt": "0001-01-01T00:00:00Z",
            "generatorURL": "http://prometheus/graph", "fingerprint": "9f86d081884c7d65"
        }]
    });
    let batch = normalise(body.to_string().as_bytes(), request()).unwrap();
    let alert = &batch.alerts[0];
    assert_eq!(alert.spec.fingerprint, "9f86d081884c7d65");
    assert_eq!(alert.spec.starts_at.to_string(), "2026-11-21T09:59:30.123456789Z");
    assert_eq!((alert.state, alert.spec.ends_at), (AlertState::Firing, None));
    assert_eq!(alert.valid_namespace(), Some("shop"));
    assert_eq!((alert.spec.request_id.as_str(), alert.altered), ("r1", 0));
}

#[test]
fn each_alert_has_its_own_status_and_a_resolved_one_its_end() {
    let batch = normalise(
        &payload(json!([
            {"labels": {"alertname": "A"}, "startsAt": AT},
            {"status": "resolved", "labels": {"alertname": "B"}, "startsAt": AT, "endsAt": "2026-11-21T11:00:00Z"},
            {"status": "resolved", "labels": {"alertname": "C"}, "startsAt": AT, "endsAt": "0001-01-01T00:00:00Z"},
        ])),
        request(),
    )
    .unwrap();
    let ends: Vec<_> = batch.alerts.iter().map(|alert| alert.spec.ends_at.map(|time| time.to_string())).collect();
    assert_eq!(ends, [None, Some("2026-11-21T11:00:00Z".into()), Some(AT.into())]);
}

#[test]
fn the_planned_end_of_a_firing_alert_is_no_end() {
    let alert = read_one(json!({"status": "firing", "startsAt": AT, "endsAt": "2026-11-21T10:04:00Z"}));
    assert_eq!(alert.spec.ends_at, None);
}

#[test]
fn the_same_alert_gets_the_same_name_and_another_start_another_one() {
    let alert = |start: &str| read_one(json!({"labels": {"a": "b"}, "fingerprint": "f", "startsAt": start}));
    assert_eq!(alert(AT).name("shop"), alert("2026-11-21T12:00:00+02:00").name("shop"));
    assert_ne!(alert(AT).name("shop"), alert("2026-11-21T10:00:01Z").name("shop"));
    assert_ne!(alert(AT).name("shop"), alert(AT).name("prod"));
    assert_eq!(alert(AT).name("shop").len(), 32);
}

#[test]
fn a_missing_or_unusable_fingerprint_is_computed_from_the_labels() {
    let of = |fields: Value| read_one(fields).spec.fingerprint;
    let computed = of(json!({"labels": {"a": "1", "b": "2"}}));
    assert_eq!(computed.len(), 32);
    assert_eq!(computed, of(json!({"labels": {"b": "2", "a": "1"}, "fingerprint": ""})));
    assert_eq!(computed, of(json!({"labels": {"b": "2", "a": "1"}, "fingerprint": "x".repeat(129)})));
    assert_ne!(computed, of(json!({"labels": {"a": "1"}})));
}

#[test]
fn an_alert_without_a_start_repeats_into_the_same_name() {
    let at = |received: &str| {
        let request = Request { received_at: received.parse().unwrap(), ..request() };
        normalise(&payload(json!([{"labels": {"a": "b"}}])), request).unwrap().alerts.remove(0)
    };
    let first = at("2026-11-21T10:00:01Z");
    assert_eq!(first.spec.starts_at.to_string(), "2026-11-21T10:00:01Z");
    assert_eq!(first.name("x"), at("2026-11-21T10:59:59Z").name("x"));
}

#[test]
fn a_value_that_was_altered_can_never_be_a_valid_name() {
    for hostile in ["shop\u{0}", "\u{7}shop", "sh\nop", "shop\u{202E}", &"a".repeat(10_000)] {
        let alert = read_one(json!({"labels": {"namespace": hostile}}));
        let kept = &alert.spec.labels["namespace"];
        assert!(kept.contains('\u{FFFD}') && kept.chars().count() <= MAX_VALUE, "{kept}");
        assert_eq!(alert.valid_namespace(), None, "{hostile:?}");
        assert_eq!(alert.altered, 1);
    }
}

#[test]
fn paths_and_queries_are_no_namespaces() {
    for hostile in ["../kube-system", "shop/..", "a?b=c", "a%2fb", "Shop", "-a", "a-", "", " shop", "ſhop"] {
        assert_eq!(read_one(json!({"labels": {"namespace": hostile}})).valid_namespace(), None, "{hostile:?}");
    }
}

#[test]
fn exported_namespace_goes_before_namespace_and_a_bad_one_does_not_fall_back() {
    let of = |labels: Value| read_one(json!({"labels": labels})).valid_namespace().map(str::to_owned);
    assert_eq!(of(json!({"exported_namespace": "shop", "namespace": "monitoring"})), Some("shop".into()));
    assert_eq!(of(json!({"exported_namespace": "../x", "namespace": "monitoring"})), None);
    assert_eq!(of(json!({"exported_namespace": "", "namespace": "monitoring"})), Some("monitoring".into()));
}

#[test]
fn a_flood_of_labels_cannot_push_out_those_that_name_the_target() {
    let mut labels: Map<String, Value> = (0..500).map(|i| (format!("a{i:04}"), json!("x"))).collect();
    labels.insert("namespace".into(), json!("shop"));
    labels.insert("workload".into(), json!("cart"));
    let alert = read_one(json!({"labels": labels}));
    assert_eq!(alert.spec.labels.len(), MAX_ENTRIES);
    assert_eq!(alert.spec.labels["namespace"], "shop");
    assert_eq!(alert.spec.labels["workload"], "cart");
    assert_eq!(alert.altered, 502 - MAX_ENTRIES);
}

#[test]
fn keys_that_are_too_long_or_not_text_are_dropped_not_shortened() {
    let long = format!("namespace{}", "x".repeat(200));
    let alert = read_one(json!({"labels": {long: "a", "name\u{0}space": "b", "": "c", "ok": "d"}}));
    assert_eq!(alert.spec.labels.keys().collect::<Vec<_>>(), ["ok"]);
    assert_eq!(alert.altered, 3);
}

#[test]
fn annotations_stay_readable_and_lose_control_characters() {
    let alert = read_one(json!({"annotations": {"summary": "a\u{1b}[31m\nb\u{202e}"}}));
    assert_eq!(alert.spec.annotations["summary"], "a[31m\nb");
}

#[test]
fn watchdog_info_inhibitor_and_foreign_clusters_are_left_out_one_by_one() {
    let body = payload(json!([
        {"labels": {"alertname": "Watchdog"}},
        {"labels": {"alertname": "InfoInhibitor"}},
        {"labels": {"alertname": "A", "cluster": "other"}},
        {"labels": {"alertname": "B", "cluster": "mine"}},
        {"labels": {"alertname": "C"}},
    ]));
    let batch = normalise(&body, Request { cluster_name: "mine", ..request() }).unwrap();
    let kept: Vec<_> = batch.alerts.iter().map(Normalised::alertname).collect();
    assert_eq!(kept, ["B", "C"]);
    let skipped: Vec<_> = batch.skipped.iter().map(|skipped| skipped.why).collect();
    assert_eq!(skipped, [Skip::Meta, Skip::Meta, Skip::ForeignCluster]);
    assert_eq!(normalise(&body, request()).unwrap().alerts.len(), 3, "without a name of our own all clusters count");
}

#[test]
fn truncated_alerts_are_told() {
    let body = json!({"version": "4", "truncatedAlerts": 7, "alerts": []}).to_string();
    assert_eq!(normalise(body.as_bytes(), request()).unwrap().truncated, 7);
}

#[test]
fn a_refusal_names_field_expectation_and_next_step() {
    let refusal = |body: &str| normalise(body.as_bytes(), request()).unwrap_err().to_string();
    assert!(refusal("not json").contains("not JSON"));
    assert!(refusal("[]").contains("the payload is a list, expected a JSON object"));
    assert!(refusal("{}").contains("version is missing"));
    assert!(
        refusal(r#"{"version":"1","alerts":[]}"#).contains("Grafana sends version \"1\", which is not supported yet")
    );
    assert!(refusal(r#"{"version":"4"}"#).contains("alerts is missing"));
    assert!(refusal(r#"{"version":"4","alerts":[1]}"#).contains("alerts[0] is 1, expected an object"));
    let number = refusal(r#"{"version":"4","alerts":[{},{"labels":{"pod":5}}]}"#);
    assert!(number.contains("alerts[1].labels.pod is 5, expected a string"), "{number}");
    let status = refusal(r#"{"version":"4","alerts":[{"status":"on fire"}]}"#);
    assert!(status.contains("alerts[0].status is \"on fire\", expected \"firing\" or \"resolved\""), "{status}");
    assert!(refusal(r#"{"version":"4","alerts":[{"startsAt":"yesterday"}]}"#).contains("alerts[0].startsAt"));
    let many = format!(r#"{{"version":"4","alerts":[{}{{}}]}}"#, "{},".repeat(MAX_ALERTS));
    assert!(refusal(&many).contains("max_alerts"));
}

#[test]
fn a_time_that_nobody_can_mean_counts_as_missing() {
    for odd in ["0001-01-01T00:00:00Z", "1969-12-31T23:59:59Z", "2999-12-31T00:00:00Z"] {
        assert_eq!(read_one(json!({"startsAt": odd})).spec.starts_at.to_string(), AT, "{odd}");
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        Just(json!("firing")),
        Just(json!("0001-01-01T00:00:00Z")),
        Just(json!("-009999-01-02T01:59:59Z")),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        let key = prop_oneof![
            any::<String>(),
            Just("labels".to_owned()),
            Just("status".to_owned()),
            Just("startsAt".to_owned()),
            Just("fingerprint".to_owned()),
            Just("namespace".to_owned()),
        ];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::vec((key, inner), 0..6).prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
        ]
    })
}

/// Whatever comes out keeps the bounds of the custom resource.
fn assert_bounded(batch: &Batch) {
    for Normalised { spec, .. } in &batch.alerts {
        assert!((1..=128).contains(&spec.fingerprint.chars().count()));
        for texts in [&spec.labels, &spec.annotations] {
            assert!(texts.len() <= MAX_ENTRIES);
            assert!(texts.iter().all(|(key, value)| {
                (1..=MAX_KEY).contains(&key.chars().count()) && value.chars().count() <= MAX_VALUE
            }));
        }
        assert!(!spec.labels.values().any(|value| value.chars().any(char::is_control)));
    }
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
        let _ = normalise(&bytes, request());
    }

    #[test]
    fn no_json_makes_it_panic(value in any_json()) {
        let _ = normalise(value.to_string().as_bytes(), request());
    }

    #[test]
    fn no_alert_makes_it_panic_and_what_is_read_keeps_the_bounds(alerts in prop::collection::vec(any_json(), 0..4)) {
        if let Ok(batch) = normalise(&payload(json!(alerts)), request()) {
            assert_bounded(&batch);
        }
    }

    #[test]
    fn labels_of_any_text_keep_the_bounds(
        labels in prop::collection::btree_map(any::<String>(), ".{0,1100}", 0..80)
    ) {
        let batch = normalise(&payload(json!([{ "labels": labels }])), request()).unwrap();
        assert_bounded(&batch);
    }

    #[test]
    fn a_label_survives_unchanged_or_is_no_valid_name(text in any::<String>()) {
        let alert = read_one(json!({"labels": {"namespace": text}}));
        let kept = &alert.spec.labels["namespace"];
        prop_assert!(*kept == text || !kube_name::is_label(kept));
    }
}

#[test]
fn every_source_is_listed_and_every_format_says_whose_it_is() {
    let schema = serde_json::to_value(schemars::schema_for!(AlertSource)).unwrap();
    let variants = schema["oneOf"].as_array().into_iter().flatten();
    let words: Vec<&str> = variants.filter_map(|variant| variant["const"].as_str()).collect();
    assert_eq!(words, AlertSource::ALL.iter().map(|source| source.as_str()).collect::<Vec<_>>());
    let mut paths = std::collections::BTreeSet::new();
    for format in all() {
        assert_eq!(of(format.sender.source).map(|found| found.path), Some(format.path));
        assert!(paths.insert(format.path), "{} is the path of two formats", format.path);
        assert_eq!(format.path, format!("/v1/intake/{}", format.label));
        assert_eq!(format.label, format.sender.source.as_str().to_lowercase());
    }
}

#[test]
fn a_refusal_says_what_the_sender_at_fault_can_do() {
    for format in all() {
        let refusal = (format.parse)(b"not json", request()).unwrap_err();
        assert_eq!(refusal.next_step, format.sender.resend, "{}", format.sender.name);
    }
}

#[test]
fn the_same_alert_of_two_senders_is_two_alerts() {
    let labels = json!({"alertname": "Broken", "namespace": "shop", "deployment": "cart"});
    let one = read_one(json!({"labels": labels}));
    let batch = (of(AlertSource::Planted).unwrap().parse)(br#"{"broken": ["cart"]}"#, request()).unwrap();
    assert_eq!(batch.alerts[0].spec.labels, one.spec.labels);
    assert_ne!(batch.alerts[0].name("shop"), one.name("shop"));
}
