//! What a cluster has, read from the status of its WorkloadCluster.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Taint;

use crate::resources::Resources;

/// What a cluster has and what is taken of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Capacity {
    /// When it was counted, in seconds since 1970.
    pub time: i64,
    pub allocatable: Resources,
    pub requested: Resources,
    /// What workflows that were placed here ask for whose pods are not among `requested` yet.
    pub pending: Resources,
    /// Up to which resourceVersion of the control cluster `pending` knows workflows.
    pub seen: u64,
    pub groups: Vec<Group>,
    /// Node labels that `groups` do not tell.
    pub omitted_labels: Vec<String>,
}

/// Nodes that are alike to the scheduler.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Group {
    pub labels: BTreeMap<String, String>,
    pub taints: Vec<Taint>,
    /// What is free on the emptiest of them.
    pub free: Vec<Resources>,
    /// What would be if no workflow ran there.
    pub idle: Vec<Resources>,
}

impl Capacity {
    /// What it would be if no workflow ran there.
    pub(crate) fn idle(&self) -> Self {
        let Self { time, allocatable, groups, omitted_labels, .. } = self.clone();
        let idle = |group: Group| Group { free: group.idle.clone(), ..group };
        let groups = groups.into_iter().map(idle).collect();
        Self { time, allocatable, groups, omitted_labels, ..Self::default() }
    }
}

impl From<&argosy_api::Capacity> for Capacity {
    fn from(capacity: &argosy_api::Capacity) -> Self {
        let group = |group: &argosy_api::NodeGroup| Group {
            labels: group.labels.clone(),
            taints: group.taints.clone(),
            free: group.free.iter().map(Resources::from).collect(),
            idle: if group.idle.is_empty() { &group.free } else { &group.idle }.iter().map(Resources::from).collect(),
        };
        Self {
            time: capacity.time.0.as_second(),
            allocatable: Resources::from(&capacity.allocatable),
            requested: Resources::from(&capacity.requested),
            pending: Resources::from(&capacity.pending),
            seen: capacity.seen.parse().unwrap_or_default(),
            groups: capacity.nodes.iter().map(group).collect(),
            omitted_labels: capacity.omitted_labels.clone(),
        }
    }
}
