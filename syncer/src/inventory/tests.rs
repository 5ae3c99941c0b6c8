//! The books and what is told of them, from event to status.

use std::collections::BTreeMap;

use argosy_api::Capacity;
use argosy_placement::Resources;
use argosy_runtime::known::Awaited;
use k8s_openapi::jiff::Timestamp;
use kube::api::Patch;
use kube::runtime::watcher::Event;
use proptest::prelude::*;
use rstest::rstest;
use serde_json::{Value, json};

use super::census::capacity;
use super::figures::{Count, Figures};
use super::ledger::{Ledger, Node, Pod};
use super::view::{NodeView, PodView, Reduce};
use super::{Access, refused};

/// An object that is reduced already.
#[derive(Clone)]
struct Reduced<T>(String, T);

impl<T> Reduce for Reduced<T> {
    type Kept = T;

    fn reduce(self) -> (String, T) {
        (self.0, self.1)
    }
}

fn resources(cpu: i64, memory: i64) -> Resources {
    [("cpu", cpu), ("memory", memory), ("pods", 1)].into_iter().collect()
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// A list as a watch delivers it.
fn list<T: Clone>(items: &BTreeMap<String, T>) -> Vec<Event<Reduced<T>>> {
    let items = items.iter().map(|(id, item)| Event::InitApply(Reduced(id.clone(), item.clone())));
    [Event::Init].into_iter().chain(items).chain([Event::InitDone]).collect()
}

/// Something that happens in a cluster.
#[derive(Clone, Debug)]
enum Happens {
    Node(u8, Option<Node>),
    Pod(u8, Option<Pod>),
    /// The watch broke; these came and went meanwhile.
    Missed(Vec<(u8, Option<Node>)>, Vec<(u8, Option<Pod>)>),
}

fn amount() -> impl Strategy<Value = i64> {
    prop_oneof![4 => 0..4i64, 1 => Just(i64::MAX), 1 => Just(i64::MAX - 1)]
}

fn node() -> impl Strategy<Value = Option<Node>> {
    let node = (any::<bool>(), amount(), amount(), 0..3u8).prop_map(|(takes_pods, cpu, memory, zone)| Node {
        takes_pods,
        labels: [("zone".to_owned(), zone.to_string())].into(),
        taints: Vec::new(),
        allocatable: resources(cpu, memory),
    });
    proptest::option::weighted(0.8, node)
}

fn pod() -> impl Strategy<Value = Option<Pod>> {
    let pod = (proptest::bool::weighted(0.1), proptest::option::of(0..4u8), amount(), amount());
    let pod = pod.prop_map(|(finished, node, cpu, memory)| Pod {
        finished,
        node: node.map(|node| format!("n{node}")),
        asks: resources(cpu, memory),
        workflow: None,
    });
    proptest::option::weighted(0.7, pod)
}

fn happens() -> impl Strategy<Value = Happens> {
    let missed = (proptest::collection::vec((0..4u8, node()), 0..3), proptest::collection::vec((0..8u8, pod()), 0..5));
    prop_oneof![
        1 => (0..4u8, node()).prop_map(|(name, node)| Happens::Node(name, node)),
        4 => (0..8u8, pod()).prop_map(|(id, pod)| Happens::Pod(id, pod)),
        1 => missed.prop_map(|(nodes, pods)| Happens::Missed(nodes, pods)),
    ]
}

/// What is really there.
#[derive(Default)]
struct World {
    nodes: BTreeMap<String, Node>,
    pods: BTreeMap<String, Pod>,
}

/// Returns the event that a watch would deliver.
fn put<T: Clone + Default>(items: &mut BTreeMap<String, T>, id: String, item: Option<T>) -> Event<Reduced<T>> {
    match item {
        Some(item) => {
            items.insert(id.clone(), item.clone());
            Event::Apply(Reduced(id, item))
        }
        None => Event::Delete(Reduced(id.clone(), items.remove(&id).unwrap_or_default())),
    }
}

impl World {
    fn ledger(&self) -> Ledger {
        let mut ledger = Ledger::default();
        self.relist(&mut ledger);
        ledger
    }

    fn relist(&self, ledger: &mut Ledger) {
        list(&self.nodes).into_iter().for_each(|event| ledger.node_event(event));
        list(&self.pods).into_iter().for_each(|event| ledger.pod_event(event));
    }

    /// What is asked for of one resource, the simple way.
    fn requested(&self, name: &str) -> i128 {
        let counts = |pod: &&Pod| {
            let node = pod.node.as_ref().map(|node| self.nodes.get(node).is_some_and(|node| node.takes_pods));
            !pod.finished && node.unwrap_or(true)
        };
        self.pods.values().filter(counts).map(|pod| i128::from(pod.asks.get(name))).sum()
    }
}

proptest! {
    #[test]
    fn the_books_are_what_counting_anew_would_say(story in proptest::collection::vec(happens(), 0..60)) {
        let mut world = World::default();
        let mut ledger = world.ledger();
        for happens in story {
            let before = (ledger.version(), capacity(&ledger, &Awaited::default(), at(0)));
            match happens {
                Happens::Node(name, node) => ledger.node_event(put(&mut world.nodes, format!("n{name}"), node)),
                Happens::Pod(id, pod) => ledger.pod_event(put(&mut world.pods, id.to_string(), pod)),
                Happens::Missed(nodes, pods) => {
                    nodes.into_iter().for_each(|(name, node)| drop(put(&mut world.nodes, format!("n{name}"), node)));
                    pods.into_iter().for_each(|(id, pod)| drop(put(&mut world.pods, id.to_string(), pod)));
                    world.relist(&mut ledger);
                }
            }
            let counted = capacity(&ledger, &Awaited::default(), at(0));
            prop_assert_eq!(&counted, &capacity(&world.ledger(), &Awaited::default(), at(0)));
            prop_assert!(ledger.version() != before.0 || counted == before.1, "a change that the version hides");
            let asked = Resources::from(&counted.requested);
            for name in ["cpu", "memory", "pods"] {
                let expected = i64::try_from(world.requested(name)).unwrap_or(i64::MAX);
                prop_assert_eq!(asked.get(name), expected);
            }
        }
    }
}

fn view<T: serde::de::DeserializeOwned>(object: Value) -> T {
    serde_json::from_value(object).unwrap()
}

/// The status of a cluster with these objects.
fn counted(nodes: Vec<Value>, pods: Vec<Value>) -> Capacity {
    let mut ledger = Ledger::default();
    ledger.node_event(Event::<NodeView>::Init);
    nodes.into_iter().for_each(|node| ledger.node_event(Event::InitApply(view::<NodeView>(node))));
    ledger.node_event(Event::<NodeView>::InitDone);
    pods.into_iter().for_each(|pod| ledger.pod_event(Event::Apply(view::<PodView>(pod))));
    capacity(&ledger, &Awaited::default(), at(0))
}

fn a_node(name: &str, more: Value) -> Value {
    let mut node = json!({
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, "zone": "a"}, "managedFields": [{}]},
        "spec": {"podCIDR": "10.0.0.0/24"},
        "status": {
            "allocatable": {"cpu": "4", "memory": "8Gi", "pods": "110", "hugepages-2Mi": "0"},
            "conditions": [{"type": "MemoryPressure", "status": "False"}, {"type": "Ready", "status": "True"}],
            "images": [{"names": ["x"]}],
        },
    });
    json_patch::merge(&mut node, &more);
    node
}

fn a_pod(uid: &str, node: &str, cpu: &str) -> Value {
    let containers = json!([{"name": "main", "image": "i", "resources": {"requests": {"cpu": cpu, "memory": "1Gi"}}}]);
    json!({
        "metadata": {"name": uid, "namespace": "d", "uid": uid},
        "spec": {"nodeName": node, "containers": containers},
        "status": {"phase": "Running"},
    })
}

#[test]
fn a_cluster_as_placement_reads_it() {
    let gpu = json!({
        "metadata": {"labels": {"zone": "b"}},
        "spec": {"taints": [
            {"key": "gpu", "value": "yes", "effect": "NoSchedule", "timeAdded": "2026-01-01T00:00:00Z"},
            {"key": "old", "effect": "PreferNoSchedule"},
        ]},
        "status": {"allocatable": {"nvidia.com/gpu": "2"}},
    });
    let nodes = vec![a_node("n1", json!({})), a_node("n2", json!({})), a_node("n3", gpu)];
    let finished = json!({"status": {"phase": "Succeeded"}});
    let mut done = a_pod("p4", "n3", "4");
    json_patch::merge(&mut done, &finished);
    let pods = vec![a_pod("p1", "n1", "1500m"), a_pod("p2", "n1", "1"), a_pod("p3", "", "100m"), done];
    assert_eq!(
        serde_json::to_value(counted(nodes, pods)).unwrap(),
        json!({
            "time": "1970-01-01T00:00:00Z",
            "allocatable": {"cpu": "12", "memory": "24Gi", "nvidia.com/gpu": "2", "pods": "330"},
            "requested": {"cpu": "2600m", "memory": "3Gi", "pods": "3"},
            "nodes": [
                {"count": 2, "labels": {"zone": "a"}, "free": [{"cpu": "4", "memory": "8Gi", "pods": "110"}]},
                {
                    "count": 1, "labels": {"zone": "b"},
                    "taints": [{"key": "gpu", "value": "yes", "effect": "NoSchedule"}],
                    "free": [{"cpu": "4", "memory": "8Gi", "nvidia.com/gpu": "2", "pods": "110"}],
                },
            ],
            "omittedLabels": ["kubernetes.io/hostname"],
        })
    );
}

#[rstest]
#[case::cordoned(json!({"spec": {"unschedulable": true}}))]
#[case::not_ready(json!({"status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}}))]
#[case::silent(json!({"status": {"conditions": null}}))]
#[case::short_of_memory(json!({"spec": {"taints": [{"key": "node.kubernetes.io/memory-pressure", "effect": "NoSchedule"}]}}))]
fn a_node_that_takes_no_pods_counts_for_nothing(#[case] more: Value) {
    let counted = counted(vec![a_node("n1", json!({})), a_node("n2", more)], vec![a_pod("p", "n2", "1")]);
    let told = serde_json::to_value(&counted).unwrap();
    assert_eq!(told["allocatable"], json!({"cpu": "4", "memory": "8Gi", "pods": "110"}));
    assert_eq!((&told["requested"], counted.nodes.len()), (&json!({}), 1));
}

#[test]
fn a_node_with_more_on_it_than_it_has_has_nothing_free() {
    let counted = counted(vec![a_node("n1", json!({}))], vec![a_pod("p", "n1", "5")]);
    assert_eq!(json!(counted.nodes[0].free), json!([{"memory": "7Gi", "pods": "109"}]));
}

/// What runs for good (a DaemonSet's pods, other people's) is there whatever becomes of the workflows.
#[test]
fn what_would_be_free_without_workflows_is_told_where_that_is_more() {
    let mut of_workflow = a_pod("w", "n1", "3");
    json_patch::merge(&mut of_workflow, &json!({"metadata": {"labels": {"workflows.argoproj.io/workflow": "w"}}}));
    let counted = counted(vec![a_node("n1", json!({}))], vec![of_workflow, a_pod("p", "n1", "500m")]);
    assert_eq!(json!(counted.nodes[0].free), json!([{"cpu": "500m", "memory": "6Gi", "pods": "108"}]));
    assert_eq!(json!(counted.nodes[0].idle), json!([{"cpu": "3500m", "memory": "7Gi", "pods": "109"}]));
}

#[test]
fn an_empty_cluster_is_known_to_be_empty() {
    let empty = json!({
        "time": "1970-01-01T00:00:00Z", "allocatable": {}, "requested": {}, "omittedLabels": ["kubernetes.io/hostname"],
    });
    assert_eq!(serde_json::to_value(counted(vec![], vec![])).unwrap(), empty);
}

fn figures(capacity: Count, active_workflows: Option<u32>) -> Figures {
    Figures { capacity, active_workflows }
}

#[rstest]
#[case::nothing_yet(Count::UnderWay, None, None)]
#[case::workflows_first(Count::UnderWay, Some(3), Some(json!({"status": {"activeWorkflows": 3}})))]
#[case::denied(Count::Impossible, Some(3), Some(json!({"status": {"capacity": null, "activeWorkflows": 3}})))]
#[case::counted(
    Count::Done(counted(vec![], vec![])),
    Some(3),
    Some(json!([
        {"op": "add", "path": "/status/capacity", "value": counted(vec![], vec![])},
        {"op": "add", "path": "/status/activeWorkflows", "value": 3},
    ])),
)]
fn writes(#[case] capacity: Count, #[case] active: Option<u32>, #[case] expected: Option<Value>) {
    let patch = figures(capacity, active).patch();
    let body = |patch| match patch {
        Patch::Merge(body) => body,
        Patch::Json(patch) => serde_json::to_value(patch).unwrap(),
        other => panic!("{other:?}"),
    };
    assert_eq!(patch.map(body), expected);
}

#[test]
fn time_alone_is_no_news() {
    let count = |second, nodes: u8| {
        let nodes = (0..nodes).map(|n| a_node(&n.to_string(), json!({}))).collect();
        Count::Done(Capacity {
            time: k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at(second)),
            ..counted(nodes, vec![])
        })
    };
    let before = figures(count(1, 1), Some(1));
    assert!(!figures(count(2, 1), Some(1)).is_news_after(&before));
    assert!(figures(count(1, 2), Some(1)).is_news_after(&before));
    assert!(figures(count(1, 1), Some(2)).is_news_after(&before));
    assert!(figures(Count::Impossible, Some(1)).is_news_after(&before));
}

#[test]
fn what_is_pending_is_news_and_up_to_where_it_is_known_alone_is_none() {
    let count = |cpu: i64, seen| {
        let pending = [("cpu", cpu)].into_iter().filter(|(_, cpu)| *cpu > 0).collect();
        figures(Count::Done(capacity(&World::default().ledger(), &Awaited { pending, seen }, at(0))), Some(1))
    };
    assert!(count(100, 1).is_news_after(&count(0, 1)));
    assert!(!count(100, 2).is_news_after(&count(100, 1)));
    assert!(!count(0, 2).is_news_after(&count(0, 1)));
}

#[rstest]
#[case::older_member_chart(Some(403), "Forbidden")]
#[case::broken(Some(500), "Unreadable")]
#[case::cut_off(None, "Unreadable")]
fn what_a_failed_look_means(#[case] status: Option<u16>, #[case] reason: &str) {
    let access = refused(status, "nodes is forbidden");
    let (Access::Denied(trouble) | Access::Failing(trouble)) = &access else { panic!("{access:?}") };
    assert_eq!((trouble.reason, matches!(access, Access::Denied(_))), (reason, status == Some(403)));
    assert!(trouble.message.contains("nodes is forbidden"));
    assert_eq!(trouble.message.contains("helm upgrade"), status == Some(403));
}
