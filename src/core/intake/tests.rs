//! What the intake makes of payloads, good and hostile.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;
use crate::api::v1alpha1::{AlertState, IntakeReason};
use crate::core::kube_name;

/// What a request carries, read to its end.
#[derive(Debug)]
struct All {
    alerts: Vec<Normalised>,
    truncated: u64,
}

fn normalise(payload: &[u8], request: RequestInfo<'_>) -> Result<All, BadInput> {
    let Batch { alerts, truncated } = (alertmanager::FORMAT.parse)(payload, request)?;
    Ok(All { alerts: alerts.collect(), truncated })
}

fn place(alert: &Normalised, owner: &TokenOwner) -> Placement {
    Placement::of(alert, owner, alert.valid_namespace().is_some(), "backstop-system")
}

/// Name of the Alert where it belongs.
fn name(alert: &Normalised) -> String {
    place(alert, &TokenOwner::Cluster).first.name
}

const AT: &str = "2026-11-21T10:00:00Z";

fn request() -> RequestInfo<'static> {
    RequestInfo { received_at: AT.parse().unwrap(), request_id: "r1", cluster_name: "", cut_off: false }
}

fn payload(alerts: Value) -> Vec<u8> {
    json!({"version": "4", "status": "firing", "alerts": alerts}).to_string().into_bytes()
}

fn read_one(alert: Value) -> Normalised {
    normalise(&payload(json!([alert])), request()).unwrap().alerts.remove(0)
}

/// Recorded from Alertmanager 0.25 with the configuration of docs/examples, and by hand from the sources of 0.28.
#[test]
fn payloads_of_real_alertmanagers_are_read() {
    let batch = normalise(include_bytes!("testdata/alertmanager-0.25.json"), request()).unwrap();
    let [firing, resolved] = batch.alerts.as_slice() else { panic!("{batch:?}") };
    assert_eq!(firing.spec.fingerprint.len(), 16);
    assert_eq!((firing.state, firing.spec.ends_at, firing.altered), (AlertState::Firing, None, 0));
    assert_eq!((resolved.state, resolved.spec.ends_at.is_some()), (AlertState::Resolved, true));
    assert!(batch.alerts.iter().all(|alert| alert.valid_namespace() == Some("shop") && alert.spec.note.is_none()));

    let batch = normalise(include_bytes!("testdata/alertmanager-0.28.json"), request()).unwrap();
    let alert = &batch.alerts[0];
    assert_eq!(alert.spec.fingerprint, "9f86d081884c7d65");
    assert_eq!(alert.spec.starts_at.to_string(), "2026-11-21T09:59:30.123456789Z");
    assert_eq!((alert.state, alert.spec.ends_at), (AlertState::Firing, None));
    assert_eq!(alert.valid_namespace(), Some("shop"));
    assert_eq!((alert.spec.request_id.as_str(), alert.altered), ("r1", 0));
}

#[test]
fn odd_but_legal_alerts_are_taken_as_they_are() {
    let batch = normalise(include_bytes!("testdata/odd-but-legal.json"), request()).unwrap();
    assert_eq!(batch.truncated, 7);
    let notes: Vec<_> = batch.alerts.iter().filter_map(|alert| alert.spec.note.as_ref()).collect();
    assert!(notes.is_empty(), "{notes:?}");
    let [zero_times, bare, texts, surrogate] = batch.alerts.as_slice() else { panic!("{batch:?}") };
    assert_eq!(zero_times.spec.starts_at.to_string(), AT, "the time of receipt");
    assert_eq!((bare.alertname(), bare.state), ("Bare", AlertState::Firing));
    assert_eq!(texts.alertname(), "Überlast 🐟 在线");
    assert_eq!(texts.spec.labels["region"], "süd\u{FFFD}ost");
    assert_eq!(texts.spec.annotations["summary"], "line one\nline two\tx");
    assert_eq!(surrogate.spec.labels["pod"], "half \u{FFFD} of a character");
    let marked = [b"\xEF\xBB\xBF".as_slice(), &payload(json!([{"labels": {"alertname": "Marked"}}]))].concat();
    assert_eq!(normalise(&marked, request()).unwrap().alerts[0].alertname(), "Marked");
    for empty in [r#"{"version":"4","alerts":[]}"#, r#"{"version":"4","status":"resolved","alerts":null}"#] {
        assert!(normalise(empty.as_bytes(), request()).unwrap().alerts.is_empty(), "{empty}");
    }
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
    let named = |namespace: &str| {
        name(&read_one(json!({"labels": {"namespace": namespace}, "fingerprint": "f", "startsAt": AT})))
    };
    assert_eq!(name(&alert(AT)), name(&alert("2026-11-21T12:00:00+02:00")));
    assert_ne!(name(&alert(AT)), name(&alert("2026-11-21T10:00:01Z")));
    assert_ne!(named("shop"), named("prod"));
    assert_eq!(name(&alert(AT)).len(), 32);
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
        let request = RequestInfo { received_at: received.parse().unwrap(), ..request() };
        normalise(&payload(json!([{"labels": {"a": "b"}}])), request).unwrap().alerts.remove(0)
    };
    let first = at("2026-11-21T10:00:01Z");
    assert_eq!(first.spec.starts_at.to_string(), "2026-11-21T10:00:01Z");
    assert_eq!(name(&first), name(&at("2026-11-21T10:59:59Z")));
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
    let labels = [
        json!({"alertname": "Watchdog"}),
        json!({"alertname": "InfoInhibitor"}),
        json!({"alertname": "A", "cluster": "other"}),
        json!({"alertname": "B", "cluster": "mine"}),
        json!({"alertname": "C"}),
    ];
    let skipped = |ours| labels.clone().map(|labels| read_one(json!({ "labels": labels })).skip(ours));
    let meta = Some(Skip::Meta);
    let foreign = Some(Skip::ForeignCluster("other".into()));
    assert_eq!(skipped("mine"), [meta.clone(), meta.clone(), foreign, None, None]);
    assert_eq!(skipped(""), [meta.clone(), meta, None, None, None], "without a name of our own all clusters count");
}

#[test]
fn what_is_no_payload_is_refused_with_field_expectation_and_next_step() {
    let refusal = |body: &str| normalise(body.as_bytes(), request()).unwrap_err().to_string();
    assert!(refusal("not json").contains("not JSON"));
    assert!(refusal("[]").contains("the payload is a list, expected a JSON object"));
    assert!(refusal("{}").contains("alerts is missing"));
    assert!(refusal(r#"{"alerts":[]}"#).contains("version is missing"));
    assert!(
        refusal(r#"{"version":"1","alerts":[]}"#).contains("Grafana sends version \"1\", which is not supported yet")
    );
    assert!(refusal(r#"{"version":"4"}"#).contains("alerts is missing"));
    assert!(refusal(r#"{"version":"4","alerts":5}"#).contains("alerts is 5, expected a list of alerts"));
    assert!(refusal(r#"{"version":"4","alerts":[{},"#).contains("not JSON"));
    assert!(refusal(r#"{"version":"4","alerts":[{}]"#).contains("not JSON"));
}

#[test]
fn an_alert_that_cannot_be_read_says_why_and_costs_no_other() {
    let deep = format!(r#"{{"labels":{{"pod":{}1{}}}}}"#, "[".repeat(300), "]".repeat(300));
    let long = format!(r#"{{"labels":{{"alertname":"A","pod":"{}"}}}}"#, "x".repeat(split::MAX_ALERT));
    let rows: &[(&str, &str)] = &[
        ("1", "alerts[1] is 1, expected an object"),
        ("null", "alerts[1] is null, expected an object"),
        (r#"{"labels":{"alertname":"A","pod":5}}"#, "alerts[1].labels.pod is 5, expected a string"),
        (r#"{"labels":{"alertname":"A","pod":null}}"#, "alerts[1].labels.pod is null, expected a string"),
        (r#"{"labels":["pod"]}"#, "alerts[1].labels is a list, expected an object of strings"),
        (r#"{"annotations":{"summary":null}}"#, "alerts[1].annotations.summary is null, expected a string"),
        (r#"{"annotations":"none"}"#, "alerts[1].annotations is \"none\", expected an object of strings"),
        (r#"{"status":"on fire"}"#, "alerts[1].status is \"on fire\", expected \"firing\" or \"resolved\""),
        (r#"{"startsAt":"yesterday"}"#, "alerts[1].startsAt is \"yesterday\", expected a time"),
        (r#"{"startsAt":1764230400}"#, "alerts[1].startsAt is 1764230400, expected a time"),
        (r#"{"status":"resolved","endsAt":"soon"}"#, "alerts[1].endsAt is \"soon\", expected a time"),
        (r#"{"fingerprint":17}"#, "alerts[1].fingerprint is 17, expected a string"),
        (r#"{"labels":{"value":NaN}}"#, "alerts[1] is not JSON"),
        (r#"{"labels":{"value":1e999}}"#, "alerts[1] is not JSON"),
        (r#"{"labels" "alertname"}"#, "alerts[1] is not JSON"),
        (&deep, "alerts[1] is not JSON"),
        (&long, "bytes long, expected an object"),
    ];
    let good = r#"{"labels":{"alertname":"Good","namespace":"shop"}}"#;
    for (bad, expected) in rows {
        let body = format!(r#"{{"version":"4","status":"firing","alerts":[{good},{bad},{good}]}}"#);
        let batch = normalise(body.as_bytes(), request()).unwrap();
        let [first, wrong, last] = batch.alerts.as_slice() else { panic!("{bad:.80}: {batch:?}") };
        assert_eq!((first.alertname(), last.alertname()), ("Good", "Good"), "{bad:.80}");
        assert!(!first.is_unreadable() && !last.is_unreadable(), "{bad:.80}");
        let note = wrong.spec.note.as_ref().unwrap_or_else(|| panic!("{bad:.80} was read"));
        assert_eq!(note.reason, IntakeReason::Unreadable);
        assert!(note.message.contains(expected), "{bad:.80}: {}", note.message);
    }
    let wrong = read_one(json!({"labels": {"alertname": "A", "namespace": "shop", "pod": 5}}));
    assert_eq!(wrong.spec.labels["pod"], "\u{FFFD}5", "what is no string is kept as no name");
    assert_eq!(wrong.valid_namespace(), Some("shop"), "it is kept where it belongs");
    let odd_envelope = r#"{"version":"4","status":5,"truncatedAlerts":"many","alerts":[{"status":"resolved"}]}"#;
    let batch = normalise(odd_envelope.as_bytes(), request()).unwrap();
    assert_eq!((batch.truncated, batch.alerts[0].state), (0, AlertState::Resolved), "the envelope costs no alert");
}

#[test]
fn a_payload_that_was_cut_off_yields_the_alerts_before() {
    let alerts: Vec<Value> = (0..50).map(|i| json!({"labels": {"alertname": "A", "pod": format!("p{i}")}})).collect();
    let whole = payload(json!(alerts));
    for at in [whole.len() / 2, whole.len() - 5, whole.len()] {
        let request = RequestInfo { cut_off: true, ..request() };
        let kept = normalise(&whole[..at], request).unwrap().alerts;
        assert_eq!(kept.len(), if at > whole.len() / 2 { 50 } else { kept.len() });
        assert!(kept.len() > 20 && kept.iter().all(|alert| !alert.is_unreadable()), "{at}: {}", kept.len());
    }
}

#[test]
fn labels_and_annotations_in_any_alphabet_are_bounded_in_bytes_and_names_survive() {
    let fat = "🐟".repeat(1000);
    let mut labels: Map<String, Value> = (0..61).map(|i| (format!("text_{i:02}"), json!(fat))).collect();
    for (key, value) in [("alertname", &*fat), ("namespace", "shop"), ("exported_deployment", "cart"), ("pod", &*fat)] {
        labels.insert(key.into(), json!(value));
    }
    let alert = read_one(json!({"labels": labels, "annotations": labels}));
    let bytes = |texts: &std::collections::BTreeMap<String, String>| -> usize {
        texts.iter().map(|(key, value)| key.len() + value.len()).sum()
    };
    assert!(bytes(&alert.spec.labels) <= texts::LABEL_BYTES, "{}", bytes(&alert.spec.labels));
    assert!(bytes(&alert.spec.annotations) <= texts::ANNOTATION_BYTES, "{}", bytes(&alert.spec.annotations));
    assert_eq!((&*alert.spec.labels["namespace"], &*alert.spec.labels["exported_deployment"]), ("shop", "cart"));
    assert!(
        alert.spec.labels["pod"].contains('\u{FFFD}'),
        "what was cut is no name, and not as if it had not been there"
    );
    // Every label that names something, as long as it can be.
    let wanted = ["", "exported_"].into_iter().flat_map(|prefix| texts::WANTED.map(|key| format!("{prefix}{key}")));
    let all: Map<String, Value> = wanted.map(|key| (key, json!(fat))).collect();
    let alert = read_one(json!({"labels": all}));
    assert_eq!(alert.spec.labels.len(), all.len());
    assert!(bytes(&alert.spec.labels) <= texts::LABEL_BYTES, "{}", bytes(&alert.spec.labels));
}

#[test]
fn an_alert_is_kept_where_it_belongs_or_with_a_note_in_the_system_namespace() {
    let alert = |labels: Value| read_one(json!({"labels": labels, "fingerprint": "f", "startsAt": AT}));
    let shop = TokenOwner::Tenant("shop".into());
    let home = |labels: Value, owner: &TokenOwner| {
        let placement = place(&alert(labels), owner);
        let other = placement.other.as_ref().map(|other| (other.namespace.clone(), other.belongs_to.clone().unwrap()));
        (placement.first.namespace.clone(), other, placement.record_only)
    };
    let elsewhere = |home: &str| Some(("backstop-system".to_owned(), home.to_owned()));
    let named = json!({"namespace": "shop"});
    assert_eq!(home(named.clone(), &TokenOwner::Cluster), ("shop".into(), elsewhere("shop"), false));
    assert_eq!(home(json!({}), &TokenOwner::Cluster), ("backstop-system".into(), None, false));
    assert_eq!(home(named, &shop), ("shop".into(), elsewhere("shop"), false));
    assert_eq!(home(json!({}), &shop), ("shop".into(), elsewhere("shop"), false));
    // `namespace` is what the Prometheus operator enforces; the exporter may speak of anything.
    let enforced = json!({"namespace": "shop", "exported_namespace": "billing"});
    assert_eq!(home(enforced, &shop), ("shop".into(), elsewhere("shop"), false));
    let scraped = json!({"namespace": "monitoring", "exported_namespace": "shop"});
    assert_eq!(home(scraped, &shop), ("shop".into(), elsewhere("shop"), false));
    for foreign in
        [json!({"namespace": "prod"}), json!({"namespace": "../shop"}), json!({"exported_namespace": "prod"})]
    {
        assert_eq!(home(foreign.clone(), &shop), ("shop".into(), elsewhere("shop"), true), "{foreign}");
        let placement = place(&alert(foreign), &shop);
        let spec = placement.spec_in(&placement.first, None);
        assert_eq!(spec.note.unwrap().reason, IntakeReason::ForeignNamespace);
        assert!(spec.ends_at.is_some(), "it is on record, and nothing follows from it");
    }
}

#[test]
fn an_alert_of_a_tenant_says_so_wherever_it_is_kept_and_shares_its_name_with_no_other_tenant() {
    let alert = read_one(json!({"labels": {"alertname": "A"}, "fingerprint": "f", "startsAt": AT}));
    let of = |tenant: &str| place(&alert, &TokenOwner::Tenant(tenant.into()));
    let (one, two) = (of("shop").other.unwrap(), of("prod").other.unwrap());
    let cluster = place(&alert, &TokenOwner::Cluster).first;
    assert_eq!(std::collections::BTreeSet::from([&one.name, &two.name, &cluster.name]).len(), 3);
    for place in [of("shop").first, one] {
        let spec = of("shop").spec_in(&place, None);
        assert_eq!((spec.tenant.as_deref(), spec.belongs_to), (Some("shop"), place.belongs_to));
    }
    assert_eq!(place(&alert, &TokenOwner::Cluster).spec_in(&cluster, None).tenant, None);
}

#[test]
fn what_stands_for_alerts_that_were_not_taken_calls_nobody() {
    let sender = &alertmanager::FORMAT.sender;
    let ours = RequestInfo { cluster_name: "here", ..request() };
    let records = [
        foreign_cluster(sender, "there", &TokenOwner::Cluster, "backstop-system", ours),
        left_out(sender, Some(7), &TokenOwner::Cluster, "backstop-system", ours),
        left_out(sender, None, &TokenOwner::Cluster, "backstop-system", ours),
    ];
    for record in &records {
        let spec = record.spec_in(&record.first, None);
        assert!(record.record_only && spec.ends_at.is_some() && spec.note.is_some(), "{spec:?}");
        assert_eq!(record.first.namespace, "backstop-system");
    }
    let again = foreign_cluster(sender, "there", &TokenOwner::Cluster, "backstop-system", ours);
    assert_eq!(again.first, records[0].first, "one for each cluster");
    assert!(records[0].spec_in(&again.first, None).annotations["summary"].contains("cluster=\"there\""));
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
fn assert_bounded(batch: &All) {
    for Normalised { spec, .. } in &batch.alerts {
        assert!((1..=128).contains(&spec.fingerprint.chars().count()));
        for texts in [&spec.labels, &spec.annotations] {
            assert!(texts.len() <= MAX_ENTRIES);
            assert!(texts.iter().all(|(key, value)| {
                (1..=MAX_KEY).contains(&key.chars().count()) && value.chars().count() <= MAX_VALUE
            }));
        }
        assert!(!spec.labels.values().any(|value| value.chars().any(char::is_control)));
        assert!(spec.note.as_ref().is_none_or(|note| note.message.chars().count() <= 512));
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
    let mut planted = (of(AlertSource::Planted).unwrap().parse)(br#"{"broken": ["cart"]}"#, request()).unwrap();
    let planted = planted.alerts.next().unwrap();
    assert_eq!(planted.spec.labels, one.spec.labels);
    assert_ne!(name(&planted), name(&one));
}
