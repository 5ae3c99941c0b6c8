//! What an intent means for a copy: the operations that make it so. Pure.
//!
//! An intent is its author's word, and what it may change is what Argo's own commands change; the rest of it is left out.

use std::collections::BTreeSet;

use argosy_api::packed::{pack, unpack};
use argosy_api::workflow::STORED_SPEC;
use argosy_api::{Intent, Retry, Wish, names};
use argosy_runtime::patch::{add, remove};
use json_patch::PatchOperation;
use serde_json::{Map, Value, json};

use crate::readable::{OFFLOADED, is_offloaded};
use crate::size::NOT_SHOWN;

/// Fields of an active Suspend node that `argo resume`, `stop --node-field-selector` and `node set` write.
const OF_A_NODE: [&str; 5] = ["phase", "message", "finishedAt", "outputs", "inputs"];
/// Fields of a node that `argo retry` writes where it resets one.
const OF_A_RESET_NODE: [&str; 7] =
    ["phase", "message", "startedAt", "finishedAt", "outputs", "children", "memoizationStatus"];
/// Fields of a status that it writes, but for the nodes.
const OF_A_RETRIED: [&str; 7] =
    ["phase", "message", "startedAt", "finishedAt", "conditions", "persistentVolumeClaims", "outputs"];
/// Fields of a spec that it writes, wherever that stands.
const OF_ITS_SPEC: [&str; 2] = ["arguments", "activeDeadlineSeconds"];
/// The most bytes of nodes from a database that are written plainly; with its spec that is a workflow which Argo does not
/// pack, either.
const MOST_PLAIN: usize = 768 << 10;
/// The operations that carry an intent out on a copy, its number included, so that both are one write; and what could not
/// be carried out, in words.
pub fn operations(copy: &Value, intent: &Intent) -> (Vec<PatchOperation>, Option<String>) {
    let unpacked = unpacked(copy);
    let shown = unpacked.as_ref().unwrap_or(copy);
    let (mut operations, trouble) = match &intent.wish {
        _ if !shows_nodes(&shown["status"], &intent.wish) => (Vec::new(), Some("the copy shows no nodes".to_owned())),
        Wish::Nodes { nodes, outputs } => set_nodes(&shown["status"], nodes, outputs),
        Wish::Retry(_) if shown["metadata"]["labels"][names::ARGO_COMPLETED] != "true" => {
            (Vec::new(), Some("it is under way again already".to_owned()))
        }
        Wish::Retry(wish) => (retry(shown, wish), None),
    };
    if let Some(whole) = unpacked.filter(|_| !operations.is_empty()) {
        operations = repacked(whole, operations);
    }
    operations.push(done(intent));
    (operations, trouble)
}

/// Whether a copy shows the nodes that an intent is about. One that ended before it had any is retried as a whole.
fn shows_nodes(status: &Value, wish: &Wish) -> bool {
    let has_none = status["nodes"].is_null() && status["compressedNodes"].as_str().is_none_or(str::is_empty);
    status["nodes"].is_object() || (has_none && matches!(wish, Wish::Retry(_)))
}

/// The copy with its nodes laid open, where it is so large that Argo packs them, or keeps them in a database, from where
/// they have been added to it.
fn unpacked(copy: &Value) -> Option<Value> {
    if is_offloaded(copy["status"].get(OFFLOADED)) {
        return Some(copy.clone());
    }
    let packed = copy["status"]["compressedNodes"].as_str().filter(|packed| !packed.is_empty())?;
    let nodes: Map<String, Value> = serde_json::from_str(&unpack(packed)?).ok()?;
    let mut copy = copy.clone();
    copy["status"]["nodes"] = Value::Object(nodes);
    Some(copy)
}

/// The operations for a copy whose nodes are packed, or in a database. The latter are written into the object, packed only
/// where they are many: Argo then takes them from there, and puts what comes of them into the database again.
fn repacked(mut whole: Value, operations: Vec<PatchOperation>) -> Vec<PatchOperation> {
    let is_of_a_node = |operation: &PatchOperation| operation.path().as_str().starts_with("/status/nodes/");
    let (of_nodes, mut operations): (Vec<_>, Vec<_>) = operations.into_iter().partition(is_of_a_node);
    // They were made for these very nodes.
    let _ = json_patch::patch(&mut whole, &of_nodes);
    let nodes = whole["status"]["nodes"].take();
    let text = nodes.to_string();
    let was_offloaded = is_offloaded(whole["status"].get(OFFLOADED));
    operations.push(if was_offloaded && text.len() <= MOST_PLAIN {
        add(&["status", "nodes"], nodes)
    } else {
        add(&["status", "compressedNodes"], Value::String(pack(&text)))
    });
    if was_offloaded {
        operations.push(remove(&["status", OFFLOADED]));
    }
    operations
}

/// Notes that an intent has been dealt with.
pub fn done(intent: &Intent) -> PatchOperation {
    add(&["metadata", "annotations", names::INTENTS_DONE], json!(intent.id.to_string()))
}

fn set_nodes(status: &Value, nodes: &Map<String, Value>, outputs: &[Value]) -> (Vec<PatchOperation>, Option<String>) {
    let mut operations = Vec::new();
    let mut late = Vec::new();
    for (id, changes) in nodes {
        let node = &status["nodes"][id];
        let is_active = node["type"] == "Suspend" && (node["phase"] == "Running" || node["phase"] == "Pending");
        match (is_active, changes) {
            (true, Value::Object(changes)) => {
                merge(&["status", "nodes", id], node, changes, &OF_A_NODE, &mut operations)
            }
            _ => late.push(id.as_str()),
        }
    }
    if !operations.is_empty() && !outputs.is_empty() {
        operations.push(set_outputs(&status["outputs"], outputs));
    }
    let trouble = (!late.is_empty()).then(|| format!("no longer waiting for it: node {}", late.join(", ")));
    (operations, trouble)
}

/// Sets global outputs among those that the copy has by now.
fn set_outputs(present: &Value, outputs: &[Value]) -> PatchOperation {
    let mut parameters = present["parameters"].as_array().cloned().unwrap_or_default();
    for output in outputs {
        match parameters.iter_mut().find(|parameter| parameter["name"] == output["name"]) {
            Some(parameter) => *parameter = output.clone(),
            None => parameters.push(output.clone()),
        }
    }
    let mut whole = present.as_object().cloned().unwrap_or_default();
    whole.insert("parameters".to_owned(), Value::Array(parameters));
    add(&["status", "outputs"], Value::Object(whole))
}

fn retry(copy: &Value, wish: &Retry) -> Vec<PatchOperation> {
    let (metadata, spec, status) = (&copy["metadata"], &copy["spec"], &copy["status"]);
    let mut operations = Vec::new();
    // Each once, whatever the intent says: a patch that fails would be tried for ever.
    for id in wish.removed.iter().collect::<BTreeSet<_>>().into_iter().filter(|id| !status["nodes"][*id].is_null()) {
        operations.push(remove(&["status", "nodes", id]));
    }
    for (id, changes) in &wish.reset {
        if let (node @ Value::Object(_), Value::Object(changes)) = (&status["nodes"][id], changes)
            && !wish.removed.contains(id)
        {
            merge(&["status", "nodes", id], node, changes, &OF_A_RESET_NODE, &mut operations);
        }
    }
    if status.is_object() {
        merge(&["status"], status, &own_conditions(&wish.status), &OF_A_RETRIED, &mut operations);
    }
    if let Some(Value::Object(changes)) = wish.status.get(STORED_SPEC)
        && status[STORED_SPEC].is_object()
    {
        merge(&["status", STORED_SPEC], &status[STORED_SPEC], changes, &OF_ITS_SPEC, &mut operations);
    }
    merge(&["spec"], spec, &wish.spec, &OF_ITS_SPEC, &mut operations);
    // A workflow that was stopped would be stopped again.
    for (path, of) in [(&["spec", "shutdown"][..], spec), (&["status", STORED_SPEC, "shutdown"], &status[STORED_SPEC])]
    {
        if !of["shutdown"].is_null() {
            operations.push(remove(path));
        }
    }
    let labels = &metadata["labels"];
    operations.push(add(&["metadata", "labels", names::ARGO_COMPLETED], json!("false")));
    operations.push(add(&["metadata", "labels", names::ARGO_PHASE], json!("Running")));
    if !labels[names::ARGO_ARCHIVING].is_null() {
        operations.push(remove(&["metadata", "labels", names::ARGO_ARCHIVING]));
    }
    // It was let go of when it had ended.
    let mut finalizers = metadata["finalizers"].as_array().cloned().unwrap_or_default();
    if !finalizers.contains(&json!(names::STATUS_RETURN)) {
        finalizers.push(json!(names::STATUS_RETURN));
        operations.push(add(&["metadata", "finalizers"], Value::Array(finalizers)));
    }
    operations
}

/// Without the condition that the original had from us, which says nothing of the copy.
fn own_conditions(status: &Map<String, Value>) -> Map<String, Value> {
    let mut status = status.clone();
    if let Some(Value::Array(conditions)) = status.get_mut("conditions") {
        conditions.retain(|condition| condition["type"] != NOT_SHOWN);
    }
    status
}

/// Makes `fields` of an object what `changes` say of them; null takes one away.
fn merge(
    at: &[&str],
    object: &Value,
    changes: &Map<String, Value>,
    fields: &[&str],
    operations: &mut Vec<PatchOperation>,
) {
    for (field, value) in changes.iter().filter(|(field, _)| fields.contains(&field.as_str())) {
        let path = [at, &[field.as_str()]].concat();
        match (value.is_null(), object.get(field)) {
            (true, None) => {}
            (true, Some(_)) => operations.push(remove(&path)),
            (false, _) => operations.push(add(&path, value.clone())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn carried_out(mut copy: Value, wish: Value) -> (Value, Option<String>) {
        let intent: Intent = serde_json::from_value(wish).unwrap();
        let (operations, trouble) = operations(&copy, &intent);
        json_patch::patch(&mut copy, &operations).unwrap();
        assert_eq!(copy["metadata"]["annotations"][names::INTENTS_DONE].take(), intent.id.to_string());
        (copy, trouble)
    }

    fn copy(completed: &str, nodes: Value) -> Value {
        json!({
            "metadata": {
                "annotations": {}, "finalizers": ["workflows.argoproj.io/artifact-gc"],
                "labels": {"workflows.argoproj.io/completed": completed, "workflows.argoproj.io/phase": "Failed"},
            },
            "spec": {"entrypoint": "main", "shutdown": "Stop"},
            "status": {"phase": "Failed", "finishedAt": "t", "message": "no", "nodes": nodes},
        })
    }

    #[test]
    fn an_approval_reaches_nodes_that_wait_for_it_and_no_others() {
        let gate = |phase: &str| json!({"type": "Suspend", "phase": phase, "templateName": "gate"});
        let nodes = json!({"a": gate("Running"), "b": gate("Failed"), "c": {"type": "Pod", "phase": "Running"}});
        let approve = json!({"phase": "Succeeded", "finishedAt": "t", "outputs": {"parameters": [{"name": "x", "value": "1"}]},
                             "templateName": "other", "type": "Pod"});
        let wish = json!({"id": 3, "kind": "nodes", "nodes": {"a": approve, "b": approve, "c": approve, "d": approve},
                          "outputs": [{"name": "a", "value": "1"}, {"name": "b", "value": "2"}]});
        let mut before = copy("false", nodes);
        before["status"]["outputs"] = json!({"exitCode": "0", "parameters": [{"name": "b"}, {"name": "c"}]});
        let (after, trouble) = carried_out(before, wish);
        let approved = json!({"type": "Suspend", "phase": "Succeeded", "templateName": "gate", "finishedAt": "t",
                              "outputs": {"parameters": [{"name": "x", "value": "1"}]}});
        assert_eq!(
            after["status"]["nodes"],
            json!({"a": approved, "b": gate("Failed"), "c": {"type": "Pod", "phase": "Running"}})
        );
        let parameters = json!([{"name": "b", "value": "2"}, {"name": "c"}, {"name": "a", "value": "1"}]);
        assert_eq!(after["status"]["outputs"], json!({"exitCode": "0", "parameters": parameters}));
        assert_eq!(trouble.as_deref(), Some("no longer waiting for it: node b, c, d"));
    }

    #[test]
    fn nodes_of_a_large_workflow_stay_packed() {
        let node =
            |phase: &str| json!({"g": {"type": "Suspend", "phase": phase}, "p": {"type": "Pod", "phase": "Running"}});
        let mut packed = copy("false", json!(null));
        packed["status"]["compressedNodes"] = json!(pack(&node("Running").to_string()));
        let wish = json!({"id": 1, "kind": "nodes", "nodes": {"g": {"phase": "Succeeded"}}});
        let (after, trouble) = carried_out(packed, wish);
        let unpacked = unpack(after["status"]["compressedNodes"].as_str().unwrap()).unwrap();
        assert_eq!(serde_json::from_str::<Value>(&unpacked).unwrap(), node("Succeeded"));
        assert_eq!((&after["status"]["nodes"], trouble), (&json!(null), None));
    }

    #[test]
    fn nodes_that_are_in_a_database_are_taken_from_the_object_from_then_on() {
        let node = |phase: &str, size: usize| json!({"g": {"type": "Suspend", "phase": phase}, "p": {"type": "Pod", "message": "x".repeat(size)}});
        for size in [1, MOST_PLAIN] {
            let mut offloaded = copy("false", node("Running", size));
            offloaded["status"]["offloadNodeStatusVersion"] = json!("fnv:1");
            let wish = json!({"id": 1, "kind": "nodes", "nodes": {"g": {"phase": "Succeeded"}}});
            let intent: Intent = serde_json::from_value(wish).unwrap();
            let (operations, trouble) = operations(&offloaded, &intent);
            // In the WEC it has no nodes.
            offloaded["status"]["nodes"].take();
            json_patch::patch(&mut offloaded, &operations).unwrap();
            let status = &offloaded["status"];
            let packed = status["compressedNodes"].as_str();
            assert_eq!(packed.is_some(), size == MOST_PLAIN);
            let nodes: Value = match packed {
                Some(packed) => serde_json::from_str(&unpack(packed).unwrap()).unwrap(),
                None => status["nodes"].clone(),
            };
            assert_eq!((nodes, trouble), (node("Succeeded", size), None));
            assert_eq!(status["offloadNodeStatusVersion"], json!(null));
        }
    }

    #[test]
    fn a_retry_begins_again_what_the_command_has_chosen() {
        let node = |phase: &str| json!({"type": "Steps", "phase": phase, "finishedAt": "t", "message": "child failed"});
        let wish = json!({
            "id": 1, "kind": "retry", "removed": ["pod", "unknown", "pod"],
            "reset": {"root": {"phase": "Running", "finishedAt": null, "message": null}, "stranger": {"phase": "Running"}},
            "status": {"phase": "Running", "finishedAt": null, "message": null, "startedAt": "u", "storedTemplates": {}},
            "spec": {"arguments": {"parameters": []}, "serviceAccountName": "admin"},
        });
        let nodes =
            json!({"root": node("Failed"), "pod": {"type": "Pod", "phase": "Failed"}, "done": node("Succeeded")});
        let (after, trouble) = carried_out(copy("true", nodes), wish);
        assert_eq!(trouble, None);
        assert_eq!(
            after["status"],
            json!({"phase": "Running", "startedAt": "u",
                   "nodes": {"root": {"type": "Steps", "phase": "Running"}, "done": node("Succeeded")}})
        );
        assert_eq!(after["spec"], json!({"entrypoint": "main", "arguments": {"parameters": []}}));
        assert_eq!(
            after["metadata"],
            json!({
                "annotations": {"argosy.dev/intents-done": null},
                "finalizers": ["workflows.argoproj.io/artifact-gc", "argosy.dev/status-return"],
                "labels": {"workflows.argoproj.io/completed": "false", "workflows.argoproj.io/phase": "Running"},
            })
        );
    }

    #[test]
    fn what_cannot_be_carried_out_is_dealt_with_all_the_same() {
        let retry = json!({"id": 1, "kind": "retry", "removed": ["a"]});
        let running = copy("false", json!({"a": {"phase": "Running"}}));
        let (after, trouble) = carried_out(running.clone(), retry.clone());
        assert_eq!((&after["status"], trouble.as_deref()), (&running["status"], Some("it is under way again already")));
        let mut unreadable = copy("true", json!(null));
        unreadable["status"]["compressedNodes"] = json!("KLUv/QQA");
        let (_, trouble) = carried_out(unreadable, retry);
        assert_eq!(trouble.as_deref(), Some("the copy shows no nodes"));
    }

    #[test]
    fn one_that_ended_before_it_had_nodes_is_retried_as_a_whole() {
        let conditions = json!([{"type": "Completed", "status": "False"}, {"type": NOT_SHOWN, "status": "True"}]);
        let retry = json!({"id": 1, "kind": "retry", "status": {"phase": "Running", "conditions": conditions}});
        let (after, trouble) = carried_out(copy("true", json!(null)), retry.clone());
        assert_eq!((trouble, &after["status"]["phase"]), (None, &json!("Running")));
        assert_eq!(after["status"]["conditions"], json!([{"type": "Completed", "status": "False"}]));
        assert_eq!(after["metadata"]["labels"][names::ARGO_COMPLETED], "false");
        // Before there is a copy, there is no status either.
        let mut new = copy("true", json!(null));
        new.as_object_mut().unwrap().remove("status");
        assert_eq!(carried_out(new, retry).0["metadata"]["labels"][names::ARGO_COMPLETED], "false");
    }
}
