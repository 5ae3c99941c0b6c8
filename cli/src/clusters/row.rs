//! One cluster, as it is listed. The JSON is for scripts: names of fields stay.

use std::collections::BTreeMap;

use argosy_api::workload_cluster::{ARGO_READY, READY};
use argosy_api::{Capacity, WorkloadCluster};
use argosy_placement::{Resources, print_quantity};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use serde::Serialize;

use crate::workflows::Count;

/// A cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    pub name: String,
    pub labels: BTreeMap<String, String>,
    /// `True`, `False` or `Unknown`, as the condition.
    pub ready: String,
    /// `True`, `False` or `Unknown`, as the condition.
    pub argo_ready: String,
    /// Why it is not ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    pub cordoned: bool,
    /// The control cluster's namespaces whose workflows may run there.
    pub namespaces: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kubernetes_version: Option<String>,
    /// Absent while it is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capacity: Option<Figures>,
    /// Routed workflows that run; absent where they cannot be listed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub running: Option<u64>,
    /// Routed workflows that are yet to run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waiting: Option<u64>,
}

/// What a cluster has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Figures {
    /// When they were taken.
    pub time: String,
    pub age_seconds: i64,
    pub cpu: Amounts,
    pub memory: Amounts,
}

/// Of one resource, as quantities.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Amounts {
    pub allocatable: String,
    pub requested: String,
    /// Less than 0 where pods have asked for more than there is.
    pub free: String,
}

impl Row {
    /// `workflows`: counts by cluster, if they are known.
    pub fn new(cluster: &WorkloadCluster, workflows: Option<&BTreeMap<String, Count>>, now: Timestamp) -> Self {
        let status = cluster.status.as_ref();
        let condition = |name: &str| status.and_then(|status| status.condition(name));
        let value = |name: &str| condition(name).map_or_else(|| "Unknown".to_owned(), |known| known.status.clone());
        let not_true = [READY, ARGO_READY].into_iter().filter_map(condition).find(|known| known.status != "True");
        let unseen = status.is_none().then(|| "no syncer has looked at it yet".to_owned());
        let name = cluster.name_any();
        let count = workflows.map(|workflows| workflows.get(&name).copied().unwrap_or_default());
        Self {
            labels: cluster.labels().clone(),
            ready: value(READY),
            argo_ready: value(ARGO_READY),
            message: not_true.map(|known| format!("{}: {}", known.reason, known.message)).or(unseen),
            cordoned: cluster.spec.cordoned,
            namespaces: cluster.spec.namespaces.clone(),
            kubernetes_version: status.and_then(|status| status.kubernetes_version.clone()),
            capacity: status.and_then(|status| status.capacity.as_ref()).map(|capacity| Figures::new(capacity, now)),
            running: count.map(|count| count.running),
            waiting: count.map(|count| count.waiting),
            name,
        }
    }
}

impl Figures {
    fn new(capacity: &Capacity, now: Timestamp) -> Self {
        let (allocatable, requested) = (Resources::from(&capacity.allocatable), Resources::from(&capacity.requested));
        let mut free = allocatable.clone();
        free.sub(&requested);
        let amounts = |name: &str| {
            let print = |resources: &Resources| print_quantity(name, resources.get(name));
            Amounts { allocatable: print(&allocatable), requested: print(&requested), free: print(&free) }
        };
        let time = capacity.time.0;
        Self {
            time: time.to_string(),
            // Clocks differ a little.
            age_seconds: (now.as_second() - time.as_second()).max(0),
            cpu: amounts("cpu"),
            memory: amounts("memory"),
        }
    }
}
