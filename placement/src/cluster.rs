//! What placement knows of a cluster.

use std::collections::BTreeMap;

use argosy_api::{SyncMode, WorkloadCluster, workload_cluster as api};

use crate::capacity::Capacity;

/// A WorkloadCluster, reduced to what a decision needs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cluster {
    pub name: String,
    pub labels: BTreeMap<String, String>,
    /// Why nothing can be delivered to it now; `None` when it is ready.
    pub not_ready: Option<String>,
    /// Whether it is not ready because it does not answer.
    pub is_silent: bool,
    /// Whether a syncer inside of it serves it.
    pub is_pull: bool,
    pub cordoned: bool,
    /// The workflow (`namespace/name`) that its room is kept for.
    pub held_for: Option<String>,
    /// Namespaces of the control cluster that may use it, or `*`.
    pub namespaces: Vec<String>,
    /// What it has and what is taken; `None` while that is not known.
    pub capacity: Option<Capacity>,
}

impl From<&WorkloadCluster> for Cluster {
    fn from(cluster: &WorkloadCluster) -> Self {
        Self {
            name: cluster.metadata.name.clone().unwrap_or_default(),
            labels: cluster.metadata.labels.clone().unwrap_or_default(),
            not_ready: not_ready(cluster),
            is_silent: is_silent(cluster),
            is_pull: cluster.spec.sync_mode == SyncMode::Pull,
            cordoned: cluster.spec.cordoned,
            held_for: cluster.status.as_ref().and_then(|status| status.held_for.clone()),
            namespaces: cluster.spec.namespaces.clone(),
            capacity: cluster.status.as_ref().and_then(|status| status.capacity.as_ref()).map(Capacity::from),
        }
    }
}

/// The message of the first condition that is not true.
fn not_ready(cluster: &WorkloadCluster) -> Option<String> {
    [api::READY, api::ARGO_READY].into_iter().find_map(|name| {
        let condition = cluster.status.as_ref().and_then(|status| status.condition(name));
        match condition {
            Some(condition) if condition.status == "True" => None,
            Some(condition) => Some(format!("{name} is {}: {}", condition.status, condition.message)),
            None => Some(format!("{name} is not known yet; is the syncer running?")),
        }
    })
}

fn is_silent(cluster: &WorkloadCluster) -> bool {
    let ready = cluster.status.as_ref().and_then(|status| status.condition(api::READY));
    ready.is_some_and(|ready| ready.status == "False" && ready.reason == api::UNREACHABLE)
}

impl Cluster {
    /// Whether workflows of this namespace may run here.
    pub fn consents_to(&self, namespace: &str) -> bool {
        self.namespaces.iter().any(|name| name == "*" || name == namespace)
    }
}
