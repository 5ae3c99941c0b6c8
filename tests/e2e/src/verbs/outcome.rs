//! What is seen of a workflow, in words that are the same for each run of the same.

use std::collections::BTreeMap;

use kube::ResourceExt;
use kube::core::DynamicObject;
use serde_json::Value;

/// Phase and message of the workflow and of each of its nodes.
pub fn outcome(workflow: &DynamicObject) -> String {
    let name = workflow.name_any();
    let status = &workflow.data["status"];
    let mut seen = phase(status, &name);
    for (node, phase) in nodes(status, &name) {
        seen.push_str(&format!("; {node} {phase}"));
    }
    seen
}

/// The nodes that do or wait for something, by what they are called.
fn nodes(status: &Value, name: &str) -> BTreeMap<String, String> {
    let works = |node: &&Value| matches!(node["type"].as_str(), Some("Pod" | "Suspend" | "Skipped"));
    let nodes = status["nodes"].as_object().into_iter().flat_map(|nodes| nodes.values()).filter(works);
    let described = nodes.map(|node| {
        let shown = node["displayName"].as_str().unwrap_or_default().replace(name, "workflow");
        (shown, phase(node, name) + &values(node))
    });
    described.collect()
}

fn phase(of: &Value, name: &str) -> String {
    let phase = of["phase"].as_str().unwrap_or("without phase");
    match of["message"].as_str().filter(|message| !message.is_empty()) {
        Some(message) => format!("{phase} ({})", unlike(message, name)),
        None => phase.to_owned(),
    }
}

/// A message without what differs from run to run: names of workflows and of pods, which begin as this workflow's name.
fn unlike(message: &str, name: &str) -> String {
    let prefix = name.rsplit_once('-').map_or(name, |(prefix, _)| &name[..=prefix.len()]);
    let words = message.split(' ').map(|word| if word.contains(prefix) { "…" } else { word });
    words.collect::<Vec<_>>().join(" ")
}

/// The values that a gate was given.
fn values(node: &Value) -> String {
    let parameters = node["outputs"]["parameters"].as_array().into_iter().flatten();
    let values = parameters
        .filter_map(|parameter| Some(format!(" {}={}", parameter["name"].as_str()?, parameter["value"].as_str()?)));
    values.collect()
}
