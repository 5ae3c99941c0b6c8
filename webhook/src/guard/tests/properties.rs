use proptest::prelude::*;
use serde_json::{Value, json};

use super::cli::{asking, finished, remove, resume, retry, running, set, set_output, stop_gate, typed};
use super::*;

fn value() -> impl Strategy<Value = Value> {
    let values = [
        json!(null),
        json!(true),
        json!(false),
        json!(0),
        json!(""),
        json!({}),
        json!([]),
        json!("Running"),
        json!("Succeeded"),
        json!("Suspend"),
        json!("Stop"),
        json!({"a": {"phase": "Failed"}}),
        json!("true"),
        json!("H4sI"),
        json!([{"id": 3, "kind": "retry"}]),
    ];
    prop::sample::select(values.to_vec())
}

/// One change of anything that matters to the guard, or of its neighbours.
fn change() -> impl Strategy<Value = Value> {
    let paths = [
        "/metadata/labels/kubestellar.io~1cluster",
        "/metadata/labels/workflows.argoproj.io~1completed",
        "/metadata/labels/workflows.argoproj.io~1phase",
        "/metadata/annotations/argosy.dev~1intents",
        "/metadata/annotations/argosy.dev~1intents-done",
        "/metadata/annotations/argosy.dev~1suspend",
        "/spec",
        "/spec/suspend",
        "/spec/shutdown",
        "/spec/entrypoint",
        "/spec/arguments",
        "/spec/activeDeadlineSeconds",
        "/spec/templates/0/inputs",
        "/status",
        "/status/phase",
        "/status/message",
        "/status/finishedAt",
        "/status/outputs",
        "/status/nodes",
        "/status/nodes/gate",
        "/status/nodes/gate/phase",
        "/status/nodes/gate/type",
        "/status/nodes/gate/outputs",
        "/status/nodes/gate/message",
        "/status/nodes/step",
        "/status/nodes/step/phase",
        "/status/nodes/new",
        "/status/compressedNodes",
        "/status/conditions",
    ];
    let change = (prop::sample::select(paths.to_vec()), prop::option::of(value()));
    change.prop_map(|(path, value)| match value {
        // The API server has strings there, and nothing else.
        Some(value) if path.starts_with("/metadata") => {
            set(path, value.as_str().map_or(value.to_string(), str::to_owned))
        }
        Some(value) => set(path, value),
        None => remove(path),
    })
}

fn changed(object: Value, changes: &[Value]) -> Value {
    changes.iter().fold(object, |object, change| {
        let mut after = object.clone();
        let patch: Patch = serde_json::from_value(json!([change])).unwrap();
        if json_patch::patch(&mut after, &patch).is_ok() { after } else { object }
    })
}

/// An original, and what a command and some other changes make of it.
fn write() -> impl Strategy<Value = (Value, Value)> {
    let originals = prop::sample::select(vec![running(), asking(), finished(), packed(running()), packed(finished())]);
    let commands: [fn(Value) -> Value; 6] = [
        typed,
        resume,
        |object| stop_gate(object, "no"),
        |object| set_output(object, "yes"),
        |object| retry(object, 3),
        |object| retry(object, 4),
    ];
    let changes = || prop::collection::vec(change(), 0..3);
    (originals, prop::option::of(prop::sample::select(commands.to_vec())), changes(), changes(), any::<bool>())
        .prop_map(|(original, command, before, after, repack)| {
            let old = changed(original, &before);
            // Commands work on plain nodes of the usual shape.
            let is_usual = ["metadata", "spec", "status"].iter().all(|part| old[part].is_object())
                && old["status"]["nodes"].as_object().is_some_and(|nodes| nodes.values().all(Value::is_object))
                && old["status"]["conditions"].as_array().is_some_and(|all| all.len() == 2)
                && old["status"]["nodes"]["gate"]["type"].is_string();
            let new = command.filter(|_| is_usual).map_or_else(|| old.clone(), |command| command(old.clone()));
            let new = changed(new, &after);
            (old, if repack && new["status"].is_object() { packed(new) } else { new })
        })
}

fn without(object: &Value, field: &str) -> Value {
    let mut object = object.clone();
    if let Some(fields) = object.as_object_mut() {
        fields.remove(field);
    }
    object
}

fn nodes(object: &Value) -> Value {
    let status = &object["status"];
    match status["compressedNodes"].as_str().and_then(argosy_api::packed::unpack) {
        Some(nodes) => serde_json::from_str(&nodes).unwrap(),
        None => status["nodes"].clone(),
    }
}

/// The annotation with what is noted on an object.
fn list(object: &Value) -> &Value {
    &object["metadata"]["annotations"]["argosy.dev/intents"]
}

fn last(list: &Value) -> Option<Intent> {
    list.as_str().and_then(|list| argosy_api::intents::read(list).pop())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn what_is_the_guards_passes_the_fence((old, new) in write()) {
        let Answer::Change { patch, intent } = ask(&old, &new) else { return Ok(()) };
        let result = edit(new.clone(), &serde_json::to_value(&patch).unwrap());
        // The guard is asked again where another webhook has changed the object after it: then the write has noted it.
        let intent = intent.or_else(|| (list(&old) != list(&new)).then(|| last(list(&new))).flatten());
        // A list that says so is no retry yet: what is done has to run again.
        let is_done = |object: &Value| object["metadata"]["labels"]["workflows.argoproj.io/completed"] == "true";
        let is_retry = matches!(intent, Some(Intent { wish: Wish::Retry(_), .. })) && is_done(&old) && !is_done(&new);

        // The spec is the old one, and suspended; shutdown is as it was written.
        prop_assert_eq!(&result["spec"]["suspend"], &json!(true));
        prop_assert_eq!(without(&result["spec"], "shutdown"), without(&old["spec"], "shutdown"));
        let shutdown = &result["spec"]["shutdown"];
        prop_assert!(shutdown == &new["spec"]["shutdown"] || shutdown == &old["spec"]["shutdown"] || is_retry);

        // Every node is there and the same, but for the gates that waited.
        let (before, after) = (nodes(&old), nodes(&result));
        for line in difference(&before, &after) {
            let id = line.split('/').nth(1).unwrap_or_default().trim_end_matches(" is gone");
            let node = &before[id];
            let is_gate = node["type"] == "Suspend" && ["Running", "Pending"].iter().any(|phase| node["phase"] == *phase);
            prop_assert!(is_gate && intent.is_some() && !is_retry, "{}", line);
            for field in ["id", "name", "type", "templateName", "boundaryID"] {
                prop_assert_eq!(&after[id][field], &node[field]);
            }
        }

        // No other part of the status changes, but for what shows that a retried workflow runs.
        for line in difference(&without(&old["status"], "nodes"), &without(&result["status"], "nodes")) {
            let field = line.trim_start_matches('/').split(['/', ' ', ':']).next().unwrap_or_default();
            let standing = ["phase", "message", "startedAt", "finishedAt", "conditions"];
            prop_assert!((is_retry && standing.contains(&field)) || (intent.is_some() && field == "outputs"), "{}", line);
        }
        if is_retry {
            prop_assert_eq!(&result["metadata"]["labels"]["workflows.argoproj.io/completed"], "false");
            prop_assert_eq!(&result["status"]["phase"], "Running");
            prop_assert!(shutdown.is_null());
        }

        // One intent at most, and its number is the next.
        let (was, is) = (intents_or_none(&new), intents_or_none(&result));
        if let Some(intent) = intent {
            prop_assert_eq!(is.last(), Some(&intent));
        } else {
            prop_assert_eq!(was, is);
        }
    }

    #[test]
    fn asked_again_about_its_own_result_it_changes_nothing((old, new) in write()) {
        let Answer::Change { patch, .. } = ask(&old, &new) else { return Ok(()) };
        let result = edit(new, &serde_json::to_value(&patch).unwrap());
        prop_assert_eq!(ask(&old, &result), Answer::Leave);
    }
}

fn intents_or_none(object: &Value) -> Intents {
    let list = object["metadata"]["annotations"][names::INTENTS].as_str();
    list.and_then(|list| serde_json::from_str(list).ok()).unwrap_or_default()
}
