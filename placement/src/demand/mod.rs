//! What a workflow asks for: the pods that it will have, as far as its spec says.
//!
//! Read from the templates that its entrypoint leads to, as Argo's controller makes pods of them (workflow/controller/
//! workflowpod.go). What only a run can tell counts as unknown, and is said so.

mod graph;
mod lenient;
mod load;
mod loops;
mod pod;
mod spec;
mod walk;
mod workflow;

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Toleration;

use crate::resources::Resources;

pub use spec::Spec;

/// How many sentences about what is unknown are kept.
const UNKNOWN: usize = 8;

/// Up to so many pods all that differ are kept, then only those that are not smaller than others in everything.
const EXACT: usize = 64;
/// Pods beyond these are not kept: each has to be compared with the nodes of each cluster.
const PODS: usize = 256;

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
    walk::walk(namespace, spec, templates)
}

impl Demand {
    /// Keeps a pod, if none is like it. `false`: there is no room for it.
    fn keep(&mut self, pod: PodDemand) -> bool {
        let where_else =
            |other: &PodDemand| other.node_selector == pod.node_selector && other.tolerations == pod.tolerations;
        if self.pods.len() < EXACT {
            if !self.pods.iter().any(|other| other.requests == pod.requests && where_else(other)) {
                self.pods.push(pod);
            }
            return true;
        }
        // Where the larger one of two fits, the smaller one does.
        if self.pods.iter().any(|other| pod.requests.fits_in(&other.requests) && where_else(other)) {
            return true;
        }
        self.pods.retain(|other| !(other.requests.fits_in(&pod.requests) && where_else(other)));
        let has_room = self.pods.len() < PODS;
        if has_room {
            self.pods.push(pod);
        }
        has_room
    }
}

/// Sentences about what is unknown: the first few, each once.
#[derive(Debug, Default)]
struct Unknown(Vec<String>);

impl Unknown {
    fn add(&mut self, sentence: impl FnOnce() -> String) {
        if self.0.len() < UNKNOWN {
            let sentence = sentence();
            if !self.0.contains(&sentence) {
                self.0.push(sentence);
            }
        }
    }

    /// Fields of `what` that have a wrong type.
    fn wrong(&mut self, what: &str, paths: &[String]) {
        for path in paths {
            self.add(|| match path.as_str() {
                "" => format!("{what} has a wrong type"),
                path => format!("{what}: {} has a wrong type and counts as absent", pod::clipped(path)),
            });
        }
    }
}

#[cfg(test)]
mod tests;
