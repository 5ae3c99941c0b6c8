//! The copy: what of an original goes to the WEC.

use std::collections::BTreeMap;

use argosy_api::workflow::{STORED_SPEC, SYNCHRONIZATION};
use argosy_api::{Delivery, Workflow, names, workflow};
use argosy_placement::JsonPath;
use kube::api::{DynamicObject, ObjectMeta, TypeMeta};
use serde_json::{Map, Value};

/// An original as it is delivered: everything that its user wrote.
pub type WholeWorkflow = Workflow<Map<String, Value>, Map<String, Value>>;

/// Labels that say something about the original's own run or controller, not about what is to be run.
const NOT_DELIVERED: [&str; 4] =
    [names::ARGO_COMPLETED, names::ARGO_PHASE, names::ARGO_ARCHIVING, names::ARGO_INSTANCE];

/// Where a status has its nodes.
const NODES: [&str; 2] = ["nodes", "compressedNodes"];

/// All that the webhook puts into a stored spec.
const QUIET: [&str; 2] = ["suspend", "arguments"];

/// Builds the copy of an original: same name and namespace, the user's labels, annotations and spec without what the
/// rule takes out (`removed`), marked with where it comes from, and without what ties the original to the control
/// cluster. `control`: its identity, and the UID of its kube-system namespace. ownerReferences would have the WEC's garbage collector delete it; finalizers would never be released there.
pub fn copy_of(
    original: &WholeWorkflow,
    removed: &[JsonPath],
    control: (&str, &str),
    delivery: &Delivery,
) -> DynamicObject {
    let (control_id, control_uid) = control;
    let original = &without(as_created(original), removed);
    let metadata = &original.metadata;
    let mut labels = metadata.labels.clone().unwrap_or_default();
    labels.retain(|key, _| !NOT_DELIVERED.contains(&key.as_str()));
    // By these the copy is watched, whatever the rule takes out.
    labels.insert(names::CLUSTER.to_owned(), delivery.cluster.clone());
    labels.insert(names::CONTROL.to_owned(), control_id.to_owned());
    labels.insert(names::ORIGIN.to_owned(), metadata.uid.clone().unwrap_or_default());

    let mut annotations: BTreeMap<String, String> = metadata.annotations.clone().unwrap_or_default();
    let suspended = annotations.get(names::SUSPEND).is_some_and(|wish| wish == "true");
    // What was carried out on an earlier copy is not carried out on this one.
    let done = annotations.remove(names::INTENTS_DONE);
    annotations.retain(|key, _| !key.starts_with(names::PREFIX));
    annotations.extend(done.map(|done| (names::INTENTS_DONE.to_owned(), done)));
    annotations.insert(names::ATTEMPT.to_owned(), delivery.attempt.to_string());
    annotations.insert(names::CONTROL_CLUSTER.to_owned(), control_uid.to_owned());
    annotations.insert(names::COPY.to_owned(), metadata.name.clone().unwrap_or_default());

    let mut spec = original.spec.clone().unwrap_or_default();
    if suspended {
        spec.insert("suspend".to_owned(), Value::Bool(true));
    } else {
        spec.remove("suspend");
    }
    let mut data = Map::from_iter([("spec".to_owned(), Value::Object(spec))]);
    // A status with nodes before anything ran is part of what was created: a memoized resubmit, a retry from the archive.
    let has_nodes = |status: &&Map<String, Value>| NODES.iter().any(|nodes| status.contains_key(*nodes));
    if let Some(status) = original.status.as_ref().filter(has_nodes) {
        data.insert("status".to_owned(), Value::Object(status.clone()));
    }
    DynamicObject {
        types: Some(TypeMeta {
            api_version: format!("{}/{}", workflow::GROUP, workflow::VERSION),
            kind: workflow::KIND.to_owned(),
        }),
        metadata: ObjectMeta {
            name: metadata.name.clone(),
            namespace: metadata.namespace.clone(),
            labels: Some(labels),
            annotations: Some(annotations),
            finalizers: Some(vec![names::STATUS_RETURN.to_owned()]),
            ..ObjectMeta::default()
        },
        data: Value::Object(data),
    }
}

/// The original as it was created: with its locks in its spec, what the rule says of its logs, and a status only where one
/// was given.
pub fn as_created(original: &WholeWorkflow) -> WholeWorkflow {
    let mut original = original.clone();
    let annotations = original.metadata.annotations.as_ref();
    let kept = |name: &str| annotations.and_then(|all| serde_json::from_str(all.get(name)?).ok());
    let locks = kept(names::STORED_SYNCHRONIZATION).or_else(|| kept(names::SYNCHRONIZATION));
    if let (Some(locks), Some(spec)) = (locks, &mut original.spec) {
        spec.insert(SYNCHRONIZATION.to_owned(), locks);
    }
    // What Argosy says of one that has not begun.
    if let Some(status) = original.status.as_mut().filter(|status| !has_started(status)) {
        status.retain(|field, value| match field.as_str() {
            "phase" => value != "Pending",
            "message" => false,
            STORED_SPEC => {
                value.as_object().is_some_and(|stored| stored.keys().any(|key| !QUIET.contains(&key.as_str())))
            }
            _ => true,
        });
    }
    original
}

/// Go's clients write a time that is not there as null.
pub fn has_started(status: &Map<String, Value>) -> bool {
    status.get("startedAt").is_some_and(|time| !time.is_null())
}

/// The original without what the rule takes out. Its name, namespace and UID are nothing that can be taken out.
fn without(original: WholeWorkflow, removed: &[JsonPath]) -> WholeWorkflow {
    if removed.is_empty() {
        return original;
    }
    let Ok(mut object) = serde_json::to_value(&original) else { return original };
    for path in removed {
        // One at a time: indexes shift as elements go, so the last of an array goes first.
        let found = path.query_located(&object);
        let mut pointers: Vec<String> = found.locations().map(|location| location.to_json_pointer()).collect();
        pointers.reverse();
        for pointer in pointers {
            take_out(&mut object, &pointer);
        }
    }
    let Ok(mut rest) = serde_json::from_value::<WholeWorkflow>(object) else { return original };
    rest.metadata.name = original.metadata.name;
    rest.metadata.namespace = original.metadata.namespace;
    rest.metadata.uid = original.metadata.uid;
    rest
}

fn take_out(object: &mut Value, pointer: &str) {
    let Some((parent, key)) = pointer.rsplit_once('/') else { return };
    let key = key.replace("~1", "/").replace("~0", "~");
    match object.pointer_mut(parent) {
        Some(Value::Object(map)) => drop(map.remove(&key)),
        Some(Value::Array(items)) => {
            if let Some(index) = key.parse::<usize>().ok().filter(|index| *index < items.len()) {
                items.remove(index);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn copied(original: Value) -> Value {
        let original: WholeWorkflow = serde_json::from_value(original).unwrap();
        let delivery = Delivery { attempt: 2, cluster: "c1".into(), cluster_uid: "k".into(), copy: None, moved: None };
        serde_json::to_value(copy_of(&original, &[], ("control-id", "control-uid"), &delivery)).unwrap()
    }

    #[test]
    fn the_copy_is_what_the_user_wrote_and_where_it_comes_from() {
        let copy = copied(json!({
            "apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow",
            "metadata": {
                "name": "a", "generateName": "a-", "namespace": "team", "uid": "u", "resourceVersion": "7", "generation": 3,
                "creationTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["f"], "managedFields": [{}],
                "ownerReferences": [{"apiVersion": "v1", "kind": "CronWorkflow", "name": "c", "uid": "o"}],
                "labels": {
                    "app": "x", "kubestellar.io/cluster": "c1", "workflows.argoproj.io/completed": "false",
                    "workflows.argoproj.io/phase": "Pending", "workflows.argoproj.io/creator": "me",
                    "workflows.argoproj.io/workflow-archiving-status": "Pending",
                    "workflows.argoproj.io/controller-instanceid": "i"
                },
                "annotations": {"note": "n", "argosy.dev/placement": "{}", "argosy.dev/delivery": "{}"}
            },
            "spec": {"suspend": true, "entrypoint": "e", "arguments": {}},
            "status": {"phase": "Pending", "message": "waits"}
        }));
        assert_eq!(
            copy,
            json!({
                "apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow",
                "metadata": {
                    "name": "a", "namespace": "team", "finalizers": ["argosy.dev/status-return"],
                    "labels": {
                        "app": "x", "kubestellar.io/cluster": "c1", "workflows.argoproj.io/creator": "me",
                        "argosy.dev/control": "control-id", "argosy.dev/origin": "u"
                    },
                    "annotations": {"note": "n", "argosy.dev/copy": "a", "argosy.dev/attempt": "2",
                                    "argosy.dev/control-cluster": "control-uid"}
                },
                "spec": {"entrypoint": "e", "arguments": {}}
            })
        );
    }

    #[test]
    fn a_suspend_that_the_user_wished_stays() {
        let wished = json!({"metadata": {"annotations": {"argosy.dev/suspend": "true"}}, "spec": {"suspend": true}});
        assert_eq!(copied(wished)["spec"], json!({"suspend": true}));
    }

    #[test]
    fn a_status_with_nodes_was_given_at_creation_and_goes_along() {
        for status in [
            json!({"nodes": {"a": {"phase": "Succeeded"}}}),
            json!({"compressedNodes": "H4sI"}),
            json!({"nodes": {}, "phase": "Pending", "startedAt": "2026-01-01T00:00:00Z"}),
            json!({"nodes": {}, "phase": "Running", "storedWorkflowTemplateSpec": {"entrypoint": "e", "suspend": true}}),
        ] {
            assert_eq!(copied(json!({"metadata": {}, "spec": {}, "status": status}))["status"], status);
        }
    }

    #[test]
    fn what_keeps_the_control_clusters_controller_quiet_stays_there() {
        let copy = copied(json!({
            "metadata": {"annotations": {"argosy.dev/synchronization": r#"{"mutexes":[{"name":"turn"}]}"#}},
            "spec": {"workflowTemplateRef": {"name": "t"}},
            "status": {
                "phase": "Pending", "startedAt": null, "message": "waits", "nodes": {"a": {}},
                "storedWorkflowTemplateSpec": {"suspend": true, "arguments": {"parameters": []}}
            },
        }));
        let spec = json!({"workflowTemplateRef": {"name": "t"}, "synchronization": {"mutexes": [{"name": "turn"}]}});
        assert_eq!((&copy["spec"], &copy["status"]), (&spec, &json!({"startedAt": null, "nodes": {"a": {}}})));
    }

    #[test]
    fn what_the_rule_takes_out_is_not_in_the_copy_but_it_stays_what_it_is() {
        let original: WholeWorkflow = serde_json::from_value(json!({
            "metadata": {"name": "a", "namespace": "team", "uid": "u", "labels": {"keep": "1", "drop/it": "2"}},
            "spec": {"entrypoint": "e", "suspend": true, "list": [{"x": 1}, {"x": 2}, {"y": 3}]},
        }))
        .unwrap();
        let removed =
            ["$.metadata.labels['drop/it']", "$.metadata.name", "$.spec.list[?@.x]", "$.spec.nothing", "$.status"];
        let removed: Vec<JsonPath> = removed.iter().map(|path| JsonPath::parse(path).unwrap()).collect();
        let delivery = Delivery { attempt: 1, cluster: "c1".into(), cluster_uid: "k".into(), copy: None, moved: None };
        let copy =
            serde_json::to_value(copy_of(&original, &removed, ("control-id", "control-uid"), &delivery)).unwrap();
        assert_eq!(copy["spec"], json!({"entrypoint": "e", "list": [{"y": 3}]}));
        assert_eq!((&copy["metadata"]["name"], &copy["metadata"]["namespace"]), (&json!("a"), &json!("team")));
        let labels: Vec<&String> = copy["metadata"]["labels"].as_object().unwrap().keys().collect();
        assert_eq!(labels, ["argosy.dev/control", "argosy.dev/origin", "keep", "kubestellar.io/cluster"]);
        let all = [JsonPath::parse("$.metadata.labels").unwrap()];
        let copy = copy_of(&original, &all, ("control-id", "control-uid"), &delivery);
        assert_eq!(copy.metadata.labels.unwrap()["kubestellar.io/cluster"], "c1");
    }
}
