//! The guard by example: an original, what a command makes of it, and the answer.

mod cases;
mod cli;
mod properties;

use argosy_api::packed::pack;
use argosy_api::{Intents, names};
use serde_json::{Value, json};

use super::*;

/// An object after a JSON Patch.
fn edit(mut object: Value, patch: &Value) -> Value {
    let patch: Patch = serde_json::from_value(patch.clone()).unwrap();
    json_patch::patch(&mut object, &patch).unwrap();
    object
}

fn ask(old: &Value, new: &Value) -> Answer {
    let (old, new) = (old.to_string(), new.to_string());
    answer("team/wf", &serde_json::from_str(&old).unwrap(), &serde_json::from_str(&new).unwrap())
}

/// The object that the API server goes on with, and the intent that was added.
fn guarded(old: &Value, new: &Value) -> (Value, Option<Intent>) {
    match ask(old, new) {
        Answer::Leave => (new.clone(), None),
        Answer::Change { patch, intent } => (edit(new.clone(), &serde_json::to_value(&patch).unwrap()), intent),
        Answer::Refuse { message, .. } => panic!("refused: {message}"),
    }
}

fn intents(object: &Value) -> Intents {
    let list = object["metadata"]["annotations"][names::INTENTS].as_str();
    list.map(|list| serde_json::from_str(list).unwrap()).unwrap_or_default()
}

/// What differs between two objects, one `path: old -> new` a line; nulls count as absent.
fn difference(old: &Value, new: &Value) -> Vec<String> {
    let mut lines = Vec::new();
    compare("", old, new, &mut lines);
    lines
}

fn compare(path: &str, old: &Value, new: &Value, lines: &mut Vec<String>) {
    match (old, new) {
        (Value::Object(a), Value::Object(b)) => {
            for name in equal::names(a, b) {
                compare(&format!("{path}/{name}"), equal::field(a, name), equal::field(b, name), lines);
            }
        }
        _ if old == new => {}
        (_, Value::Null) => lines.push(format!("{path} is gone")),
        _ => lines.push(format!("{path}: {new}")),
    }
}

/// An original whose nodes are packed, as Argo packs them.
fn packed(mut workflow: Value) -> Value {
    if let Some(nodes) = cli::fields(&mut workflow["status"]).remove("nodes") {
        workflow["status"]["compressedNodes"] = json!(pack(&nodes.to_string()));
    }
    workflow
}
