//! What a workflow asks for: the pods that it will have, as far as its spec says.
//!
//! Read from the templates that its entrypoint leads to, as Argo's controller makes pods of them (workflow/controller/
//! workflowpod.go). What only a run can tell counts as unknown, and is said so.

mod pod;
mod spec;
mod values;
mod walk;

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Toleration;

use crate::resources::Resources;

pub use spec::Spec;

/// How many sentences about what is unknown are kept.
const UNKNOWN: usize = 8;

/// What a workflow asks for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Demand {
    /// The different pods that it may have.
    pub pods: Vec<PodDemand>,
    /// What those that run at one time ask for together at most, `pods` included; an estimate.
    pub peak: Resources,
    /// What its spec does not tell, each in a sentence.
    pub unknown: Vec<String>,
}

/// What a pod asks of its node.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PodDemand {
    /// The template that it is made from.
    pub template: String,
    /// One of `pods` included.
    pub requests: Resources,
    pub node_selector: BTreeMap<String, String>,
    pub tolerations: Vec<Toleration>,
}

/// WorkflowTemplates and ClusterWorkflowTemplates.
pub trait Templates {
    fn workflow_template(&self, namespace: &str, name: &str) -> Option<Arc<Spec>>;
    fn cluster_workflow_template(&self, name: &str) -> Option<Arc<Spec>>;
}

/// There are none.
#[derive(Clone, Copy, Debug)]
pub struct NoTemplates;

impl Templates for NoTemplates {
    fn workflow_template(&self, _: &str, _: &str) -> Option<Arc<Spec>> {
        None
    }

    fn cluster_workflow_template(&self, _: &str) -> Option<Arc<Spec>> {
        None
    }
}

/// What a workflow with this spec asks for in `namespace`.
pub fn demand(namespace: &str, spec: &Spec, templates: &dyn Templates) -> Demand {
    let mut demand = Demand::default();
    walk::walk(namespace, spec, templates, &mut demand);
    demand
}

impl Demand {
    fn unknown(&mut self, what: String) {
        if self.unknown.len() < UNKNOWN && !self.unknown.contains(&what) {
            self.unknown.push(what);
        }
    }

    /// Keeps a pod, if none is like it.
    fn pod(&mut self, pod: PodDemand) {
        let is_like = |other: &PodDemand| {
            (&other.requests, &other.node_selector, &other.tolerations)
                == (&pod.requests, &pod.node_selector, &pod.tolerations)
        };
        if !self.pods.iter().any(is_like) {
            self.pods.push(pod);
        }
    }
}

#[cfg(test)]
mod tests;
