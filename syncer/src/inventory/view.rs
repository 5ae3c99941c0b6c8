//! Nodes and Pods as the API server tells of them: only the fields that are counted are parsed, and each object is
//! reduced at once to what is kept of it.

use std::collections::BTreeMap;

use argosy_api::names;
use argosy_placement::Resources;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::Resource;
use kube::api::ObjectMeta;
use serde::{Deserialize, Deserializer};

use super::ledger::{Node, Pod, Taint};

type Quantities = BTreeMap<String, Quantity>;

/// Taints of this prefix are conditions that pass: while a node has one it takes no pods.
const CONDITION_TAINTS: &str = "node.kubernetes.io/";

/// An object that is reduced to what is counted.
pub trait Reduce {
    type Kept;

    /// What is kept, with what tells the object from others of its kind.
    fn reduce(self) -> (String, Self::Kept);
}

#[derive(Clone, Debug, Default, Deserialize, Resource)]
#[resource(inherit = "core::Node")]
#[serde(default)]
pub struct NodeView {
    #[serde(deserialize_with = "identity")]
    metadata: ObjectMeta,
    spec: NodeSpec,
    status: NodeStatus,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct NodeSpec {
    unschedulable: bool,
    taints: Option<Vec<core::Taint>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct NodeStatus {
    allocatable: Option<Quantities>,
    conditions: Option<Vec<Condition>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct Condition {
    r#type: String,
    status: String,
}

#[derive(Clone, Debug, Default, Deserialize, Resource)]
#[resource(inherit = "core::Pod")]
#[serde(default)]
pub struct PodView {
    #[serde(deserialize_with = "identity")]
    metadata: ObjectMeta,
    spec: PodSpec,
    status: PodStatus,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PodSpec {
    node_name: Option<String>,
    containers: Vec<Container>,
    init_containers: Option<Vec<Container>>,
    overhead: Option<Quantities>,
    resources: Option<Asked>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Container {
    restart_policy: Option<String>,
    resources: Option<Asked>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Asked {
    requests: Option<Quantities>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct PodStatus {
    phase: Option<String>,
}

impl Reduce for NodeView {
    type Kept = Node;

    fn reduce(self) -> (String, Node) {
        let Self { metadata, spec, status } = self;
        let is_ready = status.conditions.unwrap_or_default().iter().any(|c| c.r#type == "Ready" && c.status == "True");
        let taints = spec.taints.unwrap_or_default();
        let mut taints: Vec<Taint> =
            taints.into_iter().filter(|taint| taint.effect != "PreferNoSchedule").map(Taint::from).collect();
        taints.sort();
        taints.dedup();
        let node = Node {
            takes_pods: is_ready
                && !spec.unschedulable
                && !taints.iter().any(|taint| taint.key.starts_with(CONDITION_TAINTS)),
            labels: metadata.labels.unwrap_or_default(),
            taints,
            allocatable: read(status.allocatable.as_ref()),
        };
        (metadata.name.unwrap_or_default(), node)
    }
}

impl From<core::Taint> for Taint {
    fn from(taint: core::Taint) -> Self {
        Self { key: taint.key, value: taint.value.filter(|value| !value.is_empty()), effect: taint.effect }
    }
}

impl Reduce for PodView {
    type Kept = Pod;

    fn reduce(self) -> (String, Pod) {
        let workflow = self.metadata.labels.as_ref().and_then(|labels| labels.get(names::ARGO_WORKFLOW));
        let pod = Pod {
            finished: matches!(self.status.phase.as_deref(), Some("Succeeded" | "Failed")),
            asks: self.spec.asks(),
            workflow: workflow.map(|name| format!("{}/{name}", self.metadata.namespace.as_deref().unwrap_or_default())),
            node: self.spec.node_name.filter(|name| !name.is_empty()),
        };
        (self.metadata.uid.unwrap_or_default(), pod)
    }
}

impl PodSpec {
    /// What the pod asks a node for, as the scheduler counts it: its containers and sidecars all at once, or what
    /// it takes to start it, whichever is more; and one place among the node's pods.
    fn asks(&self) -> Resources {
        let (mut sidecars, mut starting) = (Resources::default(), Resources::default());
        for container in self.init_containers.iter().flatten() {
            let asks = container.asks();
            if container.restart_policy.as_deref() == Some("Always") {
                sidecars.add(&asks);
            } else {
                // It runs alone, but for the sidecars that were started before it.
                let mut alone = sidecars.clone();
                alone.add(&asks);
                starting.max(&alone);
            }
        }
        let mut asks = sidecars;
        self.containers.iter().for_each(|container| asks.add(&container.asks()));
        asks.max(&starting);
        // What is asked for the pod as a whole counts instead of its containers' sum.
        let whole = read(self.resources.as_ref().and_then(|asked| asked.requests.as_ref()));
        whole.iter().for_each(|(name, amount)| asks.set(name, amount));
        asks.add(&read(self.overhead.as_ref()));
        asks.set("pods", 1);
        asks
    }
}

impl Container {
    fn asks(&self) -> Resources {
        read(self.resources.as_ref().and_then(|asked| asked.requests.as_ref()))
    }
}

fn read(quantities: Option<&Quantities>) -> Resources {
    quantities.map(Resources::from).unwrap_or_default()
}

/// ObjectMeta without what outgrows the rest: managedFields and annotations.
fn identity<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ObjectMeta, D::Error> {
    #[derive(Default, Deserialize)]
    #[serde(rename_all = "camelCase", default)]
    struct Identity {
        name: Option<String>,
        namespace: Option<String>,
        uid: Option<String>,
        resource_version: Option<String>,
        labels: Option<BTreeMap<String, String>>,
    }
    let Identity { name, namespace, uid, resource_version, labels } = Identity::deserialize(deserializer)?;
    Ok(ObjectMeta { name, namespace, uid, resource_version, labels, ..ObjectMeta::default() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use serde_json::{Value, json};

    fn cpu(amount: &str) -> Value {
        json!({"resources": {"requests": {"cpu": amount}}})
    }

    fn sidecar(amount: &str) -> Value {
        json!({"restartPolicy": "Always", "resources": {"requests": {"cpu": amount}}})
    }

    #[rstest]
    #[case::nothing_asked(json!({"containers": [{}]}), 0)]
    #[case::containers_at_once(json!({"containers": [cpu("1"), cpu("500m")]}), 1500)]
    #[case::a_small_start(json!({"containers": [cpu("1")], "initContainers": [cpu("1"), cpu("900m")]}), 1000)]
    #[case::a_big_start(json!({"containers": [cpu("1")], "initContainers": [cpu("3"), cpu("2")]}), 3000)]
    #[case::sidecars_stay(json!({"containers": [cpu("1")], "initContainers": [sidecar("1"), sidecar("1")]}), 3000)]
    #[case::started_beside_a_sidecar(
        json!({"containers": [cpu("1")], "initContainers": [sidecar("1"), cpu("3"), sidecar("1")]}), 4000)]
    #[case::started_before_the_sidecar(
        json!({"containers": [cpu("1")], "initContainers": [cpu("3"), sidecar("1")]}), 3000)]
    #[case::asked_for_the_pod(
        json!({"containers": [cpu("1"), cpu("1")], "resources": {"requests": {"cpu": "5"}}}), 5000)]
    #[case::overhead_comes_on_top(
        json!({"containers": [cpu("1")], "initContainers": [cpu("2")], "overhead": {"cpu": "250m"}}), 2250)]
    fn what_a_pod_asks_for(#[case] spec: Value, #[case] milli: i64) {
        let view: PodView = serde_json::from_value(json!({"metadata": {"uid": "u"}, "spec": spec})).unwrap();
        let (id, pod) = view.reduce();
        assert_eq!((id.as_str(), pod.asks.get("cpu"), pod.asks.get("pods")), ("u", milli, 1));
    }

    #[rstest]
    #[case("Pending", false)]
    #[case("Running", false)]
    #[case("Unknown", false)]
    #[case("Succeeded", true)]
    #[case("Failed", true)]
    fn when_a_pod_is_done(#[case] phase: &str, #[case] finished: bool) {
        let view: PodView = serde_json::from_value(json!({"status": {"phase": phase}})).unwrap();
        assert_eq!(view.reduce().1.finished, finished);
    }

    #[test]
    fn both_kinds_keep_what_a_watch_needs() {
        let metadata =
            json!({"name": "a", "uid": "u", "resourceVersion": "7", "managedFields": [{}], "annotations": {"a": "b"}});
        let pod: PodView = serde_json::from_value(json!({"metadata": metadata})).unwrap();
        assert_eq!((PodView::kind(&()), PodView::plural(&())), ("Pod".into(), "pods".into()));
        assert_eq!(pod.meta().resource_version.as_deref(), Some("7"));
        assert!(pod.meta().managed_fields.is_none() && pod.meta().annotations.is_none());
        assert_eq!((NodeView::kind(&()), NodeView::plural(&())), ("Node".into(), "nodes".into()));
    }
}
