//! Alerts by which the intake says what it did not take, for people who look for it. They are stored as ended: they call
//! nobody, and go with the retention of ended Alerts.

use std::collections::BTreeMap;

use super::normal::{Normalised, note};
use super::place::{Placement, TokenOwner};
use super::sender::{RequestInfo, Sender, excerpt};
use crate::api::v1alpha1::{AlertSpec, AlertState, IntakeReason};
use crate::core::names;

/// Alerts of the cluster `named` were not taken. One record for each such cluster.
pub fn foreign_cluster(
    sender: &Sender,
    named: &str,
    owner: &TokenOwner,
    system: &str,
    request: RequestInfo<'_>,
) -> Placement {
    let message = format!(
        "alerts with the label cluster=\"{}\" are not of this cluster, which is called \"{}\", and are not taken; if \
         they should be, change clusterName in the chart's values",
        excerpt(named),
        request.cluster_name
    );
    let sent = record(sender, "BackstopForeignCluster", IntakeReason::ForeignCluster, &message, named, request);
    Placement::of_record(&sent, owner, system)
}

/// `count` alerts were not in a request, or in the part of it that was not read if it is `None`. One record an hour.
pub fn left_out(
    sender: &Sender,
    count: Option<u64>,
    owner: &TokenOwner,
    system: &str,
    request: RequestInfo<'_>,
) -> Placement {
    let message = match count {
        Some(count) => format!("{} left {count} alerts out of a request; {}", sender.name, sender.fewer),
        None => format!("a request of {} was too long and was read in part; {}", sender.name, sender.fewer),
    };
    let hour = format!("hour {}", request.received_at.as_second() / 3600);
    let sent = record(sender, "BackstopAlertsLeftOut", IntakeReason::LeftOut, &message, &hour, request);
    Placement::of_record(&sent, owner, system)
}

fn record(
    sender: &Sender,
    alertname: &str,
    reason: IntakeReason,
    message: &str,
    key: &str,
    request: RequestInfo<'_>,
) -> Normalised {
    let labels = [("alertname", alertname), ("severity", "info")];
    let spec = AlertSpec {
        source: sender.source,
        fingerprint: names::short_digest(&["record", alertname, key]),
        labels: labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
        annotations: BTreeMap::from([("summary".to_owned(), message.to_owned())]),
        starts_at: request.received_at,
        ends_at: Some(request.received_at),
        received_at: Some(request.received_at),
        request_id: request.request_id.to_owned(),
        note: Some(note(reason, message)),
        ..AlertSpec::default()
    };
    Normalised { spec, state: AlertState::Firing, start_key: "record".to_owned(), altered: 0 }
}
