//! What the syncer counts.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ClusterLabel {
    cluster: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FailureLabels {
    cluster: String,
    reason: &'static str,
}

/// Metrics of all clusters.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    ready: Family<ClusterLabel, Gauge>,
    held: Family<ClusterLabel, Gauge>,
    delivered: Family<ClusterLabel, Counter>,
    removed: Family<ClusterLabel, Counter>,
    original_writes: Family<ClusterLabel, Counter>,
    copy_writes: Family<ClusterLabel, Counter>,
    failures: Family<FailureLabels, Counter>,
}

/// Metrics of one cluster.
#[derive(Clone, Debug)]
pub struct ClusterMetrics {
    pub ready: Gauge,
    /// Whether this process holds the cluster's Lease.
    pub held: Gauge,
    pub delivered: Counter,
    pub removed: Counter,
    pub original_writes: Counter,
    pub copy_writes: Counter,
    cluster: String,
    failures: Family<FailureLabels, Counter>,
}

impl Metrics {
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("argosy_syncer");
        registry.register("cluster_ready", "Whether the cluster was reached at the last probe", self.ready.clone());
        registry.register("cluster_held", "Whether this process holds the cluster's Lease", self.held.clone());
        registry.register("delivered", "Copies created", self.delivered.clone());
        registry.register("removed", "Copies deleted because their original was gone", self.removed.clone());
        registry.register("original_writes", "Writes to originals", self.original_writes.clone());
        registry.register("copy_writes", "Writes to copies", self.copy_writes.clone());
        registry.register("step_failures", "Steps to be tried again, by reason", self.failures.clone());
    }

    pub fn of(&self, cluster: &str) -> ClusterMetrics {
        let label = ClusterLabel { cluster: cluster.to_owned() };
        ClusterMetrics {
            ready: self.ready.get_or_create_owned(&label),
            held: self.held.get_or_create_owned(&label),
            delivered: self.delivered.get_or_create_owned(&label),
            removed: self.removed.get_or_create_owned(&label),
            original_writes: self.original_writes.get_or_create_owned(&label),
            copy_writes: self.copy_writes.get_or_create_owned(&label),
            cluster: cluster.to_owned(),
            failures: self.failures.clone(),
        }
    }
}

impl ClusterMetrics {
    pub fn step_failed(&self, reason: &'static str) {
        let labels = FailureLabels { cluster: self.cluster.clone(), reason };
        self.failures.get_or_create(&labels).inc();
    }
}
