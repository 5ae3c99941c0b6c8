//! What is seen of a workflow, in words that are the same for each run of the same.

use std::collections::BTreeMap;

use kube::ResourceExt;
use kube::core::DynamicObject;
use serde_json::Value;

/// Phase and message of the workflow and of each of its nodes.
pub fn outcome(workflow: &DynamicObject) -> String {
    let (name, namespace) = (workflow.name_any(), workflow.namespace().unwrap_or_default());
    let status = &workflow.data["status"];
    let mut seen = phase(status, &name, &namespace);
    for (node, phase) in nodes(status, &name, &namespace) {
        seen.push_str(&format!("; {node} {phase}"));
    }
    seen
}

/// The nodes that do or wait for something, by what they are called.
fn nodes(status: &Value, name: &str, namespace: &str) -> BTreeMap<String, String> {
    let works = |node: &&Value| matches!(node["type"].as_str(), Some("Pod" | "Suspend" | "Skipped"));
    let nodes = status["nodes"].as_object().into_iter().flat_map(|nodes| nodes.values()).filter(works);
    let described = nodes.map(|node| {
        let shown = node["displayName"].as_str().unwrap_or_default().replace(name, "workflow");
        (shown, phase(node, name, namespace) + &values(node))
    });
    described.collect()
}

fn phase(of: &Value, name: &str, namespace: &str) -> String {
    let phase = of["phase"].as_str().unwrap_or("without phase");
    match of["message"].as_str().filter(|message| !message.is_empty()) {
        Some(message) => format!("{phase} ({})", unlike(message, name, namespace)),
        None => phase.to_owned(),
    }
}

/// A message without what differs from run to run: names of workflows and of pods, which begin as this workflow's name,
/// the namespace, and who did it.
pub fn unlike(message: &str, name: &str, namespace: &str) -> String {
    let prefix = name.rsplit_once('-').map_or(name, |(prefix, _)| &name[..=prefix.len()]);
    let words = message.trim().split(' ').map(|word| match word {
        word if word.contains(prefix) || word.starts_with("map[") => "…".to_owned(),
        word => word.replace(namespace, "…"),
    });
    words.collect::<Vec<_>>().join(" ")
}

/// The values that a gate was given.
fn values(node: &Value) -> String {
    let parameters = node["outputs"]["parameters"].as_array().into_iter().flatten();
    let values = parameters
        .filter_map(|parameter| Some(format!(" {}={}", parameter["name"].as_str()?, parameter["value"].as_str()?)));
    values.collect()
}
