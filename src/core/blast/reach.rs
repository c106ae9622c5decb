//! What a write can reach, as the API server lists it: Services with their endpoints, disruption budgets, and how many
//! workloads there are.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde_json::Value;

use crate::core::object::{array, int, label, string, string_map};
use crate::core::selector::selects;
use crate::core::workload::{Pod, Workload};

/// The label of an EndpointSlice that names its Service.
const SERVICE: &str = "kubernetes.io/service-name";

/// What a write to a workload of a namespace can reach.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reach {
    services: BTreeMap<String, Labels>,
    endpoints: BTreeSet<Endpoint>,
    budgets: Vec<Budget>,
    /// Workloads of the namespace that have pods.
    pub workloads: usize,
    /// Workloads of all enrolled namespaces.
    pub workloads_of_cluster: usize,
}

/// Labels of a pod, or those that a selector asks for.
pub(super) type Labels = BTreeMap<String, String>;

/// An endpoint that is ready. Several slices may name it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Endpoint {
    service: String,
    /// UID of its pod; empty where it is none.
    pod: String,
    address: String,
}

#[derive(Clone, Debug, PartialEq)]
struct Budget {
    name: String,
    selector: LabelSelector,
    allowed: i64,
}

impl Reach {
    /// Where there are so many workloads in the namespace, and in all enrolled ones.
    pub fn among(workloads: usize, workloads_of_cluster: usize) -> Reach {
        Reach { workloads, workloads_of_cluster, ..Reach::default() }
    }

    /// Adds a page of Services.
    pub fn add_services(&mut self, services: &[Value]) {
        for service in services {
            let selector = string_map(service, "/spec/selector");
            self.services.insert(string(service, "/metadata/name").to_owned(), selector);
        }
    }

    /// Adds a page of EndpointSlices. An endpoint counts as ready unless it says that it is not: so Kubernetes reads it.
    pub fn add_endpoints(&mut self, slices: &[Value]) {
        for slice in slices {
            let Some(service) = label(slice, SERVICE) else { continue };
            for endpoint in array(slice, "/endpoints") {
                if endpoint.pointer("/conditions/ready") == Some(&Value::Bool(false)) {
                    continue;
                }
                let pod = match string(endpoint, "/targetRef/kind") {
                    "Pod" => string(endpoint, "/targetRef/uid"),
                    _ => "",
                };
                let address = array(endpoint, "/addresses").first().and_then(Value::as_str).unwrap_or_default();
                // A pod with two families of addresses is in two slices, and is one endpoint.
                let address = if pod.is_empty() { address.to_owned() } else { String::new() };
                self.endpoints.insert(Endpoint { service: service.to_owned(), pod: pod.to_owned(), address });
            }
        }
    }

    /// Adds a page of PodDisruptionBudgets. One whose selector cannot be read counts as one for every pod.
    pub fn add_budgets(&mut self, budgets: &[Value]) {
        for budget in budgets {
            // Without a selector it is for no pod; with an empty one for all.
            let Some(selector) = budget.pointer("/spec/selector").filter(|selector| !selector.is_null()) else {
                continue;
            };
            self.budgets.push(Budget {
                name: string(budget, "/metadata/name").to_owned(),
                selector: serde_json::from_value(selector.clone()).unwrap_or_default(),
                allowed: int(budget, "/status/disruptionsAllowed").unwrap_or_default(),
            });
        }
    }

    /// What both have read.
    pub fn and(mut self, other: Reach) -> Reach {
        self.services.extend(other.services);
        self.endpoints.extend(other.endpoints);
        self.budgets.extend(other.budgets);
        self
    }

    /// Names of the Services that choose pods with these labels, or whose endpoints are pods of `workload`.
    pub(super) fn services_of(&self, labels: &Labels, workload: &Workload) -> BTreeSet<&str> {
        let chooses = |selector: &Labels| {
            !selector.is_empty() && selector.iter().all(|(key, value)| labels.get(key) == Some(value))
        };
        let by_selector = self.services.iter().filter(|(_, selector)| chooses(selector)).map(|(name, _)| name.as_str());
        let pods: BTreeSet<&str> = uids(workload.pods.iter()).collect();
        let is_ours = |endpoint: &&Endpoint| pods.contains(endpoint.pod.as_str());
        let by_endpoint = self.endpoints.iter().filter(is_ours).map(|endpoint| endpoint.service.as_str());
        by_selector.chain(by_endpoint).collect()
    }

    /// The endpoints of a Service that serve, with the UIDs of their pods. One of a pod that is among the `failing` does
    /// not. Tenants choose how many Services their pods have: of each only its own endpoints are looked at.
    pub(super) fn serving<'a>(&'a self, service: &'a str, failing: &BTreeSet<&str>) -> Vec<Option<&'a str>> {
        let first = Endpoint { service: service.to_owned(), pod: String::new(), address: String::new() };
        let of_it = self.endpoints.range(first..).take_while(|endpoint| endpoint.service == service);
        let serves = of_it.filter(|endpoint| !failing.contains(endpoint.pod.as_str()));
        serves.map(|endpoint| Some(endpoint.pod.as_str()).filter(|pod| !pod.is_empty())).collect()
    }

    /// The disruption budgets for pods with these labels, each with the disruptions that it allows now.
    pub(super) fn budgets_of(&self, labels: &Labels) -> impl Iterator<Item = (&str, i64)> {
        let of_it = self.budgets.iter().filter(|budget| selects(&budget.selector, labels));
        of_it.map(|budget| (budget.name.as_str(), budget.allowed))
    }
}

/// The UIDs of these pods.
pub(super) fn uids<'a>(pods: impl Iterator<Item = &'a Pod>) -> impl Iterator<Item = &'a str> {
    pods.map(|pod| pod.object.uid.as_str()).filter(|uid| !uid.is_empty())
}

/// Labels of the pods of a workload.
pub(super) fn labels_of_pods(workload: &Workload) -> Labels {
    string_map(&workload.template, "/metadata/labels")
}
