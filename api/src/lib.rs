//! The contract that Argosy's parts share: names of labels and annotations, the custom resources, narrow views of
//! Argo's Workflow, and the records that Argosy keeps on an original and its copy.

pub mod intents;
pub mod kubeconfig;
pub mod names;
pub mod packed;
pub mod placement_policy;
pub mod records;
pub mod workflow;
pub mod workload_cluster;

pub use intents::{Intent, Intents, Retry, Wish};
pub use placement_policy::{
    LostCluster, NoCluster, PlacementPolicy, PlacementPolicySpec, PlacementPolicyStatus, Strategy,
};
pub use records::{Candidate, Delivery, Placement, RuleSource};
pub use workflow::Workflow;
pub use workload_cluster::{
    Capacity, NodeGroup, SyncMode, WorkloadCluster, WorkloadClusterSpec, WorkloadClusterStatus,
};
