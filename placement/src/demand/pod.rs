//! The pod of one template, as Argo's controller makes it (workflow/controller/workflowpod.go), and what Kubernetes'
//! scheduler takes it to ask for (k8s.io/component-helpers/resource).
//!
//! What the controller adds for itself (its `init` and `wait` containers) is set up in the cluster and not counted.

use std::collections::{BTreeMap, HashMap};

use k8s_openapi::api::core::v1::Toleration;

use super::lenient::Text;
use super::spec::{Container, Requirements, Template, Tolerated};
use super::workflow::{Context, Frame, Workflow, merged, tolerations};
use super::{PodDemand, Unknown};
use crate::resources::{Resources, parse_quantity};

/// What the name of the one container is in the pod.
const MAIN: &str = "main";

/// The pod of a template with containers, or with something that the controller's own container carries out.
pub(super) fn of_template(workflow: &Workflow, frame: &Frame, unknown: &mut Unknown) -> PodDemand {
    let mut pod = Pod { workflow, frame, unknown };
    pod.warn_of_what_is_not_read();
    PodDemand {
        template: frame.label(),
        requests: pod.requests(),
        node_selector: pod.node_selector(),
        tolerations: pod.tolerations(),
    }
}

/// The pod that carries out all HTTP requests and plugins of a workflow (workflow/controller/agent.go).
pub(super) fn of_agent(workflow: &Workflow) -> PodDemand {
    let known =
        |(key, value): (&str, &str)| Some((key.to_owned(), workflow.resolve(value, Context::default())?.into_owned()));
    PodDemand {
        template: "agent".to_owned(),
        requests: [("cpu", 10), ("memory", 64_000_000), ("pods", 1)].into_iter().collect(),
        node_selector: workflow.node_selector().into_iter().filter_map(known).collect(),
        tolerations: workflow.tolerations().into_iter().map(Toleration::from).collect(),
    }
}

struct Pod<'a, 'f> {
    workflow: &'a Workflow<'a>,
    frame: &'a Frame<'f>,
    unknown: &'a mut Unknown,
}

impl<'a> Pod<'a, '_> {
    fn layers(&self) -> impl Iterator<Item = &'a Template> + Clone + use<'a> {
        self.workflow.layers(self.frame.template)
    }

    /// The template whose steps or tasks led here: what it says goes before what the workflow says.
    fn boundary(&self) -> Option<&'a Template> {
        self.frame.caller.map(|caller| &**caller.template)
    }

    fn warn_of_what_is_not_read(&mut self) {
        let (template, layers) = (self.frame.label(), self.layers());
        let affinity = layers.clone().find_map(|layer| layer.affinity.as_ref());
        let affinity = affinity.or_else(|| self.boundary()?.affinity.as_ref()).or_else(|| self.workflow.affinity());
        if affinity.is_some_and(|affinity| affinity.demands_nodes()) {
            self.unknown.add(|| format!("template {template:?} has a nodeAffinity, which is not looked at"));
        }
        let is_patched = layers.clone().any(|layer| !layer.pod_spec_patch.is_empty());
        if is_patched || self.workflow.text(|spec| &spec.pod_spec_patch).is_some() {
            self.unknown.add(|| format!("template {template:?} has a podSpecPatch, which is not looked at"));
        }
        let has_claims = layers.clone().any(|layer| !layer.resource_claims.is_empty());
        if has_claims || self.workflow.specs().any(|spec| !spec.resource_claims.is_empty()) {
            self.unknown.add(|| format!("template {template:?} has resourceClaims, which are not looked at"));
        }
    }

    /// All containers together, or what an init container needs at its time, whichever is more.
    fn requests(&mut self) -> Resources {
        let mut requests = self.main();
        for sidecar in by_name(self.layers().map(|layer| &layer.sidecars)) {
            requests.add(&self.container(&sidecar));
        }
        // Those that restart stay, beside the containers and the init containers after them.
        let (mut lasting, mut most) = (Resources::default(), Resources::default());
        for init in by_name(self.layers().map(|layer| &layer.init_containers)) {
            let mut asks = self.container(&init);
            asks.add(&lasting);
            most.max(&asks);
            if init.iter().any(|container| container.restart_policy == "Always") {
                asks.sub(&lasting);
                requests.add(&asks);
                lasting.add(&asks);
            }
        }
        requests.max(&most);
        self.of_whole_pod(&mut requests);
        requests.set("pods", 1);
        requests
    }

    fn main(&mut self) -> Resources {
        let template = self.frame.template;
        let same_kind: Vec<&Container> = if template.container.is_some() {
            self.layers().filter_map(|layer| layer.container.as_ref()).collect()
        } else if let Some(set) = &template.container_set {
            let mut sum = Resources::default();
            set.containers.iter().for_each(|container| sum.add(&self.container(&[container])));
            return sum;
        } else if template.script.is_some() {
            self.layers().filter_map(|layer| layer.script.as_ref()).collect()
        } else {
            return Resources::default();
        };
        self.container(&same_kind)
    }

    /// A container, and those that say what it leaves open.
    fn container(&mut self, layers: &[&Container]) -> Resources {
        let name = layers.iter().map(|container| container.name.as_str()).find(|name| !name.is_empty());
        let name = name.unwrap_or(MAIN);
        let mut limits = self.amounts(layers, name, "limits", |resources| &resources.limits);
        for (resource, amount) in self.amounts(layers, name, "requests", |resources| &resources.requests) {
            limits.insert(resource, amount);
        }
        limits.into_iter().filter_map(|(resource, amount)| Some((resource, amount?))).collect()
    }

    /// Resources for the pod as a whole go before the sum of its containers; a limit only where these ask for none.
    fn of_whole_pod(&mut self, requests: &mut Resources) {
        let resources = self.layers().find_map(|layer| layer.pod_resources.as_ref());
        let Some(resources) = resources.or_else(|| self.workflow.pod_resources()) else { return };
        for (what, amounts) in [("limits", &resources.limits), ("requests", &resources.requests)] {
            for (resource, text) in amounts {
                let amount = self.amount(&format!("podResources.{what}.{resource}"), resource, text);
                if let Some(amount) = amount.filter(|_| what == "requests" || requests.get(resource) == 0) {
                    requests.set(resource, amount);
                }
            }
        }
    }

    fn amounts<'c>(
        &mut self,
        layers: &[&'c Container],
        container: &str,
        what: &str,
        of: fn(&Requirements) -> &BTreeMap<String, Text>,
    ) -> BTreeMap<&'c str, Option<i64>> {
        let mut amounts = BTreeMap::new();
        for (resource, text) in layers.iter().flat_map(|container| of(&container.resources)) {
            if !amounts.contains_key(resource.as_str()) {
                let path = format_args!("container {container:?}: {what}.{resource}");
                amounts.insert(resource.as_str(), self.amount(&path, resource, text));
            }
        }
        amounts
    }

    fn amount(&mut self, path: &dyn std::fmt::Display, resource: &str, text: &Text) -> Option<i64> {
        let Text(text) = text;
        self.workflow.spend(1);
        let resolved = self.workflow.resolve(text, Context::within(self.frame));
        let amount = resolved.as_deref().and_then(|text| parse_quantity(resource, text));
        if amount.is_none() {
            let why = if resolved.is_none() { "known only at run time" } else { "no quantity" };
            let label = self.frame.label();
            self.unknown.add(|| format!("template {label:?}, {path} is {:?}, which is {why}", clipped(text)));
        }
        amount
    }

    fn node_selector(&mut self) -> BTreeMap<String, String> {
        let mut selector = merged(self.layers().map(|layer| &layer.node_selector));
        if selector.is_empty() {
            selector = merged(self.boundary().into_iter().map(|boundary| &boundary.node_selector));
        }
        if selector.is_empty() {
            selector = self.workflow.node_selector();
        }
        self.workflow.spend(selector.len());
        let known = selector.into_iter().filter_map(|(key, value)| {
            let resolved = self.known(&format_args!("nodeSelector {key}"), value)?;
            Some((key.to_owned(), resolved))
        });
        known.collect()
    }

    fn tolerations(&mut self) -> Vec<Toleration> {
        let mut found: Vec<&Tolerated> = tolerations(self.layers().map(|layer| &layer.tolerations));
        if found.is_empty() {
            found = self.boundary().into_iter().flat_map(|boundary| &boundary.tolerations).collect();
        }
        if found.is_empty() {
            found = self.workflow.tolerations();
        }
        self.workflow.spend(found.len());
        let known = found.into_iter().map(|toleration| {
            let mut toleration = Toleration::from(toleration);
            if let Some(value) = &toleration.value {
                toleration.value = self.known(&"value of a toleration", value);
            }
            toleration
        });
        known.collect()
    }

    fn known(&mut self, what: &dyn std::fmt::Display, text: &str) -> Option<String> {
        let resolved = self.workflow.resolve(text, Context::within(self.frame));
        if resolved.is_none() {
            let label = self.frame.label();
            self.unknown
                .add(|| format!("template {label:?}: {what} is {:?}, which is known only at run time", clipped(text)));
        }
        resolved.map(std::borrow::Cow::into_owned)
    }
}

/// Containers of the same name in several layers are one.
fn by_name<'c>(layers: impl Iterator<Item = &'c Vec<Container>>) -> Vec<Vec<&'c Container>> {
    let mut all: Vec<Vec<&Container>> = Vec::new();
    // Where the first of each name is, in the layers above.
    let mut known: HashMap<&str, usize> = HashMap::new();
    for layer in layers {
        let above = all.len();
        for container in layer {
            match known.get(container.name.as_str()) {
                Some(at) => all[*at].push(container),
                None => all.push(vec![container]),
            }
        }
        for (at, containers) in all.iter().enumerate().skip(above) {
            known.entry(&containers[0].name).or_insert(at);
        }
    }
    all
}

/// A text from a spec, short enough for a sentence.
pub(super) fn clipped(text: &str) -> String {
    const SHOWN: usize = 60;
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
