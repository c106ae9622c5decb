//! Where an alert is kept. It belongs to the namespace that it names; what that one does not take is kept in the system
//! namespace, so that nothing that was answered 2xx is nowhere. An Alert there may name any target, so one that a tenant
//! sent carries the tenant's namespace and may only name that.

use super::normal::{Normalised, note};
use crate::api::v1alpha1::{AlertSpec, AlertState, IntakeNote, IntakeReason, Time};
use crate::core::names;

/// Label on an Alert in the system namespace: the namespace that it belongs to and that did not take it.
pub const BELONGS_TO: &str = "backstop.dev/belongs-to";

/// Whose token a request carries.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TokenOwner {
    /// It may name every namespace.
    Cluster,
    /// It may name this namespace only.
    Tenant(String),
}

/// One place where an alert is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The namespace.
    pub namespace: String,
    /// Name of the Alert there. The same alert sent again gets the same name.
    pub name: String,
    /// The namespace that it belongs to, if it is another one.
    pub belongs_to: Option<String>,
}

/// What is done with an alert.
#[derive(Clone, Debug, PartialEq)]
pub struct Placement {
    /// What is kept; see [`Placement::spec_in`].
    spec: AlertSpec,
    /// What the sender said, or that it ended, if it is not to be acted upon.
    pub state: AlertState,
    /// It is kept so that people can find it, and nothing follows from it.
    pub record_only: bool,
    /// Where it belongs.
    pub first: Place,
    /// Where it is kept if the first place does not take it.
    pub other: Option<Place>,
}

impl Placement {
    /// Decides where an alert of `owner` is kept. `exists`: the namespace that it names does, asked for the cluster's
    /// token only.
    pub fn of(alert: &Normalised, owner: &TokenOwner, exists: bool, system: &str) -> Placement {
        let Normalised { mut spec, state, start_key, altered: _ } = alert.clone();
        let identity = [spec.source.as_str().to_owned(), spec.fingerprint.clone(), start_key];
        let name = |namespace: &str, tenant: Option<&str>| {
            let [source, fingerprint, start] = &identity;
            let inputs = ["alert", source, namespace, fingerprint, start];
            names::short_digest(&inputs.into_iter().chain(tenant).collect::<Vec<_>>())
        };
        let place =
            |namespace: &str| Place { namespace: namespace.to_owned(), name: name(namespace, None), belongs_to: None };
        let elsewhere = |home: &str, tenant: Option<&str>| Place {
            namespace: system.to_owned(),
            // Two tenants may send the same fingerprint: neither may end the other's alert.
            name: name(system, tenant),
            belongs_to: Some(home.to_owned()),
        };
        let mut record_only = false;
        let (first, other) = match owner {
            TokenOwner::Tenant(own) => {
                spec.tenant = Some(own.clone());
                if is_foreign(alert, own) {
                    record_only = true;
                    let message = format!("it was sent with the token of {own}, which may only name that namespace");
                    spec.note = Some(note(IntakeReason::ForeignNamespace, &message));
                }
                (place(own), (own != system).then(|| elsewhere(own, Some(own))))
            }
            TokenOwner::Cluster => match alert.valid_namespace().filter(|name| exists && *name != system) {
                Some(named) => (place(named), Some(elsewhere(named, None))),
                None => (place(system), None),
            },
        };
        // Nothing is in it that a person could act upon.
        record_only |= alert.is_unreadable() && spec.labels.is_empty();
        if record_only {
            spec.ends_at = spec.ends_at.or(spec.received_at);
        }
        Placement { spec, state, record_only, first, other }
    }

    /// The same for what only has to be on record: it belongs to the sender.
    pub(super) fn of_record(alert: &Normalised, owner: &TokenOwner, system: &str) -> Placement {
        Placement { record_only: true, ..Placement::of(alert, owner, false, system) }
    }

    /// The spec of the Alert in `place`. `refused` says why it is not where it belongs.
    pub fn spec_in(&self, place: &Place, refused: Option<IntakeNote>) -> AlertSpec {
        // That it is unreadable or foreign decides what may be done with it, and goes before where it is.
        let note = self.spec.note.clone().or(refused);
        AlertSpec { belongs_to: place.belongs_to.clone(), note, ..self.spec.clone() }
    }

    /// What is particular about the alert itself, wherever it is kept.
    pub fn note(&self) -> Option<IntakeReason> {
        self.spec.note.as_ref().map(|note| note.reason)
    }

    /// When it ended.
    pub fn ended(&self) -> Option<Time> {
        self.spec.ends_at
    }

    /// The note of an alert whose namespace did not take it.
    pub fn refused(reason: IntakeReason, message: &str) -> IntakeNote {
        note(reason, message)
    }
}

/// Whether an alert of a tenant names other namespaces only. One that a tenant's Prometheus sends carries the tenant's
/// namespace in `namespace`, which the Prometheus operator enforces; what an exporter says there is moved to
/// `exported_namespace`, and may be anything.
fn is_foreign(alert: &Normalised, own: &str) -> bool {
    let mut named = alert.namespaces().peekable();
    named.peek().is_some() && named.all(|name| name != own)
}
