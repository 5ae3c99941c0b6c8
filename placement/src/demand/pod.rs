//! The pod of one template.

use std::collections::BTreeMap;

use super::spec::{Container, Fields, Template, Text};
use super::values::Scope;
use super::{Demand, PodDemand};
use crate::resources::{Resources, parse_quantity};

/// The templates around a pod's own, from which it takes what its own leaves open.
#[derive(Clone, Copy)]
pub(super) struct Around<'a> {
    /// The template of steps or tasks that calls it.
    pub(super) caller: Option<&'a Template>,
    /// The workflow, and the template that it is made from.
    pub(super) workflow: [Option<&'a Fields>; 2],
    pub(super) defaults: Option<&'a Template>,
}

/// What the pod of a template with containers asks for; what cannot be told goes into `demand`.
pub(super) fn pod(template: &Template, name: &str, around: Around, scope: Scope, demand: &mut Demand) -> PodDemand {
    let mut reader = Reader { template: name, scope, demand };
    let requests = reader.requests(template, around.defaults);
    let patches =
        [template.pod_spec_patch.as_ref(), around.defaults.and_then(|defaults| defaults.pod_spec_patch.as_ref())];
    let workflow = || around.workflow.into_iter().flatten();
    if patches.into_iter().flatten().next().is_some() || workflow().any(|spec| spec.pod_spec_patch.is_some()) {
        demand.unknown(format!("template {name:?} has a podSpecPatch, which may change what its pods ask for"));
    }
    let mut around_it = [Some(template), around.defaults, around.caller].into_iter().flatten();
    let affinity = around_it.clone().find_map(|template| template.affinity.as_ref());
    if affinity.or_else(|| workflow().find_map(|spec| spec.affinity.as_ref())).is_some_and(|a| a.demands_nodes()) {
        demand.unknown(format!("template {name:?} has a node affinity, which is not looked at"));
    }
    let selector = around_it.clone().filter_map(|template| template.node_selector.as_ref());
    let selector = selector.chain(workflow().filter_map(|spec| spec.node_selector.as_ref())).find(|s| !s.is_empty());
    let tolerations = around_it.by_ref().filter_map(|template| template.tolerations.as_ref());
    let tolerations =
        tolerations.chain(workflow().filter_map(|spec| spec.tolerations.as_ref())).find(|t| !t.is_empty());
    let node_selector = resolved(selector, scope);
    if node_selector.is_none() {
        demand.unknown(format!("template {name:?} has a nodeSelector that is known only at run time"));
    }
    PodDemand {
        template: name.to_owned(),
        requests,
        node_selector: node_selector.unwrap_or_default(),
        tolerations: tolerations.cloned().unwrap_or_default(),
    }
}

fn resolved(selector: Option<&BTreeMap<String, String>>, scope: Scope) -> Option<BTreeMap<String, String>> {
    let pairs = selector.into_iter().flatten();
    pairs.map(|(key, value)| Some((key.clone(), scope.resolve(value)?))).collect()
}

struct Reader<'a> {
    template: &'a str,
    scope: Scope<'a>,
    demand: &'a mut Demand,
}

impl Reader<'_> {
    /// As Kubernetes counts it: all containers together, or the largest init container, whichever is more.
    fn requests(&mut self, template: &Template, defaults: Option<&Template>) -> Resources {
        let set = template.container_set.iter().flat_map(|set| &set.containers);
        let main = template.container.iter().chain(&template.script).chain(set);
        let default = defaults.and_then(|defaults| defaults.container.as_ref().or(defaults.script.as_ref()));
        let mut requests = Resources::default();
        for container in main {
            let own = if container.resources.is_some() { container } else { default.unwrap_or(container) };
            requests.add(&self.container(own));
        }
        let or_default = |own: &dyn Fn(&Template) -> Vec<Container>| match own(template) {
            none if none.is_empty() => defaults.map(own).unwrap_or_default(),
            some => some,
        };
        for sidecar in or_default(&|template| template.sidecars.clone()) {
            requests.add(&self.container(&sidecar));
        }
        for init in or_default(&|template| template.init_containers.clone()) {
            let asks = self.container(&init);
            if init.restart_policy.as_deref() == Some("Always") { requests.add(&asks) } else { requests.max(&asks) }
        }
        requests.set("pods", 1);
        requests
    }

    /// A limit without a request is one.
    fn container(&mut self, container: &Container) -> Resources {
        let mut asks = Resources::default();
        let Some(resources) = &container.resources else { return asks };
        for (field, quantities) in [("limits", &resources.limits), ("requests", &resources.requests)] {
            for (resource, Text(quantity)) in quantities.iter().flatten() {
                let resolved = self.scope.resolve(quantity);
                match resolved.as_deref().and_then(|text| parse_quantity(resource, text)) {
                    Some(amount) => asks.set(resource, amount),
                    None => {
                        let container =
                            container.name.as_deref().map_or(String::new(), |name| format!(", container {name:?}"));
                        let template = self.template;
                        let why = if resolved.is_none() { "known only at run time" } else { "no quantity" };
                        self.demand.unknown(format!(
                            "template {template:?}{container}: {field}.{resource} is {quantity:?}, which is {why}"
                        ));
                    }
                }
            }
        }
        asks
    }
}
