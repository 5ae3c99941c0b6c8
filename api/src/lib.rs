//! The contract that Argosy's parts share: names of labels and annotations, the custom resources, narrow views of
//! Argo's Workflow, and the records that Argosy keeps on an original and its copy.

pub mod names;
pub mod records;
pub mod workflow;
pub mod workload_cluster;

pub use records::{Delivery, Placement, RuleSource};
pub use workflow::Workflow;
pub use workload_cluster::{WorkloadCluster, WorkloadClusterSpec, WorkloadClusterStatus};
