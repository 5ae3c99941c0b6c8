//! Whether every pod of a workflow has a node that could take it.
//!
//! The rules are those of Kubernetes' scheduler (NodeResourcesFit, TaintToleration, node selectors), over figures that
//! are some seconds old and leave out what tells single nodes apart.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Taint, Toleration};

use crate::capacity::{Capacity, Group};
use crate::demand::{Demand, PodDemand};
use crate::resources::{print_quantity as quantity, rough_quantity};

/// Whether each pod of the workflow fits on some node.
///
/// # Errors
/// What is missing for one that does not, in a sentence.
pub fn fits(demand: &Demand, capacity: &Capacity) -> Result<(), String> {
    demand.pods.iter().try_for_each(|pod| pod_fits(pod, capacity))
}

fn pod_fits(pod: &PodDemand, capacity: &Capacity) -> Result<(), String> {
    let template = &pod.template;
    let selected: Vec<&Group> = capacity.groups.iter().filter(|group| is_selected(pod, group, capacity)).collect();
    if selected.is_empty() {
        return Err(if pod.node_selector.is_empty() {
            "it has no node that takes pods".to_owned()
        } else {
            format!("no node has the labels {} that template {template:?} asks for", listed(&pod.node_selector))
        });
    }
    let tolerated: Vec<&Group> =
        selected.into_iter().filter(|group| group.taints.iter().all(|taint| tolerates(pod, taint))).collect();
    if tolerated.is_empty() {
        return Err(format!(
            "every node that template {template:?} could run on has a taint that it does not tolerate"
        ));
    }
    let free = || tolerated.iter().flat_map(|group| &group.free);
    if free().any(|free| pod.requests.fits_in(free)) {
        return Ok(());
    }
    let most = |name: &str| free().map(|free| free.get(name)).max().unwrap_or_default();
    let missing = pod.requests.iter().find(|(name, asks)| *asks > most(name));
    Err(match missing {
        Some(("pods", _)) => format!("no node has room for another pod, as template {template:?} needs"),
        Some((name, asks)) => format!(
            "no node has {} {name} free for template {template:?} (most: {})",
            quantity(name, asks),
            rough_quantity(name, most(name).max(0))
        ),
        None => {
            let asks = pod.requests.iter().filter(|(name, asks)| *asks > 0 && *name != "pods");
            let asks: Vec<String> = asks.map(|(name, asks)| format!("{} {name}", quantity(name, asks))).collect();
            format!("no node has {} free at once for template {template:?}", asks.join(" and "))
        }
    })
}

/// Labels that the figures leave out may be there.
fn is_selected(pod: &PodDemand, group: &Group, capacity: &Capacity) -> bool {
    pod.node_selector
        .iter()
        .all(|(key, value)| group.labels.get(key) == Some(value) || capacity.omitted_labels.contains(key))
}

/// As k8s.io/component-helpers/scheduling/corev1 has it.
fn tolerates(pod: &PodDemand, taint: &Taint) -> bool {
    let keeps_away = ["NoSchedule", "NoExecute"].contains(&taint.effect.as_str());
    !keeps_away || pod.tolerations.iter().any(|toleration| tolerates_with(toleration, taint))
}

fn tolerates_with(toleration: &Toleration, taint: &Taint) -> bool {
    // This is asked for each pod, node group and cluster: no text is copied.
    fn text(part: &Option<String>) -> &str {
        part.as_deref().unwrap_or_default()
    }
    let (key, effect) = (text(&toleration.key), text(&toleration.effect));
    let is_meant = (effect.is_empty() || effect == taint.effect) && (key.is_empty() || key == taint.key);
    is_meant
        && match text(&toleration.operator) {
            "Exists" => true,
            "" | "Equal" => !key.is_empty() && text(&toleration.value) == text(&taint.value),
            _ => false,
        }
}

fn listed(labels: &BTreeMap<String, String>) -> String {
    labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::parse_quantity;
    use rstest::rstest;
    use serde_json::{Value, json};

    /// A plain node, a larger one with GPUs behind a taint, and one of a zone.
    fn capacity() -> Capacity {
        let capacity = json!({
            "time": "2026-01-01T00:00:00Z", "allocatable": {}, "requested": {},
            "omittedLabels": ["kubernetes.io/hostname"],
            "nodes": [
                {"count": 2, "free": [{"cpu": "2", "memory": "1Gi", "pods": "5"}, {"cpu": "500m", "memory": "8Gi", "pods": "5"}]},
                {
                    "count": 1, "labels": {"gpu": "a100"},
                    "taints": [{"key": "dedicated", "value": "ml", "effect": "NoSchedule"}, {"key": "soft", "effect": "PreferNoSchedule"}],
                    "free": [{"cpu": "16", "memory": "64Gi", "pods": "5", "nvidia.com/gpu": "1"}],
                },
                {"count": 1, "labels": {"zone": "a"}, "free": [{"cpu": "1", "memory": "1Gi", "pods": "0"}]},
            ],
        });
        let capacity: argosy_api::Capacity = serde_json::from_value(capacity).unwrap();
        Capacity::from(&capacity)
    }

    fn pod(requests: Value, selector: Value, tolerations: Value) -> PodDemand {
        let mut pod = PodDemand {
            template: "t".to_owned(),
            node_selector: serde_json::from_value(selector).unwrap(),
            tolerations: serde_json::from_value(tolerations).unwrap(),
            ..PodDemand::default()
        };
        pod.requests.set("pods", 1);
        for (name, quantity) in requests.as_object().unwrap() {
            pod.requests.set(name, parse_quantity(name, quantity.as_str().unwrap()).unwrap());
        }
        pod
    }

    const ML: &str = r#"[{"key": "dedicated", "operator": "Equal", "value": "ml", "effect": "NoSchedule"}]"#;

    #[rstest]
    #[case::small(json!({"cpu": "1"}), json!({}), "[]", "")]
    #[case::much_memory(json!({"cpu": "500m", "memory": "8Gi"}), json!({}), "[]", "")]
    #[case::both_at_once(json!({"cpu": "1", "memory": "2Gi"}), json!({}), "[]", "no node has 1 cpu and 2Gi memory free at once for template \"t\"")]
    #[case::too_large(json!({"cpu": "4"}), json!({}), "[]", "no node has 4 cpu free for template \"t\" (most: 2)")]
    #[case::large_behind_a_taint(json!({"cpu": "4"}), json!({}), ML, "")]
    #[case::labels(json!({"nvidia.com/gpu": "1"}), json!({"gpu": "a100"}), ML, "")]
    #[case::tainted(json!({}), json!({"gpu": "a100"}), "[]", "every node that template \"t\" could run on has a taint that it does not tolerate")]
    #[case::other_value(json!({}), json!({"gpu": "a100"}), r#"[{"key": "dedicated", "value": "db"}]"#, "every node that template \"t\" could run on has a taint that it does not tolerate")]
    #[case::other_effect(json!({}), json!({"gpu": "a100"}), r#"[{"key": "dedicated", "operator": "Exists", "effect": "NoExecute"}]"#, "every node that template \"t\" could run on has a taint that it does not tolerate")]
    #[case::any_effect(json!({}), json!({"gpu": "a100"}), r#"[{"key": "dedicated", "operator": "Exists"}]"#, "")]
    #[case::everything_tolerated(json!({}), json!({"gpu": "a100"}), r#"[{"operator": "Exists"}]"#, "")]
    #[case::no_such_labels(json!({}), json!({"gpu": "h100", "zone": "a"}), "[]", "no node has the labels gpu=h100,zone=a that template \"t\" asks for")]
    #[case::no_pod_more(json!({}), json!({"zone": "a"}), "[]", "no node has room for another pod, as template \"t\" needs")]
    #[case::unknown_labels_may_be_there(json!({"cpu": "2"}), json!({"kubernetes.io/hostname": "n1"}), "[]", "")]
    #[case::no_such_device(json!({"amd.com/gpu": "1"}), json!({}), ML, "no node has 1 amd.com/gpu free for template \"t\" (most: 0)")]
    fn a_pod_needs_a_node(
        #[case] requests: Value,
        #[case] selector: Value,
        #[case] tolerations: &str,
        #[case] why: &str,
    ) {
        let tolerations = serde_json::from_str(tolerations).unwrap();
        let demand = Demand { pods: vec![pod(requests, selector, tolerations)], ..Demand::default() };
        assert_eq!(fits(&demand, &capacity()).err().unwrap_or_default(), why);
    }

    #[test]
    fn a_cluster_without_nodes_takes_only_workflows_without_pods() {
        let demand = Demand { pods: vec![pod(json!({}), json!({}), json!([]))], ..Demand::default() };
        assert_eq!(fits(&demand, &Capacity::default()), Err("it has no node that takes pods".to_owned()));
        assert_eq!(fits(&Demand::default(), &Capacity::default()), Ok(()));
    }
}
